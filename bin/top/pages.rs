//! What each view says of a server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use uring_acceptor::control::{BackendStatus, Frontend, Queue, Status, UpstreamStatus};

use super::lists::{clients, connections};
use super::metrics::Series;
use super::model::{Model, Sample};
use super::page::{Column, Grid, Line, Mark, wrapped};
use super::sources::sources;
use super::times::{OF_FRONTENDS, WAIT};
use super::words::{NONE, bar, bytes, count, or_none, span};
use crate::options::View;

const HEALTHY: &str = "healthy";
const BAR_WIDTH: usize = 6;
const WIDE_BAR_WIDTH: usize = 20;

/// Verdicts, the worst first.
const VERDICTS: [&str; 4] =
    ["accepting_paused", "accept_queue_overflow", "syn_queue", "overloaded"];

const LOOPS: &str = "acceptor_thread_turns_total";

/// How a connect to a backend fails, as counters name it.
const FAILURES: [&str; 6] =
    ["refused", "timed_out", "unreachable", "reset", "local_errors", "other_errors"];

/// What every view begins with: the server, its rates, its verdicts.
pub(super) fn head(model: &Model, address: &str, width: usize) -> Vec<Line> {
    let Some(Sample { status, .. }) = model.now() else {
        return vec![Line::new(Mark::Plain, format!("asking {address}"))];
    };
    let Status { program_version, pid, engine, phase, uptime_seconds, connections, .. } = status;
    let up = span(Duration::from_secs(*uptime_seconds));
    let first =
        format!("acceptor {program_version}, pid {pid}, {engine}: {phase}, up {up}, at {address}");
    let most = or_none(connections.max, |it| it.to_string());
    let rate = |name: &str| or_none(model.counter_rate(name), count);
    let flow = |name: &str| or_none(model.counter_rate(name), bytes);
    let second = format!(
        "open {} of {most}, accepted {}/s, closed {}/s, in {}/s, out {}/s",
        connections.open,
        rate("acceptor_accepted_total"),
        rate("acceptor_closed_connections_total"),
        flow("acceptor_received_bytes_total"),
        flow("acceptor_sent_bytes_total"),
    );
    let whole = |text: &str| wrapped(Mark::Plain, text, width);
    [whole(&first), whole(&second), vec![verdicts(status)]].concat()
}

fn queues(status: &Status) -> impl Iterator<Item = (&Frontend, &Queue)> {
    status.frontends.iter().flat_map(|it| it.queues.iter().map(move |queue| (it, queue)))
}

/// All verdicts in a line, and the bans behind them.
fn verdicts(status: &Status) -> Line {
    let total = queues(status).count();
    let sick = |name: &str| queues(status).filter(|(_, queue)| queue.verdict == name).count();
    let found: Vec<String> = VERDICTS
        .iter()
        .filter(|name| sick(name) > 0)
        .map(|name| format!("{name} {}", sick(name)))
        .collect();
    let listeners = if total == 1 { "listener" } else { "listeners" };
    let bans = match status.bans.active {
        0 => String::new(),
        1 => "; 1 ban".to_owned(),
        active => format!("; {active} bans"),
    };
    match found.is_empty() {
        true => Line::new(Mark::Plain, format!("{total} {listeners}, healthy{bans}")),
        false => Line::new(Mark::Bad, format!("{total} {listeners}: {}{bans}", found.join(", "))),
    }
}

/// The lines of a view.
pub(super) fn view(model: &Model, view: View, width: usize) -> Vec<Line> {
    let Some(sample) = model.now() else { return Vec::new() };
    match view {
        View::Listeners => listeners(model, sample, width),
        View::Workers => workers(model, sample, width),
        View::Upstreams => upstreams(model, &sample.status, width),
        View::Connections => connections(sample, width),
        View::Clients => clients(sample, width),
        View::Times => times(model, sample, width),
        View::Sources => sources(model, sample, width),
    }
}

/// Smaller is worse.
fn rank(verdict: &str) -> usize {
    let worst = VERDICTS.iter().position(|name| *name == verdict);
    worst.unwrap_or(VERDICTS.len() + usize::from(verdict == HEALTHY))
}

