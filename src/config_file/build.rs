//! From the tables of all files to one configuration.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::document::Document;
use super::files::Files;
use super::frontend::{Read, Settings};
use super::places::{Place, Places};
use super::problem::{KeyPath, Problem, Problems};
use super::reader::{Keys, Reader, nearest};
use super::tables::{BackendTable, FrontendTable, ProcessTable, Root, UpstreamTable};
use super::{Lookup, RunSettings, Source, process, upstream, warnings};
use crate::config::{Config, Frontend, Listen, Process, Protocol, RingSizes};

/// Most warnings of one configuration.
const WARNINGS_MAX: usize = 100;

/// The keys of every kind of table.
pub(super) struct AllKeys {
    root: Keys<Root>,
    process: Keys<ProcessTable>,
    pub(super) frontend: Keys<FrontendTable>,
    pub(super) upstream: Keys<UpstreamTable>,
    pub(super) backend: Keys<BackendTable>,
}

impl AllKeys {
    pub(super) fn new() -> Self {
        Self {
            root: Keys::new(),
            process: Keys::new(),
            frontend: Keys::new(),
            upstream: Keys::new(),
            backend: Keys::new(),
        }
    }
}

/// What is being built.
struct Builder<'a> {
    documents: &'a [Document],
    problems: &'a mut Problems,
    keys: AllKeys,
    /// The file of each frontend and upstream.
    places: HashMap<KeyPath, &'a Document>,
    settings: RunSettings,
    buffer_bytes: Option<u32>,
    /// What each frontend begins with.
    defaults: Settings,
    frontends: Vec<Read<'a>>,
    lookups: Vec<Lookup>,
    sources: Vec<Source>,
    found: Places,
    /// What was read besides: bodies and lists of backends.
    others: Vec<PathBuf>,
}

/// What the files say, as far as it is right.
pub(super) struct Built {
    pub(super) settings: RunSettings,
    pub(super) lookups: Vec<Lookup>,
    pub(super) sources: Vec<Source>,
    pub(super) places: Places,
    pub(super) warnings: Vec<Problem>,
}

/// Builds what the files say. Files that are read besides are added.
pub(super) fn settings(files: &mut Files<'_>) -> Built {
    let keys = AllKeys::new();
    let config =
        Config { process: Process::default(), frontends: Vec::new(), upstreams: Vec::new() };
    let mut builder = Builder {
        documents: &files.documents,
        problems: &mut files.problems,
        keys,
        places: HashMap::new(),
        settings: RunSettings { config, ..RunSettings::default() },
        buffer_bytes: None,
        defaults: Settings::default(),
        frontends: Vec::new(),
        lookups: Vec::new(),
        sources: Vec::new(),
        others: Vec::new(),
        found: Places::default(),
    };
    builder.read_all();
    let mut others = std::mem::take(&mut builder.others);
    others.extend(builder.frontends.iter().flat_map(|read| read.files.clone()));
    let built = builder.finish();
    files.paths.extend(others);
    built
}

/// Bulk goes through a proxy with the fewest system calls in the largest buffers; the memory of a buffer
/// becomes resident only as far as it is used.
pub fn default_buffer_bytes(config: &Config) -> u32 {
    let proxies = |frontend: &Frontend| matches!(frontend.protocol, Protocol::Proxy(_));
    match config.frontends.iter().any(proxies) {
        true => *RingSizes::BUFFER_BYTES.end(),
        false => RingSizes::default().buffer_bytes,
    }
}

impl<'a> Builder<'a> {
    fn read_all(&mut self) {
        let documents = self.documents;
        let Some(first) = documents.first() else { return };
        documents.iter().for_each(|document| self.found.add(document));
        documents.iter().for_each(|document| self.root(document));
        self.process(first);
        self.defaults(first);
        documents.iter().for_each(|document| self.upstreams(document));
        documents.iter().for_each(|document| self.frontends(document));
        self.references();
        self.addresses();
        if self.places.keys().all(|path| !is_of(path, "frontend")) && self.problems.count() == 0 {
            let text =
                "no frontend; give at least one, such as [frontend.web] with listen and service";
            self.problems.add(|| Problem::of_file(&first.path, text));
        }
    }

