//! The checks, for people and for programs.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::check::{Check, Status};

/// Names what [`Report::to_json`] writes.
pub const SCHEMA: &str = "uring-acceptor/doctor";

/// Raised whenever a field changes its meaning or goes.
pub const VERSION: u32 = 2;

/// All checks and the worst of them. `docs/doctor-schema.md` describes its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    schema: &'static str,
    version: u32,
    program_version: &'static str,
    /// Of all checks, [`Status::Skipped`] left out.
    pub verdict: Status,
    /// In the order in which they are judged.
    pub checks: Vec<Check>,
}

impl Report {
    /// Of these checks.
    pub fn new(checks: Vec<Check>) -> Self {
        let judged = checks.iter().map(|check| check.status);
        let verdict = judged.filter(|status| *status != Status::Skipped).max();
        Self {
            schema: SCHEMA,
            version: VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            verdict: verdict.unwrap_or(Status::Ok),
            checks,
        }
    }

    /// Writes it as JSON, with a line feed at the end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn to_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes it for people: a table of all checks, then what to know and to do about those that
    /// are not well, then a sentence. Commands stand on lines of their own, to be copied.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn to_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.table().trim_fmt())?;
        for check in self.checks.iter().filter(|check| check.status >= Status::Warn) {
            writeln!(out, "\n{} {}: {}", check.status, check.name, check.value)?;
            writeln!(out, "  {}", check.reason)?;
            if let Some(fix) = &check.fix {
                writeln!(out, "  fix: {fix}")?;
            }
        }
        writeln!(out, "\n{}", self.sentence())
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        for check in &self.checks {
            table.add_row([&check.status.to_string(), &check.name, &check.value]);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }

    fn sentence(&self) -> &'static str {
        match self.verdict {
            Status::Ok | Status::Skipped => "A server runs here, and nothing holds it back.",
            Status::Warn => "A server runs here, within the limits above.",
            Status::Fail => "A server does not run here as asked.",
        }
    }
}
