//! What a socket is asked and told. See socket(7) and tcp(7).

use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::errno::check;
use super::sockopt::{Sockopt, get_words, no_data, set_word};

/// Linux 5.14; not in the libc crate, as the next.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// Linux 4.12; not in the libc crate. include/uapi/asm-generic/socket.h, which every architecture
/// but parisc and sparc uses.
const SO_MEMINFO: Sockopt = Sockopt { level: libc::SOL_SOCKET, name: 55 };
const SO_PEERNAME: Sockopt = Sockopt { level: libc::SOL_SOCKET, name: libc::SO_PEERNAME };
const TCP_DEFER_ACCEPT: Sockopt =
    Sockopt { level: libc::IPPROTO_TCP, name: libc::TCP_DEFER_ACCEPT };
const TCP_FASTOPEN: Sockopt = Sockopt { level: libc::IPPROTO_TCP, name: libc::TCP_FASTOPEN };
const IP_BIND_ADDRESS_NO_PORT: Sockopt =
    Sockopt { level: libc::IPPROTO_IP, name: libc::IP_BIND_ADDRESS_NO_PORT };

/// Linux 6.3; not in the libc crate. include/uapi/linux/in.h.
const IP_LOCAL_PORT_RANGE: Sockopt = Sockopt { level: libc::IPPROTO_IP, name: 51 };

/// The words of SO_MEMINFO up to and including the count of drops.
const MEMINFO_WORDS: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// getpeername(2): `None` for a unix socket. An IPv4 peer of a dual-stack listener is given as the
/// IPv4-mapped IPv6 address that the kernel reports.
///
/// A connection that the peer has reset has an address too, although getpeername(2) knows none any more.
///
/// # Errors
/// Those of getpeername(2); ENOTCONN when it never was connected.
pub fn peer_address(fd: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    match SockRef::from(&fd).peer_addr() {
        Ok(peer) => Ok(peer.as_socket()),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            last_peer(fd).map(Some).ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// SO_PEERNAME: unlike getpeername(2) it looks at the addresses alone, not at the state of the connection
/// (inet_getname in net/ipv4/af_inet.c). The kernel refuses to tell more bytes than the address has, and cuts
/// a longer one.
fn last_peer(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    if let Ok(words) = get_words::<7>(fd, SO_PEERNAME) {
        let [head, flow, a, b, c, d, scope] = words.map(u32::to_ne_bytes);
        let [a, b, c, d] = [a, b, c, d].map(u32::from_be_bytes).map(u128::from);
        let ip = Ipv6Addr::from(a << 96 | b << 64 | c << 32 | d);
        let port = port_of(head, libc::AF_INET6)?;
        let (flow, scope) = (u32::from_be_bytes(flow), u32::from_ne_bytes(scope));
        return Some(SocketAddrV6::new(ip, port, flow, scope).into());
    }
    let [head, ip, ..] = get_words::<4>(fd, SO_PEERNAME).ok()?.map(u32::to_ne_bytes);
    Some(SocketAddrV4::new(ip.into(), port_of(head, libc::AF_INET)?).into())
}

/// The port behind the family, if it is this one.
fn port_of([a, b, high, low]: [u8; 4], family: i32) -> Option<u16> {
    let is_this = i32::from(u16::from_ne_bytes([a, b])) == family;
    is_this.then(|| u16::from_be_bytes([high, low]))
}

/// getsockname(2): `None` for a unix socket.
///
/// # Errors
/// Those of getsockname(2).
pub fn local_address(fd: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(SockRef::from(&fd).local_addr()?.as_socket())
}

/// TCP_NODELAY: small writes leave at once.
///
/// # Errors
/// Those of setsockopt(2); EOPNOTSUPP for a unix socket.
pub fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_tcp_nodelay(true)
}

/// TCP_CORK: a segment that is not full waits for more, up to 200 ms, or until this is taken back.
///
/// # Errors
/// Those of setsockopt(2); EOPNOTSUPP on a unix socket.
pub fn set_cork(fd: BorrowedFd<'_>, corked: bool) -> io::Result<()> {
    SockRef::from(&fd).set_tcp_cork(corked)
}

/// SO_LINGER with a time of zero: close(2) sends a reset and drops what has not been sent.
///
/// # Errors
/// Those of setsockopt(2).
pub fn reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&fd).set_linger(Some(Duration::ZERO))
}

