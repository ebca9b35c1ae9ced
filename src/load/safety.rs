//! No load on other people's machines by accident.
//!
//! A target is local when it is loopback, a unix socket, or an address of an interface of this
//! machine. Only the kernel knows the last, in all network namespaces and address families alike:
//! bind(2) takes an address of this machine and answers EADDRNOTAVAIL to others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::plan::Target;

/// An address of documentation (RFC 5737, RFC 3849) that no machine has. Where it can be bound
/// (net.ipv4.ip_nonlocal_bind, net.ipv6.ip_nonlocal_bind), binding proves nothing.
const NOBODY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Lets a run go ahead, or says why it must not.
///
/// # Errors
/// The target is another machine's, or may be, and `allow_remote` is not set.
pub fn check(target: &Target, allow_remote: bool) -> Result<(), String> {
    match target {
        Target::Tcp(address) if !allow_remote => local(*address, can_bind),
        _ => Ok(()),
    }
}

/// Whether the target's traffic stays within this machine.
pub fn is_local(target: &Target) -> bool {
    check(target, false).is_ok()
}

fn local(address: SocketAddr, can_bind: impl Fn(SocketAddr) -> bool) -> Result<(), String> {
    let ip = address.ip().to_canonical();
    // Connecting to the unspecified address reaches this machine.
    if ip.is_loopback() || ip.is_unspecified() {
        return Ok(());
    }
    let nobody = SocketAddr::new(if ip.is_ipv4() { NOBODY_V4 } else { NOBODY_V6 }, 0);
    if can_bind(nobody) {
        return Err(refusal(
            address,
            "cannot be told from another machine's address (ip_nonlocal_bind is on)",
        ));
    }
    let mut own = address;
    own.set_ip(ip);
    own.set_port(0);
    // bind(2) takes groups and the broadcast address too.
    let group = ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if group || !can_bind(own) {
        return Err(refusal(address, "is not an address of this machine"));
    }
    Ok(())
}

fn refusal(address: SocketAddr, why: &str) -> String {
    format!(
        "{address} {why}. Load on a machine that did not ask for it is an attack; where you may, \
         give --allow-remote"
    )
}

/// Whether a UDP socket can have this address. No packet leaves for it.
fn can_bind(address: SocketAddr) -> bool {
    match UdpSocket::bind(address) {
        Ok(_) => true,
        // The address is right; all its ports are taken.
        Err(error) => error.kind() == io::ErrorKind::AddrInUse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, can_bind: impl Fn(SocketAddr) -> bool) -> Option<String> {
        local(address.parse().unwrap(), can_bind).err()
    }

    #[test]
    fn loopback_needs_no_question() {
        for address in [
            "127.0.0.1:80",
            "127.9.8.7:1",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "0.0.0.0:1",
            "[::]:1",
        ] {
            let asked = |address| panic!("{address} was bound");
            assert_eq!(refused(address, asked), None, "{address}");
        }
    }

    #[test]
    fn an_address_that_can_be_bound_is_local() {
        let interfaces =
            ["10.1.2.3:0", "[fd00::5]:0"].map(|own| own.parse::<SocketAddr>().unwrap());
        let can_bind = |address: SocketAddr| interfaces.contains(&address);
        let table = [
            ("10.1.2.3:80", true),
            ("[::ffff:10.1.2.3]:80", true),
            ("10.1.2.4:80", false),
            ("[fd00::5]:443", true),
            ("[fd00::6]:443", false),
            ("93.184.216.34:80", false),
        ];
        for (address, local) in table {
            assert_eq!(refused(address, can_bind).is_none(), local, "{address}");
        }
    }

    #[test]
    fn a_kernel_that_binds_everything_proves_nothing() {
        for address in ["10.1.2.3:80", "[fd00::5]:80"] {
            let text = refused(address, |_| true).expect(address);
            assert!(text.contains("ip_nonlocal_bind"), "{text}");
        }
    }

    #[test]
    fn groups_are_nobodys_address() {
        let can_bind = |address: SocketAddr| ![NOBODY_V4, NOBODY_V6].contains(&address.ip());
        for address in ["224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80"] {
            assert!(refused(address, can_bind).is_some(), "{address}");
        }
    }

    #[test]
    fn a_refusal_names_the_address_and_the_option() {
        let text = refused("203.0.113.9:8080", |_| false).unwrap();
        assert!(text.contains("203.0.113.9:8080") && text.contains("--allow-remote"), "{text}");
    }

    #[test]
    fn the_kernel_is_asked() {
        let target = |address: &str| Target::Tcp(address.parse().unwrap());
        assert!(is_local(&Target::Unix("/run/x.sock".into())));
        assert!(is_local(&target("127.0.0.1:80")));
        // TEST-NET-3: no machine has it.
        assert!(!is_local(&target("203.0.113.9:80")));
        assert_eq!(check(&target("203.0.113.9:80"), true), Ok(()));
        assert!(can_bind("127.0.0.1:0".parse().unwrap()));
    }
}
