//! Why an upstream cannot be what it is told to be, in words for the operator.

use std::io;

use crate::config::ConfigError;
use crate::config::upstream::{SourceAddress, Target};
use crate::process::NoThread;
use crate::sys::Errno;

/// Why an upstream cannot start or change.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name has no address now, when one is needed.
    #[error(
        "the backend {target} cannot be resolved: {cause}; check the name, /etc/resolv.conf and \
         /etc/hosts, or see: {}",
        hint(target)
    )]
    Unresolved {
        /// As configured.
        target: Target,
        /// What the resolver said.
        cause: io::Error,
    },
    /// Connections cannot be made from this address.
    #[error("upstream {upstream}: {}", no_source(Some(.source_address), .cause))]
    Source {
        /// The name of the upstream.
        upstream: String,
        /// As configured.
        source_address: SourceAddress,
        /// What bind(2) said.
        cause: io::Error,
    },
    /// There is no such backend.
    #[error("there is no backend {0}; name one as it is configured")]
    Unknown(Target),
    /// It is the only backend.
    #[error(
        "the backend {0} is the last one and cannot be removed; drain it, so that connections are \
         reset, or add another first"
    )]
    Last(Target),
    /// A thread could not be started.
    #[error("checks and names: {}", NoThread::new(.0))]
    Thread(io::Error),
}

impl UpstreamError {
    /// The cause and what to do, without the backend: that may be a secret.
    pub fn cause(&self) -> String {
        match self {
            Self::Unresolved { cause, .. } => format!("the name cannot be resolved: {cause}"),
            _ => self.to_string(),
        }
    }
}

/// That connections cannot be made from an address, in words for the operator. It is left out where it is known from the
/// place, or a secret.
pub fn no_source(source: Option<&SourceAddress>, cause: &io::Error) -> String {
    let interface = match source.and_then(|source| source.interface()) {
        Some(number) => format!("interface {number}, which this machine does not have"),
        None => "an interface that this machine does not have".to_owned(),
    };
    let source = source.map_or("the source".to_owned(), |source| format!("the source {source}"));
    match cause.raw_os_error().map(Errno) {
        Some(Errno::EADDRNOTAVAIL) => {
            format!("{source} is not an address of this machine; see: ip addr")
        }
        Some(Errno::ENODEV) => format!("{source} is on {interface}; see: ip link"),
        _ => format!("{source} cannot be used: {cause}"),
    }
}

/// What shows the same without this program.
fn hint(target: &Target) -> String {
    match target {
        Target::Name { name, .. } => format!("getent ahosts {name}"),
        Target::Srv { name } => format!("host -t SRV {name}"),
        other => other.to_string(),
    }
}