fn listeners(model: &Model, sample: &Sample, width: usize) -> Vec<Line> {
    let mut grid = Grid::new([
        Column::Whole("VERDICT"),
        Column::Text("FRONTEND"),
        Column::Text("ADDRESS"),
        Column::Whole("ACCEPT QUEUE"),
        Column::Number("OPEN"),
        Column::Number("WAIT P99"),
        Column::Spare("DROPS/s"),
        Column::Spare("LONGEST"),
        Column::Spare("SHED/s"),
    ]);
    let mut rows = sockets(&sample.status);
    rows.sort_by_key(|row| rank(&row.queue.verdict));
    let before = model.before().map(|sample| sockets(&sample.status)).unwrap_or_default();
    let before: HashMap<_, _> = before.iter().map(|row| (row.key(), row.queue)).collect();
    let mut lines = Vec::new();
    for row in &rows {
        let mark = if row.queue.verdict == HEALTHY { Mark::Plain } else { Mark::Bad };
        grid.add(mark, listener(model, row, before.get(&row.key()).copied()));
        if mark == Mark::Bad {
            lines.extend(wrapped(mark, &advice(row.frontend, row.queue), width));
        }
    }
    for frontend in sample.status.frontends.iter().filter(|it| it.queues.is_empty()) {
        let open = frontend.connections.open.to_string();
        let cells = [&frontend.state, &frontend.name, NONE, NONE, &open, NONE, NONE, NONE, NONE];
        grid.add(Mark::Plain, cells.map(str::to_owned));
    }
    lines.extend((!lines.is_empty()).then(|| Line::new(Mark::Plain, "")));
    lines.extend(grid.lines(width));
    lines
}

/// A listening socket.
struct Row<'a> {
    frontend: &'a Frontend,
    queue: &'a Queue,
    /// Among those of the frontend on the same address.
    number: usize,
}

impl<'a> Row<'a> {
    fn key(&self) -> (&'a str, &'a str, usize) {
        (&self.frontend.name, &self.queue.address, self.number)
    }
}

fn sockets(status: &Status) -> Vec<Row<'_>> {
    let mut numbers = BTreeMap::<(&str, &str), usize>::new();
    let row = |(frontend, queue): (_, _)| {
        let (frontend, queue): (&Frontend, &Queue) = (frontend, queue);
        let next = numbers.entry((&frontend.name, &queue.address)).or_default();
        let number = *next;
        *next += 1;
        Row { frontend, queue, number }
    };
    queues(status).map(row).collect()
}

fn listener(model: &Model, row: &Row<'_>, before: Option<&Queue>) -> [String; 9] {
    let Row { frontend, queue, number } = *row;
    let waiting = queue.waiting.map_or(NONE.to_owned(), |waiting| waiting.to_string());
    // It is full with one more than its limit.
    let share = f64::from(queue.waiting.unwrap_or_default()) / (f64::from(queue.limit) + 1.0);
    let socket = (frontend.name.clone(), queue.address.clone(), number);
    let wait = model.times(WAIT, &socket).and_then(|waits| waits.quantile(0.99));
    let rate = |value: fn(&Queue) -> Option<u64>| {
        let [before, now] = [before, Some(queue)].map(|it| it.and_then(value).map(|it| it as f64));
        or_none(model.growth(before, now), count)
    };
    [
        queue.verdict.clone(),
        frontend.name.clone(),
        queue.address.clone(),
        format!("{} {waiting}/{}", bar(share, BAR_WIDTH), queue.limit),
        frontend.connections.open.to_string(),
        or_none(wait, |wait| wait),
        rate(|queue| queue.drops),
        queue.longest.to_string(),
        rate(|queue| Some(queue.shed)),
    ]
}

fn advice(frontend: &Frontend, queue: &Queue) -> String {
    let cause = queue.cause.as_ref().map_or(String::new(), |cause| format!(" ({cause})"));
    let since = queue.verdict_since.as_ref().map_or(String::new(), |it| format!(" since {it}"));
    let drops = queue.drops.map_or(NONE.to_owned(), |drops| drops.to_string());
    let shed = match (queue.overload.as_str(), queue.shed) {
        (action, 0) if queue.overloaded_since.is_some() => format!(", overload = {action}"),
        (_, 0) => String::new(),
        (action, shed) => format!(", overload = {action}, shed {shed}"),
    };
    format!(
        "{} on {}: {}{cause}{since}, longest queue {}, drops {drops}{shed}: {}",
        frontend.name,
        queue.address,
        queue.verdict,
        queue.longest,
        queue.advice.as_deref().unwrap_or_default(),
    )
}

