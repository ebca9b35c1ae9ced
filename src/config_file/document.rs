//! One file as it was parsed: where each value stands, and which ones have a variable in them.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::files::NO_FILE;
use super::places::without;
use super::problem::{KeyPath, Problem, Problems, Segment};
use super::variables::{self, Environment, Wrong};

/// Most errors of a file that is not TOML.
const SYNTAX_ERRORS_MAX: usize = 3;

/// Most characters of a value that an error shows.
const VALUE_SHOWN_MAX: usize = 60;

/// A file that was parsed.
pub(super) struct Document {
    pub(super) path: PathBuf,
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
    pub(super) table: DeTable<'static>,
    /// Where values begin that have something of the environment in them.
    tainted: HashSet<usize>,
    /// The same where variables could not be put in.
    broken: HashSet<usize>,
    /// The ways to values in which something of the environment is, default values of variables not among them.
    secrets: Vec<KeyPath>,
    /// What came from the environment: names and values.
    variables: Vec<(String, String)>,
    is_json: bool,
}

impl Document {
    /// A file in JSON, which has no variables, and nothing in it yet.
    pub(super) fn json(path: &Path, text: String) -> Self {
        Self { is_json: true, ..Self::empty(path, text) }
    }

    fn empty(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            lines: line_starts(&text),
            text,
            table: DeTable::new(),
            tainted: HashSet::new(),
            broken: HashSet::new(),
            secrets: Vec::new(),
            variables: Vec::new(),
            is_json: false,
        }
    }

    /// Parses a file and puts variables in.
    ///
    /// `None` if something in it is no TOML. A value whose variables cannot be put in stays as it is written.
    pub(super) fn parse(
        path: &Path,
        text: String,
        (environment, problems): (&Environment<'_>, &mut Problems),
    ) -> Option<Self> {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut table = owned_table(table.into_inner());
        let mut document = Self::empty(path, text);
        if !errors.is_empty() {
            document.syntax(&errors).into_iter().for_each(|problem| problems.add(|| problem));
            return None;
        }
        let broken = document.put_variables_in(&mut table, environment);
        document.table = table;
        for (path, at, wrong) in broken {
            let end = document.value_span(&path).map_or(at, |span| span.end);
            problems.add(|| document.problem(&path, at..end, wrong.text));
        }
        Some(document)
    }

    /// Whether it is known already that the variables of this value cannot be put in.
    pub(super) fn is_broken(&self, path: &KeyPath) -> bool {
        let begins = self.value(path).map(|value| value.span().start);
        begins.is_some_and(|begins| self.broken.contains(&begins))
    }

    /// Returns what could not be put in, with its place.
    fn put_variables_in(
        &mut self,
        table: &mut DeTable<'static>,
        environment: &Environment<'_>,
    ) -> Vec<(KeyPath, usize, Wrong)> {
        let mut wrong = Vec::new();
        let mut visit =
            |path: &KeyPath, span: Range<usize>, text: &mut String| match variables::put_in(
                text,
                environment,
            ) {
                Ok(None) => {}
                Ok(Some(put)) => {
                    self.tainted.insert(span.start);
                    if !put.variables.is_empty() {
                        self.secrets.push(path.clone());
                    }
                    self.variables.extend(put.variables);
                    *text = put.text;
                }
                Err(error) => {
                    self.broken.insert(span.start);
                    let begins = self.text[span.clone()].find(&error.at).unwrap_or_default();
                    wrong.push((path.clone(), span.start + begins, error));
                }
            };
        for (key, value) in table.iter_mut() {
            each_text(&KeyPath::default().key(key.get_ref()), value, &mut visit);
        }
        wrong
    }

    /// The first error of each of the first few lines: more of them only follow from these.
    fn syntax(&self, errors: &[toml::de::Error]) -> Vec<Problem> {
        let begins = |error: &toml::de::Error| error.span().map_or(self.text.len(), |s| s.start);
        let mut sorted: Vec<_> = errors.iter().map(|error| (begins(error), error)).collect();
        sorted.sort_by_key(|(begins, _)| *begins);
        let mut problems: Vec<Problem> = Vec::new();
        for (begins, error) in sorted {
            let (line, column) = self.position(begins);
            if problems.last().is_some_and(|last| last.line == Some(line)) {
                continue;
            }
            if problems.len() == SYNTAX_ERRORS_MAX {
                break;
            }
            let text = error.message().lines().collect::<Vec<_>>().join("; ");
            let text = format!("this is not TOML: {text}");
            let (line, column) = (Some(line), Some(column));
            problems.push(Problem { line, column, ..Problem::of_file(&self.path, text) });
        }
        problems
    }

    /// About the value at `span`, which is shown as it is written where it is one.
    fn problem(&self, path: &KeyPath, span: Range<usize>, text: impl Into<String>) -> Problem {
        let (line, column) = self.position(span.start);
        Problem {
            line: Some(line),
            column: Some(column),
            key: path.to_string(),
            value: self.value(path).and_then(|value| self.shown(value)),
            ..Problem::of_file(&self.path, text)
        }
    }

    /// About the value of a key.
    pub(super) fn wrong_value(&self, path: &KeyPath, text: impl Into<String>) -> Problem {
        let span = self.value_span(path).or_else(|| self.key_span(path)).unwrap_or(0..0);
        self.problem(path, span, text)
    }

    /// About a key itself: it is unknown, or what should be in it is not there.
    pub(super) fn wrong_key(&self, path: &KeyPath, text: impl Into<String>) -> Problem {
        let span = self.key_span(path).unwrap_or(0..0);
        Problem { value: None, ..self.problem(path, span, text) }
    }

    /// About what stands at a byte, and is no value.
    pub(super) fn wrong_at(&self, byte: usize, text: impl Into<String>) -> Problem {
        let (line, column) = self.position(byte);
        Problem { line: Some(line), column: Some(column), ..Problem::of_file(&self.path, text) }
    }

    /// A backend with a weight, as it is written in a file of this kind.
    pub(super) fn backend(&self, address: &str, weight: &str) -> String {
        match self.is_json {
            true => format!("{{ \"address\": \"{address}\", \"weight\": {weight} }}"),
            false => format!("{{ address = \"{address}\", weight = {weight} }}"),
        }
    }

    /// `FILE:LINE:COLUMN` of a key.
    pub(super) fn place(&self, path: &KeyPath) -> String {
        let span = self.value_span(path).or_else(|| self.key_span(path));
        let (line, column) = self.position(span.map_or(0, |span| span.start));
        format!("{}:{line}:{column}", self.path.display())
    }

    /// Whether something of the environment is in the value.
    pub(super) fn is_tainted(&self, path: &KeyPath) -> bool {
        let begins = self.value(path).map(|value| value.span().start);
        begins.is_some_and(|begins| self.tainted.contains(&begins))
    }

    /// The value as it is written, on one line and not too long. A table is not shown.
    fn shown(&self, value: &Spanned<DeValue<'static>>) -> Option<String> {
        if matches!(value.get_ref(), DeValue::Table(_)) {
            return None;
        }
        let written = self.text.get(value.span())?;
        let line: String = written.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.trim();
        Some(match line.char_indices().nth(VALUE_SHOWN_MAX) {
            None => line.to_owned(),
            Some((end, _)) => format!("{}...", &line[..end]),
        })
    }

    /// A text in which nothing stands any more that came from the environment.
    pub(super) fn without_secrets(&self, text: String) -> String {
        without(&self.variables, text)
    }

    /// The ways to values that have something of the environment in them.
    pub(super) fn secrets(&self) -> &[KeyPath] {
        &self.secrets
    }

    /// Names and values of what came from the environment.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    pub(super) fn value(&self, path: &KeyPath) -> Option<&Spanned<DeValue<'static>>> {
        let mut segments = path.0.iter();
        let Some(Segment::Key(first)) = segments.next() else { return None };
        let mut at = self.table.get(first.as_str())?;
        for segment in segments {
            at = match (segment, at.get_ref()) {
                (Segment::Key(key), DeValue::Table(table)) => table.get(key.as_str())?,
                (Segment::Index(index), DeValue::Array(array)) => array.get(*index)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// Of what is written behind the `=`. A table has its place in its name.
    fn value_span(&self, path: &KeyPath) -> Option<Range<usize>> {
        let value = self.value(path)?;
        let inline = self.text.get(value.span()).is_some_and(|text| text.starts_with('{'));
        let is_table = matches!(value.get_ref(), DeValue::Table(_)) && !inline;
        (!is_table).then(|| value.span())
    }

    fn key_span(&self, path: &KeyPath) -> Option<Range<usize>> {
        let (last, above) = path.0.split_last()?;
        let Segment::Key(last) = last else { return self.value_span(path) };
        let above = KeyPath(above.to_vec());
        let table = match above.0.is_empty() {
            true => &self.table,
            false => match self.value(&above)?.get_ref() {
                DeValue::Table(table) => table,
                _ => return None,
            },
        };
        let (key, _) = table.get_key_value(last.as_str())?;
        Some(key.span())
    }

    /// What relative names in it are relative to; `None` for a text that is in no file.
    pub(super) fn folder(&self) -> Option<&Path> {
        let is_file = self.path != Path::new(NO_FILE);
        is_file.then(|| self.path.parent().unwrap_or(Path::new("")))
    }

    /// Line and column of a byte, both from 1.
    fn position(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.lines.partition_point(|begin| *begin <= byte);
        let begin = self.lines[line - 1];
        (line, self.text[begin..byte].chars().count() + 1)
    }
}

/// A file may have tens of thousands of places to be told.
fn line_starts(text: &str) -> Vec<usize> {
    let behind_ends = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind_ends).collect()
}

fn owned_table(table: DeTable<'_>) -> DeTable<'static> {
    let owned = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
        let name = DeString::Owned(key.get_ref().clone().into_owned());
        (Spanned::new(key.span(), name), Spanned::new(value.span(), owned(value.into_inner())))
    };
    table.into_iter().map(owned).collect()
}

/// Numbers become what they are as a text: that is what is read.
fn owned(value: DeValue<'_>) -> DeValue<'static> {
    match value {
        DeValue::String(text) => DeValue::String(text.into_owned().into()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            let text = decimal.map_or_else(|_| number.to_string(), |number| number.to_string());
            DeValue::String(text.into())
        }
        DeValue::Float(number) => DeValue::String(number.to_string().into()),
        DeValue::Datetime(time) => DeValue::String(time.to_string().into()),
        DeValue::Boolean(value) => DeValue::Boolean(value),
        DeValue::Array(array) => {
            let element = |element: Spanned<DeValue<'_>>| {
                Spanned::new(element.span(), owned(element.into_inner()))
            };
            DeValue::Array(array.into_iter().map(element).collect())
        }
        DeValue::Table(table) => DeValue::Table(owned_table(table)),
    }
}

fn each_text(
    path: &KeyPath,
    value: &mut Spanned<DeValue<'static>>,
    visit: &mut impl FnMut(&KeyPath, Range<usize>, &mut String),
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => visit(path, span, text.to_mut()),
        DeValue::Array(array) => {
            for (index, element) in array.iter_mut().enumerate() {
                each_text(&path.index(index), element, visit);
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table.iter_mut() {
                each_text(&path.key(key.get_ref()), value, visit);
            }
        }
        _ => {}
    }
}
