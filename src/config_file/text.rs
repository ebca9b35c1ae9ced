//! A value of the file as it is written, and what it is read as.
//!
//! Deserializing keeps the text alone, so that every value of a file can be judged, and so that what is wrong
//! can be told without the value where that came from the environment.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::json;

/// How a value is written where it need not be a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Number,
    Flag,
}

/// What a text is read as.
pub(super) trait Kind {
    type Value;
    const FORM: Form = Form::Text;
    /// What would be right, in words: "1ms to 7days".
    fn expected() -> String;
    /// The value, or what would be right for this text.
    fn read(text: &str) -> Result<Self::Value, String>;
    fn write(value: &Self::Value) -> String;
    /// What may stand in the file beside a string with a variable in it; `None` is any string.
    fn values() -> Option<serde_json::Value> {
        match Self::FORM {
            Form::Text => None,
            Form::Number => Some(json!({ "type": "integer" })),
            Form::Flag => Some(json!({ "type": "boolean" })),
        }
    }
}

/// A value as it is written.
pub(super) struct Text<K> {
    text: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Text<K> {
    pub(super) fn of(value: &K::Value) -> Self {
        K::write(value).into()
    }

    pub(super) fn read(&self) -> Result<K::Value, String> {
        K::read(&self.text)
    }
}

impl<K> From<String> for Text<K> {
    fn from(text: String) -> Self {
        Self { text, kind: PhantomData }
    }
}

impl<K> fmt::Debug for Text<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may come from the environment.
        formatter.write_str("Text(..)")
    }
}

impl<K> Clone for Text<K> {
    fn clone(&self) -> Self {
        self.text.clone().into()
    }
}

impl<'de, K> Deserialize<'de> for Text<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar).map(Self::from)
    }
}

/// Numbers come as texts, see `document.rs`.
struct AnyScalar;

impl Visitor<'_> for AnyScalar {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a single value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }
}

impl<K: Kind> Serialize for Text<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = || self.text.parse().ok().filter(|_| K::FORM == Form::Number);
        let flag = || self.text.parse().ok().filter(|_| K::FORM == Form::Flag);
        match (number(), flag()) {
            (Some(number), _) => serializer.serialize_i64(number),
            (_, Some(flag)) => serializer.serialize_bool(flag),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

impl<K: Kind> JsonSchema for Text<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let expected = K::expected();
        match K::values() {
            None => json_schema!({ "type": "string", (EXPECTED): expected }),
            Some(values) => json_schema!({
                "anyOf": [values, { "type": "string", "pattern": VARIABLE }],
                (EXPECTED): expected,
            }),
        }
    }
}

/// Where a schema says in words what a value may be.
pub(super) const EXPECTED: &str = "x-expected";

/// What a string matches in which a variable stands.
const VARIABLE: &str = r"\$\{";

/// One or a list of them.
#[derive(Debug, Clone, serde::Deserialize, serde::Serialize, JsonSchema)]
#[serde(untagged, expecting = "a single value or a list of them", bound = "K: Kind")]
#[schemars(inline, bound = "K: Kind")]
pub(super) enum OneOrMany<K> {
    One(Text<K>),
    Many(Vec<Text<K>>),
}

impl<K: Kind> OneOrMany<K> {
    pub(super) fn of<'a>(values: impl IntoIterator<Item = &'a K::Value>) -> Self
    where
        K::Value: 'a,
    {
        let mut texts: Vec<_> = values.into_iter().map(Text::of).collect();
        match texts.pop() {
            Some(only) if texts.is_empty() => Self::One(only),
            last => {
                texts.extend(last);
                Self::Many(texts)
            }
        }
    }
}
