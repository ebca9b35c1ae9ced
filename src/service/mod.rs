//! Protocols: bytes in, bytes and decisions out.
//!
//! A [`Service`] sees a connection as a session. It is handed what the peer sent, records its answer
//! in an [`Outbox`] and returns an [`Action`]. It cannot do I/O, it never blocks and it never learns
//! which engine moves its bytes, so every service can be tested with plain byte slices.
//!
//! A service whose sessions only answer is a [`Responder`]. One whose sessions are told something by others, wait for
//! something that is done elsewhere, or share something with the others of their worker, is a `Service`.
//!
//! ```
//! use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder};
//!
//! /// Answers each byte with its bitwise complement, and hangs up on a zero byte.
//! struct Complement;
//!
//! impl Responder for Complement {
//!     type Session = ();
//!     fn name(&self) -> &str { "complement" }
//!     fn open(&self, _: &ConnectionInfo<'_>) {}
//!     fn data(&self, _: &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
//!         for byte in input.bytes() {
//!             outbox.write(&[!byte]);
//!         }
//!         if input.bytes().contains(&0) { Action::Close } else { Action::Continue }
//!     }
//! }
//!
//! let mut outbox = Outbox::default();
//! let action = Complement.data(&mut (), &Input::new(&[0xF0, 0x00]), &mut outbox);
//! assert_eq!(action, Action::Close);
//! assert_eq!(outbox.render(&[0xF0, 0x00]), [0x0F, 0xFF]);
//! ```

mod builtin;
mod connection_info;
mod discard;
mod echo;
mod figures;
mod framing;
pub mod http;
mod outbox;
mod responder;
mod topic;

pub use builtin::{Builtin, Session as BuiltinSession};
pub use connection_info::{ConnectionInfo, NewMailbox, WorkerInfo};
pub use discard::Discard;
pub use echo::Echo;
pub(crate) use figures::metric_name;
pub use figures::{ServiceMetric, ServiceMetrics, ServiceValue};
pub use framing::{Fed, LengthPrefix, Parsed, PartialMessage, TooLong};
pub use outbox::{Item, Outbox, Prepared, Timer};
pub use responder::Responder;
use serde::{Deserialize, Serialize};
pub use topic::{Lagged, Subscription, Topic};

pub use crate::dispatch::{Mailbox, SendError};
pub use crate::shared::SharedBytes;

/// What a service wants to happen to the connection once its output has been queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Keep reading. The idle deadline starts anew.
    Continue,
    /// Keep reading; a message has begun of which something is still to come. It counts as progress, and the limits for
    /// slow clients ([`RequestLimits`](crate::config::RequestLimits)) count from now. For services that tell what they
    /// wait for ([`Service::pending`]).
    Begin,
    /// As before: keep reading, or stay paused. What was read does not count as progress: the deadline that is running
    /// keeps running. For input that is not yet a whole message, so that a peer which sends one
    /// byte a minute cannot hold its connection for ever.
    Await,
    /// Read nothing more until the session is told something, a [message](Service::message) or that its
    /// [timer](Outbox::timer) has run down, and returns [`Continue`](Self::Continue). What the peer has sent meanwhile
    /// comes then. For answers that come from elsewhere: so they stay in the order of what was asked. The idle deadline
    /// goes on.
    Pause,
    /// There is more of this answer: call [`Service::writable`] when there is room for it. Nothing more is read until
    /// that returns something else, whatever other calls return meanwhile, unless they end the session. A call that has queued nothing gets [`Pause`](Self::Pause) instead: whoever waits for
    /// something to send has to be told.
    More,
    /// Send what is queued, the last bytes together with the FIN where possible, then close.
    Close,
    /// Send what is queued, then the FIN, then read and drop what the peer still sends, up to
    /// the linger limits, then close. For refusals in the middle of a request: closing with unread
    /// input makes the kernel send a reset, which may overtake the answer.
    Linger,
    /// Close at once, drop what is queued.
    Abort,
}

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// Nothing in particular: no message has begun.
    Nothing,
    /// The rest of what is in front of a message's body.
    Head,
    /// The rest of a body.
    Body {
        /// What has come of it, in bytes.
        bytes: u64,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The peer sent its FIN and everything for it had been sent.
    PeerClosed,
    /// The peer reset the connection or the network broke it.
    PeerReset,
    /// The service returned [`Action::Close`] or [`Action::Linger`].
    ServiceClosed,
    /// The service returned [`Action::Abort`].
    ServiceAborted,
    /// The service panicked.
    ServicePanicked,
    /// A file that was to be sent could not be read, or has become too short.
    FileFailed,
    /// One call of the service wrote more than [`Outbox::LIMIT_BYTES`], or no buffer was left for it.
    OutboxOverflow,
    /// No first byte came within the first-byte timeout.
    FirstByteTimeout,
    /// Nothing came within the idle timeout.
    IdleTimeout,
    /// The peer read nothing of what was being sent within the write-stall timeout.
    WriteStall,
    /// The head of a request did not come whole within the header timeout.
    HeaderTimeout,
    /// The body of a request came more slowly than the least rate.
    SlowBody,
    /// The peer took what was sent to it more slowly than the least rate.
    SlowRead,
    /// The server stopped before the session was over.
    Stopped,
    /// An operator closed the connection.
    Operator,
    /// It had been idle for longest, and its frontend was full while others waited.
    Evicted,
    /// Its client had gone while it waited too long. It has no session, so no service is told.
    DeadOnArrival,
    /// It had waited too long while its frontend was overloaded. It has no session.
    Shed,
    /// It did not begin with the PROXY header that it had to begin with. It had no session yet, so no service is
    /// told.
    BadProxyHeader,
    /// A rule by source was against the client that its PROXY header speaks for. It had no session yet.
    Refused,
}

