//! The files of a configuration: read with a limit on everything, and those that they include.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::document::Document;
use super::problem::{KeyPath, Problem, Problems};
use super::reader::Reader;
use super::text::OneOrMany;
use super::variables::Environment;
use crate::sys;

/// Most bytes of one file. A backend takes some 20.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most files of a configuration.
pub const FILES_MAX: usize = 4096;

/// How deep a file may be included by one that is included: the first file is 0.
pub const INCLUDE_DEPTH_MAX: usize = 8;

/// What a text that is in no file is called in errors.
pub(super) const NO_FILE: &str = "(text)";

/// Why such a text can name no other.
pub(super) const BESIDE_NO_FILE: &str = "this text is in no file, so that it can name no other";

/// Reads files, each once.
pub(super) struct Files<'a> {
    environment: &'a Environment<'a>,
    pub(super) documents: Vec<Document>,
    pub(super) problems: Problems,
    /// All that were read or tried, in this order.
    pub(super) paths: Vec<PathBuf>,
    /// By the names that are the same for a file that is named in several ways.
    seen: HashSet<PathBuf>,
    /// The same of the file that is being read, and of those that have led there.
    open: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    pub(super) fn new(environment: &'a Environment<'a>) -> Self {
        Self {
            environment,
            documents: Vec::new(),
            problems: Problems::default(),
            paths: Vec::new(),
            seen: HashSet::new(),
            open: Vec::new(),
        }
    }

    /// Reads a file and what it includes. A file that was read already is left out.
    pub(super) fn read(&mut self, path: &Path) {
        self.read_from(path, None);
    }

    /// The same for a file that another one includes.
    fn read_from(&mut self, path: &Path, by: Option<&Include>) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if self.open.contains(&canonical) {
            return self.refuse_circle(by);
        }
        if !self.seen.insert(canonical.clone()) {
            return;
        }
        self.paths.push(path.to_owned());
        let text = match text(path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(why) => return self.refuse(path, by, &why),
        };
        let to = (self.environment, &mut self.problems);
        let Some(document) = Document::parse(path, text, to) else { return };
        let includes = self.includes(&document);
        self.documents.push(document);
        self.open.push(canonical);
        for include in includes {
            if self.paths.len() >= FILES_MAX {
                let text = format!("more than {FILES_MAX} files; put several tables into one");
                self.problems.add(|| Problem { text, ..include.place.clone() });
                break;
            }
            self.read_from(&include.path, Some(&include));
        }
        self.open.pop();
    }

    /// A file cannot be read: told where it is included.
    fn refuse(&mut self, path: &Path, by: Option<&Include>, why: &str) {
        self.problems.add(|| match by {
            None => Problem::of_file(path, why),
            // The name is in the value that is shown, unless that is a pattern.
            Some(Include { place, is_pattern: false, .. }) => {
                Problem { text: why.to_owned(), ..place.clone() }
            }
            Some(Include { place, .. }) => {
                let text = format!("{}: {why}", path.display());
                Problem { text, ..place.clone() }
            }
        });
    }

    fn refuse_circle(&mut self, by: Option<&Include>) {
        let Some(Include { place, is_pattern, .. }) = by else { return };
        let advice = match is_pattern {
            true => "put what is included into a folder of its own, such as conf.d/*.toml",
            false => "leave it out",
        };
        let text =
            format!("this file would be included by itself, directly or by others; {advice}");
        self.problems.add(|| Problem { text, ..place.clone() });
    }

    /// Takes a text that is in no file.
    pub(super) fn take(&mut self, text: String) {
        let path = PathBuf::from(NO_FILE);
        self.paths.push(path.clone());
        let to = (self.environment, &mut self.problems);
        let Some(document) = Document::parse(&path, text, to) else { return };
        self.includes(&document);
        self.documents.push(document);
    }

    /// The files that are included, in the order of their names where a pattern names several.
    fn includes(&mut self, document: &Document) -> Vec<Include> {
        let path = KeyPath::default().key("include");
        let Some(value) = document.value(&path) else { return Vec::new() };
        let mut reader =
            Reader { document, path: KeyPath::default(), problems: &mut self.problems };
        let Some(texts) = one_or_many(value) else {
            reader.wrong(&path, "it must be a single path or a list of them".to_owned());
            return Vec::new();
        };
        let patterns = reader.many("include", &texts);
        if self.open.len() >= INCLUDE_DEPTH_MAX && !patterns.is_empty() {
            reader.wrong(
                &path,
                format!(
                    "files include files that include files, more than {INCLUDE_DEPTH_MAX} times; \
                 name all of them in the first file"
                ),
            );
            return Vec::new();
        }
        let Some(folder) = document.folder() else {
            reader.wrong(&path, BESIDE_NO_FILE.to_owned());
            return Vec::new();
        };
        let found = |(path, pattern): (KeyPath, PathBuf)| {
            let place = document.wrong_value(&path, "");
            let is_pattern = is_pattern(&pattern);
            let paths = matching(folder, &pattern).unwrap_or_else(|why| {
                reader.wrong(&path, why);
                Vec::new()
            });
            let include = move |path| Include { path, place: place.clone(), is_pattern };
            paths.into_iter().map(include)
        };
        patterns.into_iter().flat_map(found).collect()
    }
}

/// A file that another includes.
struct Include {
    path: PathBuf,
    /// Where, without what is wrong with it.
    place: Problem,
    /// Whether it stands there with its name or is one that a pattern matches.
    is_pattern: bool,
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn one_or_many(
    value: &serde_spanned::Spanned<toml::de::DeValue<'static>>,
) -> Option<OneOrMany<PathBuf>> {
    serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(value.clone())).ok()
}

/// A plain name as it is; a pattern as the files that match it, sorted.
fn matching(folder: &Path, pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let whole = folder.join(pattern);
    if !is_pattern(pattern) {
        return Ok(vec![whole]);
    }
    // What is no part of the pattern may look like one.
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    let text = Path::new(&folder).join(pattern);
    let wrong =
        |error: glob::PatternError| format!("this pattern cannot be matched: {}", error.msg);
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let paths = glob::glob_with(&text.to_string_lossy(), options).map_err(wrong)?;
    let mut found = Vec::new();
    for path in paths.take(FILES_MAX + 1) {
        found.push(path.map_err(|error| format!("a folder cannot be read: {}", error.error()))?);
    }
    found.sort();
    Ok(found)
}

/// A file as text, or why it cannot be had.
pub(super) fn text(path: &Path, most: u64) -> Result<String, String> {
    let bytes = read_whole(path, most)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("not UTF-8 from line {line} on; a configuration is a text file in UTF-8")
    })
}

/// All bytes of a regular file, or why they cannot be had. It does not wait, whatever lies there.
pub(super) fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| format!("the file cannot be read: {error}");
    let file = sys::open_without_waiting(path).map_err(told)?;
    let kind = file.metadata().map_err(told)?.file_type();
    if !kind.is_file() {
        let kind = if kind.is_dir() { "a directory" } else { "a FIFO, a device or a socket" };
        return Err(format!("this is {kind}; it must be a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > most {
        let most = match most >> 20 {
            0 => format!("{most} bytes"),
            mebibytes => format!("{mebibytes} MiB"),
        };
        return Err(format!("the file is too large; it may have at most {most}"));
    }
    Ok(bytes)
}
