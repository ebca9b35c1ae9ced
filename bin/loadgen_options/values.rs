//! One value of the command line at a time: text in, a value with its unit out, or a reason.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use uring_acceptor::load::request::Order;
use uring_acceptor::load::{Arrival, CloseStyle};

use uring_acceptor::config::human::{Human, duration_in, number};

/// A run that nobody ends ends then.
const DURATION_MAX: Duration = Duration::from_secs(3600);
const WARM_UP_MAX: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_millis(1);

/// Each costs a descriptor, buffers and a slot.
const CONNECTIONS_MAX: usize = 1_000_000;

/// Starts per second; far more than threads can make.
const RATE_MAX: f64 = 10_000_000.0;
const RATE_MIN: f64 = 0.1;

/// A message is in memory once per connection.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A body is read and counted, not kept.
const BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Operations of a run.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// Requests on one connection.
const REQUESTS_MAX: u32 = 1_000_000_000;

/// Each waits in memory, for each connection.
const PIPELINE_MAX: usize = 1024;

/// CPUs that the kernel can name.
const THREADS_MAX: usize = 1024;

/// PID_MAX_LIMIT of the kernel.
const PID_MAX: u32 = 4 * 1024 * 1024;

/// The time that is measured.
pub(crate) fn window(text: &str) -> Result<Human, String> {
    duration_in(text, SHORTEST..=DURATION_MAX)
}

/// The time before it.
pub(crate) fn warm_up(text: &str) -> Result<Human, String> {
    duration_in(text, Duration::ZERO..=WARM_UP_MAX)
}

/// How long a step may take.
pub(crate) fn deadline(text: &str) -> Result<Human, String> {
    duration_in(text, SHORTEST..=DURATION_MAX)
}

/// Connections, or operations, at a time.
pub(crate) fn connections(text: &str) -> Result<usize, String> {
    number(text, 1..=CONNECTIONS_MAX)
}

/// Starts per second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    number(text, RATE_MIN..=RATE_MAX).map_err(|reason| {
        format!("{reason}; without --rate, connections go as fast as the server answers")
    })
}

/// Bytes of a request, a response or a chunk.
pub(crate) fn message_bytes(text: &str) -> Result<usize, String> {
    number(text, 1..=MESSAGE_BYTES_MAX)
}

/// Bytes of an HTTP body.
pub(crate) fn body_bytes(text: &str) -> Result<usize, String> {
    number(text, 0..=BODY_BYTES_MAX)
}

/// Operations.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    number(text, 1..=COUNT_MAX)
}

/// Requests on one connection.
pub(crate) fn requests(text: &str) -> Result<u32, String> {
    number(text, 1..=REQUESTS_MAX)
}

/// Requests that wait on one connection.
pub(crate) fn pipeline(text: &str) -> Result<usize, String> {
    number(text, 1..=PIPELINE_MAX)
}

/// Threads; the second stage knows how many CPUs there are.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    number(text, 1..=THREADS_MAX)
}

/// A process.
pub(crate) fn pid(text: &str) -> Result<u32, String> {
    number(text, 1..=PID_MAX)
}

/// Where to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sink {
    /// `-`.
    Stdout,
    /// A file, overwritten.
    File(PathBuf),
}

impl Sink {
    /// As typed.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("-"),
            Self::File(path) => path,
        }
    }
}

impl FromStr for Sink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-" => Ok(Self::Stdout),
            "" => Err("it is empty; give the path of a file, or -".into()),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// A file that is not text for a terminal.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    match text {
        "" | "-" => Err("give the path of a file; only --json and --csv write to stdout".into()),
        path => Ok(path.into()),
    }
}

/// An [`Arrival`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arriving(pub(crate) Arrival);

impl ValueEnum for Arriving {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Arrival::Poisson), Self(Arrival::Uniform)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Arrival::Poisson => PossibleValue::new("poisson"),
            Arrival::Uniform => PossibleValue::new("uniform"),
        })
    }
}

/// An [`Order`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ordering(pub(crate) Order);

impl ValueEnum for Ordering {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Order::InTurn), Self(Order::Random)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            Order::InTurn => "in-turn",
            Order::Random => "random",
        }))
    }
}

/// A [`CloseStyle`] by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closing(pub(crate) CloseStyle);

impl ValueEnum for Closing {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(CloseStyle::Fin),
            Self(CloseStyle::Rst),
            Self(CloseStyle::Server),
            Self(CloseStyle::Half),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self.0 {
            CloseStyle::Fin => "fin",
            CloseStyle::Rst => "rst",
            CloseStyle::Server => "server",
            CloseStyle::Half => "half",
        }))
    }
}
