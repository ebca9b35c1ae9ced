//! What is answered: a line of JSON with the result, or with why there is none.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::request::VERSION;
use super::told::explain_reload;
use crate::config_file::Places;
use crate::server::{ReloadError, StartError};
use crate::upstream::UpstreamError;

/// What is in the way, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The request is not one.
    Request,
    /// It is of another version.
    Version,
    /// It is longer than a request may be.
    TooLong,
    /// Whoever asks may not.
    Denied,
    /// Too many requests wait already.
    Busy,
    /// The server drains.
    Draining,
    /// There is no such frontend, upstream or backend.
    Unknown,
    /// The server was not started from a file.
    NoFile,
    /// The configuration file is wrong, or cannot be read.
    Configuration,
    /// An address cannot be listened on.
    Bind,
    /// A backend's name does not resolve.
    Upstream,
    /// An access log cannot be opened.
    AccessLog,
    /// Anything else.
    Failed,
}

/// Why something was not done. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub text: String,
    /// All that is wrong, where that is more than one thing: one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Failure {
    /// Without details.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), details: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Failure {
    /// Of a server that was not changed to what stands there.
    pub(super) fn of_reload(error: &ReloadError, places: &Places) -> Self {
        let code = match error {
            ReloadError::Start(StartError::Config(_)) => Code::Configuration,
            ReloadError::Start(StartError::Bind { .. }) => Code::Bind,
            ReloadError::Start(StartError::Upstream(UpstreamError::Config(_))) => {
                Code::Configuration
            }
            ReloadError::Start(StartError::Upstream(_)) => Code::Upstream,
            ReloadError::Start(StartError::AccessLog(_)) => Code::AccessLog,
            ReloadError::Draining => Code::Draining,
            ReloadError::NoFrontend { .. } => Code::Unknown,
            _ => Code::Failed,
        };
        Self::new(code, explain_reload(error, places))
    }
}

impl From<ReloadError> for Failure {
    fn from(error: ReloadError) -> Self {
        Self::of_reload(&error, &Places::default())
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let code = match &error {
            UpstreamError::Unknown(_) => Code::Unknown,
            UpstreamError::Unresolved { .. } | UpstreamError::Source { .. } => Code::Upstream,
            UpstreamError::Config(_) | UpstreamError::Last(_) | UpstreamError::Thread(_) => {
                Code::Failed
            }
        };
        Self::new(code, error.to_string())
    }
}

/// What is answered to one request.
pub type Outcome = Result<Value, Failure>;

/// A result, as it goes into an answer.
pub(super) fn result(result: impl Serialize) -> Outcome {
    serde_json::to_value(result).map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

/// The line of an answer, with its end.
pub fn to_line(outcome: &Outcome) -> String {
    let mut fields = Map::new();
    fields.insert("version".to_owned(), VERSION.into());
    fields.insert("ok".to_owned(), outcome.is_ok().into());
    match outcome {
        Ok(result) => fields.insert("result".to_owned(), result.clone()),
        Err(failure) => {
            fields.insert("error".to_owned(), serde_json::to_value(failure).unwrap_or_default())
        }
    };
    format!("{}\n", Value::Object(fields))
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    result: Value,
    error: Option<Failure>,
}

/// Reads the line of an answer. What is not known is passed over, so that an older client understands a newer
/// server.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8]) -> Result<Outcome, String> {
    let answer: Answer =
        serde_json::from_slice(line).map_err(|error| format!("the answer is wrong: {error}"))?;
    match (answer.ok, answer.error) {
        (true, _) => Ok(Ok(answer.result)),
        (false, Some(failure)) => Ok(Err(failure)),
        (false, None) => Err("the answer is wrong: it says neither what is nor why not".to_owned()),
    }
}

/// What a reload has done, or would do, one sentence a line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadReport {
    /// The file that was read.
    pub file: String,
    /// Whether it was only tried.
    pub dry_run: bool,
    /// What changes.
    pub changes: Vec<String>,
    /// What was set by hand and is not in the file: it ends.
    pub ended: Vec<String>,
    /// What differs and takes a restart.
    pub restart: Vec<String>,
    /// What did not go as it should.
    pub warnings: Vec<String>,
}

impl ReloadReport {
    /// Most changes that stand in the summary itself.
    const SHOWN: usize = 3;

    /// In one line, short: more than a few changes are only counted, and are [lines](Self::lines) of their own.
    pub fn summary(&self) -> String {
        let mut parts = vec![match self.changes.len() {
            0 => "nothing changes".to_owned(),
            1 => format!("1 change: {}", self.changes[0]),
            count if count > Self::SHOWN => format!("{count} changes"),
            count => format!("{count} changes: {}", self.changes.join("; ")),
        }];
        match self.ended.len() {
            0 => {}
            1 => parts.push("1 value set by hand is overruled".to_owned()),
            count => parts.push(format!("{count} values set by hand are overruled")),
        }
        let others = [("takes a restart", &self.restart), ("warnings", &self.warnings)];
        let others = others.iter().filter(|(_, lines)| !lines.is_empty());
        parts.extend(others.map(|(what, lines)| format!("{what}: {}", lines.join(", "))));
        parts.join("; ")
    }

    /// What the summary only counts.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let shown = self.changes.len() <= Self::SHOWN;
        let changes = self.changes.iter().filter(move |_| !shown).cloned();
        changes.chain(self.ended.iter().map(|line| format!("overruled: {line}")))
    }
}

/// What a value was and is, after `set`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SetReport {
    /// What was set, in words.
    pub what: String,
    /// As it is in force.
    pub now: String,
    /// What did not go as it should.
    pub warnings: Vec<String>,
}
