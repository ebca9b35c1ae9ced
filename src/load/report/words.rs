//! Figures and plans in words.

use super::{HttpReport, PlanReport};
use crate::load::{Arrival, CloseStyle, Mode, Pace};

const NS_PER_SECOND: f64 = 1e9;

/// Three significant digits in the unit that suits: `850 ns`, `12.3 us`, `4.56 ms`, `1.05 s`.
pub(in crate::load) fn latency(ns: u64) -> String {
    // The upper ends are where three digits would round up to 1000.
    match ns as f64 {
        ns if ns < 999.5 => format!("{ns} ns"),
        ns if ns < 999_500.0 => format!("{} us", digits(ns / 1e3)),
        ns if ns < 999_500_000.0 => format!("{} ms", digits(ns / 1e6)),
        ns => format!("{} s", digits(ns / 1e9)),
    }
}

/// Three significant digits, all of them above 1000.
fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// `1,234,567`.
pub(in crate::load) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate per second, with decimals where it is small.
pub(in crate::load) fn rate(per_second: f64) -> String {
    if per_second < 100.0 { digits(per_second) } else { count(per_second.round() as u64) }
}

/// `512 B`, `1.50 MB`; thousands, as rates of networks are counted.
pub(in crate::load) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 999.5 => format!("{bytes} B"),
        bytes if bytes < 999_500.0 => format!("{} kB", digits(bytes / 1e3)),
        bytes if bytes < 999_500_000.0 => format!("{} MB", digits(bytes / 1e6)),
        bytes => format!("{} GB", digits(bytes / 1e9)),
    }
}

/// `10 s`, `1.5 s`.
pub(in crate::load) fn seconds(ns: u64) -> String {
    format!("{} s", (ns as f64 / NS_PER_SECOND * 1e3).round() / 1e3)
}

/// What was run, on one line: target, mode, loop, close style, window.
pub(in crate::load) fn plan(plan: &PlanReport, elapsed_ns: u64) -> String {
    format!(
        "{} to {}; {}; {}; {} after {} of warm-up",
        mode(plan),
        plan.targets.join(", "),
        pace(&plan.pace),
        close(plan.close),
        seconds(elapsed_ns),
        seconds(plan.warm_up_ns),
    )
}

fn mode(plan: &PlanReport) -> String {
    let response = plan.response_bytes.map_or("any".to_owned(), bytes_of);
    let exchange = format!("{} for {response}", bytes_of(plan.request_bytes));
    match plan.mode {
        Mode::Accept => "accept".to_owned(),
        Mode::Crr => format!("crr ({exchange})"),
        Mode::Rr => format!("rr ({exchange})"),
        Mode::Hold => format!("hold ({exchange})"),
        Mode::Storm => format!("storm ({exchange})"),
        Mode::Stream { echo } => {
            let back = if echo { ", echoed" } else { "" };
            format!("stream (chunks of {}{back})", bytes_of(plan.request_bytes))
        }
        Mode::Http { requests_per_connection } => {
            let requests = requests(requests_per_connection);
            format!("http ({}{requests})", plan.http.as_ref().map(http).unwrap_or_default())
        }
    }
}

fn http(http: &HttpReport) -> String {
    let mut text = format!("{} {}, ", http.method, http.path);
    if http.requests > 1 {
        text = format!("{} requests, ", count(http.requests as u64));
    }
    if http.pipeline > 1 {
        text += &format!("{} at a time, ", http.pipeline);
    }
    text
}

fn bytes_of(length: usize) -> String {
    bytes(length as u64)
}

fn requests(per_connection: Option<u32>) -> String {
    match per_connection {
        None => "keep-alive".to_owned(),
        Some(1) => "1 request per connection".to_owned(),
        Some(requests) => format!("{requests} requests per connection"),
    }
}

fn pace(pace: &Pace) -> String {
    match *pace {
        Pace::Closed { connections } => {
            format!("closed loop, {} connections", count(connections as u64))
        }
        Pace::Open { rate: per_second, arrival, max_inflight } => {
            let (arrival, inflight) = (name(arrival), count(max_inflight as u64));
            format!("open loop, {}/s {arrival}, at most {inflight} in flight", rate(per_second))
        }
        Pace::Fixed { connections, rate: per_second, arrival } => {
            let (connections, arrival) = (count(connections as u64), name(arrival));
            format!("open loop, {}/s {arrival}, on {connections} connections", rate(per_second))
        }
    }
}

fn name(arrival: Arrival) -> &'static str {
    match arrival {
        Arrival::Poisson => "poisson",
        Arrival::Uniform => "uniform",
    }
}

fn close(style: CloseStyle) -> &'static str {
    match style {
        CloseStyle::Fin => "client closes with FIN",
        CloseStyle::Rst => "client closes with RST",
        CloseStyle::Server => "server closes",
        CloseStyle::Half => "client half-closes, then the server",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        let table = [
            (0, "0 ns"),
            (850, "850 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_499, "999 us"),
            (999_500, "1.00 ms"),
            (45_600_000, "45.6 ms"),
            (1_056_000_000, "1.06 s"),
            (3_600_000_000_000, "3600 s"),
        ];
        for (ns, expected) in table {
            assert_eq!(latency(ns), expected);
        }
    }

    #[test]
    fn counts_have_thousands() {
        for (value, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(count(value), expected);
        }
    }

    #[test]
    fn rates_and_bytes() {
        assert_eq!(rate(0.5), "0.50");
        assert_eq!(rate(99.95), "100");
        assert_eq!(rate(20_000.4), "20,000");
        assert_eq!(bytes(64), "64 B");
        assert_eq!(bytes(1_500_000), "1.50 MB");
        assert_eq!(seconds(1_500_000_000), "1.5 s");
        assert_eq!(seconds(10_000_000_000), "10 s");
    }
}
