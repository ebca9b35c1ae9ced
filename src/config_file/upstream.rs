//! `[upstream.NAME]`: from its table to an upstream, and back.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use toml::de::DeValue;

use super::build::{AllKeys, lookup};
use super::document::Document;
use super::kinds::Positive;
use super::problem::{KeyPath, Problem};
use super::reader::Reader;
use super::tables::{BackendEntry, BackendTable, UpstreamTable};
use super::text::{Kind, OneOrMany, Text};
use super::{Lookup, Source, backends_file};
use crate::config::upstream::{ActiveCheck, Backend, Target, UpstreamConfig, Weight};

/// Longest name of an upstream; that of a route on the command line is the name that it is for.
const NAME_MAX_BYTES: usize = 255;

/// An upstream that was read.
pub(super) struct Read {
    pub(super) config: UpstreamConfig,
    /// The names of its backends, with where they stand.
    pub(super) lookups: Vec<Lookup>,
    /// The addresses that it connects from, with where they stand.
    pub(super) sources: Vec<Source>,
    /// The file that lists its backends, as it was named.
    pub(super) file: Option<PathBuf>,
    /// Where each of its backends stands.
    pub(super) places: Vec<(KeyPath, Problem)>,
}

/// Reads one upstream, as far as it is right; `None` if it is no table.
pub(super) fn read(reader: &mut Reader<'_, '_>, name: &str, keys: &AllKeys) -> Option<Read> {
    let before = reader.problems.count();
    check_name(reader, name);
    let table: UpstreamTable = reader.table(&keys.upstream)?;
    let List { backends, mut lookups, file, places } = match &table.backends_file {
        Some(file) => backends_file::read(reader, (name, file), keys),
        None if table.backends.is_some() => List::read(reader, keys),
        None => List::default(),
    };
    if backends.is_empty() && reader.problems.count() == before {
        let text = "it has no backends; give at least one, such as backends = [\"10.0.0.1:80\"]";
        reader.wrong_key(&reader.path.clone(), text.to_owned());
    }
    let mut config = UpstreamConfig::new(backends);
    config.name = name.to_owned();
    config.backends_file = file.as_deref().and_then(|file| std::path::absolute(file).ok());
    let sources = sources(reader, &table);
    config.sources = sources.iter().map(|source| source.address).collect();
    lookups.iter_mut().for_each(|lookup| lookup.sources.clone_from(&config.sources));
    apply(reader, &table, &mut config);
    apply_checks(reader, &table, &mut config);
    if reader.problems.count() == before
        && let Err(error) = config.validate()
    {
        let text = reader.document.without_secrets(error.to_string());
        reader.wrong_key(&reader.path.clone(), text);
    }
    Some(Read { config, lookups, sources, file, places })
}

fn check_name(reader: &mut Reader<'_, '_>, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.chars().all(plain) {
        let text = format!(
            "this cannot be the name of an upstream; \
             take 1 to {NAME_MAX_BYTES} letters, digits, '.', '_', '-' or '*'"
        );
        reader.wrong_key(&reader.path.clone(), text);
    }
}

/// The backends of an upstream.
#[derive(Default)]
pub(super) struct List {
    pub(super) backends: Vec<Backend>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) file: Option<PathBuf>,
    pub(super) places: Vec<(KeyPath, Problem)>,
}

impl List {
    /// Those of the key `backends`, as far as they are right.
    pub(super) fn read(reader: &mut Reader<'_, '_>, keys: &AllKeys) -> Self {
        let (document, path) = (reader.document, reader.path.key("backends"));
        let mut list = Self::default();
        let Some(DeValue::Array(array)) = document.value(&path).map(|value| value.get_ref()) else {
            return list;
        };
        let mut places: HashMap<Target, usize> = HashMap::new();
        for index in 0..array.len() {
            let place = path.index(index);
            let mut inner = Reader { document, path: place.clone(), problems: reader.problems };
            let Some(backend) = backend(&mut inner, keys) else { continue };
            if let Some(first) = places.insert(backend.target.clone(), index) {
                let (first, table) = (path.index(first), document.backend("10.0.0.1:80", "2"));
                reader.wrong(&place, format!(
                    "{first} is this backend already; for more connections give it a weight, such \
                     as {table}"
                ));
                continue;
            }
            list.lookups.extend(of_target((document, &place), &backend.target));
            list.backends.push(backend);
            // That of a table is in it.
            let address = place.key("address");
            let at = document.value(&address).map_or(&place, |_| &address);
            let problem = document.wrong_value(at, "");
            list.places.push((place, problem));
        }
        list
    }
}

/// What has to be looked up.
fn of_target(place: (&Document, &KeyPath), target: &Target) -> Option<Lookup> {
    match target {
        Target::Name { name, port } => Some(lookup(place, name, port.get())),
        Target::Srv { name } => Some(Lookup { is_service: true, ..lookup(place, name, 0) }),
        Target::Socket(_) | Target::Unix(_) => None,
    }
}

/// An address, or a table.
fn backend(reader: &mut Reader<'_, '_>, keys: &AllKeys) -> Option<Backend> {
    let (before, path) = (reader.problems.count(), reader.path.clone());
    if let DeValue::String(address) = reader.document.value(&path)?.get_ref() {
        return reader.value(&path, &Text::<Backend>::from(address.to_string()));
    }
    let table: BackendTable = reader.table(&keys.backend)?;
    let mut weight = Weight::default();
    reader.take("weight", &table.weight, &mut weight);
    let target = reader.optional("address", &table.address);
    if table.address.is_none() && reader.problems.count() == before {
        let table = reader.document.backend("10.0.0.1:80", "1");
        reader.wrong(&path, format!("it has no address; give one, such as {table}"));
    }
    match Backend::new(target?, weight) {
        Ok(backend) => Some(backend),
        Err(_) => {
            // The target may come from the environment.
            let text = "an SRV name has the weights of its records; leave the weight out";
            reader.wrong(&path.key("weight"), text.to_owned());
            None
        }
    }
}