    /// Keys that there are not, and tables that belong into the first file.
    fn root(&mut self, document: &'a Document) {
        let is_first = std::ptr::eq(document, &raw const self.documents[0]);
        for key in document.table.keys().map(|key| key.get_ref().as_ref()) {
            let path = KeyPath::default().key(key);
            if !self.keys.root.are(key) {
                let text = self.keys.root.unknown(key);
                self.problems.add(|| document.wrong_key(&path, text));
            } else if !is_first && matches!(key, "process" | "defaults") {
                let text = "only the first file may have it, not one that is included";
                self.problems.add(|| document.wrong_key(&path, text));
            }
        }
    }

    fn process(&mut self, document: &'a Document) {
        let path = KeyPath::default().key("process");
        let mut reader = Reader { document, path, problems: self.problems };
        let Some(table) = reader.table(&self.keys.process) else { return };
        self.buffer_bytes = process::apply(&mut reader, &table, &mut self.settings);
        self.found.has_buffer_size = self.buffer_bytes.is_some();
        let path = KeyPath::default().key("process").key("control");
        self.found.control = document.value(&path).map(|_| self.found.place(document, &path));
        let path = KeyPath::default().key("process").key("admin");
        self.found.admin = document.value(&path).map(|_| self.found.place(document, &path));
    }

    fn defaults(&mut self, document: &'a Document) {
        let path = KeyPath::default().key("defaults");
        let mut reader = Reader { document, path, problems: self.problems };
        let Some(table) = reader.table(&self.keys.frontend) else { return };
        self.defaults.apply_defaults(&mut reader, &table);
    }

    /// The tables of one kind of a file, each with its path; a name that another file has is a problem.
    fn tables(&mut self, document: &'a Document, kind: &str) -> Vec<(String, KeyPath)> {
        let path = KeyPath::default().key(kind);
        let mut reader = Reader { document, path: path.clone(), problems: self.problems };
        let Some(entries) = reader.entries() else { return Vec::new() };
        let mut tables = Vec::new();
        for name in entries.keys().map(|name| name.get_ref().as_ref()) {
            let path = path.key(name);
            match self.places.get(&path) {
                Some(other) => {
                    let text = format!(
                        "another {kind} has this name, at {}; each needs a name of its own",
                        other.place(&path)
                    );
                    self.problems.add(|| document.wrong_key(&path, text));
                }
                None => {
                    self.places.insert(path.clone(), document);
                    tables.push((name.to_owned(), path));
                }
            }
        }
        tables
    }

    fn upstreams(&mut self, document: &'a Document) {
        for (name, path) in self.tables(document, "upstream") {
            let mut reader = Reader { document, path, problems: self.problems };
            let Some(read) = upstream::read(&mut reader, &name, &self.keys) else { continue };
            self.lookups.extend(read.lookups);
            self.sources.extend(read.sources);
            // A list in a file of its own has no variables.
            let may_be_secret = read.file.is_none();
            self.others.extend(read.file);
            for ((path, problem), backend) in read.places.into_iter().zip(&read.config.backends) {
                if may_be_secret && self.found.is_secret(&path.key("weight")) {
                    self.found.weights.insert(backend.target.clone());
                }
                // Of a table, whatever is in it.
                let is_secret = may_be_secret && self.found.is_secret(&path);
                let place = Place::at(problem, is_secret);
                self.found.backends.entry(backend.target.clone()).or_insert(place);
            }
            self.settings.config.upstreams.push(read.config);
        }
    }

    fn frontends(&mut self, document: &'a Document) {
        for (name, path) in self.tables(document, "frontend") {
            let mut reader = Reader { document, path, problems: self.problems };
            let settings = self.defaults.clone();
            let built = settings.read(&mut reader, &name, &self.keys.frontend);
            for (path, listen) in &built.listen {
                if let Listen::Name { name, port } = listen {
                    self.lookups.push(lookup((document, path), name, *port));
                }
                let place = self.found.place(document, path);
                self.found.listens.entry((name.clone(), listen.clone())).or_insert(place);
            }
            self.access_log(&name, &built);
            self.frontends.push(built);
        }
    }

    /// Where the access log of a frontend stands: in its table, or in that of all.
    fn access_log(&mut self, name: &str, read: &Read<'a>) {
        let Some(log) = read.frontend.as_ref().and_then(|it| it.access_log.as_ref()) else {
            return;
        };
        let own = KeyPath::default().key("frontend").key(name).key("access_log");
        let (document, path) = match (read.document.value(&own), self.documents.first()) {
            (None, Some(first)) => (first, KeyPath::default().key("defaults").key("access_log")),
            _ => (read.document, own),
        };
        let place = self.found.place(document, &path);
        self.found.access_logs.entry(log.target.clone()).or_insert(place);
    }

