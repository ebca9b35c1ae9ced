//! A list of backends that is a file of its own, in JSON: written by what knows the fleet, and read again whenever it
//! changes.
//!
//! It becomes the same kind of document as a configuration file, so that both are read and judged alike: one that is
//! wrong is told with its line. There are no variables in it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_spanned::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::build::AllKeys;
use super::document::Document;
use super::files::{self, BESIDE_NO_FILE};
use super::problem::{KeyPath, Problem, Problems};
use super::reader::Reader;
use super::text::Text;
use super::upstream::List;
use super::{Errors, Lookup};
use crate::config::upstream::{Backend, UpstreamConfig};

/// How deep the values lie in a list of tables. What lies deeper is wrong whatever it is.
const DEPTH_MAX: usize = 2;

/// A list that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedBackends {
    /// What it says.
    pub backends: Vec<Backend>,
    /// The names in it that are to be looked up.
    pub lookups: Vec<Lookup>,
}

/// Reads the file that lists the backends of an upstream.
///
/// # Errors
/// All that is wrong with it.
pub fn load_backends(path: &Path, upstream: &str) -> Result<LoadedBackends, Errors> {
    let (mut problems, files) = (Problems::default(), [path.to_owned()]);
    let mut list = List::default();
    match files::text(path, UpstreamConfig::BACKENDS_FILE_BYTES_MAX) {
        Ok(text) => list = parse((path, text), upstream, (&AllKeys::new(), &mut problems)),
        Err(why) => problems.add(|| Problem::of_file(path, why)),
    }
    problems.into_result(&files)?;
    Ok(LoadedBackends { backends: list.backends, lookups: list.lookups })
}

/// Reads the file that an upstream names.
pub(super) fn read(
    reader: &mut Reader<'_, '_>,
    (upstream, file): (&str, &Text<PathBuf>),
    keys: &AllKeys,
) -> List {
    let key = reader.path.key("backends_file");
    if reader.has("backends") {
        let text = "backends is given already; leave one of them";
        reader.wrong_key(&key, text.to_owned());
    }
    let Some(file) = reader.value(&key, file) else { return List::default() };
    let Some(folder) = reader.document.folder() else {
        reader.wrong(&key, BESIDE_NO_FILE.to_owned());
        return List::default();
    };
    let path = folder.join(&file);
    let list = match files::text(&path, UpstreamConfig::BACKENDS_FILE_BYTES_MAX) {
        Ok(text) => {
            let named = reader.document.without_secrets(path.to_string_lossy().into_owned());
            parse((Path::new(&named), text), upstream, (keys, reader.problems))
        }
        Err(why) => {
            reader.wrong(&key, why);
            List::default()
        }
    };
    List { file: Some(path), ..list }
}

/// Reads a text as the backends of an upstream; what is wrong is told as of this file.
fn parse(
    (path, text): (&Path, String),
    upstream: &str,
    (keys, problems): (&AllKeys, &mut Problems),
) -> List {
    let mut document = Document::json(path, text.clone());
    let list = match elements(&text) {
        Ok(list) => list,
        Err(error) => {
            problems.add(|| document.wrong_at(place_of(&error, &text), in_words(&error)));
            return List::default();
        }
    };
    let before = problems.count();
    let list = list.into_iter().map(|element| value(&text, element, 1));
    let list: Result<DeArray<'static>, Twice> = list.collect();
    let list = match list {
        Ok(list) => list,
        Err(Twice { at }) => {
            problems.add(|| document.wrong_at(at, "this key is given twice; leave one of them"));
            return List::default();
        }
    };
    // Where it would stand in a configuration file.
    let root = KeyPath::default().key("upstream").key(upstream);
    let list = named("backends", 0..text.len(), DeValue::Array(list));
    let list = named(upstream, 0..0, DeValue::Table(list));
    document.table = named("upstream", 0..0, DeValue::Table(list));
    let mut reader = Reader { document: &document, path: root.clone(), problems };
    let list = List::read(&mut reader, keys);
    let whole = root.key("backends");
    if reader.problems.count() == before
        && let Err(error) = UpstreamConfig::validate_backends(&list.backends)
    {
        reader.wrong(&whole, error.to_string());
    }
    list
}

fn named(name: &str, span: std::ops::Range<usize>, value: DeValue<'static>) -> DeTable<'static> {
    let key = Spanned::new(span.clone(), name.to_owned().into());
    [(key, Spanned::new(span, value))].into_iter().collect()
}

/// The elements of the list, as they are written.
fn elements(text: &str) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_str(text)
}

/// A key that stands twice in one table, and where.
struct Twice {
    at: usize,
}

/// A value with its place in `text`, of which it is a part.
fn value(text: &str, raw: &RawValue, depth: usize) -> Result<Spanned<DeValue<'static>>, Twice> {
    let span = span(text, raw.get());
    let value = match raw.get().as_bytes().first() {
        Some(b'{') if depth < DEPTH_MAX => DeValue::Table(table(text, raw, depth)?),
        Some(b'{') => DeValue::Table(DeTable::new()),
        Some(b'"') => DeValue::String(serde_json::from_str(raw.get()).unwrap_or_default()),
        Some(b't') => DeValue::Boolean(true),
        Some(b'f') => DeValue::Boolean(false),
        // There is no list in a backend, and no null.
        Some(b'[' | b'n') | None => DeValue::Array(DeArray::new()),
        Some(_) => DeValue::String(raw.get().to_owned().into()),
    };
    Ok(Spanned::new(span, value))
}

fn table(text: &str, raw: &RawValue, depth: usize) -> Result<DeTable<'static>, Twice> {
    let entries = serde_json::Deserializer::from_str(raw.get()).deserialize_map(Entries);
    let (mut table, mut behind) = (DeTable::new(), span(text, raw.get()).start);
    for (key, inner) in entries.unwrap_or_default() {
        let inner = value(text, inner, depth + 1)?;
        // Between one value and the next there is nothing but the key.
        let begins = text[behind..].find('"').map_or(behind, |at| behind + at);
        behind = inner.span().end;
        let key = Spanned::new(begins..inner.span().start, key.into());
        if table.insert(key, inner).is_some() {
            return Err(Twice { at: begins });
        }
    }
    Ok(table)
}

/// The entries of a table in the order in which they stand.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn span(text: &str, part: &str) -> std::ops::Range<usize> {
    let begins = part.as_ptr().addr() - text.as_ptr().addr();
    begins..begins + part.len()
}

/// The byte at which the parser gave up.
fn place_of(error: &serde_json::Error, text: &str) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1)
}

fn in_words(error: &serde_json::Error) -> String {
    if error.is_data() {
        return "it must be a list of backends, such as [\"10.0.0.1:80\", { \"address\": \
                \"10.0.0.2:80\", \"weight\": 2 }]"
            .to_owned();
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    match error.is_eof() {
        true => format!("this is not JSON: {what}; a part of the file is missing"),
        false => format!("this is not JSON: {what}"),
    }
}
