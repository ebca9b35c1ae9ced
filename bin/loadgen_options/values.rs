//! One value of the command line at a time: text in, a value with its unit out, or a reason.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use uring_acceptor::config::ListenAddress;
use uring_acceptor::load::place::Place;
use uring_acceptor::load::request::{Order, Template};
use uring_acceptor::load::{Arrival, CloseStyle, Target};

use super::human::{Human, duration_in, number};

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

/// Length of a host name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;

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
    number(text, RATE_MIN..=RATE_MAX)
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

/// `HOST:PORT`, `IP:PORT`, `[v6]:PORT` or `unix:PATH`.
pub(crate) fn place(text: &str) -> Result<Place, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(refused("a URL is for the http command"));
    }
    if text.starts_with("unix:") {
        return match text.parse::<ListenAddress>().map_err(|error| error.to_string())? {
            ListenAddress::Unix(path) => Ok(Place::Known(Target::Unix(path))),
            ListenAddress::Tcp(address) => Ok(Place::Known(Target::Tcp(address))),
        };
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Place::Known(Target::Tcp(SocketAddr::new(address.ip(), port(address.port())?))));
    }
    let (name, digits) = text.rsplit_once(':').ok_or_else(|| refused("it has no port"))?;
    if is_ip(text) {
        return Err(refused("it has no port"));
    }
    let number = digits.parse().map_err(|_| refused(&format!("'{digits}' is no port")))?;
    if !is_name(name) {
        return Err(refused(&format!("'{name}' is neither an address nor a name")));
    }
    Ok(Place::Named { name: name.to_owned(), port: port(number)? })
}

fn port(number: u16) -> Result<u16, String> {
    if number == 0 { Err("a server has a port from 1 to 65535".into()) } else { Ok(number) }
}

fn refused(why: &str) -> String {
    format!("{why}. Examples: localhost:7000, 127.0.0.1:7000, [::1]:7000, unix:/run/name.sock")
}

fn is_ip(text: &str) -> bool {
    text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// Whether it may be the name of a machine; the resolver knows more.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
}

/// What `http` takes: an address, or a URL with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    /// Where to.
    pub(crate) place: Place,
    /// What the user calls the server, for the Host header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// What is behind a URL without a port.
        const DEFAULT_PORT: u16 = 80;
        if text.starts_with("https://") {
            return Err("loadgen does not speak TLS yet; give an http:// URL".into());
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let host = if text.starts_with("unix:") { "localhost" } else { text };
            return Ok(Self { place: place(text)?, host: host.to_owned(), path: "/".into() });
        };
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if host.contains('@') {
            return Err("a URL takes no user here; give -H 'Authorization: ...'".into());
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(name, _)| !name.starts_with('[') || name.ends_with(']'));
        let place = match has_port {
            true => place(host)?,
            false => place(&format!("{host}:{DEFAULT_PORT}"))?,
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Template::get("/").path(&path)?;
        Ok(Self { place, host: host.to_owned(), path })
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
