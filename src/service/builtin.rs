//! The services of the program as one: a thread serves frontends of all of them at the same time.

use super::http::{self, Http};

use super::{
    Action, CloseReason, ConnectionInfo, Discard, Echo, Input, Outbox, Pending, Responder,
};
use crate::config::Protocol;

/// One of the services that are here.
#[derive(Debug)]
pub enum Builtin {
    /// Everything comes back.
    Echo(Echo),
    /// Everything is dropped.
    Discard(Discard),
    /// One answer to every request.
    Http(Box<Http>),
}

impl Builtin {
    /// The service for this protocol; a proxy has none, and echo stands in for what a program brings.
    pub fn of(protocol: &Protocol) -> Self {
        match protocol {
            Protocol::Discard => Self::Discard(Discard),
            Protocol::Http(http) => Self::Http(Box::new(Http::new(&http.body))),
            Protocol::Echo | Protocol::Proxy(_) | Protocol::Service => Self::Echo(Echo),
        }
    }
}

/// The state of one connection.
#[derive(Debug)]
pub enum Session {
    /// Neither echo nor discard remembers anything.
    Stateless,
    /// Of an HTTP connection.
    Http(http::Session),
}

impl Session {
    fn http(&mut self) -> &mut http::Session {
        match self {
            Self::Http(session) => session,
            Self::Stateless => unreachable!("the session was opened by another service"),
        }
    }
}

impl Responder for Builtin {
    type Session = Session;

    fn name(&self) -> &str {
        match self {
            Self::Echo(echo) => echo.name(),
            Self::Discard(discard) => discard.name(),
            Self::Http(http) => http.name(),
        }
    }

    fn open(&self, connection: &ConnectionInfo<'_>) -> Session {
        match self {
            Self::Echo(_) | Self::Discard(_) => Session::Stateless,
            Self::Http(http) => Session::Http(http.open(connection)),
        }
    }

    fn data(&self, session: &mut Session, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        match self {
            Self::Echo(echo) => echo.data(&mut (), input, outbox),
            Self::Discard(discard) => discard.data(&mut (), input, outbox),
            Self::Http(http) => http.data(session.http(), input, outbox),
        }
    }

    fn half_closed(&self, session: &mut Session, outbox: &mut Outbox) -> Action {
        match self {
            Self::Echo(echo) => echo.half_closed(&mut (), outbox),
            Self::Discard(discard) => discard.half_closed(&mut (), outbox),
            Self::Http(http) => http.half_closed(session.http(), outbox),
        }
    }

    fn draining(&self, session: &mut Session, outbox: &mut Outbox) -> Action {
        match self {
            Self::Echo(echo) => echo.draining(&mut (), outbox),
            Self::Discard(discard) => discard.draining(&mut (), outbox),
            Self::Http(http) => http.draining(session.http(), outbox),
        }
    }

    fn pending(&self, session: &Session) -> Pending {
        match (self, session) {
            (Self::Http(http), Session::Http(session)) => http.pending(session),
            _ => Pending::Nothing,
        }
    }

    fn overdue(&self, session: &mut Session, outbox: &mut Outbox) {
        if let (Self::Http(http), Session::Http(session)) = (self, session) {
            http.overdue(session, outbox);
        }
    }

    fn suspend(&self, session: &Session) -> Option<Vec<u8>> {
        match (self, session) {
            (Self::Echo(echo), _) => echo.suspend(&()),
            (Self::Discard(discard), _) => discard.suspend(&()),
            (Self::Http(http), Session::Http(session)) => http.suspend(session),
            (Self::Http(_), Session::Stateless) => None,
        }
    }

    fn resume(&self, bytes: &[u8]) -> Option<Session> {
        match self {
            Self::Echo(echo) => echo.resume(bytes).map(|()| Session::Stateless),
            Self::Discard(discard) => discard.resume(bytes).map(|()| Session::Stateless),
            Self::Http(http) => http.resume(bytes).map(Session::Http),
        }
    }

    fn closed(&self, session: Session, reason: CloseReason) {
        if let (Self::Http(http), Session::Http(session)) = (self, session) {
            http.closed(session, reason);
        }
    }
}