impl CloseReason {
    /// As it stands in the access log.
    pub fn word(self) -> &'static str {
        match self {
            Self::PeerClosed => "client",
            Self::PeerReset => "client-reset",
            Self::ServiceClosed => "service",
            Self::ServiceAborted => "service-abort",
            Self::ServicePanicked => "service-panic",
            Self::FileFailed => "file-failed",
            Self::OutboxOverflow => "service-overflow",
            Self::FirstByteTimeout => "first-byte-timeout",
            Self::IdleTimeout => "idle",
            Self::WriteStall => "write-stall",
            Self::HeaderTimeout => "header-timeout",
            Self::SlowBody => "slow-body",
            Self::SlowRead => "slow-read",
            Self::Stopped => "stopped",
            Self::Operator => "operator",
            Self::Evicted => "evicted",
            Self::DeadOnArrival => "dead-on-arrival",
            Self::Shed => "shed",
            Self::BadProxyHeader => "bad-proxy-header",
            Self::Refused => "refused",
        }
    }
}

/// What one receive brought. Never empty.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
    draining: bool,
}

impl<'a> Input<'a> {
    /// Input of a server that is serving normally.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, draining: false }
    }

    /// Marks the input as having come while the server drains.
    #[must_use]
    pub fn draining(self, draining: bool) -> Self {
        Self { draining, ..self }
    }

    /// The bytes, in the order in which the peer sent them; a message may be split anywhere.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// True from the moment the server began to drain: a session should end at its next boundary.
    pub fn is_draining(&self) -> bool {
        self.draining
    }
}

