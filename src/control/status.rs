//! What there is and how it is, as one value. Nothing here waits for a reload that is under way.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use humantime::format_rfc3339_seconds;
use serde::{Deserialize, Serialize};

use super::bans::BansPlace;
use super::operator::Operator;
use super::sources::{RuleCount, counts};
use crate::server::{
    ByHand, FrontendState, FrontendStatus, Handle, ListenerStatus, Phase, Verdict,
};
use crate::upstream::{Endpoint, EndpointCounter, Upstream};

/// See [`Status::version`].
const VERSION: u64 = 1;

/// All that is told of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of this form: it goes up when something is taken away or means something else.
    pub version: u64,
    /// The version of the program.
    pub program_version: String,
    /// What it runs on.
    pub engine: String,
    /// `serving`, `draining` or `stopping`.
    pub phase: String,
    /// Since its start.
    pub uptime_seconds: u64,
    /// Its number.
    pub pid: u32,
    /// Open connections, and how many there may be.
    pub connections: Connections,
    /// Whether sources are banned, and where they are turned away.
    pub bans: BansPlace,
    /// The least important level that is logged.
    pub log_level: String,
    /// Where the configuration comes from.
    pub configuration: Configuration,
    /// What connections come in through.
    pub frontends: Vec<Frontend>,
    /// How often rules of the process by source were against a connection.
    pub source_rules: Vec<RuleCount>,
    /// Where proxied connections go.
    pub upstreams: Vec<UpstreamStatus>,
    /// What was set by hand and differs from the configuration; backends have theirs in `upstreams`.
    pub by_hand: Vec<ByHand>,
}

/// Open connections, and how many there may be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Open now, or on their way to a worker.
    pub open: usize,
    /// At most.
    pub max: Option<usize>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The file; `None` is the command line.
    pub file: Option<String>,
    /// When what runs was loaded (RFC 3339).
    pub loaded_at: String,
    /// How the last reload ended.
    pub last_reload: Option<LastReload>,
}

/// How a reload has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastReload {
    /// When (RFC 3339).
    pub at: String,
    /// Whether it was done.
    pub ok: bool,
    /// What has changed, or why nothing has.
    pub text: String,
}

/// What connections come in through.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Frontend {
    /// Its name.
    pub name: String,
    /// What is done with its connections.
    pub service: String,
    /// `listening`, `drained` or `removed`.
    pub state: String,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Its connections.
    pub connections: Connections,
    /// The accept queue of each socket.
    pub queues: Vec<Queue>,
    /// How often rules by source were against a connection; none where they never were.
    pub source_rules: Vec<RuleCount>,
    /// The files that list networks for its rules.
    pub networks_files: Vec<ListFile>,
}

/// An accept queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Where its socket listens.
    pub address: String,
    /// Connections that wait; `None` where the kernel does not tell.
    pub waiting: Option<u32>,
    /// How many may.
    pub limit: u32,
    /// What the kernel has dropped since the socket was made; `None` where it does not tell.
    pub drops: Option<u64>,
    /// Those of them that were SYNs from banned sources, as far as it is known; `None` where the kernel does not tell.
    pub drops_by_bans: Option<u64>,
    /// The most that was seen to wait.
    pub longest: u32,
    /// What is done while connections wait too long: `hold`, `shed`, `evict` or `lifo`.
    pub overload: String,
    /// Since when they wait too long (RFC 3339); `None` if they do not.
    pub overloaded_since: Option<String>,
    /// How often that has begun.
    pub overloads: u64,
    /// How many connections were reset for it.
    pub shed: u64,
    /// `healthy`, `overloaded`, `syn_queue`, `accept_queue_overflow` or `accepting_paused`.
    pub verdict: String,
    /// Why accepting is paused: `workers`, `descriptors`, `frontend_max_connections`, `max_connections` or `frontend_rate`.
    pub cause: Option<String>,
    /// What is wrong and what helps, in words.
    pub advice: Option<String>,
    /// Since when the verdict is this one (RFC 3339); `None` for `healthy`.
    pub verdict_since: Option<String>,
}

/// Where proxied connections go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// The file that lists its backends; `None` if there is none.
    pub backends_file: Option<ListFile>,
    /// The local addresses that it connects from; without any the kernel chooses.
    pub source: Vec<String>,
    /// Each address of each backend.
    pub backends: Vec<BackendStatus>,
    /// What was done by hand and differs from the configuration.
    pub by_hand: Vec<String>,
}

/// A file that lists backends or networks, and is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ListFile {
    /// Where it is.
    pub path: String,
    /// When what runs of it was loaded (RFC 3339); `None` if that is not known.
    pub loaded_at: Option<String>,
    /// Why what it says now is not what runs; `None` if it is.
    pub error: Option<String>,
}

/// One address of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendStatus {
    /// As it is configured, and as commands name it.
    pub backend: String,
    /// Where it is.
    pub address: String,
    /// `unknown`, `up`, `failing`, `down`, `ejected` or `draining`.
    pub state: String,
    /// Its weight.
    pub weight: u32,
    /// Open connections.
    pub open: usize,
    /// Connects under way.
    pub connecting: usize,
    /// What was counted since it was first seen.
    pub counters: BTreeMap<String, u64>,
}

