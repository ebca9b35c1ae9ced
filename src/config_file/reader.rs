//! From a parsed file to values, with all that is wrong told.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::document::Document;
use super::problem::{KeyPath, Problems, Segment};
use super::schema;
use super::text::{Kind, OneOrMany, Text};

/// The keys of one kind of table.
pub(super) struct Keys<T> {
    names: Vec<String>,
    table: PhantomData<fn() -> T>,
}

impl<T: JsonSchema> Keys<T> {
    pub(super) fn new() -> Self {
        Self { names: schema::keys::<T>(), table: PhantomData }
    }
}

impl<T> Keys<T> {
    pub(super) fn are(&self, key: &str) -> bool {
        self.names.iter().any(|name| name == key)
    }

    /// What is wrong with a key that there is not, and which one may be meant.
    pub(super) fn unknown(&self, key: &str) -> String {
        match nearest(key, self.names.iter().map(String::as_str)) {
            Some(known) => format!("unknown key; did you mean '{known}'?"),
            None => format!("unknown key; known are {}", self.names.join(", ")),
        }
    }
}

/// The name that `name` differs least from, if that is little.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Whoever mistypes a name mistypes no more than a part of it.
    const PART: usize = 3;
    /// Longer names are nobody's slip, and comparing takes time.
    const LENGTH_MAX: usize = 64;
    if name.len() > LENGTH_MAX {
        return None;
    }
    // The name of the option is near too.
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&plain, known);
    let (distance, known) = known.map(|known| (distance(known), known)).min()?;
    (distance <= (plain.len().max(known.len()) / PART).max(1)).then_some(known)
}

/// Reads one table of a document.
pub(super) struct Reader<'a, 'p> {
    pub(super) document: &'a Document,
    pub(super) path: KeyPath,
    pub(super) problems: &'p mut Problems,
}

impl<'a> Reader<'a, '_> {
    /// The entries of the table in the order of the file, if it is one.
    pub(super) fn entries(&mut self) -> Option<&'a DeTable<'static>> {
        match self.document.value(&self.path)?.get_ref() {
            DeValue::Table(table) => Some(table),
            _ if matches!(self.path.0.last(), Some(Segment::Index(_))) => {
                let table = self.document.backend("IP:PORT", "N");
                self.wrong(&self.path.clone(), format!("it must be an address, or {table}"));
                None
            }
            DeValue::Array(_) => {
                let text =
                    format!("it must be a table; write [{}], with single brackets", self.path);
                self.wrong_key(&self.path.clone(), text);
                None
            }
            _ => {
                self.wrong(
                    &self.path.clone(),
                    format!("it must be a table; write [{}]", self.path),
                );
                None
            }
        }
    }

    /// The table without the keys that are unknown or hold something that is no value of theirs, each of
    /// which is a problem. `None` if it is not there, or no table.
    pub(super) fn table<T>(&mut self, keys: &Keys<T>) -> Option<T>
    where
        T: DeserializeOwned + Default,
    {
        let entries = self.entries()?;
        let mut kept = DeTable::new();
        for (key, value) in entries.iter() {
            let path = self.path.key(key.get_ref());
            if !keys.are(key.get_ref()) {
                self.wrong_key(&path, keys.unknown(key.get_ref()));
                continue;
            }
            let alone: DeTable<'static> = [(key.clone(), value.clone())].into_iter().collect();
            match deserialize::<T>(alone) {
                Ok(_) => drop(kept.insert(key.clone(), value.clone())),
                Err(error) => self.wrong(&path, expectation(&error)),
            }
        }
        deserialize(kept).ok()
    }

    /// What a text is read as; what is wrong with it is told.
    pub(super) fn value<K: Kind>(&mut self, path: &KeyPath, text: &Text<K>) -> Option<K::Value> {
        if self.document.is_broken(path) {
            return None;
        }
        match text.read() {
            Ok(value) => Some(value),
            Err(_) if self.document.is_tainted(path) => {
                let expected = K::expected();
                self.wrong(path, format!("with its variables put in it is not {expected}"));
                None
            }
            Err(reason) => {
                self.wrong(path, reason);
                None
            }
        }
    }

    /// Sets `target` to the value of a key, if that is there and right.
    pub(super) fn take<K: Kind>(
        &mut self,
        key: &str,
        text: &Option<Text<K>>,
        target: &mut impl From<K::Value>,
    ) {
        if let Some(value) = self.optional(key, text) {
            *target = value.into();
        }
    }

    pub(super) fn optional<K: Kind>(
        &mut self,
        key: &str,
        text: &Option<Text<K>>,
    ) -> Option<K::Value> {
        text.as_ref().and_then(|text| self.value(&self.path.key(key), text))
    }

    /// One value or several of a key, those that are right, each with its way.
    pub(super) fn many<K: Kind>(
        &mut self,
        key: &str,
        texts: &OneOrMany<K>,
    ) -> Vec<(KeyPath, K::Value)> {
        let path = self.path.key(key);
        let paths: Vec<(KeyPath, &Text<K>)> = match texts {
            OneOrMany::One(text) => vec![(path, text)],
            OneOrMany::Many(texts) => {
                texts.iter().enumerate().map(|(index, text)| (path.index(index), text)).collect()
            }
        };
        let read = |(path, text)| self.value(&path, text).map(|value| (path, value));
        paths.into_iter().filter_map(read).collect()
    }

    /// A value is wrong.
    pub(super) fn wrong(&mut self, path: &KeyPath, text: String) {
        self.problems.add(|| self.document.wrong_value(path, text));
    }

    /// A key is wrong.
    pub(super) fn wrong_key(&mut self, path: &KeyPath, text: String) {
        self.problems.add(|| self.document.wrong_key(path, text));
    }

    /// Whether a key stands in this table of the file, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.document.value(&self.path.key(key)).is_some()
    }
}

fn deserialize<T: DeserializeOwned>(table: DeTable<'static>) -> Result<T, toml::de::Error> {
    let value = Spanned::new(0..0, DeValue::Table(table));
    T::deserialize(ValueDeserializer::from(value))
}

/// What would be right. What is there may come from the environment, so it is left out.
fn expectation(error: &toml::de::Error) -> String {
    let text = error.message().lines().next().unwrap_or_default();
    match text.rsplit_once("expected ") {
        Some((_, expected)) => format!("it must be {}", words(expected)),
        None => format!("it must be {text}"),
    }
}

/// What serde calls them is for programmers.
fn words(expected: &str) -> &str {
    match expected {
        "a map" => "a table",
        "a sequence" => "a list",
        other => other,
    }
}