fn workers(model: &Model, sample: &Sample, width: usize) -> Vec<Line> {
    let all = sample.metrics.all("acceptor_worker_open_connections");
    let total: f64 = all.iter().map(|worker| worker.value).sum();
    let most = all.iter().map(|worker| worker.value).fold(0.0, f64::max);
    let mut grid = Grid::new([
        Column::Text("THREAD"),
        Column::Whole("BALANCE"),
        Column::Number("OPEN"),
        Column::Number("LOOPS/s"),
        Column::Number("EVENTS/LOOP"),
        Column::Number("WAKES/s"),
        Column::Number("STARVED"),
    ]);
    let mut names = Vec::new();
    for worker in all {
        let name = format!("worker-{}", worker.label("worker").unwrap_or(NONE));
        let bar = bar(worker.value / most, WIDE_BAR_WIDTH);
        grid.add(Mark::Plain, thread(model, &name, bar, count(worker.value)));
        names.push(name);
    }
    let threads = sample.metrics.all(LOOPS).iter().filter_map(|series| series.label("thread"));
    for name in threads.filter(|name| !names.iter().any(|worker| worker == name)) {
        grid.add(Mark::Plain, thread(model, name, NONE.to_owned(), NONE.to_owned()));
    }
    let mut lines = grid.lines(width);
    if total > 0.0 {
        let skew = most * all.len() as f64 / total;
        let text = format!("skew: the fullest worker has {skew:.2} times the mean");
        lines.extend(wrapped(Mark::Plain, &text, width));
    }
    if let (Some(open), Some(most)) =
        (sample.metrics.sum("process_open_fds"), sample.metrics.sum("process_max_fds"))
    {
        let text = format!("descriptors: {} of {}", count(open), count(most));
        lines.extend(wrapped(Mark::Plain, &text, width));
    }
    lines.push(Line::new(Mark::Plain, ""));
    lines.extend(counters(model, sample).lines(width));
    lines
}

/// What one thread does.
fn thread(model: &Model, name: &str, bar: String, open: String) -> [String; 7] {
    let value = |sample: &Sample, counter: &str| {
        let own = |series: &&Series| series.label("thread") == Some(name);
        sample.metrics.all(counter).iter().find(own).map(|series| series.value)
    };
    let rate = |counter: &str| model.rate(|sample| value(sample, counter));
    let (loops, events) = (rate(LOOPS), rate("acceptor_thread_completions_total"));
    let each = loops.zip(events).filter(|(loops, _)| *loops > 0.0);
    let starved = model.now().and_then(|now| value(now, "acceptor_thread_starved_total"));
    [
        name.to_owned(),
        bar,
        open,
        or_none(loops, count),
        or_none(each, |(loops, events)| count(events / loops)),
        or_none(rate("acceptor_thread_wakes_sent_total"), count),
        or_none(starved, count),
    ]
}

/// The counters of the process that have counted something.
fn counters(model: &Model, sample: &Sample) -> Grid {
    let mut grid =
        Grid::new([Column::Text("COUNTER"), Column::Number("PER SECOND"), Column::Number("TOTAL")]);
    for (name, all) in sample.metrics.iter() {
        let Some(short) = name.strip_prefix("acceptor_").and_then(|it| it.strip_suffix("_total"))
        else {
            continue;
        };
        let shown: fn(f64) -> String = if short.ends_with("_bytes") { bytes } else { count };
        for series in all.iter().filter(|series| series.value > 0.0) {
            let Some(label) = label(series) else { continue };
            let rate = model.rate(|sample| {
                let same = |it: &&Series| it.labels() == series.labels();
                sample.metrics.all(name).iter().find(same).map(|it| it.value)
            });
            let cells = [format!("{short}{label}"), or_none(rate, shown), shown(series.value)];
            grid.add(Mark::Plain, cells);
        }
    }
    grid
}

