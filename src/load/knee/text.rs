//! The search as people read it: a line for each step, then what was found.

use super::{Broke, Phase, Search, Step};
use crate::load::report::words;

const PERCENT: f64 = 100.0;
const NS_PER_US: f64 = 1e3;

const HEADINGS: [&str; 9] =
    ["rate", "completed", "p50", "p99", "p99.9", "late p99", "server", "generator", ""];

/// The heading above the lines.
pub fn heading() -> String {
    columns("step", HEADINGS.map(str::to_owned))
}

/// One step: the rate, how much of it was completed, latencies from the planned start, how late the
/// generator was itself, CPUs of the server, share of the generator's, and whether it held.
pub fn line(step: &Step) -> String {
    let measured = step.measured;
    let us = |value: Option<f64>| value.map_or("-".to_owned(), latency);
    let total = measured.and_then(|measured| measured.total);
    columns(
        name(step.trial.phase),
        [
            words::rate(step.trial.rate),
            step.completed_share()
                .map_or("-".to_owned(), |share| format!("{:.1} %", share * PERCENT)),
            us(total.map(|total| total.p50_us)),
            us(total.map(|total| total.p99_us)),
            us(total.map(|total| total.p999_us)),
            us(measured.and_then(|measured| measured.lateness_p99_us)),
            measured
                .and_then(|measured| measured.server_cpus)
                .map_or("-".to_owned(), |cpus| format!("{:.0} %", cpus * PERCENT)),
            measured.map_or("-".to_owned(), |measured| {
                format!("{:.0} %", measured.generator_share * PERCENT)
            }),
            verdict(step),
        ],
    )
}

fn columns(name: &str, cells: [String; 9]) -> String {
    let [cells @ .., last] = cells;
    let cells: String = cells.iter().map(|cell| format!("{cell:>11}")).collect();
    format!("{name:<8}{cells}  {last}").trim_end().to_owned()
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Rising => "rising",
        Phase::Falling => "falling",
        Phase::Halving => "halving",
        Phase::Half => "at 50 %",
        Phase::Most => "at 80 %",
    }
}

fn verdict(step: &Step) -> String {
    let doubtful = step.measured.is_some_and(|measured| !measured.valid);
    match (step.held(), doubtful) {
        (true, false) => "held".to_owned(),
        (true, true) => "held, INVALID".to_owned(),
        (false, _) => format!("broke: {}", reasons(step)),
    }
}

fn reasons(step: &Step) -> String {
    step.broke.iter().map(|broke| reason(step, broke)).collect::<Vec<_>>().join(", ")
}

fn reason(step: &Step, broke: &Broke) -> String {
    let counts =
        step.measured.map(|measured| (measured.completed + measured.failed, measured.failed));
    let (ended, failed) = counts.unwrap_or_default();
    match broke {
        Broke::P99 => {
            let limit = step.p99_limit_us.map(latency).unwrap_or_default();
            format!("p99 above {limit}")
        }
        Broke::Failed => format!("{} failed", words::count(failed)),
        Broke::NotStarted => {
            let lost = (step.due - ended as f64).max(0.0) as u64;
            format!("{} not started", words::count(lost))
        }
        Broke::Refused(why) => why.clone(),
    }
}

fn latency(us: f64) -> String {
    words::latency((us * NS_PER_US).round() as u64)
}

/// What was found, a line each: the knee, what limited it, the latency at 50 % and 80 % of it.
pub fn summary(search: &Search) -> Vec<String> {
    let Some(knee) = search.knee() else { return vec![nothing(search)] };
    let rate = words::rate(knee.trial.rate);
    let mut lines = vec![match search.is_found() {
        true => format!("knee: {rate}/s"),
        false => format!("knee: at least {rate}/s; the search did not come to its end"),
    }];
    if let Some(broken) = search.broken() {
        let rate = words::rate(broken.trial.rate);
        lines.push(format!("limit: {rate}/s broke: {}", reasons(broken)));
    }
    // That nothing broke is known only when the rates were used up.
    if search.broken().is_some() || search.is_found() {
        lines.push(format!("cause: {}", search.cause().in_words()));
    }
    lines.extend(search.parts().into_iter().flatten().map(part));
    if !search.is_trusted() && search.next().is_none() {
        lines.push(
            "INVALID: a step at the knee, 50 % or 80 % broke or cannot be trusted, or the generator \
             was the limit"
                .to_owned(),
        );
    }
    lines
}

fn nothing(search: &Search) -> String {
    match search.steps().last() {
        None => "no step was made".to_owned(),
        Some(step) if search.next().is_some() => {
            format!("no rate has held so far; the last one was {}/s", words::rate(step.trial.rate))
        }
        Some(step) => {
            format!("no rate held, not even {}/s: {}", words::rate(step.trial.rate), reasons(step))
        }
    }
}

fn part(step: &Step) -> String {
    let total = step.measured.and_then(|measured| measured.total);
    let latencies = total.map_or("nothing was completed".to_owned(), |total| {
        let [p50, p99, p999] = [total.p50_us, total.p99_us, total.p999_us].map(latency);
        format!("p50 {p50}, p99 {p99}, p99.9 {p999}")
    });
    let broke = if step.held() { String::new() } else { format!("; broke: {}", reasons(step)) };
    let rate = words::rate(step.trial.rate);
    format!("{} ({rate}/s): {latencies}{broke}", name(step.trial.phase))
}
