//! Virtual sockets: what the kernel would keep about each.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::operation::Descriptor;
use super::owner::Owner;
use super::token::Token;
use crate::sys::Errno;

/// Index of a socket in its world; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SocketId(pub(super) usize);

/// One direction of a stream.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    /// How many bytes it takes before the sender has to wait.
    pub(super) window: usize,
    /// The sender has sent its FIN behind the bytes.
    pub(super) fin: bool,
}

impl Pipe {
    pub(super) fn new(window: usize) -> Self {
        Self { bytes: VecDeque::new(), window, fin: false }
    }

    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.bytes.len())
    }

    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        self.bytes.drain(..count.min(self.bytes.len())).collect()
    }
}

/// How far a stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Handshake under way.
    Connecting,
    /// Handshake complete.
    Established,
    /// It never will be.
    Failed(Errno),
}

/// A connection. `near` is the end that a ring works on, `far` the peer.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) stage: Stage,
    /// From the remote end.
    pub(super) incoming: Pipe,
    /// To the remote end.
    pub(super) outgoing: Pipe,
    /// Broken, by the remote end or by the network.
    pub(super) reset: bool,
    /// Reset by the near end: it was closed with bytes unread.
    pub(super) near_reset: bool,
    /// Half-closed by the near end.
    pub(super) shut_read: bool,
    pub(super) shut_write: bool,
    /// The near end has let go, after all that it sends.
    pub(super) near_closed: bool,
    pub(super) far_closed: bool,
    /// When the near end began to end it, and for how long nothing had moved then.
    pub(super) ended: Option<Duration>,
    /// The same for when it began to end both directions.
    pub(super) given_up: Option<Duration>,
    /// Both as they were before something in flight was cancelled: who then goes on has not begun to end.
    pub(super) before_cancel: Option<(Option<Duration>, Option<Duration>)>,
    /// When something was last moved by the near end.
    pub(super) moved_at: Duration,
    /// The near end has been told of the FIN.
    pub(super) fin_seen: bool,
    /// A fault of the network has broken it.
    pub(super) faulted: bool,
    /// Whether a ring has ever worked on the near end.
    pub(super) touched: Option<Duration>,
    /// When the last receive began.
    pub(super) asked_at: Option<Duration>,
    /// Connected by a ring, and not accepted by one.
    pub(super) own: bool,
    /// Whom the remote end's side tells when something changes.
    pub(super) watcher: Option<u32>,
    /// The near and the remote end's address, if it has some.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Stream {
    pub(super) fn new(windows: (usize, usize), watcher: Option<u32>, now: Duration) -> Self {
        Self {
            stage: Stage::Connecting,
            incoming: Pipe::new(windows.0),
            outgoing: Pipe::new(windows.1),
            reset: false,
            near_reset: false,
            shut_read: false,
            shut_write: false,
            near_closed: false,
            far_closed: false,
            ended: None,
            given_up: None,
            before_cancel: None,
            moved_at: now,
            fin_seen: false,
            faulted: false,
            touched: None,
            asked_at: None,
            own: false,
            watcher,
            addresses: None,
        }
    }

    /// Whether a receive would bring something.
    pub(super) fn is_readable(&self) -> bool {
        self.reset || !self.incoming.bytes.is_empty() || self.incoming.fin
    }

    /// Whether a receive would bring something that the near end does not know.
    pub(super) fn has_news(&self) -> bool {
        self.is_readable() && !self.fin_seen
    }

    /// The near end begins to end both directions.
    pub(super) fn gives_up(&mut self, now: Duration) {
        if self.given_up.is_none() {
            self.given_up = Some(now.saturating_sub(self.moved_at));
        }
    }

    /// Something in flight is cancelled. It ends, unless it goes on.
    pub(super) fn is_cancelled(&mut self) {
        self.before_cancel.get_or_insert((self.ended, self.given_up));
    }

    /// Something is asked of it again, or it is on its way to somebody else.
    pub(super) fn goes_on(&mut self) {
        if let Some(before) = self.before_cancel.take() {
            (self.ended, self.given_up) = before;
        }
    }

    /// The near end begins to end it.
    pub(super) fn end_begins(&mut self, now: Duration) {
        if self.ended.is_none() {
            self.ended = Some(now.saturating_sub(self.moved_at));
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) port: u16,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<SocketId>,
    /// False when new handshakes meet silence.
    pub(super) admitting: bool,
    /// True when a reset answers new handshakes.
    pub(super) refusing: bool,
    /// Who is called when a connection comes into the queue.
    pub(super) watcher: Option<u32>,
    /// Every accept fails with this until then.
    pub(super) shortage: Option<(Duration, Errno)>,
    /// Every accept fails with this for ever.
    pub(super) broken: Option<Errno>,
}

/// What a descriptor stands for.
#[derive(Debug)]
pub(super) enum Role {
    /// Opened and not connected.
    Fresh,
    Listening(Listening),
    Stream(Box<Stream>),
}

/// One socket of the world.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) role: Role,
    /// `None` while nobody holds a descriptor of it.
    pub(super) token: Option<Token>,
    /// Operations in flight on it.
    pub(super) in_flight: Vec<u64>,
    /// Whether a splice from another socket passes on to it.
    pub(super) spliced_to: bool,
    /// Who may work on it.
    pub(super) owner: Owner,
    /// Descriptors of it besides that of the token.
    pub(super) copies: Vec<Descriptor>,
    /// Whether a ring has closed it, or is about to, although somebody else has a copy.
    pub(super) closes: bool,
}

impl Socket {
    pub(super) fn new(role: Role, token: Option<Token>) -> Self {
        Self {
            role,
            token,
            in_flight: Vec::new(),
            spliced_to: false,
            owner: Owner::default(),
            copies: Vec::new(),
            closes: false,
        }
    }

    /// Whether somebody could ask for what comes.
    pub(super) fn has_owner(&self) -> bool {
        self.owner != Owner::Nobody && !self.closes
    }

    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.role {
            Role::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn listening(&mut self) -> Option<&mut Listening> {
        match &mut self.role {
            Role::Listening(listening) => Some(listening),
            _ => None,
        }
    }
}
