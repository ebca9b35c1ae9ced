//! Pairs that end so that others are served: idle ones make room.

use super::Proxy;
use super::ended::Ended;
use crate::connection::LoopContext;
use crate::dispatch::FrontendId;

impl Proxy {
    /// Ends the pair of a frontend that has been idle for longest. False if none has been for long.
    pub(crate) fn evict(&mut self, frontend: FrontendId, cx: &mut LoopContext<'_>) -> bool {
        let Self { idlest, table, versions, suspension, .. } = self;
        let found = idlest.find(table.slots(), |slot| {
            let key = table.key(slot)?;
            let pair = table.get(key)?;
            let is_idle = pair.is_idle(cx.millis) && !suspension.has(key);
            let is_own = versions.get(pair.version).settings.frontend == frontend;
            (is_idle && is_own).then(|| (cx.millis.since(pair.progress), key))
        });
        if let Some(key) = found {
            self.terminate(key, Ended::Evicted, cx);
        }
        found.is_some()
    }
}
