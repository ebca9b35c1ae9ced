//! Requests from a file: a path or a JSON object on each line.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

/// The requests in `text`, each like `base` but for what its line says. Empty lines and those that
/// begin with `#` are passed over.
///
/// # Errors
/// The number of the line and what is wrong with it, or that there is no request at all.
pub fn parse(text: &str, base: &Template) -> Result<Vec<Template>, String> {
    let mut requests = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if requests.len() == REQUESTS_MAX {
            return Err(format!("line {number}: there are more than {REQUESTS_MAX} requests"));
        }
        let request = request(line, base).map_err(|error| format!("line {number}: {error}"))?;
        requests.push(request);
    }
    if requests.is_empty() {
        return Err("there is no request in it; give a path or a JSON object on each line".into());
    }
    Ok(requests)
}

fn request(line: &str, base: &Template) -> Result<Template, String> {
    if line.starts_with('/') {
        return base.clone().path(line);
    }
    if !line.starts_with('{') {
        return Err(format!("'{line}' is neither a path, which begins with /, nor a JSON object"));
    }
    let Line { method, path, headers, body } =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
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
    for (name, value) in headers {
        request = request.field(Field::new(&name, &value)?);
    }
    Ok(request)
}