/// SO_INCOMING_CPU: the CPU on which the kernel last handled a packet of this connection.
///
/// # Errors
/// Those of getsockopt(2); ENODATA when no packet has come yet, and for a unix socket.
pub fn incoming_cpu(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // The kernel's -1 (none yet) comes out of socket2 as a number that no u32 holds.
    u32::try_from(SockRef::from(&fd).cpu_affinity()?).map_err(|_| no_data())
}

/// IP_LOCAL_PORT_RANGE (Linux 6.3) with all ports: net.ipv4.ip_local_port_range stays what limits them. What
/// it changes is how connect(2) looks for one. Without it, all ports of one parity are tried before the first of the
/// other, so from the moment at which half of them are taken each connect looks at 14,000; with it, from Linux
/// 6.8 on, one after another (`__inet_hash_connect` in net/ipv4/inet_hashtables.c). For IPv6 sockets too.
///
/// # Errors
/// Those of setsockopt(2): ENOPROTOOPT before Linux 6.3, EOPNOTSUPP for a unix socket.
pub fn set_any_local_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    const FIRST: u32 = 1;
    const LAST: u32 = 65_535;
    set_word(fd, IP_LOCAL_PORT_RANGE, LAST << 16 | FIRST)
}

/// bind(2) to a local address with port 0, which takes no port yet: [`set_bind_address_no_port`].
///
/// # Errors
/// Those of bind(2): EADDRNOTAVAIL when this machine does not have the address.
pub fn bind_without_port(fd: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    set_bind_address_no_port(fd)?;
    SockRef::from(&fd).bind(&address.into())
}

/// Whether this machine has an address from which another can be reached, as connect(2) of a datagram socket tells,
/// which sends nothing. True where that cannot be told.
pub fn has_way_to(to: SocketAddr) -> bool {
    let Ok(socket) = Socket::new(Domain::for_address(to), Type::DGRAM, None) else { return true };
    let connected = socket.connect(&to.into());
    !connected.is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}

/// shutdown(2).
///
/// # Errors
/// Those of shutdown(2); ENOTCONN when the peer has reset the connection.
pub fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    SockRef::from(&fd).shutdown(how)
}

/// SO_COOKIE (Linux 4.12): a number that no other socket of this machine has or had.
///
/// # Errors
/// Those of getsockopt(2).
pub fn socket_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    cookie_behind(fd.as_raw_fd())
}

