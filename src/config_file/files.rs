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
}

impl<'a> Files<'a> {
    pub(super) fn new(environment: &'a Environment<'a>) -> Self {
        Self {
            environment,
            documents: Vec::new(),
            problems: Problems::default(),
            paths: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Reads a file and what it includes. A file that was read already is left out.
    pub(super) fn read(&mut self, path: &Path, depth: usize) {
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(canonical) {
            return;
        }
        self.paths.push(path.to_owned());
        let text = match text(path, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(why) => return self.problems.add(|| Problem::of_file(path, why)),
        };
        let to = (self.environment, &mut self.problems);
        let Some(document) = Document::parse(path, text, to) else { return };
        let includes = self.includes(&document, depth);
        self.documents.push(document);
        for path in includes {
            if self.paths.len() >= FILES_MAX {
                let text = format!("more than {FILES_MAX} files; put several tables into one");
                return self.problems.add(|| Problem::of_file(&path, text));
            }
            self.read(&path, depth + 1);
        }
    }

    /// Takes a text that is in no file.
    pub(super) fn take(&mut self, text: String) {
        let path = PathBuf::from(NO_FILE);
        self.paths.push(path.clone());
        let to = (self.environment, &mut self.problems);
        let Some(document) = Document::parse(&path, text, to) else { return };
        self.includes(&document, 0);
        self.documents.push(document);
    }

    /// The files that are included, in the order of their names where a pattern names several.
    fn includes(&mut self, document: &Document, depth: usize) -> Vec<PathBuf> {
        let path = KeyPath::default().key("include");
        let Some(value) = document.value(&path) else { return Vec::new() };
        let mut reader =
            Reader { document, path: KeyPath::default(), problems: &mut self.problems };
        let Some(texts) = one_or_many(value) else {
            reader.wrong(&path, "it must be a single path or a list of them".to_owned());
            return Vec::new();
        };
        let patterns = reader.many("include", &texts);
        if depth >= INCLUDE_DEPTH_MAX && !patterns.is_empty() {
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
            matching(folder, &pattern).unwrap_or_else(|why| {
                reader.wrong(&path, why);
                Vec::new()
            })
        };
        patterns.into_iter().flat_map(found).collect()
    }
}

fn one_or_many(
    value: &serde_spanned::Spanned<toml::de::DeValue<'static>>,
) -> Option<OneOrMany<PathBuf>> {
    serde::Deserialize::deserialize(toml::de::ValueDeserializer::from(value.clone())).ok()
}

/// A plain name as it is; a pattern as the files that match it, sorted.
fn matching(folder: &Path, pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let whole = folder.join(pattern);
    let is_pattern = pattern.to_string_lossy().contains(['*', '?', '[']);
    if !is_pattern {
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
        return Err(format!("the file is too large; it may have at most {} MiB", most >> 20));
    }
    Ok(bytes)
}
