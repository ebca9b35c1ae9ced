//! A local address that connections to backends are made from: `10.0.0.5`, `2001:db8::5`, `fe80::5%2`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use super::super::ConfigError;
use super::{Backend, Target};

/// Most addresses of a name that are listed.
const ADDRESSES_SHOWN: usize = 4;

/// A local address, without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceAddress {
    ip: IpAddr,
    /// The number of the interface; 0 unless it is of IPv6 and was given one.
    scope: u32,
}

impl SourceAddress {
    /// Most of them of one upstream: some 7 million connections to each backend.
    pub const MAX: usize = 250;

    /// For a socket that connects to `to`, with port 0: the kernel chooses one. `None` if it is of another address
    /// family, or link-local on another interface. An IPv4-mapped IPv6 address is one of IPv4.
    pub fn towards(self, to: SocketAddr) -> Option<SocketAddr> {
        match (self.ip, to) {
            (IpAddr::V4(_), SocketAddr::V4(_)) => Some((self.ip, 0).into()),
            (IpAddr::V4(ip), SocketAddr::V6(to)) if to.ip().to_ipv4_mapped().is_some() => {
                Some((ip.to_ipv6_mapped(), 0).into())
            }
            (IpAddr::V6(ip), SocketAddr::V6(to)) if to.ip().to_ipv4_mapped().is_none() => {
                let are_local = ip.is_unicast_link_local() && to.ip().is_unicast_link_local();
                let is_elsewhere = are_local && ![0, self.scope].contains(&to.scope_id());
                (!is_elsewhere).then(|| SocketAddrV6::new(ip, 0, 0, self.scope).into())
            }
            _ => None,
        }
    }

    /// As bind(2) takes it, with port 0.
    pub fn to_socket_addr(self) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => (self.ip, 0).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, 0, 0, self.scope).into(),
        }
    }

    /// The number of the interface that it was given.
    pub fn interface(self) -> Option<u32> {
        (self.scope != 0).then_some(self.scope)
    }

    /// What is to be told of a name that resolves to these addresses, if none of the sources can reach one of them. The
    /// name is left out: it is known from the place, or a secret.
    pub fn unreached(all: &[Self], to: &[SocketAddr]) -> Option<String> {
        let first = to.first().filter(|_| Self::none_reaches(all, to))?;
        let (shown, others) = to.split_at(to.len().min(ADDRESSES_SHOWN));
        let mut addresses: Vec<String> = shown.iter().map(ToString::to_string).collect();
        if !others.is_empty() {
            addresses.push(format!("{} more", others.len()));
        }
        let (addresses, family) = (addresses.join(", "), family(*first));
        Some(format!(
            "it resolves to {addresses}, and no source is of this address family, so connects to it fail; \
             give an {family} address of this machine too"
        ))
    }

    /// Without sources the kernel chooses.
    fn none_reaches(all: &[Self], to: &[SocketAddr]) -> bool {
        let reaches = |to: &SocketAddr| all.iter().any(|source| source.towards(*to).is_some());
        !all.is_empty() && !to.iter().any(reaches)
    }

    /// Checks a list of them against the backends that they are for.
    ///
    /// # Errors
    /// One that is given twice, too many of them, or a backend that none of them can reach.
    pub(super) fn validate(all: &[Self], backends: &[Backend]) -> Result<(), ConfigError> {
        if all.is_empty() {
            return Ok(());
        }
        if all.len() > Self::MAX {
            let (count, max) = (all.len(), Self::MAX);
            return Err(ConfigError::new(format!("{count} sources; there may be at most {max}")));
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = all.iter().find(|source| !seen.insert(**source)) {
            return Err(ConfigError::new(format!("the source {twice} is given twice")));
        }
        if backends.iter().all(|backend| matches!(backend.target, Target::Unix(_))) {
            return Err(ConfigError::new(
                "a source is for TCP, and all backends are unix sockets; leave it out",
            ));
        }
        backends.iter().try_for_each(|backend| match backend.target {
            Target::Socket(to) if Self::none_reaches(all, &[to]) => {
                let family = family(to);
                Err(ConfigError::new(format!(
                    "no source for the backend {to}; give an {family} address of this machine too"
                )))
            }
            _ => Ok(()),
        })
    }
}

/// The address family of a backend, as an operator calls it.
fn family(to: SocketAddr) -> &'static str {
    if to.ip().to_canonical().is_ipv4() { "IPv4" } else { "IPv6" }
}

