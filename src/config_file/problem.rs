//! What is wrong with a file, and where: `web.toml:3:10: frontend.web.idle_timeout = "0s": it must be ...`.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The way to a value: `frontend.web.listen[1]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct KeyPath(pub(super) Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        Self(self.0.iter().cloned().chain([segment]).collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(formatter, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if number == 0 { "" } else { "." };
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                    match !key.is_empty() && key.chars().all(bare) {
                        true => write!(formatter, "{dot}{key}")?,
                        false => write!(formatter, "{dot}\"{}\"", key.escape_debug())?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// From 1; `None` where it is about the whole file.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// The way to the value: `frontend.web.listen[1]`. Empty where it is about no key.
    pub key: String,
    /// The value as it stands in the file, cut when it is long; so a variable is its name and never what it
    /// stands for.
    pub value: Option<String>,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl Problem {
    /// About a whole file.
    pub(super) fn of_file(file: &Path, text: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: String::new(),
            value: None,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(formatter, ":{line}:{column}")?;
        }
        match (self.key.as_str(), &self.value) {
            ("", _) => write!(formatter, ": {}", self.text),
            (key, None) => write!(formatter, ": {key}: {}", self.text),
            (key, Some(value)) => write!(formatter, ": {key} = {value}: {}", self.text),
        }
    }
}

/// Problems as they are found. Behind the last that is kept they are only counted.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    count: usize,
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.kept.len() < Errors::COUNT_MAX {
            self.kept.push(problem());
        }
        self.count += 1;
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// None, or all of them in the order of files and lines.
    pub(super) fn into_result(mut self, files: &[PathBuf]) -> Result<(), Errors> {
        let number = |problem: &Problem| files.iter().position(|file| *file == problem.file);
        self.kept.sort_by_key(|problem| (number(problem), problem.line, problem.column));
        match self.count {
            0 => Ok(()),
            count => Err(Errors { left_out: count - self.kept.len(), problems: self.kept }),
        }
    }
}

/// All that is wrong, in the order of files and lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    problems: Vec<Problem>,
    /// How many there were beside those that are kept.
    pub left_out: usize,
}

impl Errors {
    /// Most that are kept of one configuration.
    pub const COUNT_MAX: usize = 100;

    /// Each of them.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            let line_feed = if number == 0 { "" } else { "\n" };
            write!(formatter, "{line_feed}{problem}")?;
        }
        match self.left_out {
            0 => Ok(()),
            count => write!(formatter, "\nand {count} more"),
        }
    }
}

impl std::error::Error for Errors {}
