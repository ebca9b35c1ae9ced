//! Numbers and times in few characters.

use std::time::Duration;

/// What stands where nothing is known.
pub(super) const NONE: &str = "-";

/// A count, or a rate per second.
pub(super) fn count(value: f64) -> String {
    match value {
        _ if !value.is_finite() => NONE.to_owned(),
        0.0 => "0".to_owned(),
        _ if value < 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
        _ if value < 9_999.5 => format!("{value:.0}"),
        _ if value < 999_950.0 => format!("{:.1}k", value / 1e3),
        _ if value < 999_950_000.0 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.1}G", value / 1e9),
    }
}

/// Bytes, in powers of 1024.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (value, None);
    // What would round to 1024.0 is one of the next unit.
    while value >= 1023.95 && unit < Some(UNITS.len() - 1) {
        value /= 1024.0;
        unit = Some(unit.map_or(0, |unit| unit + 1));
    }
    unit.map_or_else(|| format!("{value:.0}"), |unit| format!("{value:.1}{}", UNITS[unit]))
}

pub(super) fn or_none<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), shown)
}

/// The two largest units of a time.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", span.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A time in the accept queue, which the kernel tells in milliseconds.
pub(super) fn wait(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis}ms"),
        _ => span(Duration::from_millis(millis)),
    }
}

/// A bound of a histogram.
pub(super) fn bound(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.001 => format!("{}us", (seconds * 1e6).round()),
        _ if seconds < 1.0 => format!("{}ms", (seconds * 1000.0).round()),
        _ if seconds < 60.0 => format!("{seconds}s"),
        _ => span(Duration::from_secs_f64(seconds)),
    }
}

/// How full something is, `width` characters between brackets.
pub(super) fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    // Something is never nothing.
    let full = ((share * width as f64).round() as usize).max(usize::from(share > 0.0));
    format!("[{}{}]", "|".repeat(full), " ".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.25, 7.0, 12.6, 9999.4, 9999.6, 999_949.0, 999_950.0, 3e9].map(count);
        assert_eq!(shown, ["0", "0.2", "7", "13", "9999", "10.0k", "999.9k", "1.0M", "3.0G"]);
        assert_eq!(count(f64::NAN), "-");
        let sizes = [0.0, 999.0, 1023.9, 1024.0, 1536.0, 1048575.0, 1e18, 1e21].map(bytes);
        assert_eq!(
            sizes,
            ["0", "999", "1024", "1.0KiB", "1.5KiB", "1.0MiB", "888.2PiB", "888178.4PiB"]
        );
        let times = [0, 59_900, 61_000, 3_660_000, 90_000_000].map(Duration::from_millis);
        assert_eq!(times.map(span), ["0.0s", "59.9s", "1m01s", "1h01m", "1d01h"]);
        assert_eq!(
            [0.001, 0.5, 1.0, 10.0, 60.0].map(bound),
            ["1ms", "500ms", "1s", "10s", "1m00s"]
        );
    }

    #[test]
    fn a_bar_is_as_full_as_the_share() {
        let bars = [0.0, 0.01, 0.5, 1.0, 2.0, f64::NAN].map(|share| bar(share, 4));
        assert_eq!(bars, ["[    ]", "[|   ]", "[||  ]", "[||||]", "[||||]", "[    ]"]);
    }
}