/// [`socket_cookie`] of whatever is behind a number, so that one can ask whether it is still the
/// same socket.
///
/// # Errors
/// Those of getsockopt(2): EBADF and ENOTSOCK when there is no socket behind it.
pub fn cookie_behind(number: RawFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`, which outlives the
    // call. It changes nothing behind `number`, whatever that is now.
    let result = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(number, libc::SOL_SOCKET, libc::SO_COOKIE, value, &mut length)
    };
    check(result).map(|_| cookie)
}

/// SO_NETNS_COOKIE (Linux 5.14): a number of the network namespace that a socket was made in.
///
/// # Errors
/// Those of getsockopt(2): ENOPROTOOPT before Linux 5.14.
pub fn network_namespace(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `cookie`, which outlives the call.
    let result = unsafe {
        let value = (&raw mut cookie).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, value, &mut length)
    };
    check(result).map(|_| cookie)
}

/// SK_MEMINFO_DROPS of SO_MEMINFO: what this socket has dropped since it was made; it wraps. On a
/// listening socket every SYN and every completed handshake that it did not take, for whatever
/// reason, a packet filter among them.
///
/// # Errors
/// Those of getsockopt(2).
pub fn socket_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let words: [u32; MEMINFO_WORDS] = get_words(fd, SO_MEMINFO)?;
    Ok(words[MEMINFO_WORDS - 1])
}

/// TCP_DEFER_ACCEPT in seconds; the kernel rounds it up to the end of a SYN-ACK retransmission:
/// 1, 3, 7, 15 and so on. Zero is off.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_tcp_defer_accept(fd: BorrowedFd<'_>, seconds: u32) -> io::Result<()> {
    set_word(fd, TCP_DEFER_ACCEPT, seconds)
}

/// TCP_DEFER_ACCEPT in seconds, as the kernel rounded it.
///
/// # Errors
/// Those of getsockopt(2).
pub fn tcp_defer_accept(fd: BorrowedFd<'_>) -> io::Result<u32> {
    get_words(fd, TCP_DEFER_ACCEPT).map(|[seconds]| seconds)
}

/// IP_BIND_ADDRESS_NO_PORT: bind(2) with port 0 takes no port yet; connect(2) does, when it knows the
/// whole four-tuple, so that one port serves many destinations. For IPv6 sockets too.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_bind_address_no_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_word(fd, IP_BIND_ADDRESS_NO_PORT, 1)
}

/// TCP_FASTOPEN of a listening socket: how many connections with data in their SYN may wait for the
/// end of their handshake. Without bit 1 of `net.ipv4.tcp_fastopen` it has no effect.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_tcp_fastopen(fd: BorrowedFd<'_>, queue: u32) -> io::Result<()> {
    set_word(fd, TCP_FASTOPEN, queue)
}

/// TCP_FASTOPEN: the length of the queue of fast-open connections.
///
/// # Errors
/// Those of getsockopt(2).
pub fn tcp_fastopen(fd: BorrowedFd<'_>) -> io::Result<u32> {
    get_words(fd, TCP_FASTOPEN).map(|[queue]| queue)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::testing::eventually;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_peer_of_a_tcp_socket_has_an_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, server) = pair(address);
            let expected = client.local_addr().unwrap();
            assert_eq!(peer_address(server.as_fd()).unwrap(), Some(expected));
        }
    }

    /// With bytes of it in front of the reset or without, of a listener for both families too.
    #[test]
    fn a_peer_that_has_reset_its_connection_still_has_an_address() {
        for (address, to) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            for bytes in [&b""[..], b"PROXY"] {
                let listener = TcpListener::bind(address).unwrap();
                let port = listener.local_addr().unwrap().port();
                let mut client = TcpStream::connect((to, port)).unwrap();
                let server = listener.accept().unwrap().0;
                let expected = peer_address(server.as_fd()).unwrap();
                assert!(expected.is_some(), "{address}");
                client.write_all(bytes).unwrap();
                reset_on_close(client.as_fd()).unwrap();
                drop(client);
                eventually(Duration::from_secs(10), || server.peer_addr().is_err());
                assert_eq!(peer_address(server.as_fd()).unwrap(), expected, "{address}");
            }
        }
    }

    #[test]
    fn what_never_was_connected_has_no_peer() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = peer_address(socket.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
    }

    #[test]
    fn the_peer_of_a_unix_socket_has_none() {
        let (left, _right) = UnixStream::pair().unwrap();
        assert_eq!(peer_address(left.as_fd()).unwrap(), None);
    }

    #[test]
    fn an_accepted_socket_knows_its_cpu_and_a_unix_socket_does_not() {
        let (_client, server) = pair("127.0.0.1:0");
        assert!(incoming_cpu(server.as_fd()).unwrap() < libc::CPU_SETSIZE as u32);
        let (left, _right) = UnixStream::pair().unwrap();
        let error = incoming_cpu(left.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODATA));
    }

    #[test]
    fn shutdown_ends_the_stream_of_the_peer() {
        let (mut client, server) = pair("127.0.0.1:0");
        shutdown(server.as_fd(), Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_new_listener_has_dropped_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(socket_drops(listener.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_cookie_names_one_socket_as_long_as_it_is_open() {
        let (left, right) = UnixStream::pair().unwrap();
        let number = left.as_raw_fd();
        let cookie = socket_cookie(left.as_fd()).unwrap();
        assert_eq!(cookie_behind(number).unwrap(), cookie);
        assert_ne!(socket_cookie(right.as_fd()).unwrap(), cookie);
        drop(left);
        // The number may be in use again.
        assert_ne!(cookie_behind(number).ok(), Some(cookie));
    }

    #[test]
    fn defer_accept_is_rounded_up_to_a_retransmission() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (asked, given) in [(0, 0), (1, 1), (2, 3), (7, 7), (8, 15)] {
            set_tcp_defer_accept(listener.as_fd(), asked).unwrap();
            assert_eq!(tcp_defer_accept(listener.as_fd()).unwrap(), given, "{asked}");
        }
    }

    #[test]
    fn fast_open_can_be_read_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_tcp_fastopen(listener.as_fd(), 16).unwrap();
        assert_eq!(tcp_fastopen(listener.as_fd()).unwrap(), 16);
    }
}
