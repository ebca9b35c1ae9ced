//! Bugs that can be switched on, one at a time and for one thread only. See `examples/planted.rs`.

use std::cell::Cell;

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];
        }
    };
}

bugs! {
    /// A multishot accept that has ended counts as armed.
    AcceptNotRearmed,
    /// The connection of an accept's last completion is dropped.
    LastAcceptDropped,
    /// A connection that no inbox had room for is leaked.
    RejectedLeaked,
    /// The shortage of descriptors is no reason to pause.
    NoPause,
    /// A worker that waits is not woken.
    WakeLost,
    /// An acceptor that waits for room is not woken.
    AcceptorWakeLost,
    /// The last completion of a cancelled accept is not noted.
    CancelDropped,
    /// A connection is closed while something is in flight.
    CloseBeforeJoin,
    /// A closed connection is counted twice.
    ClosedTwice,
    /// A receive without a buffer is armed again at once.
    SpinWithoutBuffers,
    /// A buffer goes back to the pool while it is being sent.
    BufferFreedInFlight,
    /// Bytes are put behind a piece that is being sent.
    WrittenInFlight,
    /// A send is started although one is in flight.
    TwoSends,
    /// A buffer of a connection that is being closed is not given back.
    BufferLeaked,
    /// A key is taken for its slot, whatever its generation.
    GenerationIgnored,
    /// Deadlines are not looked at.
    NoDeadlines,
    /// A thread that has seen the end of the drain timeout takes it for news until it ends.
    SpinAfterDrain,
    /// Starved receives behind one that has nothing to receive wait with it.
    StarvedForgotten,
    /// What is in the inbox of a worker that has ended stays there.
    InboxKept,
    /// One connection more than the limit is admitted.
    LimitExceeded,
    /// What is held of a listener that moves to another frontend stays with the frontend before.
    HeldNotMoved,
    /// A listener that moves to another frontend counts its connections for the frontend before.
    LimitNotMoved,
    /// A frontend is forgotten although connections of it may still come.
    RetiredEarly,
    /// What is in the accept queue of a listener that stops is not served.
    QueueDropped,
    /// A thread that waits is not woken for what it is told.
    CommandWakeLost,
    /// A version of settings goes although connections have it.
    VersionFreedOpen,
    /// A proxy passes a FIN on before the last bytes.
    FinTooEarly,
    /// A proxied connection keeps its place at the backend for ever.
    LeaseKept,
    /// A proxied connection that the backend has reset is tried on another, bytes sent or not.
    RetriedAfterBytes,
    /// The completion of a cancelled connect is not noted.
    ConnectCancelDropped,
    /// Only the first of those that wait for a backend is looked at when there is room.
    WaitingForgotten,
    /// A reset on one side of a proxied connection is a FIN on the other.
    ResetMadeFin,
    /// An end of a pair that is ending is asked for more.
    AskedWhileJoining,
    /// A pair that ends with bytes unread for want of a buffer ends with a FIN.
    StarvedMadeFin,
    /// A splice begins although its pipe is not empty.
    PipeFilledTwice,
    /// What a splice has passed on is sent once more.
    SplicedSentTwice,
    /// Ends of pairs that are starved wait with the one before them.
    PairsStarved,
    /// A send counts from when the first one to that end of the pair began.
    StallNotForgotten,
    /// Bytes behind a PROXY header that come in the same segment are lost.
    HeaderRestLost,
    /// A PROXY header with statements behind its addresses is refused.
    StatementsRefused,
    /// The last byte of a PROXY header is passed on.
    HeaderByteKept,
    /// What stands where a PROXY header has to be is passed on.
    GarbageForwarded,
    /// Backends are told the address of the peer, not the one of its PROXY header.
    HeaderNotTold,
    /// A name that a route is for leads to the default.
    RouteIgnored,
    /// A hello that has not come to its end is taken for one without a name.
    HelloCutShort,
    /// A client that drips what is read first is given more time by each byte.
    DripIsProgress,
    /// A view does not see that the list of endpoints has changed.
    DrainingPicked,
    /// An endpoint that is down by checks is picked like any other.
    DownPicked,
    /// The first check that passes brings an endpoint up.
    RiseIgnored,
    /// A source-hash does not look at the source.
    SourceIgnored,
    /// A connection that was reset before it was looked at is from nobody who is trusted.
    ResetUntrusted,
    /// An endpoint that goes and comes back is not ejected any more, as far as it is counted.
    EjectionForgotten,
    /// Of sessions and pairs that are starved, those of the other kind than the first are not asked again.
    StarvedOfOneKind,
    /// While sessions have deadlines, those of pairs are not waited for.
    DeadlinesOfOneKind,
    /// The place of a connection that has moved may be taken here again.
    ShareKept,
    /// More places at a backend are taken than another process was told of.
    ShareNotNarrowed,
    /// What a session has not sent yet is not taken along.
    UnsentLost,
    /// A session is taken off its thread with its receive in flight.
    ReceiveNotCancelled,
    /// What a cancelled send has sent before is sent once more.
    CancelledSendRepeated,
    /// A session that goes on elsewhere asks for nothing.
    ResumedUnarmed,
    /// A session that goes on elsewhere has no deadline.
    DeadlinesLost,
    /// A session that moves has been idle since it came.
    IdleIsAge,
    /// A place is given back when a connection goes on, and once more when it is closed.
    PlaceGivenBackTwice,
    /// A place of a connection that has moved is not given back.
    PlaceKept,
    /// A pair that moves has seen a FIN that it has not seen.
    FinInvented,
    /// A pair that has moved has no place at its backend.
    LeaseNotTaken,
    /// A socket is handed over that its ring has not given back.
    NotReleased,
    /// Connections that nobody takes off a thread are dropped.
    UnheardDropped,
    /// What was accepted and has no place is dropped when another process is to accept.
    HeldAbandoned,
    /// A thread ends although connections are on their way to it.
    EndsThoughHeld,
    /// What a thread that has ended was told stays in its channel.
    CommandsKept,
    /// A connection that closes is taken back for its source, and not for its site.
    SiteKept,
    /// A connection that closes is taken back only where the rules of today count.
    ReleasedByRules,
    /// What the process refuses still counts for the frontend.
    NotWithdrawn,
    /// Who is refused counts as open.
    RefusedCounted,
    /// What a site refuses is still taken of the rate of the source.
    RateNotGivenBack,
    /// A source has one connection more than it may.
    OneMoreOfSource,
    /// Who comes too fast does not wait.
    DelayedEarly,
    /// When one is served that had to wait, the others are forgotten.
    DelayedForgotten,
    /// A thread that has drained ends although replies to those that it refused linger.
    ReplyCutShort,
    /// Who comes too fast by a rule that is only watched waits.
    WatchedDelays,
    /// Whom a rule that is only watched is against does not wait for another one.
    WatchedSpares,
    /// The connection of a session is never taken back for its source.
    SourceKept,
    /// The timer of a session runs on when it has ended.
    TimerKept,
    /// The mailbox of a session that has ended takes messages.
    MailboxLeftOpen,
    /// A thread that is about to wait does not look for messages.
    MailOverlooked,
    /// Who waits is not woken by a message.
    MailWakeLost,
    /// A message goes to the session that has the place of the one it was for.
    ToWhoeverIsThere,
    /// Nobody is told of a message for a session that has ended.
    UndeliveredDropped,
    /// Each version makes what the sessions of a service share.
    LocalTwice,
    /// What comes during a pause is dropped.
    HeldInputDropped,
    /// A session that pauses is given input.
    InputDuringPause,
    /// The end of the input comes before what was held of it.
    FinBeforeHeldInput,
    /// A stream is asked for more before there is room.
    MoreWithoutRoom,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether a bug is switched on: what is patched has to import nothing for it.
macro_rules! planted {
    ($bug:ident) => {
        crate::planted::is(crate::planted::Bug::$bug)
    };
}

/// Whether it is the one.
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Runs something with a bug.
pub fn plant<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    PLANTED.set(Some(bug));
    let result = run();
    PLANTED.set(None);
    result
}
