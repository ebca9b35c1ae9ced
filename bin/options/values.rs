//! One value of the command line at a time: text in, a value with its unit out, or a reason.
//!
//! clap puts the option and the value in front of the reason:
//! `invalid value '0' for '--workers <N>': REASON`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use uring_acceptor::config::{
    Acceptors, DispatchPolicy, LogFormat, RingSizes, SocketOptions, Threads,
};

use uring_acceptor::config::human::number;

/// A count from 1 to `most`.
pub(crate) fn up_to(most: u32) -> impl Fn(&str) -> Result<NonZeroU32, String> + Clone {
    move |text| {
        let count = number(text, 1..=most)?;
        NonZeroU32::new(count).ok_or_else(|| "it must not be 0".to_owned())
    }
}

/// One connection in so many.
pub(crate) fn queue_wait_sample(text: &str) -> Result<u32, String> {
    number(text, 0..=SocketOptions::QUEUE_WAIT_SAMPLE_MAX)
}

/// A number of threads. More than this machine has CPUs for is a warning at the start.
pub(crate) fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = number(text, 1..=Threads::MOST as u32)?;
    NonZeroUsize::new(count as usize).ok_or_else(|| "it must not be 0".to_owned())
}

/// `auto`, 0 or a number of threads.
pub(crate) fn acceptors(text: &str) -> Result<Acceptors, String> {
    match text {
        "auto" => Ok(Acceptors::Auto),
        "0" => Ok(Acceptors::Inline),
        _ => threads(text)
            .map(Acceptors::Dedicated)
            .map_err(|_| format!("it must be auto, or a number from 0 to {}", Threads::MOST)),
    }
}

/// Bytes of a receive buffer.
pub(crate) fn buffer_bytes(text: &str) -> Result<u32, String> {
    number(text, RingSizes::BUFFER_BYTES)
}

/// Entries of a completion queue.
pub(crate) fn completion_entries(text: &str) -> Result<NonZeroU32, String> {
    let count = number(text, RingSizes::COMPLETION_ENTRIES)?;
    NonZeroU32::new(count).ok_or_else(|| "it must not be 0".to_owned())
}

/// Bytes of a generated HTTP body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyBytes(pub(crate) usize);

impl BodyBytes {
    /// The body stays in memory as long as the server runs.
    const MOST: u32 = 64 * 1024 * 1024;
}

impl FromStr for BodyBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        number(text, 0..=Self::MOST).map(|bytes| Self(bytes as usize))
    }
}

/// A [`DispatchPolicy`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy(pub(crate) DispatchPolicy);

impl ValueEnum for Policy {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(DispatchPolicy::LeastConnections),
            Self(DispatchPolicy::RoundRobin),
            Self(DispatchPolicy::SourceHash),
            Self(DispatchPolicy::IncomingCpu),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            DispatchPolicy::LeastConnections => "least-connections",
            DispatchPolicy::RoundRobin => "round-robin",
            DispatchPolicy::SourceHash => "source-hash",
            DispatchPolicy::IncomingCpu => "incoming-cpu",
        }))
    }
}

/// The form of the lines of a log, by its name.
pub(super) fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|name| match name.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}
