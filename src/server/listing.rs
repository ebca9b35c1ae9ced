//! Connections as they are listed and closed from outside. Their threads answer in turns of their own.

use std::time::{Duration, Instant};

use super::{ConnectionId, ConnectionStatus, Handle, ProcessMark};

impl Handle {
    /// All connections, as their threads see them in turns of their own: nobody stands still for it. A thread that
    /// has not answered within `limit` is left out. `None` if a change of the server takes longer than that.
    pub fn connections(&self, limit: Duration) -> Option<Vec<ConnectionStatus>> {
        let deadline = Instant::now() + limit;
        let (asked, names) = {
            let mut control = self.control.lock_within(limit)?;
            (control.ask_for_connections(), control.names())
        };
        let process = ProcessMark::own();
        let mut all = Vec::new();
        for (thread, parts) in asked.into_iter().enumerate() {
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(part) = parts.recv_timeout(left()) {
                all.extend(part.into_iter().map(|listed| ConnectionStatus {
                    id: ConnectionId { process, thread: thread as u16, key: listed.key },
                    frontend: names.get(&listed.frontend).cloned().unwrap_or_default(),
                    listed,
                }));
            }
        }
        Some(all)
    }

    /// Closes a connection. False if there is none in this process, or its thread has not answered within `limit`.
    pub fn close(&self, id: ConnectionId, limit: Duration) -> bool {
        if id.process != ProcessMark::own() {
            return false;
        }
        let Some(mut control) = self.control.lock_within(limit) else { return false };
        let answer = control.ask_to_close(id);
        drop(control);
        answer.recv_timeout(limit).unwrap_or(false)
    }
}
