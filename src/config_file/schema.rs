//! The JSON Schema of a file, made from the types: for editors, for docs/CONFIGURATION.md, and for what the keys
//! of a table are.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::print;
use super::tables::Root;

/// The schema, as text with a line feed at its end.
pub fn schema() -> String {
    format!("{:#}\n", tree())
}

/// The same as a value.
pub(super) fn tree() -> Value {
    let mut schema = schema_of::<Root>();
    let defaults = serde_json::to_value(print::defaults()).unwrap_or_default();
    for (definition, table) in [
        ("ProcessTable", &defaults["process"]),
        ("FrontendTable", &defaults["frontend"]["NAME"]),
        ("UpstreamTable", &defaults["upstream"]["NAME"]),
    ] {
        let properties = schema["$defs"][definition]["properties"].as_object_mut();
        for (key, property) in properties.into_iter().flatten() {
            let default = table.get(key).filter(|default| !default.is_null());
            if let (Some(default), Some(property)) = (default, property.as_object_mut()) {
                property.insert("default".to_owned(), default.clone());
            }
        }
    }
    schema["$defs"]["BackendTable"]["properties"]["weight"]["default"] = json!(1);
    schema["$defs"]["BackendTable"]["required"] = json!(["address"]);
    let either = ["backends", "backends_file"].map(|key| json!({ "required": [key] }));
    schema["$defs"]["UpstreamTable"]["oneOf"] = json!(either);
    schema
}

/// The keys of a table.
pub(super) fn keys<T: JsonSchema>() -> Vec<String> {
    let schema = schema_of::<T>();
    let properties = schema["properties"].as_object();
    properties.into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

fn schema_of<T: JsonSchema>() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: an option that is not there is not there.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(values) => values.iter_mut().for_each(without_null),
        Value::Object(object) => {
            plain(object);
            object.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

fn plain(object: &mut Map<String, Value>) {
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice != &json!({ "type": "null" }));
    if let [Value::Object(only)] = &choices[..] {
        let only = only.clone();
        object.remove("anyOf");
        // What the key says of itself goes before what its type says.
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}