impl FromStr for SourceAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = |hint: &str| {
            ConfigError::new(format!(
                "'{text}' cannot be a source: {hint}. Examples: 10.0.0.5, 2001:db8::5, fe80::5%2"
            ))
        };
        let (ip, scope) = match text.split_once('%') {
            None => (text.parse::<IpAddr>().map_err(|_| wrong("it is no IP address"))?, 0),
            Some((ip, scope)) => {
                let ip: Ipv6Addr = ip.parse().map_err(|_| wrong("it is no IPv6 address"))?;
                let scope = scope.parse().ok().filter(|scope| *scope != 0);
                (
                    ip.into(),
                    scope.ok_or_else(|| wrong("behind % stands the number of an interface"))?,
                )
            }
        };
        match ip {
            _ if ip.is_unspecified() => Err(wrong("it is for listening on; give one address")),
            _ if ip.is_multicast() => Err(wrong("it is a multicast address")),
            IpAddr::V4(ip) if ip.is_broadcast() => Err(wrong("it is the broadcast address")),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                Err(wrong("write an IPv4 address as one"))
            }
            IpAddr::V6(ip) if ip.is_unicast_link_local() && scope == 0 => {
                Err(wrong("a link-local address takes the number of its interface (see: ip link)"))
            }
            _ => Ok(Self { ip, scope }),
        }
    }
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => self.ip.fmt(formatter),
            scope => write!(formatter, "{}%{scope}", self.ip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceAddress {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["10.0.0.5", "127.0.0.1", "2001:db8::5", "::1", "fe80::5%2", "fd00::1%7"] {
            assert_eq!(source(text).to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_bound_is_refused_with_why() {
        for (text, why) in [
            ("", "no IP address"),
            ("10.0.0.5:80", "no IP address"),
            ("name.example", "no IP address"),
            ("0.0.0.0", "for listening"),
            ("::", "for listening"),
            ("224.0.0.1", "multicast"),
            ("ff02::1%2", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::ffff:10.0.0.5", "IPv4 address as one"),
            ("fe80::5", "number of its interface"),
            ("fe80::5%0", "number of an interface"),
            ("fe80::5%eth0", "number of an interface"),
            ("10.0.0.5%2", "no IPv6 address"),
        ] {
            let error = text.parse::<SourceAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_source_reaches_its_own_address_family() {
        let towards = |from: &str, to: &str| {
            let address = source(from).towards(to.parse().unwrap());
            address.map(|address| address.to_string())
        };
        assert_eq!(towards("10.0.0.5", "10.0.0.9:80").as_deref(), Some("10.0.0.5:0"));
        let mapped = towards("10.0.0.5", "[::ffff:10.0.0.9]:80");
        assert_eq!(mapped.as_deref(), Some("[::ffff:10.0.0.5]:0"));
        assert_eq!(towards("fe80::5%2", "[fe80::9%2]:80").as_deref(), Some("[fe80::5%2]:0"));
        assert_eq!(towards("10.0.0.5", "[2001:db8::9]:80"), None);
        assert_eq!(towards("2001:db8::5", "10.0.0.9:80"), None);
        assert_eq!(towards("2001:db8::5", "[::ffff:10.0.0.9]:80"), None);
    }

    #[test]
    fn a_name_needs_a_source_for_one_of_its_addresses() {
        let unreached = |sources: &[&str], to: &[&str]| {
            let sources: Vec<_> = sources.iter().map(|text| source(text)).collect();
            let to: Vec<_> = to.iter().map(|text| text.parse().unwrap()).collect();
            SourceAddress::unreached(&sources, &to)
        };
        let told = unreached(&["fd00::5"], &["127.0.0.1:80", "10.0.0.9:80"]).unwrap();
        assert!(told.contains("it resolves to 127.0.0.1:80, 10.0.0.9:80, and no source"), "{told}");
        assert!(told.contains("give an IPv4 address"), "{told}");
        let many = unreached(&["10.0.0.5"], &["[::1]:80"; 9]).unwrap();
        assert!(many.contains("[::1]:80, 5 more, and") && many.contains("an IPv6 "), "{many}");
        assert_eq!(unreached(&["fd00::5"], &["127.0.0.1:80", "[::1]:80"]), None);
        assert_eq!(unreached(&["fd00::5", "10.0.0.5"], &["127.0.0.1:80"]), None);
        assert_eq!(unreached(&[], &["127.0.0.1:80"]), None, "the kernel chooses");
        assert_eq!(unreached(&["fd00::5"], &[]), None, "it does not resolve, which is told");
    }

    #[test]
    fn a_list_is_checked_against_the_backends() {
        let check = |sources: &[&str], backends: &[&str]| {
            let sources: Vec<_> = sources.iter().map(|text| source(text)).collect();
            let backends: Vec<Backend> =
                backends.iter().map(|backend| backend.parse().unwrap()).collect();
            SourceAddress::validate(&sources, &backends).map_err(|error| error.to_string())
        };
        let wrong = |sources: &[&str], backends: &[&str], why: &str| {
            let error = check(sources, backends).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        assert_eq!(check(&[], &["unix:/run/a"]), Ok(()));
        assert_eq!(check(&["10.0.0.5", "::1"], &["10.0.0.9:80", "unix:/run/a"]), Ok(()));
        assert_eq!(check(&["10.0.0.5"], &["name.example:80"]), Ok(()), "known later");
        wrong(&["10.0.0.5", "10.0.0.5"], &["10.0.0.9:80"], "10.0.0.5 is given twice");
        wrong(&["10.0.0.5"], &["unix:/run/a", "unix:@b"], "all backends are unix sockets");
        wrong(&["10.0.0.5"], &["10.0.0.9:80", "[::1]:80"], "no source for the backend [::1]:80");
        wrong(&["::1"], &["10.0.0.9:80"], "give an IPv4 address");
        let many: Vec<String> = (0..251).map(|host| format!("10.0.1.{host}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        wrong(&many, &["10.0.0.9:80"], "251 sources; there may be at most 250");
    }
}