    /// Upstreams that are named, and are not there.
    fn references(&mut self) {
        let is_known =
            |name: &str| self.places.contains_key(&KeyPath::default().key("upstream").key(name));
        for frontend in &self.frontends {
            for (path, name) in frontend.upstreams.iter().filter(|(_, name)| !is_known(name)) {
                let document = frontend.document;
                let known = self.settings.config.upstreams.iter().map(|known| known.name.as_str());
                let tainted = document.is_tainted(path);
                let meant = nearest(name, known.clone()).filter(|_| !tainted);
                let text = match (meant, known.clone().count()) {
                    (Some(meant), _) => {
                        format!("there is no such upstream; did you mean '{meant}'?")
                    }
                    (None, 0) => {
                        "there is no upstream; add one, such as [upstream.NAME]".to_owned()
                    }
                    (None, _) => format!("there is no such upstream; known are {}", some_of(known)),
                };
                self.problems.add(|| document.wrong_value(path, text));
            }
        }
    }

    /// With SO_REUSEPORT a second bind of the same port would succeed and silently share it.
    fn addresses(&mut self) {
        let mut seen = HashMap::new();
        for frontend in &self.frontends {
            for (path, listen) in frontend.listen.iter().filter(|(_, listen)| !listen.any_port()) {
                let Some((document, other)) = seen.insert(listen, (frontend.document, path)) else {
                    continue;
                };
                let (document, other): (&Document, &KeyPath) = (document, other);
                let text = format!(
                    "{other} has this address already, at {}; give each address once",
                    document.place(other)
                );
                self.problems.add(|| frontend.document.wrong_value(path, text));
            }
        }
    }

    /// Upstreams that no frontend names.
    fn unused(&self) -> Vec<Problem> {
        let named = self.frontends.iter().flat_map(|read| &read.upstreams);
        let named: HashSet<&str> = named.map(|(_, name)| name.as_str()).collect();
        let upstreams = self.settings.config.upstreams.iter().map(|it| it.name.as_str());
        let unused = upstreams.filter(|name| !named.contains(name)).filter_map(|name| {
            let path = KeyPath::default().key("upstream").key(name);
            let text =
                "no frontend uses it; name it in `upstream` or `routes` of a proxy, or remove it";
            self.places.get(&path).map(|document| document.wrong_key(&path, text))
        });
        unused.take(WARNINGS_MAX).collect()
    }

    /// What is built, after a last look at the whole.
    fn finish(mut self) -> Built {
        let mut warnings = self.unused();
        if let Some(first) = self.documents.first() {
            let process = &self.settings.config.process;
            warnings.extend(warnings::of_rules(first, &self.frontends, process));
        }
        let file =
            |it: &Problem| self.documents.iter().position(|document| document.path == it.file);
        warnings.sort_by_key(|it| (file(it), it.line, it.column));
        warnings.truncate(WARNINGS_MAX);
        let frontends = self.frontends.into_iter().filter_map(|read| read.frontend);
        self.settings.config.frontends = frontends.collect();
        let config = &mut self.settings.config;
        config.process.ring.buffer_bytes =
            self.buffer_bytes.unwrap_or_else(|| default_buffer_bytes(config));
        let wrong = config.validate().err().filter(|_| self.problems.count() == 0);
        if let (Some(error), Some(first)) = (wrong, self.documents.first()) {
            let without = |text, document: &Document| document.without_secrets(text);
            let text = self.documents.iter().fold(error.to_string(), without);
            self.problems.add(|| Problem::of_file(&first.path, text));
        }
        let Self { settings, lookups, sources, found: places, .. } = self;
        Built { settings, lookups, sources, places, warnings }
    }
}

pub(super) fn lookup((document, path): (&Document, &KeyPath), name: &str, port: u16) -> Lookup {
    Lookup {
        name: name.to_owned(),
        port,
        is_service: false,
        sources: Vec::new(),
        place: document.wrong_value(path, ""),
    }
}

fn is_of(path: &KeyPath, kind: &str) -> bool {
    path.0.first() == KeyPath::default().key(kind).0.first()
}

/// The first few names.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 10;
    let names: Vec<_> = names.collect();
    let shown = names.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len() > SHOWN_MAX {
        true => format!("{shown}, ... ({} in all)", names.len()),
        false => shown,
    }
}
