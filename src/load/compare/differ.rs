//! What differs between two runs besides the server: the work, the machine, whether they can be
//! trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use serde_json::Value;

use super::CompareError;
use super::figures::is_without_length;
use crate::load::report::Report;

/// What may differ in the plan of runs that are alike: chance, and the length.
const PLAN_MAY_DIFFER: &[&str] = &["seeds", "sources", "duration_ns", "count"];

/// What differs in the card of each run on one machine.
const CARD_MAY_DIFFER: &[&str] = &["read_at_unix_ms", "net_namespace"];

pub(super) fn same_mode(a: &Report, b: &Report) -> Result<(), CompareError> {
    if discriminant(&a.plan.mode) == discriminant(&b.plan.mode) {
        return Ok(());
    }
    let [a, b] = [a, b].map(|report| {
        let text = format!("{:?}", report.plan.mode).to_lowercase();
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    });
    Err(CompareError::Modes { a, b })
}

/// In sentences for people.
pub(super) fn warnings(reports: [&Report; 2]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, report) in ["A", "B"].into_iter().zip(reports) {
        let reasons = &report.verdict.reasons;
        warnings.extend(reasons.iter().map(|reason| format!("{name} is INVALID: {reason}")));
        if !report.verdict.valid && reasons.is_empty() {
            warnings.push(format!("{name} is INVALID, and its file does not say why"));
        }
        if is_without_length(report) {
            warnings.push(format!(
                "the window of {name} has no length (elapsed_ns is 0), so nothing can be told by second: it \
                 was stopped before its warm-up was over; run it again"
            ));
        }
    }
    if reports[0].runs != reports[1].runs {
        let [a, b] = reports.map(|report| report.runs);
        warnings.push(format!("runs that were merged: {a} in A, {b} in B"));
    }
    warnings.extend(different("plan", reports.map(plan)));
    warnings.extend(different("machine", reports.map(machine)));
    warnings
}

/// A figure of the plan or the machine: its name, and its value as it is written.
type Facts = BTreeMap<String, String>;

fn plan(report: &Report) -> Facts {
    let mut facts = Facts::new();
    flatten("", &serde_json::to_value(&report.plan).unwrap_or_default(), &mut facts);
    facts.retain(|name, _| !PLAN_MAY_DIFFER.contains(&root(name)));
    facts
}

/// Of all machines of a run, the values that each fact has.
fn machine(report: &Report) -> Facts {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for card in &report.cards {
        let mut facts = Facts::new();
        flatten("", &serde_json::to_value(card).unwrap_or_default(), &mut facts);
        for (name, value) in facts {
            values.entry(name).or_default().insert(value);
        }
    }
    values.retain(|name, _| !CARD_MAY_DIFFER.contains(&root(name)));
    let all = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(", ");
    values.into_iter().map(|(name, values)| (name, all(values))).collect()
}

fn root(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Objects become paths; everything else is a value.
fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, field, facts);
            }
        }
        Value::String(text) => drop(facts.insert(path.to_owned(), text.clone())),
        other => drop(facts.insert(path.to_owned(), other.to_string())),
    }
}

fn different(what: &str, [a, b]: [Facts; 2]) -> Vec<String> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let value = |facts: &Facts, name: &String| facts.get(name).map_or("nothing", |v| v).to_owned();
    let pairs = names.into_iter().map(|name| (name, value(&a, name), value(&b, name)));
    pairs
        .filter(|(_, a, b)| a != b)
        .map(|(name, a, b)| format!("{what} {name}: {a} in A, {b} in B"))
        .collect()
}
