//! What `localhost` means where the resolver does not know it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The loopback addresses, if `name` is localhost or a name below it. RFC 6761, section 6.3: such a name
/// is this machine, whatever anybody's files and servers say.
pub fn loopback(name: &str) -> Option<[IpAddr; 2]> {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let last = name.rsplit(|byte| *byte == b'.').next()?;
    let is_loopback = last.eq_ignore_ascii_case(b"localhost") && !name.starts_with(b".");
    is_loopback.then_some([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}

/// What the resolver has found, and where that is nothing, what the name means without it. /etc/hosts
/// goes first: it may say that localhost is IPv4 only here.
///
/// # Errors
/// That of `found`, for any other name.
pub fn or_loopback(
    name: &str,
    port: u16,
    found: io::Result<Vec<SocketAddr>>,
) -> io::Result<Vec<SocketAddr>> {
    let is_known = found.as_ref().is_ok_and(|addresses| !addresses.is_empty());
    match loopback(name) {
        Some(own) if !is_known => Ok(own.map(|ip| SocketAddr::new(ip, port)).to_vec()),
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_what_is_below_it() {
        for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.localhost."] {
            assert!(loopback(name).is_some(), "{name}");
        }
        for name in ["", ".", "localhost.example", "mylocalhost", "localhosts", ".localhost"] {
            assert_eq!(loopback(name), None, "{name}");
        }
    }

    #[test]
    fn the_resolver_goes_first() {
        let own = |found| or_loopback("localhost", 7, found).unwrap();
        let v4: SocketAddr = "127.0.0.1:7".parse().unwrap();
        assert_eq!(own(Ok(vec![v4])), [v4]);
        let both = [v4, "[::1]:7".parse().unwrap()];
        assert_eq!(own(Ok(vec![])), both);
        assert_eq!(own(Err(io::ErrorKind::NotFound.into())), both);
        let other = or_loopback("example", 7, Err(io::ErrorKind::NotFound.into()));
        assert_eq!(other.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(or_loopback("example", 7, Ok(vec![])).unwrap(), []);
    }
}
