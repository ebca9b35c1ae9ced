//! What differs between two configurations, key by key in the words of a file: a pure function. What came from the
//! environment has changed or has not; what it is and was is not told.

use std::collections::HashMap;
use std::fmt;

use toml::{Table, Value};

use super::places::Places;
use super::problem::KeyPath;
use super::{RunSettings, print, process, upstream};
use crate::config::upstream::UpstreamConfig;
use crate::config::{Frontend, HttpConfig, NetworksFile, Protocol, SourceRules};

/// Most characters of a value that are shown.
const VALUE_SHOWN_MAX: usize = 60;

/// Most values of a list that are shown.
const VALUES_SHOWN_MAX: usize = 16;

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// `[process]`.
    Process,
    /// `[frontend.NAME]`.
    Frontend(String),
    /// `[upstream.NAME]`.
    Upstream(String),
}

/// A key with another value than before. As text: `idle_timeout 60s -> 30s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Whose it is.
    pub owner: Owner,
    /// As it stands in a file; of `routes` with the pattern.
    pub key: String,
    /// As it was and as it is; `None` if one of them came from the environment.
    pub values: Option<(String, String)>,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.values {
            Some((from, to)) => write!(formatter, "{} {from} -> {to}", self.key),
            None => write!(formatter, "{} changed", self.key),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => formatter.write_str("process"),
            Self::Frontend(name) => write!(formatter, "frontend {name}"),
            Self::Upstream(name) => write!(formatter, "upstream {name}"),
        }
    }
}

/// A configuration, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What it says.
    pub settings: &'a RunSettings,
    /// Where.
    pub places: &'a Places,
}

/// The keys that differ of what both have: in the order of `after`, the process first. Addresses of frontends and
/// backends of upstreams are not among them.
pub fn differences(before: Side<'_>, after: Side<'_>) -> Vec<KeyChange> {
    let tables = [before, after].map(|side| table(process::table(side.settings)));
    let mut changes = Compared { owner: Owner::Process, sides: (before, after) }.changes(&tables);
    let old: HashMap<&str, &Frontend> =
        before.settings.config.frontends.iter().map(|it| (it.name.as_str(), it)).collect();
    for new in &after.settings.config.frontends {
        let Some(old) = old.get(new.name.as_str()).filter(|old| **old != new) else { continue };
        let owner = Owner::Frontend(new.name.clone());
        let compared = Compared { owner, sides: (before, after) };
        changes.extend(compared.changes(&[old, new].map(of_frontend)));
        changes.extend(compared.body(old, new));
        changes.extend(compared.networks(old, new));
    }
    let old: HashMap<&str, &UpstreamConfig> =
        before.settings.config.upstreams.iter().map(|it| (it.name.as_str(), it)).collect();
    for new in &after.settings.config.upstreams {
        let Some(old) = old.get(new.name.as_str()).filter(|old| **old != new) else { continue };
        let owner = Owner::Upstream(new.name.clone());
        let tables = [*old, new].map(|it| without(table(upstream::table(it)), "backends"));
        changes.extend(Compared { owner, sides: (before, after) }.changes(&tables));
    }
    changes
}

/// A table in two versions.
struct Compared<'a> {
    owner: Owner,
    sides: (Side<'a>, Side<'a>),
}

