//! What is measured, as OpenMetrics text: all of it read when somebody asks, nothing kept.

mod frontends;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_protobuf, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::process;
use super::writer::Writer;
use crate::control::Operator;
use crate::metrics::{Counter, PauseCause};
use crate::server::{ListenerStatus, NamespaceCounters, Phase, Verdict};
use crate::service::{ServiceMetric, ServiceValue, metric_name};
use crate::upstream::{EndpointCounter, EndpointState, Upstream};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics: histograms are classic.
    Text,
    /// The older format of Prometheus, which has native histograms too: a message for each family, with its length before
    /// it.
    Protobuf,
}

impl Format {
    const PROTOBUF: &str = "application/vnd.google.protobuf";
    const FAMILY: &str = "io.prometheus.client.MetricFamily";

    /// The media type.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// What suits a client that accepts this. Text, unless it prefers protobuf.
    pub(super) fn for_accept(accept: &str) -> Self {
        let (mut text, mut protobuf) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameter = |name: &str| {
                let pairs = parts.clone().filter_map(|it| it.split_once('='));
                let mut own = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                own.next().map(|(_, value)| value.trim().trim_matches('"'))
            };
            let quality = parameter("q").map_or(1.0, |text| text.parse::<f64>().unwrap_or(0.0));
            let is_ours = parameter("proto") == Some(Self::FAMILY)
                && parameter("encoding") == Some("delimited");
            if !kind.eq_ignore_ascii_case(Self::PROTOBUF) {
                text = quality.max(text);
            } else if is_ours {
                protobuf = quality.max(protobuf);
            }
        }
        if protobuf > text { Self::Protobuf } else { Self::Text }
    }
}

/// The media type of [`text()`].
pub const CONTENT_TYPE: &str = Format::Text.media_type();

/// All that there is, as OpenMetrics text.
pub fn text(operator: &Arc<Operator>) -> String {
    String::from_utf8(encode(operator, Format::Text)).unwrap_or_default()
}

/// How long the next text may be, from the last: it is copied while it grows.
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// All that there is, in this format.
pub(super) fn encode(operator: &Arc<Operator>, format: Format) -> Vec<u8> {
    match format {
        Format::Text => {
            let mut text = String::with_capacity(LENGTH.load(Ordering::Relaxed));
            // Writing into a string does not fail.
            let _ = text::encode(&mut text, &registry(operator, &PARTS));
            LENGTH.store(text.len() + text.len() / 64, Ordering::Relaxed);
            text.into_bytes()
        }
        // Messages stand one behind the other, so not all of them have to be in memory at once. Nor does this fail.
        Format::Protobuf => PARTS.chunks(1).fold(Vec::new(), |mut all, part| {
            let encoded = prometheus_protobuf::encode_to_vec(&registry(operator, part));
            all.append(&mut encoded.unwrap_or_default());
            all
        }),
    }
}

fn registry(operator: &Arc<Operator>, parts: &'static [Part]) -> Registry {
    let mut registry = Registry::default();
    if parts.contains(&Part::Process) {
        registry.register_collector(Box::new(process::Usage));
    }
    let ours = registry.sub_registry_with_prefix("acceptor");
    ours.register_collector(Box::new(Server { operator: Arc::clone(operator), parts }));
    if parts.contains(&Part::Process)
        && let Some((name, metrics)) = operator.handle().service_metrics()
    {
        let own = registry.sub_registry_with_prefix(metric_name(&name));
        own.register_collector(Box::new(ServiceOwn(metrics)));
    }
    registry
}

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Process,
    Server,
    Frontends,
    Listeners,
    Kernel,
    Upstreams,
}

const PARTS: [Part; 6] =
    [Part::Process, Part::Server, Part::Frontends, Part::Listeners, Part::Kernel, Part::Upstreams];

/// The server and what is in it.
#[derive(Debug)]
struct Server {
    operator: Arc<Operator>,
    parts: &'static [Part],
}

/// What a service that the program has brought tells of itself.
#[derive(Debug)]
struct ServiceOwn(Vec<ServiceMetric>);

impl Collector for ServiceOwn {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.0.iter().try_for_each(|ServiceMetric { name, help, value }| match value {
            ServiceValue::Counter(value) => writer.counter((name, help, None), *value),
            ServiceValue::Gauge(value) => writer.gauge((name, help, None), *value),
        })
    }
}

impl Collector for Server {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.parts.iter().try_for_each(|part| self.part(*part, &mut writer))
    }
}

