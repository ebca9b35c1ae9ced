//! The JSON form, which is the one that can be read back.

use std::io::{self, Write};

use serde_json::Value;

use super::{Latency, Report, ReportError, SCHEMA, VERSION};

impl Report {
    /// Writes it as JSON, with a line feed at the end.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn to_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Reads what [`Report::to_json`] has written.
    ///
    /// # Errors
    /// Another schema or version, a corrupt histogram, fields that are missing or not known.
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        let value: Value = serde_json::from_str(text)?;
        check_head(&value)?;
        check_histograms(&value, "")?;
        Ok(serde_json::from_str(text)?)
    }
}

fn check_head(value: &Value) -> Result<(), ReportError> {
    let found = |field| value.get(field).map_or("missing".to_owned(), Value::to_string);
    if value.get("schema").and_then(Value::as_str) != Some(SCHEMA) {
        return Err(ReportError::Schema { found: found("schema") });
    }
    if value.get("version").and_then(Value::as_u64) != Some(u64::from(VERSION)) {
        return Err(ReportError::Version { found: found("version") });
    }
    Ok(())
}

/// Decodes each histogram for itself, so that the error can say which one it is.
fn check_histograms(value: &Value, place: &str) -> Result<(), ReportError> {
    let below = |key: String| if place.is_empty() { key } else { format!("{place}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| match field {
            Value::String(text) if name == "histogram" => check_histogram(text, place),
            field => check_histograms(field, &below(name.clone())),
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_histograms(item, &below(index.to_string()))),
        _ => Ok(()),
    }
}

fn check_histogram(text: &str, place: &str) -> Result<(), ReportError> {
    let corrupt = |cause| ReportError::CorruptHistogram { place: place.to_owned(), cause };
    Latency::decode(text).map(drop).map_err(corrupt)
}