/// What tells a counter of the process from others of its name; `None` for those of listeners and backends.
fn label(series: &Series) -> Option<String> {
    match series.labels() {
        [] => Some(String::new()),
        [(name, value)] if matches!(name.as_str(), "reason" | "error") => Some(format!(" {value}")),
        _ => None,
    }
}

fn upstreams(model: &Model, status: &Status, width: usize) -> Vec<Line> {
    let mut grid = Grid::new([
        Column::Text("UPSTREAM"),
        Column::Text("BACKEND"),
        Column::Whole("STATE"),
        Column::Number("OPEN"),
        Column::Number("CONN/s"),
        Column::Number("FAIL/s"),
        Column::Number("TO/s"),
        Column::Number("FROM/s"),
        Column::Spare("WEIGHT"),
    ]);
    let before = model.before().map(|sample| backends(&sample.status)).unwrap_or_default();
    for upstream in &status.upstreams {
        for backend in &upstream.backends {
            let before = before.get(&key(upstream, backend)).copied();
            let is_bad = matches!(backend.state.as_str(), "failing" | "down" | "ejected");
            let mark = if is_bad { Mark::Bad } else { Mark::Plain };
            grid.add(mark, backend_cells(model, &upstream.name, (before, backend)));
        }
    }
    match grid.is_empty() {
        true => vec![Line::new(Mark::Plain, "no backends: nothing is proxied")],
        false => grid.lines(width),
    }
}

fn key<'a>(
    upstream: &'a UpstreamStatus,
    backend: &'a BackendStatus,
) -> (&'a str, &'a str, &'a str) {
    (&upstream.name, &backend.backend, &backend.address)
}

fn backends(status: &Status) -> HashMap<(&str, &str, &str), &BackendStatus> {
    let mut all = HashMap::new();
    for upstream in &status.upstreams {
        all.extend(upstream.backends.iter().map(|it| (key(upstream, it), it)));
    }
    all
}

fn backend_cells(
    model: &Model,
    upstream: &str,
    (before, own): (Option<&BackendStatus>, &BackendStatus),
) -> [String; 9] {
    let rate = |names: &[String]| {
        let sum = |backend: &BackendStatus| {
            let values = names.iter().filter_map(|name| backend.counters.get(name.as_str()));
            values.sum::<u64>() as f64
        };
        model.growth(before.map(sum), Some(sum(own)))
    };
    let failures = FAILURES.map(|why| format!("connects_{why}"));
    let name = match own.backend == own.address {
        true => own.address.clone(),
        false => format!("{} {}", own.backend, own.address),
    };
    [
        upstream.to_owned(),
        name,
        own.state.clone(),
        own.open.to_string(),
        or_none(rate(&["connects".to_owned()]), count),
        or_none(rate(&failures), count),
        or_none(rate(&["bytes_to".to_owned()]), bytes),
        or_none(rate(&["bytes_from".to_owned()]), bytes),
        own.weight.to_string(),
    ]
}

/// How long connections of each frontend took from one place to the next.
fn times(model: &Model, sample: &Sample, width: usize) -> Vec<Line> {
    let mut grid = Grid::new([
        Column::Text("FRONTEND"),
        Column::Whole("TIME"),
        Column::Number("COUNT"),
        Column::Number("P50"),
        Column::Number("P99"),
    ]);
    for frontend in &sample.status.frontends {
        let whole = (frontend.name.clone(), String::new(), 0);
        for (what, name) in OF_FRONTENDS {
            let Some(counted) = model.times(name, &whole).filter(|it| it.total() > 0.0) else {
                continue;
            };
            let part = |part| or_none(counted.quantile(part), |bound| bound);
            let (total, name) = (count(counted.total()), frontend.name.clone());
            grid.add(Mark::Plain, [name, what.to_owned(), total, part(0.5), part(0.99)]);
        }
    }
    let Some(span) = model.span() else {
        return vec![Line::new(
            Mark::Plain,
            "counting: times follow with the next look".to_owned(),
        )];
    };
    if grid.is_empty() {
        return vec![Line::new(Mark::Plain, format!("no connections {span}"))];
    }
    let mut lines = vec![Line::new(Mark::Plain, format!("how long connections took {span}"))];
    lines.extend(grid.lines(width));
    lines
}
