//! What whoever asks for a list of connections is shown, and closing one of them.

use super::Worker;
use super::connection::Stage;
use crate::connection::{Listed, LoopContext, Millis};
use crate::ring::Key;
use crate::service::{CloseReason, Service};

impl<S: Service> Worker<S> {
    /// Versions of settings that there are.
    pub(crate) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// Slots that may have a connection.
    pub(crate) fn slots(&self) -> u32 {
        self.table.slots()
    }

    /// The connection in a slot, if there is one. Asks the kernel for what it knows better.
    pub(crate) fn listed(&self, slot: u32, now: Millis) -> Option<Listed> {
        let key = self.table.key(slot)?;
        let connection = self.table.get(key)?;
        let (from_client, to_client) = connection.stream.moved_bytes();
        Some(Listed {
            key,
            frontend: self.versions.get(connection.version).settings.frontend,
            client: self.told(key).or_else(|| connection.stream.peer()),
            backend: None,
            age: now.age(connection.began),
            idle: now.since(connection.progress),
            waited: self.notes.waited(key).or_else(|| self.waits.get(key)),
            stalled: connection.stream.sending.then(|| now.since(connection.progress)),
            from_client,
            to_client,
            stage: match connection.stage {
                Stage::Preread => "preread",
                Stage::Open(_) => "open",
                Stage::Flushing { .. } => "flushing",
                Stage::Lingering { .. } => "lingering",
                Stage::Joining => "closing",
            },
        })
    }

    /// Ends a connection. False if it has gone, or is about to.
    pub(crate) fn close(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        let is_there = self.table.get(key).is_some_and(|it| it.stage != Stage::Joining);
        self.terminate(key, CloseReason::Operator, cx);
        is_there
    }
}
