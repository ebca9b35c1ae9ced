//! What an active health check does, as it is written.

use std::fmt;
use std::str::FromStr;

use super::super::ConfigError;

/// What an active health check does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ActiveCheck {
    /// There is none.
    #[default]
    None,
    /// Connects.
    Connect,
    /// Connects, sends, and waits for an answer.
    SendExpect {
        /// Sent at once; may be empty when the backend speaks first.
        send: CheckBytes,
        /// What the answer must contain; not empty.
        expect: CheckBytes,
    },
}

/// Bytes of a check. Written as text with `\r`, `\n`, `\t`, `\\` and `\xNN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckBytes(Vec<u8>);

impl CheckBytes {
    /// Most bytes.
    pub const MAX: usize = 1024;

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for CheckBytes {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let (byte, tail) = match first {
                b'\\' => escaped(tail).ok_or_else(|| bad_escape(text))?,
                _ => (first, tail),
            };
            bytes.push(byte);
            rest = tail;
        }
        if bytes.len() > Self::MAX {
            let (count, max) = (bytes.len(), Self::MAX);
            return Err(ConfigError::new(format!(
                "a health check sends or expects {count} bytes; it may be at most {max}"
            )));
        }
        Ok(Self(bytes))
    }
}

/// What stands behind a backslash, and the rest.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = text.split_first()?;
    match first {
        b'r' => Some((b'\r', rest)),
        b'n' => Some((b'\n', rest)),
        b't' => Some((b'\t', rest)),
        b'\\' => Some((b'\\', rest)),
        b'x' => {
            let (digits, rest) = rest.split_at_checked(2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let byte = digit(digits[0])? * 16 + digit(digits[1])?;
            Some((u8::try_from(byte).ok()?, rest))
        }
        _ => None,
    }
}

fn bad_escape(text: &str) -> ConfigError {
    ConfigError::new(format!(
        "'{text}' has a backslash that means nothing; write \\r, \\n, \\t, \\\\ or \\xNN"
    ))
}

impl FromStr for ActiveCheck {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "none" => return Ok(Self::None),
            "connect" => return Ok(Self::Connect),
            _ => {}
        }
        let exchange = text.strip_prefix("send-expect:").and_then(|rest| rest.split_once('|'));
        let (send, expect) = exchange.ok_or_else(|| unknown(text, "it is unknown"))?;
        if expect.is_empty() {
            return Err(unknown(text, "it expects nothing; for that there is connect"));
        }
        Ok(Self::SendExpect { send: send.parse()?, expect: expect.parse()? })
    }
}

fn unknown(text: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!(
        "'{text}' cannot be a health check: {hint}. \
         Examples: none, connect, send-expect:PING\\r\\n|+PONG (\\x7c is a bar in the bytes)"
    ))
}

/// As it is written. A bar among the bytes has to be escaped; every byte that is not printable is.
impl fmt::Display for CheckBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in &self.0 {
            match byte {
                b'\r' => formatter.write_str("\\r")?,
                b'\n' => formatter.write_str("\\n")?,
                b'\t' => formatter.write_str("\\t")?,
                b'\\' => formatter.write_str("\\\\")?,
                b' '..=b'~' if byte != b'|' => write!(formatter, "{}", char::from(byte))?,
                _ => write!(formatter, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ActiveCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Connect => formatter.write_str("connect"),
            Self::SendExpect { send, expect } => write!(formatter, "send-expect:{send}|{expect}"),
        }
    }
}
