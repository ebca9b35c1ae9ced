//! A backend as it is written: `10.0.0.1:80`, `[::1]:80`, `NAME:80`, `srv:NAME`, `unix:/path` or `unix:@name`, with a
//! weight.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use super::super::{ConfigError, UnixAddress};

/// Longest name and longest part of it between dots, in bytes (RFC 1035, 2.3.4).
const NAME_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;

/// What stands before the name of a service.
const SRV: &str = "srv:";

/// Where connections go, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A name, each of whose addresses is an endpoint of its own.
    Name {
        /// Resolved as any program on this machine would (nsswitch.conf, hosts, DNS).
        name: String,
        /// Of each address.
        port: NonZeroU16,
    },
    /// The name of a service: its SRV records say hosts, ports and weights, and each address of each host is an
    /// endpoint of its own.
    Srv {
        /// Fully qualified, such as `_web._tcp.example`.
        name: String,
    },
    /// A unix stream socket.
    Unix(UnixAddress),
}

/// How many connections a backend gets for each one that a backend of weight 1 gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU32);

/// A target and its weight: `10.0.0.1:80,weight=3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Where connections go.
    pub target: Target,
    /// How many. Each address of a name has this weight.
    pub weight: Weight,
}

impl Weight {
    /// What a weight may be.
    pub const RANGE: std::ops::RangeInclusive<u32> = 1..=256;

    /// A weight; `None` if it is out of range.
    pub fn new(weight: u32) -> Option<Self> {
        NonZeroU32::new(weight).filter(|_| Self::RANGE.contains(&weight)).map(Self)
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Target {
    /// Whether no socket can have this name. What was parsed is never too long.
    pub(super) fn is_too_long(&self) -> bool {
        match self {
            Self::Unix(name) => name.is_too_long(),
            Self::Socket(_) | Self::Name { .. } | Self::Srv { .. } => false,
        }
    }

    /// Whether it is looked up, once and again.
    pub fn is_looked_up(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::Srv { .. })
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl FromStr for Weight {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (least, most) = Self::RANGE.into_inner();
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            ConfigError::new(format!("the weight is '{text}'; it must be {least} to {most}"))
        })
    }
}

impl FromStr for Backend {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let (target, option) = match text.rsplit_once(',') {
            Some((target, option)) => (target, Some(option)),
            None => (text, None),
        };
        let weight = match option.map(|option| option.split_once('=')) {
            None => Weight::default(),
            Some(Some(("weight", weight))) => weight.parse()?,
            Some(_) => {
                let option = option.unwrap_or_default();
                return Err(ConfigError::new(format!(
                    "'{option}' in the backend '{text}' is unknown; \
                     only a weight can be given, such as {target},weight=3"
                )));
            }
        };
        Self::new(target.parse()?, weight)
    }
}

impl Backend {
    /// A backend.
    ///
    /// # Errors
    /// A service that is given a weight: its records have one each.
    pub fn new(target: Target, weight: Weight) -> Result<Self, ConfigError> {
        match (&target, weight == Weight::default()) {
            (Target::Srv { .. }, false) => Err(ConfigError::new(format!(
                "{target} has the weights of its SRV records and takes no other; leave the weight out"
            ))),
            _ => Ok(Self { target, weight }),
        }
    }
}

impl FromStr for Target {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if let Some(name) = text.strip_prefix("unix:") {
            return UnixAddress::parse(text, name).map(Self::Unix);
        }
        if let Some(name) = text.strip_prefix(SRV) {
            return srv(name).map_err(|hint| no_target(text, hint));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) => socket(text, address),
            Err(_) => name(text).map_err(|hint| no_target(text, hint)),
        }
    }
}

fn socket(text: &str, address: SocketAddr) -> Result<Target, ConfigError> {
    if address.port() == 0 {
        return Err(no_target(text, "port 0 cannot be connected to"));
    }
    if address.ip().is_unspecified() {
        return Err(no_target(text, "it is for listening on; a backend has an address of its own"));
    }
    Ok(Target::Socket(address))
}

fn srv(name: &str) -> Result<Target, &'static str> {
    match (is_name(name), name.contains(':')) {
        (true, _) => Ok(Target::Srv { name: name.to_owned() }),
        (false, true) => Err("SRV records have the port, so none is given"),
        (false, false) => Err("it is no name of a service"),
    }
}

fn name(text: &str) -> Result<Target, &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("it has no port");
    }
    let (name, port) = text.rsplit_once(':').ok_or("it has no port")?;
    let port = port.parse().map_err(|_| "its port is not 1 to 65535")?;
    if !is_name(name) {
        return Err("it is neither an IP address nor a host name");
    }
    Ok(Target::Name { name: name.to_owned(), port })
}

/// What a resolver can be asked. A last part of digits alone would be an IP address with a slip.
pub(in crate::config) fn is_name(name: &str) -> bool {
    let mut labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let last = labels.clone().next_back().unwrap_or_default();
    name.len() <= NAME_MAX_BYTES
        && labels.all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_label(label: &str) -> bool {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_MAX_BYTES).contains(&label.len())
        && label.bytes().all(of_a_name)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn no_target(text: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!(
        "'{text}' cannot be a backend: {hint}. \
         Examples: 10.0.0.1:80, [2001:db8::1]:80, name.example:80, srv:_web._tcp.example, \
         unix:/run/name.sock"
    ))
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(formatter),
            Self::Name { name, port } => write!(formatter, "{name}:{port}"),
            Self::Srv { name } => write!(formatter, "{SRV}{name}"),
            Self::Unix(name) => name.fmt(formatter),
        }
    }
}

/// As it is written; a weight of 1 is left out.
impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(formatter)?;
        match self.weight.get() {
            1 => Ok(()),
            weight => write!(formatter, ",weight={weight}"),
        }
    }
}
