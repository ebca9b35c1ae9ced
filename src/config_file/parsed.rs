//! What values of the file are read as that have a type with a text of its own: addresses, networks, lists of CPUs.

use std::fmt::Display;

use ipnet::IpNet;
use serde_json::json;

use super::kinds::{Count, between, must_be, numbers};
use super::text::{Form, Kind};
use crate::config::human::{NETWORK, network, number};
use crate::config::upstream::{Backend, CheckBytes, SourceAddress, Target, Weight};
use crate::config::{
    Acceptors, AdminAddress, CpuList, Listen, ListenAddress, Rate, Threads, UnixAddress,
};

/// What people write as something with a name of its own says what is wrong with it itself.
fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl Kind for Acceptors {
    type Value = Self;
    const FORM: Form = Form::Number;

    fn expected() -> String {
        format!("auto, or a number from 0 to {}", Threads::MOST)
    }

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "0" => Ok(Self::Inline),
            _ => Count::<{ Threads::MOST as u32 }>::read(text)
                .map(Self::Dedicated)
                .map_err(|_| must_be(&Self::expected())),
        }
    }

    fn write(value: &Self) -> String {
        match value {
            Self::Auto => "auto".to_owned(),
            Self::Inline => "0".to_owned(),
            Self::Dedicated(count) => count.to_string(),
        }
    }

    fn values() -> Option<serde_json::Value> {
        let number = json!({ "type": "integer", "minimum": 0, "maximum": Threads::MOST });
        Some(json!({ "anyOf": [{ "const": "auto" }, number] }))
    }
}

impl Kind for CpuList {
    type Value = Self;

    fn expected() -> String {
        format!("CPUs and ranges below {}, such as 0-3,8", Self::LIMIT)
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.cpus().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Kind for Listen {
    type Value = Self;

    fn expected() -> String {
        "IP:PORT, NAME:PORT, :PORT (all addresses), unix:PATH or unix:@NAME".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for UnixAddress {
    type Value = Self;

    fn expected() -> String {
        "unix:PATH or unix:@NAME".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        match parsed(text) {
            Ok(ListenAddress::Unix(address)) => Ok(address),
            Err(reason) if text.starts_with("unix:") => Err(reason),
            _ => Err(must_be(&format!("{}, such as unix:/run/acceptor.sock", Self::expected()))),
        }
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for AdminAddress {
    type Value = Self;

    fn expected() -> String {
        "PORT (on 127.0.0.1), IP:PORT, unix:PATH or unix:@NAME".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for Target {
    type Value = Self;

    fn expected() -> String {
        "IP:PORT, NAME:PORT, srv:NAME, unix:PATH or unix:@NAME".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for Backend {
    type Value = Self;

    fn expected() -> String {
        format!("{}, perhaps with ,weight=N behind it", Target::expected())
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        match value.weight == Weight::default() {
            true => value.target.to_string(),
            false => format!("{},weight={}", value.target, value.weight.get()),
        }
    }
}

impl Kind for Weight {
    type Value = Self;
    const FORM: Form = Form::Number;

    fn expected() -> String {
        between(*Self::RANGE.start(), *Self::RANGE.end())
    }

    fn read(text: &str) -> Result<Self, String> {
        number(text, Self::RANGE).map(|weight| Self::new(weight).unwrap_or_default())
    }

    fn write(value: &Self) -> String {
        value.get().to_string()
    }

    fn values() -> Option<serde_json::Value> {
        numbers(*Self::RANGE.start(), *Self::RANGE.end())
    }
}

impl Kind for SourceAddress {
    type Value = Self;

    fn expected() -> String {
        "an IP address of this machine".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for IpNet {
    type Value = Self;

    fn expected() -> String {
        NETWORK.to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        network(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for Rate {
    type Value = Self;

    fn expected() -> String {
        "a number for a time, such as 20/s, 100/10s or 20/s burst 50".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        value.to_string()
    }
}

impl Kind for CheckBytes {
    type Value = Self;

    fn expected() -> String {
        format!("at most {} bytes, as text with \\r, \\n, \\t, \\\\ and \\xNN", Self::MAX)
    }

    fn read(text: &str) -> Result<Self, String> {
        parsed(text)
    }

    fn write(value: &Self) -> String {
        let escaped = |byte: &u8| match byte {
            b'\\' => "\\\\".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b' '..=b'~' => char::from(*byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        };
        value.as_bytes().iter().map(escaped).collect()
    }
}
