//! Descriptors that stand for virtual sockets.
//!
//! A token is one end of a real socket pair: the holder gets it as an `OwnedFd`, the world keeps the
//! other end, which tells when the holder has dropped its own without an operation.
//!
//! An end of a pair has no address. A connection that comes from one is given a datagram socket
//! instead, bound and connected, never sent on: getpeername(2) and getsockname(2) say what they say
//! of a connection. Whether its holder has dropped it, its cookie tells.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use socket2::{Domain, Socket, Type};

use super::super::operation::Descriptor;
use crate::sys;

/// Where connections with an address were made to: with this address, at the simulated port and
/// this many more, since low ports are privileged.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(127, 88, 0, 1);
pub(super) const NEAR_PORTS_FROM: u16 = 28_000;

/// The world's end of a descriptor that it has given out.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) descriptor: Descriptor,
    watch: Watch,
}

/// What tells that the holder has dropped it.
#[derive(Debug)]
enum Watch {
    OtherEnd(UnixStream),
    Cookie(RawFd, u64),
}

impl Token {
    /// A token, and the descriptor to be given out.
    pub(super) fn new() -> (Self, OwnedFd) {
        let (given, other_end) = UnixStream::pair().expect("the process has descriptors left");
        other_end.set_nonblocking(true).expect("a socket may be non-blocking");
        let given = OwnedFd::from(given);
        let watch = Watch::OtherEnd(other_end);
        (Self { descriptor: Descriptor::of(&given), watch }, given)
    }

    /// The same for a connection from `peer` to `near`, both IPv4 and of the loopback network. The
    /// kernel does not know the peer of one that has been reset.
    pub(super) fn between(near: SocketAddr, peer: Option<SocketAddr>) -> (Self, OwnedFd) {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None);
        let socket = socket.expect("the process has descriptors left");
        // Many are bound to the same address.
        socket.set_reuse_address(true).expect("an address may be used again");
        socket.bind(&near.into()).expect("nobody has the address for himself");
        if let Some(peer) = peer {
            socket.connect(&peer.into()).expect("a loopback address can be sent to");
        }
        let given = OwnedFd::from(socket);
        let cookie = sys::socket_cookie(given.as_fd()).expect("a socket has a cookie");
        let watch = Watch::Cookie(given.as_raw_fd(), cookie);
        (Self { descriptor: Descriptor::of(&given), watch }, given)
    }

    /// Another descriptor of the same socket stands for it from now on.
    pub(super) fn is_now(&mut self, descriptor: Descriptor) {
        self.descriptor = descriptor;
        if let Watch::Cookie(number, _) = &mut self.watch {
            *number = descriptor.raw();
        }
    }

    /// Whether the holder has closed it.
    pub(super) fn is_dropped(&mut self) -> bool {
        match &mut self.watch {
            Watch::OtherEnd(other_end) => matches!(other_end.read(&mut [0]), Ok(0)),
            Watch::Cookie(number, cookie) => sys::cookie_behind(*number).ok() != Some(*cookie),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_seen() {
        let (mut token, given) = Token::new();
        assert!(!token.is_dropped());
        drop(given);
        assert!(token.is_dropped());
    }

    #[test]
    fn one_with_addresses_has_them_and_its_drop_is_seen_too() {
        let near = SocketAddr::from((NEAR, NEAR_PORTS_FROM));
        let peer = "127.1.0.3:2000".parse().unwrap();
        let (mut token, given) = Token::between(near, Some(peer));
        // Two connections of the same two addresses.
        let (mut other, same) = Token::between(near, Some(peer));
        let (_reset, reset) = Token::between(near, None);
        assert!(sys::peer_address(reset.as_fd()).is_err());
        assert_eq!(sys::peer_address(given.as_fd()).unwrap(), Some(peer));
        assert_eq!(sys::local_address(same.as_fd()).unwrap(), Some(near));
        drop(given);
        assert!(token.is_dropped());
        assert!(!other.is_dropped());
    }
}
