//! Where a run goes, as it was typed, and which addresses that is.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use super::plan::Target;
use crate::config::localhost;

/// Most addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

/// How long each of several addresses has to answer a first connect.
const FIRST_CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// A target as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address or a path.
    Known(Target),
    /// A name, and what it means is asked once.
    Named {
        /// Of a machine.
        name: String,
        /// Of the server.
        port: u16,
    },
}

/// Address families that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whatever there is.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    fn has(self, address: SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "IP",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Place {
    /// The loopback addresses, of localhost: /etc/hosts may know it in one family only.
    fn loopback(&self) -> Vec<SocketAddr> {
        let Self::Named { name, port } = self else { return Vec::new() };
        let own = localhost::loopback(name).into_iter().flatten();
        own.map(|ip| SocketAddr::new(ip, *port)).collect()
    }

    /// All its addresses of a family, each once, as getaddrinfo(3) orders them.
    ///
    /// # Errors
    /// In words: the name is not known, or has no address of the family.
    pub fn resolve(&self, family: Family) -> Result<Vec<Target>, String> {
        let (text, addresses) = match self {
            Self::Known(Target::Unix(path)) => return Ok(vec![Target::Unix(path.clone())]),
            Self::Known(Target::Tcp(address)) => (address.to_string(), vec![*address]),
            Self::Named { name, port } => (name.clone(), look_up(name, *port)?),
        };
        let mut seen = BTreeSet::new();
        let is_wanted = addresses.iter().any(|address| family.has(*address));
        let own = if is_wanted { Vec::new() } else { self.loopback() };
        let wanted: Vec<Target> = addresses
            .into_iter()
            .chain(own)
            .filter(|address| family.has(*address) && seen.insert(*address))
            .take(ADDRESSES_MAX)
            .map(Target::Tcp)
            .collect();
        if wanted.is_empty() {
            return Err(format!("{text} has no {} address", family.name()));
        }
        Ok(wanted)
    }
}

fn look_up(name: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (name, port).to_socket_addrs().map(Iterator::collect);
    localhost::or_loopback(name, port, found).map_err(|error| match name.split_once('%') {
        // A name cannot have a percent sign: it is an address with its interface.
        Some((_, zone)) => format!(
            "{name} cannot be resolved: is there an interface {zone}? 'ip link' lists them ({error})"
        ),
        None => format!("{name} cannot be resolved: {error}"),
    })
}

/// Of several addresses, those on which somebody listens, and the others with the reason. If nobody
/// listens on any, all are kept, and the run shows why. A name such as localhost has two addresses, and
/// many servers listen on one.
pub fn answering(targets: Vec<Target>) -> (Vec<Target>, Vec<(Target, io::Error)>) {
    if targets.len() < 2 {
        return (targets, Vec::new());
    }
    let answers: Vec<io::Result<()>> = thread::scope(|scope| {
        let asked: Vec<_> =
            targets.iter().map(|target| scope.spawn(|| first_connect(target))).collect();
        let panicked = |_| Err(io::Error::other("the first connect panicked"));
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    if answers.iter().all(Result::is_err) {
        return (targets, Vec::new());
    }
    let (mut kept, mut left_out) = (Vec::new(), Vec::new());
    for (target, answer) in targets.into_iter().zip(answers) {
        match answer {
            Ok(()) => kept.push(target),
            Err(error) => left_out.push((target, error)),
        }
    }
    (kept, left_out)
}

fn first_connect(target: &Target) -> io::Result<()> {
    match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, FIRST_CONNECT_LIMIT).map(drop),
        Target::Unix(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn named(name: &str) -> Place {
        Place::Named { name: name.into(), port: 80 }
    }

    #[test]
    fn localhost_is_this_machine_in_the_family_that_is_wanted() {
        let v4 = named("localhost").resolve(Family::V4).expect("there is 127.0.0.1");
        assert_eq!(v4, [Target::Tcp("127.0.0.1:80".parse().unwrap())]);
        let any = named("localhost").resolve(Family::Any).expect("it is in /etc/hosts");
        assert!(any.contains(&v4[0]));
    }

    #[test]
    fn localhost_is_this_machine_where_nobody_knows_it() {
        let v4 = Target::Tcp("127.0.0.1:80".parse().unwrap());
        let v6 = Target::Tcp("[::1]:80".parse().unwrap());
        let unknown = named("nobody.localhost");
        assert!(unknown.resolve(Family::Any).unwrap().contains(&v4));
        assert_eq!(unknown.resolve(Family::V4), Ok(vec![v4]));
        for name in ["localhost", "nobody.localhost"] {
            assert_eq!(named(name).resolve(Family::V6), Ok(vec![v6.clone()]), "{name}");
        }
    }

    #[test]
    fn an_interface_becomes_its_number() {
        let at = |zone: &str| named(&format!("fe80::1%{zone}")).resolve(Family::Any);
        let [Target::Tcp(SocketAddr::V6(address))] = at("lo").expect("there is a loopback")[..]
        else {
            panic!("one address of IPv6")
        };
        assert_eq!((address.scope_id() > 0, address.port()), (true, 80));
        let error = at("nosuch").unwrap_err();
        assert!(error.contains("is there an interface nosuch?"), "{error}");
    }

    #[test]
    fn an_address_is_itself() {
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        let place = Place::Known(Target::Tcp(address));
        assert_eq!(place.resolve(Family::V6), Ok(vec![Target::Tcp(address)]));
        assert_eq!(place.resolve(Family::V4), Err("[::1]:80 has no IPv4 address".into()));
    }

    #[test]
    fn a_name_that_nobody_has_is_named() {
        let error = named("nobody.invalid").resolve(Family::Any).unwrap_err();
        assert!(error.starts_with("nobody.invalid cannot be resolved: "), "{error}");
    }

    #[test]
    fn addresses_without_a_listener_are_left_out_unless_all_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = Target::Tcp(listener.local_addr().unwrap());
        // A port that was just free, on an address of its own.
        let closed = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let gone = Target::Tcp(closed);
        let (kept, left_out) = answering(vec![gone.clone(), here.clone()]);
        assert_eq!(kept, [here]);
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].1.kind(), io::ErrorKind::ConnectionRefused);
        let both = vec![gone.clone(), gone];
        assert_eq!(answering(both.clone()).0, both);
    }
}
