//! What a reload changes, one sentence each: keys with the value before and behind, addresses, frontends, backends. The words are
//! a pure function. A value that came from the environment is shown as it stands in the file, or not at all.

use std::collections::{BTreeMap, HashMap};

use crate::config::upstream::{Backend, Target, Weight};
use crate::config::{Config, Frontend, Listen};
use crate::config_file::{KeyChange, Owner, Place, Side, differences};
use crate::server::{Handle, Reloaded, Step};
use crate::upstream::{Difference, UpstreamChange, What};

/// The keys of the process that a reload changes.
const LIVE: [&str; 8] = [
    "max_connections",
    "max_per_source",
    "rate_per_source",
    "ipv4_prefix",
    "ipv6_prefix",
    "drain_timeout",
    "drain_spread",
    "log_level",
];

/// What a reload changes, or would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Words {
    /// What changes.
    pub(super) changes: Vec<String>,
    /// What was done to backends by hand, and ends.
    pub(super) ended: Vec<String>,
    /// What takes a restart.
    pub(super) restart: Vec<String>,
}

/// The accept queues of a frontend as the kernel has them now, the shortest one; `None` before it is done.
pub(super) type Backlogs = HashMap<String, u32>;

/// The shortest accept queue of each frontend, as the kernel has it.
pub(super) fn backlogs(handle: &Handle) -> Backlogs {
    let mut shortest = Backlogs::new();
    for listener in handle.watch_queues() {
        let limit = shortest.entry(listener.frontend).or_insert(u32::MAX);
        *limit = listener.queue.limit.min(*limit);
    }
    shortest
}

/// The words for a change from one configuration to another.
pub(super) fn words(
    (before, after): (Side<'_>, Side<'_>),
    reloaded: &Reloaded,
    backlogs: &Backlogs,
) -> Words {
    let it = Compared {
        before,
        after,
        old: by_name(&before.settings.config),
        new: by_name(&after.settings.config),
        backlogs,
    };
    let mut words = Words::default();
    let mut of_frontends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut of_upstreams = Vec::new();
    for change in differences(before, after) {
        match &change.owner {
            Owner::Process if LIVE.contains(&change.key.as_str()) => {
                words.changes.push(format!("process: {change}"));
            }
            Owner::Process => words.restart.push(it.of_the_process(&change)),
            Owner::Frontend(name) if change.key == "v6_only" && it.keeps_an_address(name) => {
                words.restart.push(format!(
                    "frontend {name}: {change}; a socket that stays keeps it, another port would not"
                ));
            }
            Owner::Frontend(name) => {
                let line = it.of_a_frontend(name, &change);
                of_frontends.entry(name.clone()).or_default().push(line);
            }
            Owner::Upstream(name) => of_upstreams.push(format!("upstream {name}: {change}")),
        }
    }
    for step in &reloaded.steps {
        if it.is_made_again(step) {
            continue;
        }
        let Some((frontend, line)) = it.step(step) else { continue };
        of_frontends.entry(frontend.clone()).or_default().push(line);
    }
    for frontend in &after.settings.config.frontends {
        words.changes.extend(it.added(frontend));
        words.changes.extend(of_frontends.remove(&frontend.name).unwrap_or_default());
    }
    words.changes.extend(of_frontends.into_values().flatten());
    words.changes.extend(it.upstreams(&reloaded.upstreams.0, of_upstreams));
    words.ended = reloaded.upstreams.0.iter().filter_map(|change| it.ended(change)).collect();
    words
}

/// The sides, and what they have by name.
struct Compared<'a> {
    before: Side<'a>,
    after: Side<'a>,
    old: HashMap<&'a str, &'a Frontend>,
    new: HashMap<&'a str, &'a Frontend>,
    backlogs: &'a Backlogs,
}

fn by_name(config: &Config) -> HashMap<&str, &Frontend> {
    config.frontends.iter().map(|frontend| (frontend.name.as_str(), frontend)).collect()
}

