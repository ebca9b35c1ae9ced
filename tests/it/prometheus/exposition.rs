//! What `/metrics` gives: the families, and what their samples have for labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Labels, and the values that they have.
pub(super) type Labels = BTreeMap<String, BTreeSet<String>>;

/// A metric under the name that its samples have, without the endings of a histogram's.
#[derive(Debug, Default)]
pub(super) struct Metric {
    pub(super) kind: String,
    pub(super) labels: Labels,
}

/// All metrics, by the names that documents and queries use.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pub(super) metrics: BTreeMap<String, Metric>,
    /// By the names that samples have, so that a histogram is there three times.
    pub(super) samples: BTreeMap<String, Labels>,
}

/// The ending that samples of this type have behind the name of their family.
fn ending(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

/// `a="b",c="d"`, of which no value has a quote in it.
fn labels(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_terminator("\",").map(|pair| {
        let (label, value) = pair.split_once("=\"").expect("a label has a value");
        (label, value.trim_end_matches('"'))
    })
}

impl Exposition {
    #[track_caller]
    pub(super) fn parse(text: &str) -> Self {
        let (mut this, mut current) = (Self::default(), String::new());
        assert!(text.ends_with("\n# EOF\n"), "it has an end");
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').expect("a type");
                current = [name, ending(kind)].concat();
                let kind = kind.to_owned();
                let before =
                    this.metrics.insert(current.clone(), Metric { kind, labels: Labels::new() });
                assert!(before.is_none(), "{name} is there twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                value.parse::<f64>().expect("a number");
                let (name, of_it) =
                    series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
                let metric = this.metrics.get_mut(&current).expect("a type comes first");
                assert!(name.starts_with(&current), "{name} stands under {current}");
                let samples = this.samples.entry(name.to_owned()).or_default();
                for (label, value) in labels(of_it) {
                    samples.entry(label.to_owned()).or_default().insert(value.to_owned());
                    if label != "le" {
                        metric.labels.entry(label.to_owned()).or_default().insert(value.to_owned());
                    }
                }
            }
        }
        this
    }

    /// A line for each metric: its name, its type and its labels.
    pub(super) fn list(&self) -> String {
        let mut text = String::new();
        for (name, Metric { kind, labels }) in &self.metrics {
            let labels: Vec<&str> = labels.keys().map(String::as_str).collect();
            let _ = writeln!(text, "{}", format!("{name} {kind} {}", labels.join(",")).trim_end());
        }
        text
    }
}

/// The same in the text format that Prometheus had before: all that promtool's linter reads.
pub(super) fn classic(text: &str) -> String {
    let kinds: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let convert = |line: &str| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "UNIT", ..] | ["#", "EOF"] => String::new(),
            ["#", "TYPE", name, "info"] => format!("# TYPE {name}_info gauge\n"),
            ["#", what, name, rest] => format!("# {what} {name}{} {rest}\n", ending(kinds[name])),
            _ => format!("{line}\n"),
        }
    };
    text.lines().map(convert).collect()
}
