//! Descriptors that stand for virtual sockets.
//!
//! A token is one end of a real socket pair: the holder gets it as an `OwnedFd`, the world keeps the
//! other end, which tells when the holder has dropped its own without an operation.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::super::operation::Descriptor;

/// The world's end of a descriptor that it has given out.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) descriptor: Descriptor,
    other_end: UnixStream,
}

impl Token {
    /// A token, and the descriptor to be given out.
    pub(super) fn new() -> (Self, OwnedFd) {
        let (given, other_end) = UnixStream::pair().expect("the process has descriptors left");
        other_end.set_nonblocking(true).expect("a socket may be non-blocking");
        let given = OwnedFd::from(given);
        (Self { descriptor: Descriptor::of(&given), other_end }, given)
    }

    /// Whether the holder has closed it.
    pub(super) fn is_dropped(&mut self) -> bool {
        matches!(self.other_end.read(&mut [0]), Ok(0))
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
}
