//! What is counted beside the counters of the process, as one process tells another of it: by frontend, by socket, by
//! backend. Each time all of it; whoever is told adds what has come since the last time.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Handle;
use super::handover::Reserved;
use super::queue_watch::SocketRecord;
use crate::listener::Listener;
use crate::metrics::{DurationsRecord, FrontendTimes, PauseCause};
use crate::sources::{Action, Rates, Rule, Sources};
use crate::sys;
use crate::upstream::{Endpoint, EndpointCounter, Upstream};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Figures {
    /// How long the connections of each frontend have taken.
    frontends: BTreeMap<String, TimesRecord>,
    /// By the number that the kernel gives a socket: it is the same in both processes.
    sockets: BTreeMap<u64, ListenerRecord>,
    /// What rules by source were against, and rates that are not whole, by frontend.
    sources: BTreeMap<String, SourcesRecord>,
    /// The same of all frontends together.
    process_sources: SourcesRecord,
    /// By upstream and address.
    backends: BTreeMap<String, BTreeMap<String, Counts>>,
}

/// Counters that are not zero, by their names.
type Counts = BTreeMap<String, u64>;

/// Of a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct TimesRecord {
    dispatch: DurationsRecord,
    connect: DurationsRecord,
    first_byte: DurationsRecord,
    lifetime: DurationsRecord,
}

/// Of a listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct ListenerRecord {
    socket: Option<SocketRecord>,
    waits: DurationsRecord,
    retransmitted: u64,
    /// In nanoseconds, by cause.
    paused_ns: Counts,
    overloads: u64,
    shed: u64,
}

/// Of sources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct SourcesRecord {
    /// By rule and action.
    counts: Counts,
    rates: Rates,
}

impl SourcesRecord {
    fn of(sources: &Sources, now: Instant) -> Self {
        let counts = sources.counts().filter(|(.., count)| *count > 0);
        let named = counts.map(|(rule, action, count)| (name(rule, action), count));
        Self { counts: named.collect(), rates: sources.rates(now) }
    }

    /// Adds what has come since an earlier record.
    fn add_to(&self, sources: &Sources, before: &Self, now: Instant) {
        for rule in Rule::ALL {
            for action in Action::ALL {
                let name = name(rule, action);
                sources.add(rule, action, more(&self.counts, &before.counts, &name));
            }
        }
        sources.restore(&self.rates, now);
    }
}

fn name(rule: Rule, action: Action) -> String {
    format!("{}/{}", rule.name(), action.name())
}

impl TimesRecord {
    fn of(times: &FrontendTimes) -> Self {
        let FrontendTimes { dispatch, connect, first_byte, lifetime } = times;
        Self {
            dispatch: dispatch.record(),
            connect: connect.record(),
            first_byte: first_byte.record(),
            lifetime: lifetime.record(),
        }
    }

    /// Adds what has come since an earlier record.
    fn add_to(&self, times: &FrontendTimes, before: &Self) {
        times.dispatch.add_all(&self.dispatch.since(&before.dispatch));
        times.connect.add_all(&self.connect.since(&before.connect));
        times.first_byte.add_all(&self.first_byte.since(&before.first_byte));
        times.lifetime.add_all(&self.lifetime.since(&before.lifetime));
    }
}

impl ListenerRecord {
    fn of(listener: &Listener, socket: Option<SocketRecord>, now: Instant) -> Self {
        let paused = |cause: PauseCause| listener.pauses().get(cause, now).as_nanos() as u64;
        let paused = PauseCause::ALL.map(|cause| (cause.name().to_owned(), paused(cause)));
        Self {
            socket,
            waits: listener.waits().record(),
            retransmitted: listener.waits().retransmitted(),
            overloads: listener.pressure().begun(),
            shed: listener.pressure().shed(),
            paused_ns: paused.into_iter().filter(|(_, span)| *span > 0).collect(),
        }
    }

    /// Adds what has come since an earlier record.
    fn add_to(&self, listener: &Listener, before: &Self) {
        let again = self.retransmitted.saturating_sub(before.retransmitted);
        listener.waits().add_all(&self.waits.since(&before.waits), again);
        let begun = self.overloads.saturating_sub(before.overloads);
        listener.pressure().add(begun, self.shed.saturating_sub(before.shed));
        for cause in PauseCause::ALL {
            let span = Duration::from_nanos(more(&self.paused_ns, &before.paused_ns, cause.name()));
            listener.pauses().add(cause, span);
        }
    }
}

