//! A comparison as people read it in a terminal.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use super::{Comparison, Figure, Finding, Side, Unit};
use crate::load::report::words;

const PERCENT: f64 = 100.0;
const NS_PER_US: f64 = 1e3;
const HEADINGS: [&str; 6] = ["figure", "A", "B", "B / A", "95 % interval", "B is"];

/// Writes both runs, what differs between them, the figures, and what to know about them.
///
/// # Errors
/// Those of the writer.
pub fn table(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    for (name, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        writeln!(out, "{name}  {}", in_words(side))?;
    }
    writeln!(out)?;
    for warning in &comparison.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if !comparison.warnings.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "{}\n", figures(&comparison.figures))?;
    writeln!(out, "{}", summary(&comparison.figures))?;
    comparison.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))
}

fn in_words(side: &Side) -> String {
    let Side { file, plan, runs, .. } = side;
    match runs {
        1 => format!("{file}: {plan}"),
        runs => format!("{file}: {runs} runs, {plan}"),
    }
}

fn figures(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(HEADINGS);
    table.add_rows(figures.iter().map(row));
    // The last one is text again.
    table.column_iter_mut().skip(1).take(HEADINGS.len() - 2).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}

fn row(figure: &Figure) -> [String; 6] {
    let value =
        |value: Option<f64>| value.map_or("-".to_owned(), |value| in_unit(value, figure.unit));
    let interval = figure.interval.map(|[low, high]| format!("{low:.3} to {high:.3}"));
    [
        figure.name.clone(),
        value(figure.a),
        value(figure.b),
        figure.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
        interval.unwrap_or("-".to_owned()),
        finding(figure),
    ]
}

fn in_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Rate => format!("{}/s", words::rate(value)),
        Unit::Share => format!("{:.3} %", value * PERCENT),
        Unit::Us => words::latency((value * NS_PER_US).round() as u64),
        Unit::Bytes => format!("{}/s", words::bytes(value.round() as u64)),
    }
}

fn finding(figure: &Figure) -> String {
    match (figure.finding, figure.unit) {
        (Finding::Better, Unit::Share) => "better: fewer failed".to_owned(),
        (Finding::Worse, Unit::Share) => "worse: more failed".to_owned(),
        (Finding::Better, _) => "faster".to_owned(),
        (Finding::Worse, _) => "slower".to_owned(),
        (Finding::Noise, _) => "noise".to_owned(),
        (Finding::CannotTell, _) => {
            let why = figure.why.as_deref().map(|why| format!(": {why}"));
            format!("cannot tell{}", why.unwrap_or_default())
        }
    }
}

/// How many differ, of those that have an interval.
fn summary(figures: &[Figure]) -> String {
    let with_interval = figures.iter().filter(|figure| figure.interval.is_some()).count();
    let differ = figures
        .iter()
        .filter(|figure| matches!(figure.finding, Finding::Better | Finding::Worse))
        .count();
    match (with_interval, differ) {
        (0, _) => {
            "No figure has an interval, so which differences are noise is not known.".to_owned()
        }
        (all, 0) => format!("All differences of the {all} figures with an interval are noise."),
        (all, some) => format!(
            "{some} of the {all} figures with an interval {}; of 20 that do not differ, 1 is \
             called different by chance.",
            if some == 1 { "differs" } else { "differ" }
        ),
    }
}