impl Server {
    fn part(&self, part: Part, writer: &mut Writer<'_>) -> fmt::Result {
        let handle = self.operator.handle();
        match part {
            Part::Process => Ok(()),
            Part::Server => {
                self.about(writer)?;
                self.threads(writer)?;
                counters(writer, |counter| handle.counter(counter))
            }
            Part::Frontends => {
                frontends::frontends(writer, &handle.frontends())?;
                frontends::source_rules_of_process(writer, &handle.process_sources())
            }
            Part::Listeners => listeners(writer, &handle.watch_queues()),
            Part::Kernel => {
                NamespaceCounters::read().map_or(Ok(()), |seen| namespace(writer, seen))
            }
            Part::Upstreams => upstreams(writer, &handle.upstreams()),
        }
    }
}

impl Server {
    fn about(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (operator, handle) = (&self.operator, self.operator.handle());
        let labels = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("engine", handle.engine().to_string()),
        ];
        let mut info =
            writer.0.encode_descriptor("build", "Build information.", None, MetricType::Info)?;
        info.encode_info(&labels)?;
        let (_, started) = operator.started();
        let help = "When the server was started, since the epoch.";
        writer.gauge(("start_time", help, Some(Unit::Seconds)), unix_seconds(started))?;
        let phase = |phase, name| (phase, name);
        let phases = [
            phase(Phase::Serving, "serving"),
            phase(Phase::Draining, "draining"),
            phase(Phase::Stopping, "stopping"),
        ];
        let now = handle.phase();
        let rows = phases.map(|(phase, name)| ([("phase", name)], truth(phase == now)));
        writer.gauges(("phase", "1 for the current phase.", None), rows)?;
        writer.gauge(
            ("open_connections", "Connections that are open.", None),
            handle.open() as f64,
        )?;
        let help = "How many connections may be open.";
        writer.gauge(("max_connections", help, None), handle.max_connections() as f64)?;
        let (bans, at_accept) = handle.ban_counts();
        let places = [("kernel", bans - at_accept), ("accept", at_accept)];
        let rows = places.map(|(place, count)| ([("place", place)], count as f64));
        let help = "Sources that are banned, by where they are turned away.";
        writer.gauges(("bans", help, None), rows)?;
        let loads = handle.worker_loads().into_iter().enumerate();
        let rows = loads.map(|(worker, open)| ([("worker", worker.to_string())], open as f64));
        writer.gauges(("worker_open_connections", "Connections of each worker.", None), rows)
    }
}

/// Seconds since the epoch; before it, where a clock is that nobody has set, they are negative.
fn unix_seconds(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(error) => -error.duration().as_secs_f64(),
    }
}

/// What is of interest thread by thread: how busy each is, and how much it does for each system call.
const OF_THREADS: [Counter; 7] = [
    Counter::Turns,
    Counter::Completions,
    Counter::SystemCalls,
    Counter::WakesSent,
    Counter::WakesSaved,
    Counter::Starved,
    Counter::CqOverflows,
];

impl Server {
    fn threads(&self, writer: &mut Writer<'_>) -> fmt::Result {
        for counter in OF_THREADS {
            let rows = self.operator.handle().by_thread(counter);
            let rows = rows.map(|(name, value)| ([("thread", name)], value));
            let name = format!("thread_{}", counter.name());
            writer.counters((&name, counter.help(), None), rows)?;
        }
        let rows = self.operator.handle().buffers_free();
        let rows = rows.map(|(name, count)| ([("thread", name)], count as f64));
        writer.gauges(("thread_buffers_free", "Buffers for what is received.", None), rows)
    }
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Accepts that failed; behind `accept_` their names say why.
const ACCEPT_ERRORS: [Counter; 9] = [
    Counter::AcceptAborted,
    Counter::AcceptInterrupted,
    Counter::AcceptNetwork,
    Counter::AcceptProcessDescriptors,
    Counter::AcceptSystemDescriptors,
    Counter::AcceptMemory,
    Counter::AcceptFirewall,
    Counter::AcceptBroken,
    Counter::AcceptUnknown,
];

fn counters(writer: &mut Writer<'_>, value: impl Fn(Counter) -> u64) -> fmt::Result {
    let mut rest: Vec<Counter> = Counter::ALL.to_vec();
    let errors = ACCEPT_ERRORS.map(|counter| {
        let error = counter.name().trim_start_matches("accept_").trim_end_matches("_errors");
        ([("error", error)], value(counter))
    });
    writer.counters(("accept_errors", "Accepts that failed.", None), errors)?;
    rest.retain(|counter| !ACCEPT_ERRORS.contains(counter) && !OF_THREADS.contains(counter));
    let closed: Vec<_> = rest.extract_if(.., |it| it.name().starts_with("closed_")).collect();
    let closed = closed.into_iter().map(|counter| {
        let reason = counter.name().trim_start_matches("closed_");
        let reason = reason.trim_start_matches("by_").trim_start_matches("for_");
        ([("reason", reason)], value(counter))
    });
    writer.counters(("closed_connections", "Connections that have ended.", None), closed)?;
    for counter in rest {
        let (name, unit) = match counter.name().strip_suffix("_bytes") {
            Some(name) => (name, Some(Unit::Bytes)),
            None => (counter.name(), None),
        };
        writer.counter((name, counter.help(), unit), value(counter))?;
    }
    Ok(())
}

/// The labels of a listening socket. Each worker may have one on the same address.
fn sockets(all: &[ListenerStatus]) -> Vec<[(&'static str, String); 3]> {
    let labels = |it: &ListenerStatus| {
        let (frontend, address) = (it.frontend.clone(), it.address.to_string());
        [("frontend", frontend), ("address", address), ("socket", it.socket.to_string())]
    };
    all.iter().map(labels).collect()
}

/// With one more.
fn with<'a>(
    labels: &'a [(&'static str, String); 3],
    (name, value): (&'static str, &'a str),
) -> [(&'static str, &'a str); 4] {
    let [one, two, three] = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
    [one, two, three, (name, value)]
}