/// What a counter has more than before.
fn more(counts: &Counts, before: &Counts, name: &str) -> u64 {
    let value = |counts: &Counts| counts.get(name).copied().unwrap_or(0);
    value(counts).saturating_sub(value(before))
}

fn of_endpoint(endpoint: &Arc<Endpoint>) -> (String, Counts) {
    let value = |counter: EndpointCounter| endpoint.counters().get(counter);
    let all = EndpointCounter::ALL.map(|counter| (counter.name().to_owned(), value(counter)));
    let counted = all.into_iter().filter(|(_, count)| *count > 0);
    (endpoint.address().to_string(), counted.collect())
}

fn of_upstream(upstream: &Arc<Upstream>) -> (String, BTreeMap<String, Counts>) {
    (upstream.name().to_owned(), upstream.endpoints().iter().map(of_endpoint).collect())
}

impl Handle {
    /// All that was counted, with what was counted in the processes before this one.
    pub fn figures(&self) -> Figures {
        let (numbers, now) = (self.queues.sockets(), Instant::now());
        let listeners = self.listeners().into_iter().filter_map(|listener| {
            let cookie = sys::socket_cookie(listener.as_fd()).ok()?;
            Some((cookie, ListenerRecord::of(&listener, numbers.get(&cookie).copied(), now)))
        });
        let times = self.control.lock().times_by_frontend();
        Figures {
            frontends: times.into_iter().map(|(name, it)| (name, TimesRecord::of(&it))).collect(),
            sockets: listeners.collect(),
            sources: self
                .frontends()
                .iter()
                .map(|it| (it.name.clone(), SourcesRecord::of(it.sources(), now)))
                .collect(),
            process_sources: SourcesRecord::of(&self.process_sources(), now),
            backends: self.upstreams().iter().map(of_upstream).collect(),
        }
    }

    /// Adds what another process has counted since it was last heard of.
    pub fn count_figures(&self, reserved: &mut Reserved, figures: &Figures) {
        let heard = &mut reserved.heard;
        for (name, times) in self.control.lock().times_by_frontend() {
            if let Some(record) = figures.frontends.get(&name) {
                record.add_to(&times, &heard.frontends.get(&name).cloned().unwrap_or_default());
                heard.frontends.insert(name, record.clone());
            }
        }
        self.count_sources(heard, figures);
        let sockets = figures.sockets.iter();
        let known = sockets.filter_map(|(cookie, it)| it.socket.map(|socket| (*cookie, socket)));
        self.queues.know(known.collect());
        for listener in self.control.lock().listeners() {
            let Ok(cookie) = sys::socket_cookie(listener.as_fd()) else { continue };
            if let Some(record) = figures.sockets.get(&cookie) {
                record.add_to(&listener, &heard.sockets.get(&cookie).cloned().unwrap_or_default());
                heard.sockets.insert(cookie, record.clone());
            }
        }
        for upstream in self.upstreams() {
            if let Some(told) = figures.backends.get(upstream.name()) {
                let heard = heard.backends.entry(upstream.name().to_owned()).or_default();
                count_backends(&upstream, told, heard);
            }
        }
    }
}

impl Handle {
    fn count_sources(&self, heard: &mut Figures, figures: &Figures) {
        let now = Instant::now();
        for frontend in self.frontends() {
            let Some(record) = figures.sources.get(&frontend.name) else { continue };
            let before = heard.sources.entry(frontend.name.clone()).or_default();
            record.add_to(frontend.sources(), before, now);
            before.clone_from(record);
        }
        let before = &mut heard.process_sources;
        figures.process_sources.add_to(&self.process_sources(), before, now);
        before.clone_from(&figures.process_sources);
    }
}

fn count_backends(
    upstream: &Upstream,
    told: &BTreeMap<String, Counts>,
    heard: &mut BTreeMap<String, Counts>,
) {
    for endpoint in upstream.endpoints() {
        let address = endpoint.address().to_string();
        let Some(counts) = told.get(&address) else { continue };
        let before = heard.entry(address).or_default();
        for counter in EndpointCounter::ALL {
            endpoint.counters().add(counter, more(counts, before, counter.name()));
        }
        before.clone_from(counts);
    }
}
