//! Descriptors that stand for virtual sockets.
//!
//! A token is a real socket, which the holder gets as an `OwnedFd`. Whether the holder has dropped it without an
//! operation, its cookie tells: its number then has no socket, or another one. A child process that has a copy until
//! its exec changes nothing of that, as it would if the other end of a pair were watched.
//!
//! One of a connection that comes from an address is a datagram socket, bound and connected, never sent on:
//! getpeername(2) and getsockname(2) say what they say of a connection. Others are one end of a pair, whose other end
//! stays open: so they are connected, to a peer without an address.

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

/// What the world knows of a descriptor that it has given out.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) descriptor: Descriptor,
    number: RawFd,
    cookie: u64,
    _other_end: Option<UnixStream>,
}

impl Token {
    /// A token, and the descriptor to be given out.
    pub(super) fn new() -> (Self, OwnedFd) {
        let (given, other_end) = UnixStream::pair().expect("the process has descriptors left");
        Self::of(given.into(), Some(other_end))
    }

    fn of(given: OwnedFd, other_end: Option<UnixStream>) -> (Self, OwnedFd) {
        let cookie = sys::socket_cookie(given.as_fd()).expect("a socket has a cookie");
        let (descriptor, number) = (Descriptor::of(&given), given.as_raw_fd());
        (Self { descriptor, number, cookie, _other_end: other_end }, given)
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
        Self::of(socket.into(), None)
    }

    /// Another descriptor of the same socket stands for it from now on.
    pub(super) fn is_now(&mut self, descriptor: Descriptor) {
        self.descriptor = descriptor;
        self.number = descriptor.raw();
    }

    /// Whether the holder has closed it.
    pub(super) fn is_dropped(&self) -> bool {
        sys::cookie_behind(self.number).ok() != Some(self.cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_is_seen() {
        let (token, given) = Token::new();
        assert!(!token.is_dropped());
        drop(given);
        assert!(token.is_dropped());
    }

    #[test]
    fn one_with_addresses_has_them_and_its_drop_is_seen_too() {
        let near = SocketAddr::from((NEAR, NEAR_PORTS_FROM));
        let peer = "127.1.0.3:2000".parse().unwrap();
        let (token, given) = Token::between(near, Some(peer));
        // Two connections of the same two addresses.
        let (other, same) = Token::between(near, Some(peer));
        let (_reset, reset) = Token::between(near, None);
        assert!(sys::peer_address(reset.as_fd()).is_err());
        assert_eq!(sys::peer_address(given.as_fd()).unwrap(), Some(peer));
        assert_eq!(sys::local_address(same.as_fd()).unwrap(), Some(near));
        drop(given);
        assert!(token.is_dropped());
        assert!(!other.is_dropped());
    }
}
