//! Requests from a file: a path or a JSON object on each line.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Field, Template};

/// Most requests of one file; each is kept in memory.
const REQUESTS_MAX: usize = 1_000_000;

/// A line of JSON; what it leaves out is as the command line says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: Headers,
    body: Option<String>,
}

/// An object of names to values in the order of the file. A name may come more than once, as a list of
/// values or again, for a header that is sent so often.
#[derive(Default)]
struct Headers(Vec<(String, Values)>);

struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Headers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of header names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = map.next_entry()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }
        }
        from.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Values;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, value: &str) -> Result<Values, E> {
                Ok(Values(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Values(values))
            }
        }
        from.deserialize_any(OneOrMore)
    }
}

impl Headers {
    /// An empty list takes a default out, as an empty value does.
    fn fields(self) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        for (name, Values(values)) in self.0 {
            if values.is_empty() {
                fields.push(Field::new(&name, "")?);
            }
            for value in values {
                fields.push(Field::new(&name, &value)?);
            }
        }
        Ok(fields)
    }
}

/// The requests in `bytes`, each like `base` but for what its line says. Empty lines and those that
/// begin with `#` are passed over, and so is the byte order mark that some editors write.
///
/// # Errors
/// The number of the line, where it is known the column, and what is wrong; or that there is no request
/// at all.
pub fn parse(bytes: &[u8], base: &Template) -> Result<Vec<Template>, String> {
    let text = str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut requests = Vec::new();
    for (number, whole) in (1..).zip(text.lines()) {
        let line = whole.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if requests.len() == REQUESTS_MAX {
            return Err(format!("line {number}: there are more than {REQUESTS_MAX} requests"));
        }
        let request = match line.starts_with('{') {
            true => of_object(line, base, whole),
            false => of_path(line, base).map_err(|why| format!(": {why}")),
        };
        requests.push(request.map_err(|error| format!("line {number}{error}"))?);
    }
    if requests.is_empty() {
        return Err("there is no request in it; give a path or a JSON object on each line".into());
    }
    Ok(requests)
}

fn not_utf8(bytes: &[u8], valid: usize) -> String {
    let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
    format!("line {line}: it is not UTF-8")
}

fn of_path(line: &str, base: &Template) -> Result<Template, String> {
    if line.starts_with('/') {
        return base.clone().path(line);
    }
    Err(format!("'{line}' is neither a path, which begins with /, nor a JSON object"))
}

/// `line` is `whole` without the space around it. The error begins with the column.
fn of_object(line: &str, base: &Template, whole: &str) -> Result<Template, String> {
    let parsed = serde_json::from_str(line);
    let parsed = parsed.map_err(|error| misread(&error, line, whole))?;
    request(parsed, base).map_err(|why| format!(": {why}"))
}

/// serde_json counts lines and bytes of what it was given, which is one line.
fn misread(error: &serde_json::Error, line: &str, whole: &str) -> String {
    let text = error.to_string();
    let (row, column) = (error.line(), error.column());
    let why = text.strip_suffix(&format!(" at line {row} column {column}")).unwrap_or(&text);
    let ahead = whole.len() - whole.trim_start().len() + column.saturating_sub(1);
    let before = whole.get(..ahead).unwrap_or(line);
    let hint = if error.is_eof() { "; a request is one line, however long" } else { "" };
    format!(", column {}: {why}{hint}", before.chars().count() + 1)
}

fn request(line: Line, base: &Template) -> Result<Template, String> {
    let Line { method, path, headers, body } = line;
    let mut request = base.clone();
    if let Some(method) = method {
        request = request.method(&method)?;
    }
    if let Some(path) = path {
        request = request.path(&path)?;
    }
    if let Some(body) = body {
        request = request.body(body.into_bytes());
    }
    Ok(request.fields(headers.fields()?))
}