impl Compared<'_> {
    fn of_the_process(&self, change: &KeyChange) -> String {
        match change.key.as_str() {
            "control" => format!("process: {change}; until then it stays where it is"),
            _ => format!("process: {change}"),
        }
    }

    fn of_a_frontend(&self, name: &str, change: &KeyChange) -> String {
        let since = match (change.key.as_str(), self.backlogs.get(name)) {
            ("max_connections", _) => "at once".to_owned(),
            ("backlog", None) => "at once".to_owned(),
            ("backlog", Some(effective)) => format!("in force: {effective}"),
            ("v6_only", _) => "for new sockets".to_owned(),
            _ => "for new connections".to_owned(),
        };
        format!("frontend {name}: {change}, {since}")
    }

    /// Whether it goes on to listen on an address on which it listens.
    fn keeps_an_address(&self, name: &str) -> bool {
        let (Some(old), Some(new)) = (self.old.get(name), self.new.get(name)) else { return false };
        new.listen.iter().any(|listen| old.listen.contains(listen))
    }

    fn added(&self, frontend: &Frontend) -> Option<String> {
        let is_new = !self.old.contains_key(frontend.name.as_str());
        let (name, service) = (&frontend.name, frontend.protocol.name());
        is_new.then(|| format!("frontend {name}: added, service {service}"))
    }

    /// Whether it closes the socket of an address that stays: another takes its place.
    fn is_made_again(&self, step: &Step) -> bool {
        let Step::Close { frontend, listen } = step else { return false };
        let new = self.new.get(frontend.as_str());
        let stays = |it: &HashMap<&str, &Frontend>| {
            let found = it.get(frontend.as_str());
            found.map_or(0, |it| it.listen.iter().filter(|it| *it == listen).count())
        };
        new.is_some() && stays(&self.new) >= stays(&self.old)
    }

    /// What a step does that no key tells.
    fn step<'s>(&self, step: &'s Step) -> Option<(&'s String, String)> {
        Some(match step {
            Step::Bind { frontend, listen } => {
                let known = self.old.get(frontend.as_str());
                // It was drained by hand, or the file of its socket is gone.
                let again = known.is_some_and(|known| known.listen.contains(listen));
                let how = if again { "listens again on" } else { "listens on" };
                let listen = self.listen(&self.after, (frontend, listen));
                (frontend, format!("frontend {frontend}: {how} {listen}"))
            }
            Step::Move { listen, from, to } => {
                let listen = self.listen(&self.after, (to, listen));
                (to, format!("frontend {to}: takes {listen} over from frontend {from}"))
            }
            Step::Close { frontend, listen } => {
                let listen = self.listen(&self.before, (frontend, listen));
                let line = format!(
                    "frontend {frontend}: no longer listens on {listen}; what waits there is served"
                );
                (frontend, line)
            }
            Step::Retire { frontend } => {
                (frontend, format!("frontend {frontend}: removed; open connections live on"))
            }
            Step::Publish { .. } | Step::Limit { .. } | Step::Configure { .. } => return None,
        })
    }

    fn listen(&self, side: &Side<'_>, (frontend, listen): (&str, &Listen)) -> String {
        written(side.places.listen(frontend, listen), listen.to_string())
    }

    fn target(&self, target: &Target) -> String {
        let place =
            self.after.places.backend(target).or_else(|| self.before.places.backend(target));
        written(place, target.to_string())
    }

    /// In the order of their names, the keys of each behind its backends.
    fn upstreams(&self, changes: &[UpstreamChange], of_keys: Vec<String>) -> Vec<String> {
        let lines = changes.iter().filter_map(|change| {
            let what = match &change.what {
                What::Added(1) => "added, with 1 backend".to_owned(),
                What::Added(count) => format!("added, with {count} backends"),
                What::Removed => "removed; open connections live on".to_owned(),
                What::BackendAdded(backend) => self.backend_added(backend),
                What::BackendRemoved(target) => {
                    let target = self.target(target);
                    format!("backend {target} removed; open connections live on")
                }
                What::Weight { target, from, to } => {
                    let written = self.target(target);
                    match self.hides_weight(target) {
                        true => format!("backend {written} weight changed"),
                        false => format!("backend {written} weight {} -> {}", from.get(), to.get()),
                    }
                }
                // Keys have them, and what ends is told apart.
                _ => return None,
            };
            Some(format!("upstream {}: {what}", change.upstream))
        });
        lines.chain(of_keys).collect()
    }

    fn backend_added(&self, Backend { target, weight }: &Backend) -> String {
        let written = self.target(target);
        match *weight == Weight::default() || self.hides_weight(target) {
            true => format!("backend {written} added"),
            false => format!("backend {written} added, weight {}", weight.get()),
        }
    }

    fn hides_weight(&self, target: &Target) -> bool {
        [self.before, self.after].iter().any(|side| side.places.hides_weight(target))
    }

    fn ended(&self, change: &UpstreamChange) -> Option<String> {
        let What::Undone(difference) = &change.what else { return None };
        let target = match difference {
            Difference::Added(Backend { target, .. })
            | Difference::Removed(target)
            | Difference::Weight { target, .. }
            | Difference::Draining(target)
            | Difference::Forced(target, _) => target,
        };
        if let (Difference::Weight { .. }, true) = (difference, self.hides_weight(target)) {
            let target = self.target(target);
            return Some(format!(
                "upstream {}: backend {target} has another weight",
                change.upstream
            ));
        }
        let text = difference.to_string().replacen(&target.to_string(), &self.target(target), 1);
        Some(format!("upstream {}: {text}", change.upstream))
    }
}

/// As it is written where something of the environment is in it.
fn written(place: Option<&Place>, value: String) -> String {
    match place {
        Some(place) if place.is_secret() => place.written().to_owned(),
        _ => value,
    }
}

#[cfg(test)]
mod tests;
