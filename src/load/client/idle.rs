//! Connections on which no request is out: what comes then, and who ends them.
//!
//! ```text
//!   idle --- bytes, or something that waits to be read ---> retired --- a goodbye ----> FIN, or the client
//!    |                                                         +------- anything else: unasked, closed
//!    +------ FIN, reset ---> over, closed by the server
//! ```

use std::time::Instant;

use super::{Client, Turn};
use crate::load::idle_response::{Heard, IdleResponse};
use crate::load::session::Stage;
use crate::ring::Key;

impl Client {
    /// Takes an idle connection out of use, since something came on it that was not asked for. What was
    /// about to be sent goes to another one.
    pub(super) fn retire(&mut self, key: Key, turn: &mut Turn<'_>) {
        let is_http = self.plan.http.is_some();
        let Some(session) = self.get(key) else { return };
        session.idle_response = Some(Box::new(IdleResponse::new(is_http)));
        self.move_on(key, turn);
        self.await_fin(key, turn);
    }

    /// What comes on a connection that was retired.
    pub(super) fn listen(&mut self, key: Key, bytes: &[u8], turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        let Some(idle_response) = &mut session.idle_response else { return };
        if let Some(heard) = idle_response.take(bytes) {
            self.heard(key, heard, turn);
        }
    }

    fn heard(&mut self, key: Key, heard: Heard, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        let since = session.ending_since.unwrap_or(turn.now);
        match heard {
            Heard::Goodbye => session.announced = Some(since),
            Heard::Unasked => {
                self.recorder.unasked(since);
                self.unblock(key, turn);
            }
        }
    }

    /// A connection without an operation has been closed by the server.
    pub(super) fn closed_by_server(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(session) = self.get(key) else { return };
        if session.stage != Stage::Ending {
            session.announced = Some(turn.now);
            self.end(key, turn.now);
        }
        if let Some(since) = self.told(key, turn) {
            self.recorder.closed_by_server(since);
        }
    }

    /// The server has said that it closes a connection, and has not done so: the client does.
    pub(super) fn close_lingering(&mut self, key: Key, turn: &mut Turn<'_>) {
        if let Some(since) = self.told(key, turn) {
            self.recorder.closed_by_client(since);
        }
        self.unblock(key, turn);
    }

    /// When the end of a connection that was to be kept was told, by its end at the latest. Says so once.
    fn told(&mut self, key: Key, turn: &mut Turn<'_>) -> Option<Instant> {
        let idle_response = self.get(key)?.idle_response.as_mut();
        if let Some(heard) = idle_response.and_then(|idle_response| idle_response.end()) {
            self.heard(key, heard, turn);
        }
        self.get(key)?.announced.take()
    }
}
