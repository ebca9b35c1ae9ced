//! docs/CONFIGURATION.md: each key as a row of a table, from the schema.

use std::fmt::Write;

use serde_json::Value;

use super::schema;
use super::text::EXPECTED;

const INTRODUCTION: &str = include_str!("reference.md");

/// Heading, what stands there as a table, and the definition in the schema.
const SECTIONS: [(&str, Option<&str>); 5] = [
    ("Top level", None),
    ("`[process]`", Some("ProcessTable")),
    ("`[frontend.NAME]` and `[defaults]`", Some("FrontendTable")),
    ("`[upstream.NAME]`", Some("UpstreamTable")),
    ("Backends", Some("BackendTable")),
];

/// The document.
pub fn reference() -> String {
    let schema = schema::tree();
    let mut text = INTRODUCTION.to_owned();
    for (heading, definition) in SECTIONS {
        let table = definition.map_or(&schema, |name| &schema["$defs"][name]);
        let about = table["description"].as_str().unwrap_or_default();
        let _ = write!(text, "\n## {heading}\n{about}.\n\n");
        text.push_str("| key | value | default | |\n|---|---|---|---|\n");
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            let default = property.get("default").map(|default| format!("`{default}`"));
            let _ = writeln!(
                text,
                "| `{key}` | {} | {} | {} |",
                cell(&expected(property)),
                cell(&default.unwrap_or_default()),
                cell(property["description"].as_str().unwrap_or_default()),
            );
        }
    }
    text
}

/// What a value may be, in words.
fn expected(property: &Value) -> String {
    if let Some(expected) = property[EXPECTED].as_str() {
        return expected.to_owned();
    }
    let choices = property["anyOf"].as_array();
    let of_first =
        choices.and_then(|choices| choices.first()).and_then(|first| first[EXPECTED].as_str());
    match of_first {
        Some(expected) => format!("{expected}; or a list"),
        None if property["type"] == "array" => "a list".to_owned(),
        None => "a table".to_owned(),
    }
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