fn sources(reader: &mut Reader<'_, '_>, table: &UpstreamTable) -> Vec<Source> {
    let Some(texts) = &table.source else { return Vec::new() };
    if matches!(texts, OneOrMany::Many(list) if list.is_empty()) {
        let text = "it has no address; give at least one, such as source = [\"10.0.0.5\"], or leave it out";
        reader.wrong_key(&reader.path.key("source"), text.to_owned());
    }
    let sources = reader.many("source", texts);
    let document = reader.document;
    let source = |(path, address)| Source { address, place: document.wrong_value(&path, "") };
    sources.into_iter().map(source).collect()
}

fn apply(reader: &mut Reader<'_, '_>, table: &UpstreamTable, config: &mut UpstreamConfig) {
    reader.take("balance", &table.balance, &mut config.balance);
    reader.take("max_connections", &table.max_connections, &mut config.max_connections);
    reader.take("resolve_interval", &table.resolve_interval, &mut config.resolve_interval);
    let passive = &mut config.passive;
    if let Some(failures) = reader.optional("eject_after", &table.eject_after) {
        passive.failures = NonZeroU32::new(failures);
    }
    reader.take("eject_time", &table.eject_time, &mut passive.ejection_base);
    reader.take("eject_time_max", &table.eject_time_max, &mut passive.ejection_max);
    reader.take("eject_percent_max", &table.eject_percent_max, &mut passive.ejected_percent_max);
    reader.take("slow_start", &table.slow_start, &mut config.slow_start);
    reader.take("when_all_out", &table.when_all_out, &mut config.when_all_out);
}

/// There are checks if they have an interval, as on the command line.
fn apply_checks(reader: &mut Reader<'_, '_>, table: &UpstreamTable, config: &mut UpstreamConfig) {
    let active = &mut config.active;
    reader.take("check_interval", &table.check_interval, &mut active.interval);
    reader.take("check_timeout", &table.check_timeout, &mut active.timeout);
    reader.take("rise", &table.rise, &mut active.rise);
    reader.take("fall", &table.fall, &mut active.fall);
    let send = reader.optional("check_send", &table.check_send);
    let expect = reader.optional("check_expect", &table.check_expect);
    for (key, needed) in [
        ("check_send", "check_expect"),
        ("check_send", "check_interval"),
        ("check_expect", "check_interval"),
    ] {
        if reader.has(key) && !reader.has(needed) {
            let text = format!("it does nothing without {needed}; add that");
            reader.wrong_key(&reader.path.key(key), text);
        }
    }
    if expect.as_ref().is_some_and(|expect| expect.as_bytes().is_empty()) {
        let text = "it expects nothing; leave it out to check by a connect alone";
        reader.wrong(&reader.path.key("check_expect"), text.to_owned());
    }
    active.check = match (&table.check_interval, expect) {
        (None, _) => ActiveCheck::None,
        (Some(_), None) => ActiveCheck::Connect,
        (Some(_), Some(expect)) => {
            ActiveCheck::SendExpect { send: send.unwrap_or_default(), expect }
        }
    };
}

/// The table that says the same.
pub(super) fn table(config: &UpstreamConfig) -> UpstreamTable {
    let (active, passive) = (&config.active, &config.passive);
    let (send, expect) = match &active.check {
        ActiveCheck::SendExpect { send, expect } => (Some(send), Some(expect)),
        ActiveCheck::None | ActiveCheck::Connect => (None, None),
    };
    let (checks, file) = (active.check != ActiveCheck::None, config.backends_file.as_ref());
    let failures = passive.failures.map_or(0, NonZeroU32::get);
    UpstreamTable {
        backends: file.is_none().then(|| config.backends.iter().map(entry).collect()),
        backends_file: file.map(Text::of),
        source: (!config.sources.is_empty()).then(|| OneOrMany::of(&config.sources)),
        balance: Some(Text::of(&config.balance)),
        max_connections: config.max_connections.as_ref().map(Text::of),
        resolve_interval: Some(Text::of(&config.resolve_interval)),
        check_interval: checks.then(|| Text::of(&active.interval)),
        check_send: send.filter(|send| !send.as_bytes().is_empty()).map(Text::of),
        check_expect: expect.map(Text::of),
        check_timeout: Some(Text::of(&active.timeout)),
        rise: Some(written::<100>(active.rise)),
        fall: Some(written::<100>(active.fall)),
        eject_after: Some(Text::of(&failures)),
        eject_time: Some(Text::of(&passive.ejection_base)),
        eject_time_max: Some(Text::of(&passive.ejection_max)),
        eject_percent_max: Some(Text::of(&passive.ejected_percent_max)),
        slow_start: Some(Text::of(&config.slow_start)),
        when_all_out: Some(Text::of(&config.when_all_out)),
    }
}

fn written<const MOST: u32>(count: NonZeroU32) -> Text<Positive<MOST>> {
    Positive::<MOST>::write(&count).into()
}

fn entry(backend: &Backend) -> BackendEntry {
    match backend.weight == Weight::default() {
        true => BackendEntry::Address(Text::of(backend)),
        false => BackendEntry::Table(BackendTable {
            address: Some(Text::of(&backend.target)),
            weight: Some(Text::of(&backend.weight)),
        }),
    }
}
