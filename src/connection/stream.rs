//! One end of a connection: its socket, what is in flight on it, and what waits to be sent to it.

use std::os::fd::OwnedFd;

use super::{LoopContext, Output};
use crate::ring::{Descriptor, Key, Kind, Operation, Shots};

/// Whether a receive is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// None.
    No,
    /// None; it found no buffer and waits in line for one.
    Starved,
    /// One.
    Armed,
}

/// See the module. A session has one stream, a proxied connection two.
#[derive(Debug)]
pub(crate) struct Stream {
    /// `None` before it is opened, and once it was given up together with the last bytes.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) receiving: Receiving,
    /// Whether a send is in flight.
    pub(crate) sending: bool,
    /// Whether the peer has sent anything.
    pub(crate) spoken: bool,
    /// Whether the peer's FIN has come.
    pub(crate) ended: bool,
    pub(crate) output: Output,
}

impl Stream {
    pub(crate) fn new(socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            receiving: Receiving::No,
            sending: false,
            spoken: false,
            ended: false,
            output: Output::default(),
        }
    }

    /// Whether the kernel may still complete a receive or a send.
    pub(crate) fn in_flight(&self) -> bool {
        self.sending || self.receiving == Receiving::Armed
    }

    /// The socket as it is named in operations.
    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        self.socket.as_ref().map(Descriptor::of)
    }

    /// The socket, if more may be asked from it: nothing is asked already, and its FIN has not come.
    pub(crate) fn readable(&self) -> Option<Descriptor> {
        let may_ask = self.receiving == Receiving::No && !self.ended;
        self.descriptor().filter(|_| may_ask)
    }

    /// Lets what is in flight end by itself, without a word to the peer.
    pub(crate) fn cancel(&self, key: Key, cx: &mut LoopContext<'_>) {
        if self.receiving == Receiving::Armed {
            cx.operations.push(key, Operation::Cancel(Kind::Receive));
        }
        if self.sending {
            cx.operations.push(key, Operation::Cancel(Kind::Send));
        }
    }

    /// Starts a receive.
    pub(crate) fn arm(
        &mut self,
        key: Key,
        (socket, shots): (Descriptor, Shots),
        cx: &mut LoopContext<'_>,
    ) {
        self.receiving = Receiving::Armed;
        cx.operations.push(key, Operation::Receive { socket, shots });
    }
}
