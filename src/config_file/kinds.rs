//! What values of the file are read as: numbers, times, truth, words. The texts are those of the command line.

use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::text::{Form, Kind};
use crate::config::human::{self, Human, duration_in, number};
use crate::config::{ConfigError, LogTarget};

/// A number from `LEAST` to `MOST`.
pub(super) struct Whole<const LEAST: u32, const MOST: u32>;

/// A number from 1 to `MOST`.
pub(super) struct Positive<const MOST: u32>;

/// The same, of things in memory.
pub(super) struct Count<const MOST: u32>;

/// Truth.
pub(super) struct Flag;

/// A time from `LEAST` to `MOST` milliseconds.
pub(super) struct Time<const LEAST: u64, const MOST: u64>;

/// The longest timeout in milliseconds.
pub(super) const LONGEST: u64 = crate::config::TIMEOUT_MAX.as_millis() as u64;

/// In place of a value: none.
const OFF: &str = "off";

/// A deadline or a timer.
pub(super) type Timeout = Time<1, LONGEST>;

/// A value, or that there is none.
pub(super) struct OrOff<K>(PhantomData<K>);

/// Time between two lines of figures.
pub(super) struct StatsInterval;

/// TCP_KEEPIDLE.
pub(super) struct Keepalive;

/// Any text.
pub(super) struct Words;

/// What a name may be is seen where it is used.
pub(super) struct Name;

/// One of a few words.
pub(super) struct OneOf<T>(PhantomData<T>);

/// The words for the values of a type.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

pub(super) fn between(least: u32, most: u32) -> String {
    format!("a number from {least} to {most}")
}

pub(super) fn numbers(least: u32, most: u32) -> Option<serde_json::Value> {
    Some(json!({ "type": "integer", "minimum": least, "maximum": most }))
}

impl<const LEAST: u32, const MOST: u32> Kind for Whole<LEAST, MOST> {
    type Value = u32;
    const FORM: Form = Form::Number;

    fn expected() -> String {
        between(LEAST, MOST)
    }

    fn read(text: &str) -> Result<u32, String> {
        number(text, LEAST..=MOST)
    }

    fn write(value: &u32) -> String {
        value.to_string()
    }

    fn values() -> Option<serde_json::Value> {
        numbers(LEAST, MOST)
    }
}

impl<const MOST: u32> Kind for Positive<MOST> {
    type Value = NonZeroU32;
    const FORM: Form = Form::Number;

    fn expected() -> String {
        between(1, MOST)
    }

    fn read(text: &str) -> Result<NonZeroU32, String> {
        NonZeroU32::new(number(text, 1..=MOST)?).ok_or_else(Self::expected)
    }

    fn write(value: &NonZeroU32) -> String {
        value.to_string()
    }

    fn values() -> Option<serde_json::Value> {
        numbers(1, MOST)
    }
}

impl<const MOST: u32> Kind for Count<MOST> {
    type Value = NonZeroUsize;
    const FORM: Form = Form::Number;

    fn expected() -> String {
        between(1, MOST)
    }

    fn read(text: &str) -> Result<NonZeroUsize, String> {
        let count: u32 = number(text, 1..=MOST)?;
        NonZeroUsize::new(count as usize).ok_or_else(Self::expected)
    }

    fn write(value: &NonZeroUsize) -> String {
        value.to_string()
    }

    fn values() -> Option<serde_json::Value> {
        numbers(1, MOST)
    }
}

impl Kind for Flag {
    type Value = bool;
    const FORM: Form = Form::Flag;

    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| must_be(&Self::expected()))
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

pub(super) fn must_be(expected: &str) -> String {
    format!("it must be {expected}")
}

fn time(milliseconds: u64) -> Human {
    Human(Duration::from_millis(milliseconds))
}

impl<const LEAST: u64, const MOST: u64> Kind for Time<LEAST, MOST> {
    type Value = Duration;

    fn expected() -> String {
        format!("a time from {} to {}", time(LEAST), time(MOST))
    }

    fn read(text: &str) -> Result<Duration, String> {
        duration_in(text, time(LEAST).0..=time(MOST).0).map(|time| time.0)
    }

    fn write(value: &Duration) -> String {
        Human(*value).to_string()
    }
}

impl<K: Kind> Kind for OrOff<K> {
    type Value = Option<K::Value>;
    const FORM: Form = K::FORM;

    fn expected() -> String {
        format!("{}, or {OFF}", K::expected())
    }

    fn read(text: &str) -> Result<Self::Value, String> {
        if text == OFF {
            return Ok(None);
        }
        K::read(text).map(Some).map_err(|why| format!("{why}, or {OFF}"))
    }

    fn write(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| OFF.to_owned(), K::write)
    }

    fn values() -> Option<serde_json::Value> {
        K::values().map(|own| json!({ "anyOf": [own, { "const": OFF }] }))
    }
}

impl Kind for StatsInterval {
    type Value = Duration;

    fn expected() -> String {
        format!("a time from 100ms to {}, or 0s for none", time(LONGEST))
    }

    fn read(text: &str) -> Result<Duration, String> {
        human::stats_interval(text).map(|time| time.0)
    }

    fn write(value: &Duration) -> String {
        Human(*value).to_string()
    }
}

impl Kind for Keepalive {
    type Value = Duration;

    fn expected() -> String {
        "whole seconds from 1s to 32767s".to_owned()
    }

    fn read(text: &str) -> Result<Duration, String> {
        human::keepalive(text).map(|time| time.0)
    }

    fn write(value: &Duration) -> String {
        Human(*value).to_string()
    }
}

impl Kind for Words {
    type Value = String;

    fn expected() -> String {
        "a text".to_owned()
    }

    fn read(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

impl Kind for Name {
    type Value = String;

    fn expected() -> String {
        "the name of an upstream".to_owned()
    }

    fn read(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }

    fn write(value: &String) -> String {
        value.clone()
    }
}

impl Kind for LogTarget {
    type Value = Self;

    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: ConfigError| error.to_string())
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for PathBuf {
    type Value = Self;

    fn expected() -> String {
        "a path".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            Err(must_be("a path"))
        } else {
            Ok(text.into())
        }
    }

    fn write(value: &Self) -> String {
        value.to_string_lossy().into_owned()
    }
}

impl<T: Named> Kind for OneOf<T> {
    type Value = T;

    fn expected() -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        match names.split_last() {
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    fn read(text: &str) -> Result<T, String> {
        let found = T::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| must_be(&Self::expected()))
    }

    fn write(value: &T) -> String {
        let found = T::NAMES.iter().find(|(_, named)| named == value);
        found.map_or_else(String::new, |(name, _)| (*name).to_owned())
    }

    fn values() -> Option<serde_json::Value> {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
        Some(json!({ "enum": names }))
    }
}
