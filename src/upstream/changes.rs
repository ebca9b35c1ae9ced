//! What differs between two configurations of the upstreams: a pure function, for the log of a reload and for one
//! that is only tried.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::by_hand::Difference;
use crate::config::upstream::{
    ActiveHealth, Backend, PassiveHealth, SourceAddress, Target, UpstreamConfig, Weight,
};

/// All that changes. As text: a line for each change, without the last newline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamChanges(pub Vec<UpstreamChange>);

/// One change of one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamChange {
    /// Its name.
    pub upstream: String,
    /// What changes.
    pub what: What,
}

/// What changes of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It is new and has so many backends.
    Added(usize),
    /// It is gone. Connections that it has live on.
    Removed,
    /// A backend is new.
    BackendAdded(Backend),
    /// A backend is gone. Connections that it has live on.
    BackendRemoved(Target),
    /// A backend has another weight.
    Weight {
        /// Which.
        target: Target,
        /// As it was.
        from: Weight,
        /// As it is.
        to: Weight,
    },
    /// A setting.
    Setting {
        /// Which.
        name: String,
        /// As it was.
        from: String,
        /// As it is.
        to: String,
    },
    /// What was done by hand ends.
    Undone(Difference),
}

impl fmt::Display for UpstreamChanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, change) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for UpstreamChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "upstream {}: ", self.upstream)?;
        match &self.what {
            What::Added(1) => formatter.write_str("added, with 1 backend"),
            What::Added(count) => write!(formatter, "added, with {count} backends"),
            What::Removed => formatter.write_str("removed"),
            What::BackendAdded(backend) => write!(formatter, "backend {backend} added"),
            What::BackendRemoved(target) => write!(formatter, "backend {target} removed"),
            What::Weight { target, from, to } => {
                write!(formatter, "backend {target} weight {} -> {}", from.get(), to.get())
            }
            What::Setting { name, from, to } => write!(formatter, "{name} {from} -> {to}"),
            What::Undone(difference) => write!(formatter, "by hand no more: {difference}"),
        }
    }
}

impl UpstreamChanges {
    /// What has to change so that `old` becomes `new`: upstreams in the order of `new`, then those that are gone.
    pub fn between<'a>(
        old: impl IntoIterator<Item = &'a UpstreamConfig>,
        new: impl IntoIterator<Item = &'a UpstreamConfig>,
    ) -> Self {
        let mut old: BTreeMap<&str, &UpstreamConfig> =
            old.into_iter().map(|config| (config.name.as_str(), config)).collect();
        let mut changes = Vec::new();
        for new in new {
            let whats = match old.remove(new.name.as_str()) {
                None => vec![What::Added(new.backends.len())],
                Some(old) => of_one(old, new),
            };
            changes.extend(whats.into_iter().map(|what| change(&new.name, what)));
        }
        changes.extend(old.into_keys().map(|name| change(name, What::Removed)));
        Self(changes)
    }

    /// Whether nothing changes.
    pub fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What was done by hand to an upstream ends too.
    pub(super) fn add_undone(&mut self, upstream: &str, differences: Vec<Difference>) {
        let undone = differences.into_iter().map(What::Undone);
        self.0.extend(undone.map(|what| change(upstream, what)));
    }
}

fn change(upstream: &str, what: What) -> UpstreamChange {
    UpstreamChange { upstream: upstream.to_owned(), what }
}

fn of_one(old: &UpstreamConfig, new: &UpstreamConfig) -> Vec<What> {
    let settings = settings(old).into_iter().zip(settings(new));
    let settings = settings.filter(|((_, from), (_, to))| from != to);
    let settings = settings.map(|((name, from), (_, to))| setting(name, from, to));
    backends(&old.backends, &new.backends).into_iter().chain(settings).collect()
}

fn setting(name: impl Into<String>, from: String, to: String) -> What {
    What::Setting { name: name.into(), from, to }
}

fn backends(old: &[Backend], new: &[Backend]) -> Vec<What> {
    let mut old: Vec<&Backend> = old.iter().collect();
    let mut whats = Vec::new();
    for backend in new {
        let Some(place) = old.iter().position(|old| old.target == backend.target) else {
            whats.push(What::BackendAdded(backend.clone()));
            continue;
        };
        let (from, to) = (old.remove(place).weight, backend.weight);
        if from != to {
            whats.push(What::Weight { target: backend.target.clone(), from, to });
        }
    }
    whats.extend(old.into_iter().map(|old| What::BackendRemoved(old.target.clone())));
    whats
}

/// All settings but the backends. A new field does not compile before it has its line here.
pub(super) fn settings(config: &UpstreamConfig) -> Vec<(&'static str, String)> {
    let UpstreamConfig {
        name: _,
        backends: _,
        backends_file,
        sources,
        balance,
        max_connections,
        active,
        passive,
        slow_start,
        when_all_out,
        resolve_interval,
    } = config;
    let ActiveHealth { check, interval, timeout, rise, fall } = active;
    let PassiveHealth { failures, ejection_base, ejection_max, ejected_percent_max } = passive;
    let file = backends_file.as_ref();
    vec![
        ("backends_file", file.map_or("none".to_owned(), |file| file.display().to_string())),
        ("source", listed(sources)),
        ("balance", balance.to_string()),
        ("max_connections", max_connections.map_or("unset".to_owned(), |max| max.to_string())),
        ("check", check.to_string()),
        ("check_interval", span(*interval)),
        ("check_timeout", span(*timeout)),
        ("rise", rise.to_string()),
        ("fall", fall.to_string()),
        ("eject_after", failures.map_or("0".to_owned(), |failures| failures.to_string())),
        ("eject_time", span(*ejection_base)),
        ("eject_time_max", span(*ejection_max)),
        ("eject_percent_max", ejected_percent_max.to_string()),
        ("slow_start", span(*slow_start)),
        ("when_all_out", when_all_out.to_string()),
        ("resolve_interval", span(*resolve_interval)),
    ]
}

fn listed(sources: &[SourceAddress]) -> String {
    let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
    match &sources[..] {
        [] => "unset".to_owned(),
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    }
}

fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}
