//! The report as people read it in a terminal: plain text, no colours.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::{DroppedSyns, Latency, LatencyReport, Report, ServerReport, words};

const PERCENT: f64 = 100.0;

/// Columns of the latency table: heading and quantile.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// Writes what was run, what came of it and whether it can be trusted.
///
/// # Errors
/// Those of the writer.
pub fn table(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", words::plan(&report.plan, report.elapsed_ns))?;
    writeln!(out)?;
    for (name, value) in facts(report) {
        writeln!(out, "{name:<14}{value}")?;
    }
    match rows(&report.latencies).as_slice() {
        [] => writeln!(out, "\nNo operation was measured.\n")?,
        rows => writeln!(out, "\n{}\n", latencies(rows))?,
    }
    faults(report, out)?;
    notes(report).iter().try_for_each(|note| writeln!(out, "{note}"))?;
    verdict(report, out)
}

/// Counts, rates and costs, by name.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![("operations", operations(report))];
    facts.push(("rate", format!("{}/s", words::rate(report.rate_per_second))));
    facts.push(("connections", connections(report)));
    facts.extend(report.answers.as_ref().map(|answers| ("answers", answers.in_words())));
    let (sent, received) = (report.counts.sent_bytes, report.counts.received_bytes);
    facts.push((
        "payload",
        format!("{} sent, {} received", words::bytes(sent), words::bytes(received)),
    ));
    facts.extend(server_cpu(report).map(|text| ("server", text)));
    facts.push(("generator", generator(report)));
    facts
}

fn operations(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = format!(
        "{} started, {} completed, {} failed",
        words::count(counts.started),
        words::count(counts.completed),
        words::count(counts.failed)
    );
    if counts.queued > 0 {
        text += &format!(", {} waited for a connection", words::count(counts.queued));
    }
    if counts.not_started > 0 {
        text += &format!(", {} not started", words::count(counts.not_started));
    }
    text
}

fn connections(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = words::count(counts.connections);
    if counts.closed_by_server > 0 {
        text += &format!(", {} closed by the server", words::count(counts.closed_by_server));
    }
    if counts.closed_by_client > 0 {
        let closed = words::count(counts.closed_by_client);
        text += &format!(", {closed} closed by the client after the server announced it");
    }
    if counts.resent > 0 {
        text += &format!(", {} requests sent again", words::count(counts.resent));
    }
    text
}

fn server_cpu(report: &Report) -> Option<String> {
    let sum = |figure: fn(&ServerReport) -> u64| {
        report.servers.iter().map(figure).fold(0, u64::saturating_add)
    };
    let cost = report.server_cpu_us_per_operation?;
    Some(format!(
        "{cost:.2} us of CPU per operation, {} threads, {} resident, {} switches",
        sum(|server| u64::from(server.threads)),
        words::bytes(sum(|server| server.rss_bytes)),
        words::count(sum(|server| server.switches)),
    ))
}

fn generator(report: &Report) -> String {
    let share = report.generator.cpu_share * PERCENT;
    let threads = report.plan.threads;
    let plural = if threads == 1 { "thread" } else { "threads" };
    format!("{share:.0} % of the CPU that {threads} {plural} can use")
}

fn latencies(rows: &[(&str, &Latency)]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let mut header = vec!["latency"];
    header.extend(headings());
    table.set_header(header);
    for (name, latency) in rows {
        let mut row = vec![(*name).to_owned()];
        row.extend(cells(latency));
        table.add_row(row);
    }
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}

/// The latencies that were measured, in the order of an operation.
pub(super) fn rows(latencies: &LatencyReport) -> Vec<(&'static str, &Latency)> {
    let mut rows = vec![
        ("connect", &latencies.connect),
        ("first byte", &latencies.first_byte),
        ("total, from planned start", &latencies.total),
        ("service, from actual start", &latencies.service),
        ("close", &latencies.close),
        ("lateness of the generator", &latencies.lateness),
    ];
    rows.retain(|(_, latency)| latency.count() > 0);
    rows
}

/// One cell for each of [`headings`].
pub(super) fn cells(latency: &Latency) -> [String; 5] {
    QUANTILES.map(|(_, quantile)| words::latency(latency.histogram().value_at_quantile(quantile)))
}

/// The names of the columns of [`cells`].
pub(super) fn headings() -> [&'static str; 5] {
    QUANTILES.map(|(name, _)| name)
}

fn faults(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for (phase, fault, count) in fault_rows(report) {
        writeln!(out, "failed in {phase}: {fault} {count}")?;
    }
    idle_fault(report).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// What failed without an operation.
pub(super) fn idle_fault(report: &Report) -> Option<String> {
    let unasked = report.counts.unasked;
    (unasked > 0).then(|| {
        let plural = if unasked == 1 { "connection" } else { "connections" };
        format!("failed while idle: unasked-answer on {} {plural}", words::count(unasked))
    })
}

/// Phase, fault and how often.
pub(super) fn fault_rows(report: &Report) -> Vec<(String, &str, String)> {
    let mut rows = Vec::new();
    for (phase, faults) in &report.faults {
        let phase = format!("{phase:?}").to_lowercase();
        for (fault, &count) in faults {
            rows.push((phase.clone(), fault.as_str(), words::count(count)));
        }
    }
    rows
}

/// What must not be overlooked: dropped SYNs, what the kernel dropped or sent again, what the run has noted.
pub(super) fn notes(report: &Report) -> Vec<String> {
    let mut notes = dropped_syns(report.dropped_syns);
    for kernel in &report.kernel {
        let counters = [
            ("accept queue overflows (ListenOverflows)", kernel.listen_overflows),
            ("drops by listeners (ListenDrops)", kernel.listen_drops),
            ("segments sent again (RetransSegs)", kernel.retransmitted),
            ("TIME_WAIT overflows (TCPTimeWaitOverflow)", kernel.time_wait_overflow),
        ];
        let counted = counters.into_iter().filter(|(_, count)| *count > 0);
        notes.extend(counted.map(|(what, count)| format!("{} {what}", words::count(count))));
    }
    notes.extend(report.notes.iter().map(|note| format!("note: {note}")));
    notes
}

fn dropped_syns(dropped: DroppedSyns) -> Vec<String> {
    let kinds = [
        (dropped.one, "one dropped SYN"),
        (dropped.two, "two dropped SYNs"),
        (dropped.three, "three dropped SYNs"),
    ];
    let seen = kinds.into_iter().filter(|(count, _)| *count > 0);
    seen.map(|(count, what)| {
        let connects = if count == 1 { "connect" } else { "connects" };
        format!("{} {connects} took as long as {what} make them take", words::count(count))
    })
    .collect()
}

fn verdict(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.verdict.valid {
        return writeln!(out, "verdict: valid");
    }
    writeln!(out, "verdict: INVALID, do not use these figures")?;
    report.verdict.reasons.iter().try_for_each(|reason| writeln!(out, "  - {reason}"))
}
