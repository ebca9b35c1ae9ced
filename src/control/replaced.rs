//! What is not done, or told otherwise, because another process takes the place of this one or has done so.

use super::answer::{Code, Failure};
use super::operator::Operator;
use super::request::{Request, Setting};
use crate::server::Phase;

impl Operator {
    /// Whether a process that takes over would not know of it: the level of the log was told when it began, backends and
    /// bans when this one accepted no more, and an end is its own from then on. All else comes after the upgrade.
    pub(super) fn is_too_late(&self, request: &Request) -> bool {
        let handle = self.handle();
        let (serves, is_held) = (handle.phase() == Phase::Serving, handle.is_held());
        match request {
            Request::Set(Setting::LogLevel(_)) => serves && handle.is_being_replaced(),
            Request::Backend { .. } | Request::Ban { .. } | Request::Unban { .. } => {
                serves && is_held
            }
            Request::Shutdown => handle.is_being_replaced() && is_held,
            _ => false,
        }
    }

    /// Whether a server that drains does it no more. Whoever wants an end behind an upgrade means the new process.
    pub(super) fn is_refused_while_draining(&self, request: &Request) -> bool {
        let is_end = matches!(request, Request::Shutdown);
        request.is_change() || is_end && self.handle().is_being_replaced()
    }

    /// One that drains because another process has taken over says so: whoever asks again asks that one.
    pub(super) fn in_an_upgrade(&self, failure: Failure) -> Failure {
        if failure.code != Code::Draining || !self.handle().is_being_replaced() {
            return failure;
        }
        let text = "an upgrade has taken place, and this process drains; the new one takes changes: try again";
        Failure { text: text.to_owned(), ..failure }
    }
}

/// It would be lost.
pub(super) fn is_being_replaced() -> Failure {
    Failure::new(
        Code::Busy,
        "an upgrade is in progress, and the new process would not know of it; try again".to_owned(),
    )
}
