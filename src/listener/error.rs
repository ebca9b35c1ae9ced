//! Why an address cannot be listened on, in words for the operator.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::ListenAddress;
use crate::sys::Errno;

/// Why an address cannot be listened on. The text names the address, the cause and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// EADDRINUSE, still after the retries.
    #[error("cannot listen on {address}: it is in use; to see by whom: {}", who_listens(address))]
    InUse {
        /// As configured.
        address: ListenAddress,
    },
    /// EADDRINUSE, and a socket of this server is why.
    #[error("cannot listen on {address}: {}", overlaps(**by))]
    Overlaps {
        /// As configured.
        address: ListenAddress,
        /// Where the server listens already.
        by: Box<SocketAddr>,
    },
    /// The path of a unix socket is taken by something else, which is left as it is.
    #[error(
        "cannot listen on unix:{}: it exists and is not a socket; \
         remove it or choose another path", path.display()
    )]
    NotASocket {
        /// As configured.
        path: PathBuf,
    },
    /// EACCES or EPERM.
    #[error("cannot listen on {address}: permission denied; {}", how_to_permit(address))]
    Permission {
        /// As configured.
        address: ListenAddress,
    },
    /// ENOENT for the path of a unix socket.
    #[error(
        "cannot listen on unix:{}: its directory does not exist; make it: mkdir -p {}",
        path.display(), directory(path).display()
    )]
    NoDirectory {
        /// As configured.
        path: PathBuf,
    },
    /// EADDRNOTAVAIL.
    #[error(
        "cannot listen on {address}: this machine does not have that address; \
         to see those it has: ip addr; for all of them: {}", wildcard(*address)
    )]
    NotLocal {
        /// As configured.
        address: SocketAddr,
    },
    /// getaddrinfo(3) has no address for it.
    #[error(
        "cannot listen on {name}:{port}: the name does not resolve: {why}; \
         to see what this machine makes of it: getent ahosts {name}"
    )]
    Unresolved {
        /// As configured.
        name: String,
        /// As configured.
        port: u16,
        /// What the resolver said.
        why: String,
    },
    /// EAFNOSUPPORT for an IPv6 address.
    #[error(
        "cannot listen on {address}: this kernel has no IPv6; for all IPv4 addresses: 0.0.0.0:{}",
        address.port()
    )]
    NoIpv6 {
        /// As configured.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {step} failed with {errno}")]
    Other {
        /// As configured.
        address: ListenAddress,
        /// The system call or the socket option that failed.
        step: &'static str,
        /// How it failed.
        errno: Errno,
    },
}

impl BindError {
    fn new(address: ListenAddress, step: &'static str, errno: Errno) -> Self {
        use ListenAddress::{Tcp, Unix};
        match (errno, address) {
            (Errno::EADDRINUSE, address) => Self::InUse { address },
            (Errno::EACCES | Errno::EPERM, address) => Self::Permission { address },
            (Errno::ENOTSOCK, Unix(name)) => {
                Self::NotASocket { path: name.as_sun_path().to_owned() }
            }
            (Errno::ENOENT, Unix(name)) => {
                Self::NoDirectory { path: name.as_sun_path().to_owned() }
            }
            (Errno::EADDRNOTAVAIL, Tcp(address)) => Self::NotLocal { address },
            (Errno::EAFNOSUPPORT, Tcp(address)) if address.is_ipv6() => Self::NoIpv6 { address },
            (errno, address) => Self::Other { address, step, errno },
        }
    }
}

impl BindError {
    /// The same of a server that listens on these addresses: one of them may be the reason, with the same port and one of
    /// both for all addresses.
    #[must_use]
    pub fn of_one_that_listens_on(self, own: &[ListenAddress]) -> Self {
        let Self::InUse { address: ListenAddress::Tcp(address) } = self else { return self };
        let is_wide = |it: SocketAddr| it.ip().is_unspecified();
        let other = own.iter().find_map(|own| match own {
            ListenAddress::Tcp(own) if own.port() == address.port() && *own != address => {
                (is_wide(*own) || is_wide(address)).then_some(*own)
            }
            _ => None,
        });
        let address = ListenAddress::Tcp(address);
        match other {
            Some(by) => Self::Overlaps { address, by: Box::new(by) },
            None => Self::InUse { address },
        }
    }

    /// The cause and what to do, without the address: that may be a secret.
    pub fn cause(&self) -> String {
        match self {
            Self::InUse { .. } => "the address is in use; to see all that are: ss -lntpx".into(),
            Self::Overlaps { by, .. } => overlaps(**by),
            Self::NotASocket { .. } => {
                "the path exists and is not a socket; remove it or choose another".into()
            }
            Self::NoDirectory { .. } => "the directory of the path does not exist; make it".into(),
            Self::Permission { address: ListenAddress::Tcp(_) } => {
                "permission denied; a privileged port needs CAP_NET_BIND_SERVICE".into()
            }
            Self::Permission { address: address @ ListenAddress::Unix(_) } => {
                format!("permission denied; {}", how_to_permit(address))
            }
            Self::NotLocal { .. } => {
                "this machine does not have the address; to see those it has: ip addr".into()
            }
            Self::Unresolved { why, .. } => format!("the name does not resolve: {why}"),
            Self::NoIpv6 { .. } => "this kernel has no IPv6".into(),
            Self::Other { step, errno, .. } => format!("{step} failed with {errno}"),
        }
    }
}

