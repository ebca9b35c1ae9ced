//! One thing that was looked at, and what came of it.

use std::fmt;

use serde::Serialize;

/// What came of a check, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// It does not apply here or cannot be looked at.
    Skipped,
    /// A server runs, with the limit that the reason names.
    Warn,
    /// A server does not run.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stays the same from version to version.
    pub name: String,
    /// What came of it.
    pub status: Status,
    /// What was measured.
    pub value: String,
    /// What it means; empty when the value says it all.
    pub reason: String,
    /// The command, or the option, that changes it.
    pub fix: Option<String>,
}

impl Check {
    /// A check with its outcome, without a reason or a fix yet.
    pub(super) fn new(name: impl Into<String>, status: Status, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        Self { name, status, value, reason: String::new(), fix: None }
    }

    pub(super) fn ok(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, value)
    }

    pub(super) fn warn(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, value)
    }

    pub(super) fn fail(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, value)
    }

    pub(super) fn skipped(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, value)
    }

    pub(super) fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}