fn rows_of<'a, const N: usize>(
    labels: &'a [[(&'static str, String); N]],
) -> impl Iterator<Item = &'a [(&'static str, String)]> {
    labels.iter().map(|labels| &labels[..])
}

fn listeners(writer: &mut Writer<'_>, all: &[ListenerStatus]) -> fmt::Result {
    let labels = sockets(all);
    let help = "Where a frontend listens: one for each socket.";
    let mut info = writer.0.encode_descriptor("listener", help, None, MetricType::Info)?;
    labels.iter().try_for_each(|labels| info.encode_info(labels))?;
    let rows = |value: fn(&ListenerStatus) -> Option<f64>| {
        labels.iter().zip(all).filter_map(move |(labels, it)| Some((&labels[..], value(it)?)))
    };
    let mut gauges = |name, help, value| writer.gauges((name, help, None), rows(value));
    gauges("accept_queue_length", "Connections that wait to be accepted.", |it| {
        it.queue.waiting.map(f64::from)
    })?;
    gauges("accept_queue_limit", "The backlog in force: the queue is full with one more.", |it| {
        Some(it.queue.limit.into())
    })?;
    gauges("accept_queue_longest", "The most that was seen in the queue.", |it| {
        it.queue.waiting.map(|_| it.longest.into())
    })?;
    let drops = rows_of(&labels).zip(all.iter().map(|it| it.drops));
    let help = "SYNs and handshakes that the kernel dropped for a listener, for whatever reason.";
    writer.counters(("listener_drops", help, None), drops)?;
    let drops = rows_of(&labels).zip(all.iter().map(|it| it.dropped_by_bans));
    let help = "Those of them that were SYNs from banned sources, as far as it is known.";
    writer.counters(("listener_ban_drops", help, None), drops)?;
    let paused = labels.iter().zip(all).flat_map(|(labels, it)| {
        let spans = PauseCause::ALL.into_iter().zip(it.paused);
        spans.map(|(cause, span)| (with(labels, ("cause", cause.name())), span.as_secs_f64()))
    });
    let help = "How long nobody was accepted on a listener, by cause.";
    writer.seconds(("accept_paused", help), paused)?;
    let rows = |value: fn(&ListenerStatus) -> f64| rows_of(&labels).zip(all.iter().map(value));
    let help = "1 while connections wait longer than the overload target.";
    let is_overloaded = |it: &ListenerStatus| truth(it.overloaded_since.is_some());
    writer.gauges(("listener_overloaded", help, None), rows(is_overloaded))?;
    let overloads = rows_of(&labels).zip(all.iter().map(|it| it.overloads));
    let help = "How often connections began to wait longer than the overload target.";
    writer.counters(("listener_overloads", help, None), overloads)?;
    let shed = rows_of(&labels).zip(all.iter().map(|it| it.shed));
    let help = "Connections refused because they had waited too long (overload = shed).";
    writer.counters(("listener_shed", help, None), shed)?;
    let help =
        "SYN-ACKs that were sent again to the connections of the sample of accept_queue_wait.";
    let again = rows_of(&labels).zip(all.iter().map(|it| it.retransmitted));
    writer.counters(("listener_syn_ack_retransmissions", help, None), again)?;
    let help = "How long connections waited in the accept queue: a sample (queue-wait-sample).";
    let waits = rows_of(&labels).zip(all.iter().map(|it| &it.waits));
    writer.histograms(("accept_queue_wait", help, Some(Unit::Seconds)), waits)?;
    let verdicts = labels.iter().zip(all).flat_map(|(labels, it)| {
        let own = it.verdict.name();
        Verdict::NAMES.map(|name| (with(labels, ("verdict", name)), truth(own == name)))
    });
    let help = "1 for the verdict on a listener; docs/METRICS.md says what to do about each.";
    writer.gauges(("listener_verdict", help, None), verdicts)
}