fn overlaps(by: SocketAddr) -> String {
    format!(
        "this server listens on {by} itself, which is in the way; stop that first, with `acceptor ctl drain FRONTEND`, and \
         then reload (clients are refused in between), or restart"
    )
}

/// The directory that a path is in.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn who_listens(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("ss -tanp 'sport = :{}'", address.port()),
        // It writes abstract names as we do.
        ListenAddress::Unix(name) => {
            format!("ss -lxp src '{}'", name.to_string().trim_start_matches("unix:"))
        }
    }
}

fn how_to_permit(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!(
            "a privileged port needs CAP_NET_BIND_SERVICE, \
             or: sysctl -w net.ipv4.ip_unprivileged_port_start={}",
            address.port()
        ),
        ListenAddress::Unix(_) => "its directory must be writable for this user".into(),
    }
}

fn wildcard(address: SocketAddr) -> String {
    let port = address.port();
    if address.is_ipv6() { format!("[::]:{port}") } else { format!("0.0.0.0:{port}") }
}

/// A step towards a listening socket that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: &'static str,
    pub(super) errno: Errno,
}

impl Failure {
    pub(super) fn is_in_use(self) -> bool {
        self.errno == Errno::EADDRINUSE
    }

    pub(super) fn at(self, address: &ListenAddress) -> BindError {
        BindError::new(address.clone(), self.step, self.errno)
    }
}

/// Names the step that an I/O error came from: `socket.listen(1).map_err(during("listen(2)"))`.
pub(super) fn during(step: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure { step, errno: Errno::of(&error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: &str, errno: Errno) -> String {
        Failure { step: "bind(2)", errno }.at(&address.parse().unwrap()).to_string()
    }

    #[test]
    fn the_text_names_the_address_the_cause_and_a_remedy() {
        let table = [
            (
                "127.0.0.1:80",
                Errno::EADDRINUSE,
                "is in use; to see by whom: ss -tanp 'sport = :80'",
            ),
            (
                "unix:/run/a.sock",
                Errno::EADDRINUSE,
                "is in use; to see by whom: ss -lxp src '/run/a.sock'",
            ),
            ("unix:@a", Errno::EADDRINUSE, "is in use; to see by whom: ss -lxp src '@a'"),
            ("[::]:80", Errno::EACCES, "CAP_NET_BIND_SERVICE"),
            ("[::]:80", Errno::EPERM, "sysctl -w net.ipv4.ip_unprivileged_port_start=80"),
            ("unix:/run/a.sock", Errno::EACCES, "directory must be writable"),
            ("unix:/run/a.sock", Errno::ENOTSOCK, "exists and is not a socket"),
            ("192.0.2.1:80", Errno::EADDRNOTAVAIL, "ip addr; for all of them: 0.0.0.0:80"),
            ("[2001:db8::1]:80", Errno::EADDRNOTAVAIL, "ip addr; for all of them: [::]:80"),
            ("[::]:80", Errno::EAFNOSUPPORT, "no IPv6; for all IPv4 addresses: 0.0.0.0:80"),
            ("127.0.0.1:80", Errno::EAFNOSUPPORT, "bind(2) failed with EAFNOSUPPORT"),
            ("127.0.0.1:80", Errno::ENOTSOCK, "bind(2) failed with ENOTSOCK"),
            ("unix:/run/b/a.sock", Errno::ENOENT, "does not exist; make it: mkdir -p /run/b"),
            ("unix:a.sock", Errno::ENOENT, "does not exist; make it: mkdir -p ."),
            ("unix:/run/a.sock", Errno::EROFS, "bind(2) failed with EROFS"),
        ];
        for (address, errno, expected) in table {
            let text = text(address, errno);
            assert!(text.starts_with(&format!("cannot listen on {address}: ")), "{text}");
            assert!(text.contains(expected), "{address}, {errno}: {text}");
        }
    }

    /// What is told of an address that came from the environment has nothing of it.
    #[test]
    fn the_cause_alone_names_no_address() {
        let all = [
            Errno::EADDRINUSE,
            Errno::EACCES,
            Errno::ENOTSOCK,
            Errno::ENOENT,
            Errno::EADDRNOTAVAIL,
            Errno::EAFNOSUPPORT,
            Errno::EINVAL,
        ];
        for address in ["127.0.0.1:4711", "[2001:db8::4711]:4711", "unix:/run/4711", "unix:@4711"] {
            for errno in all {
                let error = Failure { step: "bind(2)", errno }.at(&address.parse().unwrap());
                let cause = error.cause();
                assert!(!cause.contains("4711") && cause.len() > 20, "{address}, {errno}: {cause}");
            }
        }
        let error = BindError::Unresolved { name: "a".into(), port: 1, why: "nobody".into() };
        assert_eq!(error.cause(), "the name does not resolve: nobody");
    }
}