impl Status {
    /// As it is now.
    pub fn of(operator: &Operator) -> Self {
        let handle = operator.handle();
        let (configuration, by_hand) = operator.told();
        Self {
            version: VERSION,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: handle.engine().to_string(),
            phase: phase(handle).to_owned(),
            uptime_seconds: operator.started().0.elapsed().as_secs(),
            pid: std::process::id(),
            connections: Connections { open: handle.open(), max: Some(handle.max_connections()) },
            bans: BansPlace::of(handle),
            log_level: operator.log_level().to_owned(),
            configuration,
            frontends: frontends(operator),
            source_rules: counts(&handle.process_sources()),
            upstreams: handle.upstreams().iter().map(|it| upstream(it, operator)).collect(),
            by_hand,
        }
    }
}

fn phase(handle: &Handle) -> &'static str {
    match handle.phase() {
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
    }
}

/// Those that are removed listen no more.
fn frontends(operator: &Operator) -> Vec<Frontend> {
    let handle = operator.handle();
    let files = networks_files(operator);
    let (phase, listeners) = (handle.phase(), handle.watch_queues());
    let with_queues = |it: &FrontendStatus| {
        let own = listeners.iter().filter(|listener| listener.frontend == it.name);
        let networks_files = files.get(&it.name).cloned().unwrap_or_default();
        Frontend { queues: own.map(queue).collect(), networks_files, ..frontend(it, phase) }
    };
    let removed = handle.removed_frontends();
    let removed = removed.iter().map(|it| frontend(it, phase));
    handle.frontends().iter().map(with_queues).chain(removed).collect()
}

/// Of each frontend that names some.
fn networks_files(operator: &Operator) -> HashMap<String, Vec<ListFile>> {
    let config = operator.handle().config();
    let files = |frontend: &crate::config::Frontend| {
        let files = frontend.sources.files().map(|file| list_file(&file.path, operator));
        (frontend.name.clone(), files.collect())
    };
    config.frontends.iter().map(files).collect()
}

fn queue(listener: &ListenerStatus) -> Queue {
    let ListenerStatus { address, queue, longest, drops, verdict, since, .. } = listener;
    let by_bans = listener.dropped_by_bans;
    let moment =
        |since: Instant| format_rfc3339_seconds(SystemTime::now() - since.elapsed()).to_string();
    Queue {
        address: address.to_string(),
        waiting: queue.waiting,
        limit: queue.limit,
        drops: queue.drops.map(|_| *drops),
        drops_by_bans: queue.drops.map(|_| by_bans),
        longest: *longest,
        overload: listener.overload.name().to_owned(),
        overloaded_since: listener.overloaded_since.map(moment),
        overloads: listener.overloads,
        shed: listener.shed,
        verdict: verdict.name().to_owned(),
        cause: verdict.pause().map(|cause| cause.name().to_owned()),
        advice: Some(verdict.advice().to_owned()).filter(|advice| !advice.is_empty()),
        verdict_since: (*verdict != Verdict::Healthy).then(|| moment(*since)),
    }
}

fn frontend(frontend: &FrontendStatus, phase: Phase) -> Frontend {
    Frontend {
        name: frontend.name.clone(),
        service: frontend.service.clone(),
        state: match frontend.state {
            FrontendState::Listening if phase != Phase::Serving => "draining",
            FrontendState::Listening => "listening",
            FrontendState::Drained => "drained",
            FrontendState::Removed => "removed",
        }
        .to_owned(),
        addresses: frontend.addresses.iter().map(ToString::to_string).collect(),
        connections: Connections { open: frontend.open(), max: frontend.max_connections() },
        queues: Vec::new(),
        source_rules: counts(frontend.sources()),
        networks_files: Vec::new(),
    }
}

fn upstream(upstream: &Arc<Upstream>, operator: &Operator) -> UpstreamStatus {
    let (now, config) = (Instant::now(), upstream.config());
    UpstreamStatus {
        name: upstream.name().to_owned(),
        backends_file: config.backends_file.as_ref().map(|file| list_file(file, operator)),
        source: config.sources.iter().map(ToString::to_string).collect(),
        backends: upstream.endpoints().iter().map(|endpoint| backend(endpoint, now)).collect(),
        by_hand: upstream.differences().iter().map(ToString::to_string).collect(),
    }
}

fn list_file(file: &Path, operator: &Operator) -> ListFile {
    let known = operator.lists.known(file);
    let loaded_at = known.as_ref().map(|known| format_rfc3339_seconds(known.loaded_at).to_string());
    let path = file.display().to_string();
    ListFile { path, loaded_at, error: known.and_then(|known| known.failure) }
}

fn backend(endpoint: &Arc<Endpoint>, now: Instant) -> BackendStatus {
    let connections = endpoint.connections();
    let counter =
        |counter: EndpointCounter| (counter.name().to_owned(), endpoint.counters().get(counter));
    BackendStatus {
        backend: endpoint.target().to_string(),
        address: endpoint.address().to_string(),
        state: endpoint.state(now).name().to_owned(),
        weight: endpoint.weight(),
        open: connections.open,
        connecting: connections.connecting,
        counters: EndpointCounter::ALL.into_iter().map(counter).collect(),
    }
}
