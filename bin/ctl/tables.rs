//! Answers of a running server as people read them in a terminal.

use std::fmt::{Display, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanBytes;
use uring_acceptor::control::{
    BackendStatus, BanEntry, BanList, BansPlace, ClientEntry, ClientList, ConnectionEntry,
    ConnectionList, Connections, Frontend, ListFile, ReloadReport, RuleCount, SetReport,
    SourceEntry, SourceList, Status, UpstreamStatus,
};

/// What stands where there is nothing.
const NONE: &str = "-";

/// What a reload would do.
pub(super) fn before(report: &ReloadReport) -> String {
    let file = &report.file;
    let mut text = match (report.changes.is_empty(), report.ended.is_empty()) {
        (true, true) => format!("{file}: nothing differs from what runs\n"),
        _ => format!("{file}: a reload does this\n"),
    };
    lines(&mut text, "  ", &report.changes);
    headed(&mut text, "set by hand, and overruled by the file:", &report.ended);
    headed(&mut text, "differs, and takes a restart:", &report.restart);
    headed(&mut text, "warnings:", &report.warnings);
    text
}

/// What it has done.
pub(super) fn after(report: &ReloadReport) -> String {
    let mut text = match report.changes.len() {
        0 => "reloaded; nothing has changed\n".to_owned(),
        1 => "reloaded; 1 change\n".to_owned(),
        count => format!("reloaded; {count} changes\n"),
    };
    headed(&mut text, "warnings:", &report.warnings);
    text
}

/// What a value is now.
pub(super) fn set(report: &SetReport) -> String {
    let SetReport { what, now, warnings } = report;
    let mut text = format!("{what}: {now}\n");
    lines(&mut text, "warning: ", warnings);
    text
}

fn headed(text: &mut String, heading: &str, all: &[String]) {
    if !all.is_empty() {
        let _ = writeln!(text, "{heading}");
        lines(text, "  ", all);
    }
}

fn lines(text: &mut String, before: &str, all: &[impl Display]) {
    for line in all {
        let _ = writeln!(text, "{before}{line}");
    }
}

/// All that a status says.
pub(crate) fn status(status: &Status) -> String {
    let Status { program_version, engine, phase, uptime_seconds, pid, .. } = status;
    let up = humantime::format_duration(Duration::from_secs(*uptime_seconds));
    let Connections { open, max } = &status.connections;
    let mut text = format!(
        "acceptor {program_version}, pid {pid}, on {engine}: {phase}, up {up}\n\
         connections: {open} of {}\nbans: {}\nlog level: {}\n",
        or_none(max.as_ref()),
        bans_place(&status.bans),
        status.log_level
    );
    configuration(&mut text, status);
    headed(&mut text, "backends files:", &backends_files(status));
    headed(&mut text, "networks files:", &networks_files(status));
    headed(&mut text, "rules by source:", &source_rules(status));
    headed(&mut text, "source addresses:", &sources(status));
    headed(&mut text, "set by hand, until the next reload:", &by_hand(status));
    let _ = writeln!(text, "\n{}", frontends(&status.frontends));
    if !status.upstreams.is_empty() {
        let _ = writeln!(text, "\n{}", upstreams(&status.upstreams));
    }
    text
}

fn configuration(text: &mut String, status: &Status) {
    let configuration = &status.configuration;
    let from = configuration.file.as_deref().unwrap_or("the command line");
    let _ = writeln!(text, "configuration: {from}, loaded {}", configuration.loaded_at);
    if let Some(last) = &configuration.last_reload {
        let how = if last.ok { "done" } else { "failed, nothing has changed" };
        let _ = writeln!(text, "last reload: {}, {how}: {}", last.at, last.text);
    }
}

fn backends_files(status: &Status) -> Vec<String> {
    let told = |upstream: &UpstreamStatus| {
        let file = upstream.backends_file.as_ref()?;
        Some(format!("upstream {}: {}", upstream.name, list_file(file)))
    };
    status.upstreams.iter().filter_map(told).collect()
}

fn networks_files(status: &Status) -> Vec<String> {
    let told = |frontend: &Frontend| {
        let name = frontend.name.clone();
        frontend
            .networks_files
            .iter()
            .map(list_file)
            .map(move |it| format!("frontend {name}: {it}"))
            .collect::<Vec<_>>()
    };
    status.frontends.iter().flat_map(told).collect()
}

/// How often which rule was against a connection.
fn source_rules(status: &Status) -> Vec<String> {
    let told = |whose: String, counts: &[RuleCount]| {
        let count = |RuleCount { rule, action, connections }: &RuleCount| {
            format!("{rule} {action} {connections}")
        };
        let all: Vec<_> = counts.iter().map(count).collect();
        (!all.is_empty()).then(|| format!("{whose}: {}", all.join(", ")))
    };
    let of_frontend = |it: &Frontend| told(format!("frontend {}", it.name), &it.source_rules);
    let all = status.frontends.iter().map(of_frontend);
    all.chain([told("process".to_owned(), &status.source_rules)]).flatten().collect()
}

fn list_file(ListFile { path, loaded_at, error }: &ListFile) -> String {
    let error = error.as_ref().map_or(String::new(), |error| format!(", not applied: {error}"));
    format!("{path}, loaded {}{error}", or_none(loaded_at.as_ref()))
}

fn sources(status: &Status) -> Vec<String> {
    let with_some = status.upstreams.iter().filter(|upstream| !upstream.source.is_empty());
    with_some.map(|it| format!("upstream {}: {}", it.name, it.source.join(", "))).collect()
}

fn by_hand(status: &Status) -> Vec<String> {
    let mut all: Vec<String> = status.by_hand.iter().map(ToString::to_string).collect();
    for upstream in &status.upstreams {
        let name = &upstream.name;
        all.extend(upstream.by_hand.iter().map(|line| format!("upstream {name}: {line}")));
    }
    all
}

/// With headings; the last columns, so many, are numbers.
fn table<const N: usize>(
    headings: [&str; N],
    numbers: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if place + numbers >= N {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // The padding behind the last column is nothing that anybody wants to copy.
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or(NONE.to_owned(), |value| value.to_string())
}

fn frontends(all: &[Frontend]) -> String {
    let headings = [
        "FRONTEND", "SERVICE", "STATE", "ADDRESS", "VERDICT", "OPEN", "MAX", "WAITING", "QUEUE",
        "DROPS",
    ];
    let row = |frontend: &Frontend, address: &str, queue: [String; 4]| {
        let [verdict, waiting, limit, drops] = queue;
        [
            frontend.name.clone(),
            frontend.service.clone(),
            frontend.state.clone(),
            address.to_owned(),
            verdict,
            frontend.connections.open.to_string(),
            or_none(frontend.connections.max),
            waiting,
            limit,
            drops,
        ]
    };
    let rows = all.iter().flat_map(|frontend| {
        let of_queues = frontend.queues.iter().map(|queue| {
            let (waiting, drops) = (or_none(queue.waiting), or_none(queue.drops));
            let values = [queue.verdict.clone(), waiting, queue.limit.to_string(), drops];
            row(frontend, &queue.address, values)
        });
        let mut rows: Vec<_> = of_queues.collect();
        if rows.is_empty() {
            rows.push(row(frontend, NONE, [NONE; 4].map(str::to_owned)));
        }
        rows
    });
    table(headings, 5, rows)
}

fn upstreams(all: &[UpstreamStatus]) -> String {
    let headings = [
        "UPSTREAM",
        "BACKEND",
        "ADDRESS",
        "STATE",
        "WEIGHT",
        "OPEN",
        "CONNECTS",
        "FAILED",
        "BYTES TO",
        "BYTES FROM",
    ];
    let row = |upstream: &UpstreamStatus, backend: &BackendStatus| {
        let counter = |name: &str| backend.counters.get(name).copied().unwrap_or(0);
        let failures =
            ["refused", "timed_out", "unreachable", "reset", "local_errors", "other_errors"];
        let failed: u64 = failures.iter().map(|why| counter(&format!("connects_{why}"))).sum();
        [
            upstream.name.clone(),
            backend.backend.clone(),
            backend.address.clone(),
            backend.state.clone(),
            backend.weight.to_string(),
            backend.open.to_string(),
            counter("connects").to_string(),
            failed.to_string(),
            HumanBytes(counter("bytes_to")).to_string(),
            HumanBytes(counter("bytes_from")).to_string(),
        ]
    };
    let rows =
        all.iter().flat_map(|upstream| upstream.backends.iter().map(move |it| row(upstream, it)));
    table(headings, 6, rows)
}

/// A list of connections.
pub(super) fn connections(list: &ConnectionList) -> String {
    let headings = [
        "ID",
        "FRONTEND",
        "CLIENT",
        "BACKEND",
        "STAGE",
        "AGE",
        "IDLE",
        "WAIT",
        "STALL",
        "BYTES IN",
        "BYTES OUT",
    ];
    let row = |connection: &ConnectionEntry| {
        [
            connection.id.clone(),
            connection.frontend.clone(),
            or_none(connection.client.as_ref()),
            or_none(connection.backend.as_ref()),
            connection.stage.clone(),
            seconds(connection.age_ms),
            seconds(connection.idle_ms),
            or_none(connection.accept_queue_wait_ms.map(milliseconds)),
            or_none(connection.stalled_ms.map(seconds)),
            HumanBytes(connection.bytes_in).to_string(),
            HumanBytes(connection.bytes_out).to_string(),
        ]
    };
    let mut text = table(headings, 6, list.connections.iter().map(row));
    let shown = list.connections.len();
    if shown < list.total {
        let _ = write!(text, "\n{shown} of {}; --limit shows more", list.total);
    }
    if let Some(since) = &list.accept_queue_waits_since {
        let _ = write!(
            text,
            "\nWAIT (time in the accept queue) is recorded for connections accepted since {since}"
        );
    }
    text + "\n"
}

/// Clients with their connections.
pub(super) fn clients(list: &ClientList) -> String {
    let headings = ["CLIENT", "CONNECTIONS", "OLDEST", "BYTES IN", "BYTES OUT"];
    let row = |client: &ClientEntry| {
        [
            or_none(client.client.as_ref()),
            client.connections.to_string(),
            seconds(client.oldest_ms),
            HumanBytes(client.bytes_in).to_string(),
            HumanBytes(client.bytes_out).to_string(),
        ]
    };
    let mut text = table(headings, 4, list.clients.iter().map(row));
    let (shown, all) = (list.clients.len(), list.clients_total);
    if shown < all {
        let _ = write!(text, "\n{shown} of {all}; --limit shows more");
    }
    text + "\n"
}

/// Sources that have a limit.
pub(super) fn limited_sources(list: &SourceList) -> String {
    if list.capacity == 0 {
        let whose = match &list.frontend {
            Some(name) => format!("frontend {name} has no limit by source"),
            None => "the process has no limit by source; --frontend NAME lists those of a frontend"
                .to_owned(),
        };
        return whose + "\n";
    }
    let headings = ["SOURCE", "OPEN", "RATE WHOLE IN", "REFUSED"];
    let row = |source: &SourceEntry| {
        [
            source.source.clone(),
            source.open.to_string(),
            milliseconds(source.rate_whole_in_ms),
            source.refused.to_string(),
        ]
    };
    let mut text = table(headings, 3, list.sources.iter().map(row));
    let (shown, known) = (list.sources.len(), list.known);
    if shown < known {
        let _ = write!(text, "\n{shown} of {known}; --limit shows more");
    }
    text + "\n"
}

fn bans_place(place: &BansPlace) -> String {
    let BansPlace { text, active, active_at_accept, .. } = place;
    match (place.at.as_str(), active_at_accept) {
        ("kernel", 1..) => format!("{active}, {text}; {active_at_accept} of them at accept"),
        _ => format!("{active}, {text}"),
    }
}

/// Who is banned.
pub(super) fn bans(list: &BanList) -> String {
    let headings = ["SOURCE", "BY", "AT", "LEFT"];
    let row = |ban: &BanEntry| {
        let BanEntry { source, by, at, left_seconds } = ban;
        let left = humantime::format_duration(Duration::from_secs(*left_seconds)).to_string();
        [source.clone(), by.clone(), at.clone(), left]
    };
    let mut text = format!("bans: {}\n", bans_place(&list.place));
    let (dropped, refused) = (list.syns_dropped, list.refused_at_accept);
    let _ = writeln!(text, "SYNs dropped by the kernel: {dropped}; reset at accept: {refused}");
    if !list.bans.is_empty() {
        let _ = writeln!(text, "\n{}", table(headings, 1, list.bans.iter().map(row)));
    }
    text
}

fn milliseconds(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis}ms"),
        millis => seconds(millis),
    }
}

fn seconds(millis: u64) -> String {
    let span = Duration::from_millis(millis);
    match span.as_secs() {
        0..60 => format!("{:.1}s", span.as_secs_f64()),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}