impl Compared<'_> {
    fn changes(&self, [before, after]: &[Table; 2]) -> Vec<KeyChange> {
        let mut keys: Vec<&String> = after.keys().collect();
        keys.extend(before.keys().filter(|key| !after.contains_key(*key)));
        let mut changes = Vec::new();
        for key in keys {
            let (old, new) = (before.get(key), after.get(key));
            if old == new {
                continue;
            }
            match (old, new) {
                (Some(Value::Table(old)), Some(Value::Table(new))) => {
                    changes.extend(self.entries(key, old, new));
                }
                (None, Some(Value::Table(new))) => {
                    changes.extend(self.entries(key, &Table::new(), new));
                }
                (Some(Value::Table(old)), None) => {
                    changes.extend(self.entries(key, old, &Table::new()));
                }
                _ => changes.push(self.change(&[key], (shown(old), shown(new)))),
            }
        }
        changes
    }

    /// Of a table within the table.
    fn entries(&self, key: &str, old: &Table, new: &Table) -> Vec<KeyChange> {
        let mut names: Vec<&String> = new.keys().collect();
        names.extend(old.keys().filter(|name| !new.contains_key(*name)));
        let differs = |name: &&String| old.get(*name) != new.get(*name);
        let change =
            |name: &String| self.change(&[key, name], (shown(old.get(name)), shown(new.get(name))));
        names.into_iter().filter(differs).map(change).collect()
    }

    /// A body may be of any bytes, and large.
    fn body(&self, old: &Frontend, new: &Frontend) -> Option<KeyChange> {
        let body = |frontend: &Frontend| match &frontend.protocol {
            Protocol::Http(http) => Some(http.body.clone()),
            _ => None,
        };
        let (old, new) = (body(old), body(new));
        if old == new {
            return None;
        }
        let values = (of_body(old.as_deref()), of_body(new.as_deref()));
        let is_secret = ["body_size", "body_file"].iter().any(|key| self.is_secret(&[key]));
        let change = self.change(&["body"], values);
        Some(KeyChange { values: change.values.filter(|_| !is_secret), ..change })
    }

    /// A file of networks may be large, and the same one with other networks in it.
    fn networks(&self, old: &Frontend, new: &Frontend) -> Vec<KeyChange> {
        fn files(SourceRules { allow, deny, .. }: &SourceRules) -> [Option<&NetworksFile>; 2] {
            [allow, deny].map(|list| list.file.as_ref())
        }
        let pairs = files(&old.sources)
            .into_iter()
            .zip(files(&new.sources))
            .zip(["allow_file", "deny_file"]);
        let changed = pairs.filter_map(|(files, key)| {
            let (Some(old), Some(new)) = files else { return None };
            (old.path == new.path && old.networks != new.networks).then(|| {
                let (before, after) = (old.networks.len(), new.networks.len());
                let other = if before == after { " other" } else { "" };
                let values = (format!("{before} networks"), format!("{after}{other} networks"));
                self.change(&[key], values)
            })
        });
        changed.collect()
    }

    fn change(&self, key: &[&str], values: (String, String)) -> KeyChange {
        let way = key.iter().fold(KeyPath::default(), |path, key| path.key(key));
        let values = Some(values).filter(|_| !self.is_secret(key));
        KeyChange { owner: self.owner.clone(), key: way.to_string(), values }
    }

    fn is_secret(&self, key: &[&str]) -> bool {
        let root = KeyPath::default();
        let tables = match &self.owner {
            Owner::Process => vec![root.key("process")],
            Owner::Frontend(name) => vec![root.key("frontend").key(name), root.key("defaults")],
            Owner::Upstream(name) => vec![root.key("upstream").key(name)],
        };
        let (before, after) = self.sides;
        tables.into_iter().any(|table| {
            let path = key.iter().fold(table, |path, key| path.key(key));
            before.places.is_secret(&path) || after.places.is_secret(&path)
        })
    }
}

fn of_frontend(frontend: &Frontend) -> Table {
    let protocol = match &frontend.protocol {
        // Its body is compared apart.
        Protocol::Http(http) => {
            Protocol::Http(HttpConfig { limits: http.limits, ..HttpConfig::default() })
        }
        other => other.clone(),
    };
    let Frontend {
        name,
        listen: _,
        socket,
        limits,
        timeouts,
        overload,
        protocol: _,
        trusted,
        sources,
        access_log,
    } = frontend;
    let mut bare = Frontend::new(name.clone(), protocol);
    bare.socket.clone_from(socket);
    bare.limits.clone_from(limits);
    bare.timeouts.clone_from(timeouts);
    bare.overload.clone_from(overload);
    bare.trusted.clone_from(trusted);
    bare.sources.clone_from(sources);
    bare.access_log.clone_from(access_log);
    // What cannot stand in a file does not come out of one.
    let table = table(print::table(&bare).unwrap_or_default());
    without(without(table, "listen"), "body")
}

fn table(of: impl serde::Serialize) -> Table {
    Table::try_from(of).unwrap_or_default()
}

fn without(mut table: Table, key: &str) -> Table {
    table.remove(key);
    table
}

fn of_body(body: Option<&[u8]>) -> String {
    let Some(body) = body else { return shown(None) };
    match std::str::from_utf8(body) {
        Ok(text) if text.chars().count() <= VALUE_SHOWN_MAX => format!("{text:?}"),
        _ => format!("{} bytes", body.len()),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(Value::String(text)) => shown_text(text),
        Some(Value::Array(values)) => {
            let mut all: Vec<_> =
                values.iter().take(VALUES_SHOWN_MAX).map(|value| shown(Some(value))).collect();
            if values.len() > VALUES_SHOWN_MAX {
                all.push(format!("and {} more", values.len() - VALUES_SHOWN_MAX));
            }
            format!("[{}]", all.join(", "))
        }
        Some(other) => other.to_string(),
    }
}

/// In quotes if it could be taken for something else without them.
fn shown_text(text: &str) -> String {
    let cut: String = match text.char_indices().nth(VALUE_SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    };
    match text.is_empty() || text != text.trim() || text.contains(char::is_control) {
        true => format!("{cut:?}"),
        false => cut,
    }
}
