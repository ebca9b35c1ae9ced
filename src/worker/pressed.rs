//! Connections that end so that others are served: idle ones that make room, and those that have waited too long.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::Worker;
use super::connection::Stage;
use crate::connection::suspended::Awaited;
use crate::connection::{LoopContext, Unserved, VersionId, unserved};
use crate::dispatch::{FrontendId, Shed};
use crate::ring::Key;
use crate::service::{CloseReason, Service};

impl<S: Service> Worker<S> {
    /// Why a new connection is not served any more, if it has waited too long.
    pub(super) fn unserved(
        &self,
        (socket, shed): (&OwnedFd, Option<&Shed>),
        (version, accepted_at): (VersionId, Instant),
        cx: &LoopContext<'_>,
    ) -> Option<CloseReason> {
        let patience = self.versions.get(version).settings.patience;
        let unserved = unserved((patience, shed), (socket.as_fd(), accepted_at), cx.now)?;
        Some(match unserved {
            Unserved::Shed => CloseReason::Shed,
            Unserved::Dead => CloseReason::DeadOnArrival,
        })
    }

    /// Closes the connection of a frontend that has been idle for longest. False if none has been for long.
    pub(crate) fn evict(&mut self, frontend: FrontendId, cx: &mut LoopContext<'_>) -> bool {
        let Self { idlest, table, versions, suspensions, .. } = self;
        let found = idlest.find(table.slots(), |slot| {
            let key: Key = table.key(slot)?;
            let connection = table.get(key)?;
            let stream = &connection.stream;
            let is_idle = connection.stage == Stage::Open(Awaited::Input)
                && !stream.sending
                && stream.output.is_empty()
                && !suspensions.has(key);
            let is_own = versions.get(connection.version).settings.frontend == frontend;
            (is_idle && is_own).then(|| (cx.millis.since(connection.progress), key))
        });
        if let Some(key) = found {
            self.terminate(key, CloseReason::Evicted, cx);
        }
        found.is_some()
    }
}
