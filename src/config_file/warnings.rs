//! Where settings stand that are right and do nothing, or not what they look like.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::document::Document;
use super::frontend::Read;
use super::problem::{KeyPath, Problem};
use crate::config::{Frontend, Process, Warning};

/// What is to be told of the rules by source of all frontends; `first` has the defaults.
pub(super) fn of_rules(
    first: &Document,
    frontends: &[Read<'_>],
    process: &Process,
) -> Vec<Problem> {
    let named: Vec<(&Read<'_>, &Frontend)> =
        frontends.iter().filter_map(|read| Some((read, read.frontend.as_ref()?))).collect();
    let mut told = empty_allow(&Place { document: first, table: defaults() }, None);
    let mut of_defaults: BTreeMap<(&str, Option<usize>), (Warning, usize)> = BTreeMap::new();
    for (read, frontend) in &named {
        let own = Place::of(read, frontend);
        told.extend(empty_allow(&own, Some(first)));
        for warning in frontend.warnings(process) {
            match own.problem(&warning) {
                Some(problem) => told.push(problem),
                None => {
                    let key = (warning.key, warning.index);
                    of_defaults.entry(key).or_insert((warning, 0)).1 += 1;
                }
            }
        }
    }
    // A default does something if it does for one of those that have it.
    let place = Place { document: first, table: defaults() };
    for (warning, count) in of_defaults.into_values() {
        let has_own = |key| named.iter().filter(|(read, it)| Place::of(read, it).has(key)).count();
        if count + has_own(warning.key) >= named.len() {
            told.extend(place.problem(&warning));
        }
    }
    told
}

/// The table of a frontend, or that of the defaults.
struct Place<'a> {
    document: &'a Document,
    table: KeyPath,
}

fn defaults() -> KeyPath {
    KeyPath::default().key("defaults")
}

/// What says the same as a key.
fn names(key: &str) -> [&str; 2] {
    [key, if key == "reply" { "reply_file" } else { key }]
}

impl<'a> Place<'a> {
    fn of(read: &Read<'a>, frontend: &Frontend) -> Self {
        let table = KeyPath::default().key("frontend").key(&frontend.name);
        Self { document: read.document, table }
    }

    fn path(&self, key: &str) -> Option<KeyPath> {
        let paths = names(key).map(|name| self.table.key(name));
        paths.into_iter().find(|path| self.document.value(path).is_some())
    }

    fn has(&self, key: &str) -> bool {
        self.path(key).is_some()
    }

    /// `None` if the key does not stand here.
    fn problem(&self, warning: &Warning) -> Option<Problem> {
        let path = self.path(warning.key)?;
        let is_list =
            self.document.value(&path).is_some_and(|it| matches!(it.get_ref(), DeValue::Array(_)));
        let path = match warning.index.filter(|_| is_list) {
            Some(index) => path.index(index),
            None => path,
        };
        let is_secret = self.document.is_tainted(&path);
        let detail = if is_secret { "" } else { &warning.detail };
        Some(self.document.wrong_value(&path, format!("{}{detail}", warning.text)))
    }

    fn list(&self, key: &str) -> Option<(KeyPath, usize)> {
        let path = self.table.key(key);
        match self.document.value(&path)?.get_ref() {
            DeValue::Array(list) => Some((path, list.len())),
            _ => Some((path, 1)),
        }
    }
}

/// An empty list allows everybody, unlike an empty file; it is of use only where it takes the place of a default.
fn empty_allow(place: &Place<'_>, first: Option<&Document>) -> Vec<Problem> {
    let Some((path, 0)) = place.list("allow") else { return Vec::new() };
    let of_defaults = first.map(|document| Place { document, table: defaults() });
    if of_defaults.as_ref().and_then(|it| it.list("allow")).is_some_and(|(_, count)| count > 0) {
        return Vec::new();
    }
    let has_file = place.has("allow_file") || of_defaults.is_some_and(|it| it.has("allow_file"));
    let text = match has_file {
        true => "an empty list does nothing: the networks of allow_file are allowed",
        false => {
            "an empty list does nothing: everybody is allowed; deny = [\"0.0.0.0/0\", \"::/0\"] allows nobody"
        }
    };
    vec![place.document.wrong_value(&path, text)]
}
