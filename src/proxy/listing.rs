//! What whoever asks for a list of connections is shown, and closing one of them.

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Stage};
use crate::connection::{Listed, LoopContext, Millis};
use crate::ring::Key;

impl Proxy {
    /// Versions of settings that there are.
    pub(crate) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// Slots that may have a pair.
    pub(crate) fn slots(&self) -> u32 {
        self.table.slots()
    }

    /// The pair in a slot, if there is one.
    pub(crate) fn listed(&mut self, slot: u32, now: Millis) -> Option<Listed> {
        let key = self.table.key(slot)?;
        let pair = self.table.get_mut(key)?;
        let detail = pair.detail.as_ref();
        let told = detail.and_then(|detail| detail.client);
        let logged = detail.and_then(|detail| detail.times.queued);
        let sending = End::BOTH.into_iter().filter_map(|end| pair.sending_since(end));
        let stalled = sending.map(|since| now.since(since)).max();
        Some(Listed {
            key: End::Client.key(key),
            frontend: self.versions.get(pair.version).settings.frontend,
            client: told.or_else(|| pair.side(End::Client).stream.peer()),
            backend: pair.last_backend().map(|backend| backend.address().to_string()),
            age: now.age(pair.began),
            idle: now.since(pair.progress),
            waited: logged.or_else(|| self.waits.get(key)),
            stalled,
            from_client: pair.bytes[End::Client as usize],
            to_client: pair.bytes[End::Backend as usize],
            stage: match pair.stage {
                Stage::Preread => "preread",
                Stage::Choosing | Stage::Waiting => "queued",
                Stage::Opening | Stage::Connecting => "connecting",
                Stage::Forwarding => "forwarding",
                Stage::Joining => "closing",
            },
        })
    }

    /// Ends a pair, by the key that it is listed with. False if it has gone, or is about to.
    pub(crate) fn close(&mut self, listed: Key, cx: &mut LoopContext<'_>) -> bool {
        let (key, _) = End::of(listed);
        let is_there = self.table.get(key).is_some_and(|pair| pair.stage != Stage::Joining);
        self.terminate(key, Ended::Operator, cx);
        is_there
    }
}