fn namespace(writer: &mut Writer<'_>, seen: NamespaceCounters) -> fmt::Result {
    let all = [
        (
            "kernel_listen_overflows",
            "ListenOverflows: dropped because an accept queue was full.",
            seen.listen_overflows,
        ),
        (
            "kernel_listen_drops",
            "ListenDrops: dropped by listeners, for whatever reason.",
            seen.listen_drops,
        ),
        ("kernel_syn_cookies_sent", "SyncookiesSent.", seen.syn_cookies_sent),
        ("kernel_syn_cookies_failed", "SyncookiesFailed.", seen.syn_cookies_failed),
        (
            "kernel_syn_queue_full_drops",
            "TCPReqQFullDrop: SYNs dropped because too many handshakes were under way.",
            seen.syn_queue_full_drops,
        ),
        (
            "kernel_syn_queue_full_cookies",
            "TCPReqQFullDoCookies: SYNs answered with a cookie for the same reason.",
            seen.syn_queue_full_cookies,
        ),
    ];
    for (name, help, value) in all {
        let help = format!("{help} Of all programs in the network namespace.");
        writer.counter((name, &help, None), value)?;
    }
    Ok(())
}

fn upstreams(writer: &mut Writer<'_>, all: &[Arc<Upstream>]) -> fmt::Result {
    let now = Instant::now();
    let mut backends = Vec::new();
    for upstream in all {
        for endpoint in upstream.endpoints().iter() {
            let labels = [
                ("upstream", upstream.name().to_owned()),
                ("backend", endpoint.target().to_string()),
                ("address", endpoint.address().to_string()),
            ];
            backends.push((labels, Arc::clone(endpoint)));
        }
    }
    let states = backends.iter().flat_map(|(labels, endpoint)| {
        let state = endpoint.state(now);
        EndpointState::ALL.map(|of| (with(labels, ("state", of.name())), truth(of == state)))
    });
    writer.gauges(("backend_state", "1 for the state of a backend.", None), states)?;
    let rows = backends.iter().map(|(labels, it)| (&labels[..], it.connections().open as f64));
    writer.gauges(
        ("backend_open_connections", "Connections to a backend that are open.", None),
        rows,
    )?;
    let rows =
        backends.iter().map(|(labels, it)| (&labels[..], it.connections().connecting as f64));
    writer
        .gauges(("backend_connecting", "Connects to a backend that are under way.", None), rows)?;
    let rows = backends.iter().map(|(labels, it)| (&labels[..], f64::from(it.weight())));
    writer.gauges(("backend_weight", "The weight of a backend.", None), rows)?;
    for counter in EndpointCounter::ALL {
        let (name, unit) = match counter.name().strip_prefix("bytes_") {
            Some("to") => ("backend_sent".to_owned(), Some(Unit::Bytes)),
            Some(_) => ("backend_received".to_owned(), Some(Unit::Bytes)),
            None => (format!("backend_{}", counter.name()), None),
        };
        let rows = backends.iter().map(|(labels, it)| (&labels[..], it.counters().get(counter)));
        writer.counters((&name, counter.help(), unit), rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_nobody_has_set_is_before_the_epoch() {
        let span = Duration::from_millis(1500);
        assert_eq!(unix_seconds(SystemTime::UNIX_EPOCH - span), -1.5);
        assert_eq!(unix_seconds(SystemTime::UNIX_EPOCH + span), 1.5);
    }

    #[test]
    fn protobuf_is_for_those_who_prefer_it() {
        // As Prometheus sends them: without and with native histograms.
        let text = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                    q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let preferred = format!("{protobuf};q=0.6,{text}");
        let table = [
            ("", Format::Text),
            ("*/*", Format::Text),
            (text, Format::Text),
            (protobuf, Format::Protobuf),
            (&preferred, Format::Protobuf),
            (&preferred.to_uppercase().replace("IO.", "io."), Format::Text),
            (&format!("text/plain;q=0.7, {protobuf} ; q=0.6"), Format::Text),
            (&format!("text/plain, {protobuf}"), Format::Text),
            (&format!("{protobuf};q=0"), Format::Text),
            (&format!("{protobuf};q=x"), Format::Text),
            (&preferred.replace("delimited", "text"), Format::Text),
            ("application/vnd.google.protobuf", Format::Text),
            (";;=,,;q", Format::Text),
        ];
        for (accept, expected) in table {
            assert_eq!(Format::for_accept(accept), expected, "{accept}");
        }
    }
}
