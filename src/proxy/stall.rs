//! Ends that take nothing of what is being sent to them.
//!
//! A send notes when it began. That alone would end slow readers too: the kernel tells of room only when a
//! third of its buffer is free, which may be a megabyte. So each look at a pair with a send in flight asks how
//! much the kernel still has to send; if that has changed, bytes were taken, and every deadline counts
//! from this look. A stall is therefore seen up to one look late.

use std::os::fd::AsFd;

use super::Proxy;
use super::pair::End;
use crate::connection::{LoopContext, Millis};
use crate::ring::Key;
use crate::sys;
use crate::upstream::EndpointCounter;

impl Proxy {
    /// Notes which ends have taken something since the last look.
    pub(super) fn note_taken(&mut self, key: Key, now: Millis) {
        let Some(pair) = self.table.get_mut(key) else { return };
        for end in End::BOTH {
            let side = pair.side(end);
            let Some(socket) = side.stream.socket.as_ref().filter(|_| side.stream.sending) else {
                continue;
            };
            // Nothing but sockets has such a queue, and with nothing in it nothing holds the send up.
            let Some(queued @ 1..) = sys::send_queue(socket.as_fd()).ok() else { continue };
            if pair.detail().queued[end as usize].replace(queued) != Some(queued) {
                pair.side(end).send_began = now;
                pair.progress = now;
            }
        }
    }

    /// Counts a stall for the backend, if it is the end that takes nothing.
    pub(super) fn blame_backend(&mut self, key: Key, cx: &LoopContext<'_>) {
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        let stall = self.versions.get(pair.version).settings.timeouts.write_stall;
        let since = pair.sending_since(End::Backend);
        if let (Some(since), Some(lease)) = (since, &pair.lease)
            && now.reached(since.after(stall))
        {
            lease.endpoint().counters().count(EndpointCounter::Timeouts);
        }
    }
}