/// A protocol. One value serves all connections of all workers; what belongs to one connection
/// lives in its [`Session`](Service::Session), and what the sessions of one worker share in its
/// [`Local`](Service::Local).
///
/// The methods run on worker threads and must not block. A panic costs the connection that caused
/// it and nothing else.
pub trait Service: Send + Sync + 'static {
    /// The state of one connection. Keep it small: every idle connection holds one.
    type Session: Send;

    /// What sessions and workers can be told. It goes from thread to thread, so keep it small, and bytes for many
    /// sessions in [`SharedBytes`]. [`Infallible`](std::convert::Infallible) if they are told nothing.
    type Message: Send + 'static;

    /// What the sessions of one worker share: a shard, a cache, a list of those who listen. Nobody else sees it, so it
    /// needs no lock.
    type Local: 'static;

    /// How many messages may wait for one worker. Memory for them is taken at the start.
    const MESSAGES: usize = 16 * 1024;

    /// How many bytes may wait for a peer that does not take them. A session that says more while more than that waits loses
    /// its connection ([`CloseReason::OutboxOverflow`]); one that looks at [`Outbox::unsent`] can decide earlier, and
    /// otherwise.
    const UNSENT_BYTES: usize = 8 * 1024 * 1024;

    /// The word that stands for this service in the `listening` line and in the log.
    fn name(&self) -> &str;

    /// Metrics of its own. Called when somebody asks for metrics, from any thread.
    fn metrics(&self, metrics: &mut ServiceMetrics) {
        let _ = metrics;
    }

    /// Makes what the sessions of a worker share; called on its thread, before the first of them opens or the first
    /// message comes.
    fn local(&self, worker: &WorkerInfo<'_, Self::Message>) -> Self::Local;

    /// A connection was accepted and handed to a worker.
    fn open(
        &self,
        local: &mut Self::Local,
        connection: &ConnectionInfo<'_, Self::Message>,
    ) -> Self::Session;

    /// Bytes have come. The answer goes into `outbox`.
    fn data(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action;

    /// The peer has sent its FIN and will send no more; it may still read.
    fn half_closed(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        outbox: &mut Outbox,
    ) -> Action {
        let _ = (session, local, outbox);
        Action::Close
    }

    /// The session is told something, through its [mailbox](ConnectionInfo::mailbox).
    fn message(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        message: Self::Message,
        outbox: &mut Outbox,
    ) -> Action {
        let _ = (session, local, message, outbox);
        Action::Await
    }

    /// This worker is told something, through [its mailbox](WorkerInfo::mailboxes).
    fn local_message(&self, local: &mut Self::Local, message: Self::Message) {
        let _ = (local, message);
    }

    /// A message has come for a session that has ended meanwhile, or has begun to. Nobody else gets it.
    fn undelivered(&self, local: &mut Self::Local, message: Self::Message) {
        let _ = (local, message);
    }

    /// There is room for more of an answer that ended with [`Action::More`]: half of what may wait for the peer has gone.
    fn writable(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        outbox: &mut Outbox,
    ) -> Action {
        let _ = (session, local, outbox);
        Action::Continue
    }

    /// The time of the session's [timer](Outbox::timer) has come. It runs once.
    fn timeout(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        outbox: &mut Outbox,
    ) -> Action {
        let _ = (session, local, outbox);
        Action::Await
    }

    /// The server has begun to drain; called once for each open session. A session that is between
    /// two requests returns [`Action::Close`], one that is in the middle of its work goes on.
    fn draining(
        &self,
        session: &mut Self::Session,
        local: &mut Self::Local,
        outbox: &mut Outbox,
    ) -> Action {
        let _ = (session, local, outbox);
        Action::Await
    }

    /// What a session waits for. Asked when its connection is looked at for a deadline, which is seldom: not after each
    /// call of [`data`](Self::data). A message is named from the moment at which that has returned [`Action::Begin`].
    fn pending(&self, session: &Self::Session) -> Pending {
        let _ = session;
        Pending::Nothing
    }

    /// What is [pending](Self::pending) has taken too long. What is written here is sent, then the connection lingers as
    /// after [`Action::Linger`]; without a word it is closed at once. The session is not called again but to be closed.
    fn overdue(&self, session: &mut Self::Session, local: &mut Self::Local, outbox: &mut Outbox) {
        let _ = (session, local, outbox);
    }

    /// What a session is, as bytes from which [`resume`](Self::resume) makes it again: after an upgrade in another
    /// process, of another version of the program. So what is written today is read by what comes later. `None`: it
    /// cannot be moved now, and its connection ends where it is.
    ///
    /// A session that has ended with [`Action::Close`] or [`Action::Linger`] is asked too, as long as its last bytes are
    /// still on their way. It may be asked several times, and go on in between. Its timer goes along, its mailbox does
    /// not: one that waits for a message says `None`.
    ///
    /// The session is dropped when its connection has been taken off its thread, and is not
    /// [closed](Self::closed) then. It may be resumed in the same process.
    fn suspend(&self, session: &Self::Session) -> Option<Vec<u8>> {
        let _ = session;
        None
    }

    /// Whether [`resume`](Self::resume) makes a session of these bytes. Asked on any thread, before the connection is taken
    /// over.
    fn can_resume(&self, bytes: &[u8]) -> bool {
        let _ = bytes;
        true
    }

    /// A session from what [`suspend`](Self::suspend) wrote. `None` if that makes no sense to this service; then the
    /// connection stays where it is.
    fn resume(
        &self,
        bytes: &[u8],
        local: &mut Self::Local,
        mailbox: &NewMailbox<'_, Self::Message>,
    ) -> Option<Self::Session> {
        let _ = (bytes, local, mailbox);
        None
    }

    /// The connection is gone. Called once for each session that was opened or resumed, unless it panicked or was
    /// suspended.
    fn closed(&self, session: Self::Session, local: &mut Self::Local, reason: CloseReason) {
        let _ = (session, local, reason);
    }
}
