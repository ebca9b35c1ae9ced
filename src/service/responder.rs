//! Services whose sessions speak when they are spoken to.

use std::convert::Infallible;

use super::{
    Action, CloseReason, ConnectionInfo, Input, NewMailbox, Outbox, Pending, Service,
    ServiceMetrics, WorkerInfo,
};

/// A [`Service`] whose sessions do nothing but answer: nobody tells them anything, and they share nothing but the value
/// that answers. Whoever implements this is a `Service`.
///
/// What each function is for stands at the one of the same name in [`Service`].
pub trait Responder: Send + Sync + 'static {
    /// The state of one connection. Keep it small: every idle connection holds one.
    type Session: Send;

    /// The word that stands for this service in the `listening` line and in the log.
    fn name(&self) -> &str;

    /// Metrics of its own.
    fn metrics(&self, metrics: &mut ServiceMetrics) {
        let _ = metrics;
    }

    /// A connection was accepted and handed to a worker.
    fn open(&self, connection: &ConnectionInfo<'_>) -> Self::Session;

    /// Bytes have come. The answer goes into `outbox`.
    fn data(&self, session: &mut Self::Session, input: &Input<'_>, outbox: &mut Outbox) -> Action;

    /// The peer has sent its FIN.
    fn half_closed(&self, session: &mut Self::Session, outbox: &mut Outbox) -> Action {
        let _ = (session, outbox);
        Action::Close
    }

    /// There is room for more of an answer that ended with [`Action::More`].
    fn writable(&self, session: &mut Self::Session, outbox: &mut Outbox) -> Action {
        let _ = (session, outbox);
        Action::Continue
    }

    /// The time of the session's [timer](Outbox::timer) has come.
    fn timeout(&self, session: &mut Self::Session, outbox: &mut Outbox) -> Action {
        let _ = (session, outbox);
        Action::Await
    }

    /// The server has begun to drain.
    fn draining(&self, session: &mut Self::Session, outbox: &mut Outbox) -> Action {
        let _ = (session, outbox);
        Action::Await
    }

    /// What a session waits for.
    fn pending(&self, session: &Self::Session) -> Pending {
        let _ = session;
        Pending::Nothing
    }

    /// What is pending has taken too long.
    fn overdue(&self, session: &mut Self::Session, outbox: &mut Outbox) {
        let _ = (session, outbox);
    }

    /// What a session is, as bytes.
    fn suspend(&self, session: &Self::Session) -> Option<Vec<u8>> {
        let _ = session;
        None
    }

    /// A session from what [`suspend`](Self::suspend) wrote.
    fn resume(&self, bytes: &[u8]) -> Option<Self::Session> {
        let _ = bytes;
        None
    }

    /// The connection is gone.
    fn closed(&self, session: Self::Session, reason: CloseReason) {
        let _ = (session, reason);
    }
}

impl<R: Responder> Service for R {
    type Session = R::Session;
    type Message = Infallible;
    type Local = ();

    const MESSAGES: usize = 0;
    // What is read is bounded, and so is what it asks for; large answers are shared, not copied.
    const UNSENT_BYTES: usize = usize::MAX;

    fn name(&self) -> &str {
        Responder::name(self)
    }

    fn metrics(&self, metrics: &mut ServiceMetrics) {
        Responder::metrics(self, metrics);
    }

    fn local(&self, _: &WorkerInfo<'_>) {}

    fn open(&self, (): &mut (), connection: &ConnectionInfo<'_>) -> R::Session {
        Responder::open(self, connection)
    }

    fn data(
        &self,
        session: &mut R::Session,
        (): &mut (),
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        Responder::data(self, session, input, outbox)
    }

    fn half_closed(&self, session: &mut R::Session, (): &mut (), outbox: &mut Outbox) -> Action {
        Responder::half_closed(self, session, outbox)
    }

    fn writable(&self, session: &mut R::Session, (): &mut (), outbox: &mut Outbox) -> Action {
        Responder::writable(self, session, outbox)
    }

    fn timeout(&self, session: &mut R::Session, (): &mut (), outbox: &mut Outbox) -> Action {
        Responder::timeout(self, session, outbox)
    }

    fn draining(&self, session: &mut R::Session, (): &mut (), outbox: &mut Outbox) -> Action {
        Responder::draining(self, session, outbox)
    }

    fn pending(&self, session: &R::Session) -> Pending {
        Responder::pending(self, session)
    }

    fn overdue(&self, session: &mut R::Session, (): &mut (), outbox: &mut Outbox) {
        Responder::overdue(self, session, outbox);
    }

    fn suspend(&self, session: &R::Session) -> Option<Vec<u8>> {
        Responder::suspend(self, session)
    }

    fn can_resume(&self, bytes: &[u8]) -> bool {
        Responder::resume(self, bytes).is_some()
    }

    fn resume(
        &self,
        bytes: &[u8],
        (): &mut (),
        _: &NewMailbox<'_, Infallible>,
    ) -> Option<R::Session> {
        Responder::resume(self, bytes)
    }

    fn closed(&self, session: R::Session, (): &mut (), reason: CloseReason) {
        Responder::closed(self, session, reason);
    }
}
