//! Bytes that go from one socket to the other without a copy, where there are many of them.
//!
//! A direction that again and again brings much at a time gets a pipe. From then on splice(2) moves
//! what comes through it, and on to the other end at once, until little comes again and again; then the
//! pipe is given up, since small messages cost less through a buffer. What the other end does not take at
//! once waits in the pipe to be sent like any other piece.

use std::os::fd::AsFd;
use std::time::Duration;

use super::Proxy;
use super::pair::{End, Stage};
use crate::connection::{LoopContext, Millis, Receiving};
use crate::metrics::Counter;
use crate::ring::{Descriptor, Key, Kind, Operation, PipeEnds, Spliced};
use crate::sys::{self, Errno, Pipe};

/// As a share of a buffer: what brings at least one half of one is much, and less than an eighth little.
const MUCH_SHARE: usize = 2;
const LITTLE_SHARE: usize = 8;

/// How long a pipe is kept for a pair through which nothing moves; it may be as much longer as the
/// shortest deadline is.
const PIPE_IDLE: Duration = Duration::from_secs(1);

/// What a pipe has to take. In a smaller one a splice brings too little to be worth it.
const PIPE_BYTES: usize = 64 * 1024;

/// When a thread splices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splicing {
    /// Most pipes. One more direction than that is copied; zero copies all.
    pub pipes: usize,
    /// How many more receives that bring much than such that bring little give a direction a pipe,
    /// and the other way round take it. At least one.
    pub patience: u8,
}

impl Splicing {
    /// Most pipes of one thread by default: each takes two descriptors, and the memory of what its reader
    /// has not taken yet.
    pub const PIPES: usize = 256;
    /// A quarter of a megabyte at least with buffers of the default size.
    const PATIENCE: u8 = 16;

    /// As far as so many descriptors go.
    pub fn with_descriptors(descriptors: usize) -> Self {
        Self { pipes: descriptors / 2, patience: Self::PATIENCE }
    }
}

impl Splicing {
    /// Counts a receive that has brought `len` bytes.
    fn weigh(self, large: u8, len: usize, buffer_bytes: usize) -> u8 {
        if len * MUCH_SHARE >= buffer_bytes {
            self.patience.min(large.saturating_add(1))
        } else if len * LITTLE_SHARE < buffer_bytes {
            large.saturating_sub(1)
        } else {
            large
        }
    }
}

impl Proxy {
    /// Takes note of how much a receive into a buffer has brought.
    pub(super) fn judge_receive(&mut self, key: Key, end: End, len: usize, cx: &LoopContext<'_>) {
        let Splicing { pipes, patience } = self.splicing;
        let Some(pair) = self.table.get_mut(key) else { return };
        let side = pair.side(end);
        side.large = self.splicing.weigh(side.large, len, cx.buffers.buffer_bytes());
        let splices = self.versions.get(pair.version).settings.splice && self.pipes < pipes;
        let wanted = pair.side(end).large == patience && splices;
        if wanted && pair.stage == Stage::Forwarding && pair.pipe(end).is_none() {
            self.open_pipe(key, end);
        }
    }

    /// Gives a direction its pipe. Without a descriptor for it, it goes on as before.
    fn open_pipe(&mut self, key: Key, end: End) {
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.side(end).large = 0;
        let Ok(pipe) = Pipe::new() else { return };
        // A user who has many pipes gets small ones: pipe(7).
        if pipe.capacity().is_ok_and(|bytes| bytes < PIPE_BYTES) {
            return;
        }
        for end in End::BOTH {
            let Some(socket) = &pair.side(end).stream.socket else { return };
            if sys::set_nonblocking(socket.as_fd()).is_err() {
                return;
            }
        }
        pair.side(end).large = self.splicing.patience;
        pair.detail().pipes[end as usize] = Some(pipe);
        self.pipes += 1;
    }

    /// Asks an end whose direction has a pipe for more, unless that is asked already or something waits
    /// for the other end. False if it has none, or has just lost it because little came or all has come.
    pub(super) fn splice(&mut self, key: Key, end: End, cx: &mut LoopContext<'_>) -> bool {
        let Some(pair) = self.table.get_mut(key) else { return false };
        let Some(pipe) = pair.pipe(end).map(PipeEnds::of) else { return false };
        let (from, to) = pair.ends(end);
        let (Some(socket), Some(other)) = (&from.stream.socket, &to.stream.socket) else {
            return false;
        };
        if from.stream.receiving != Receiving::No || !to.stream.output.is_empty() {
            return true;
        }
        if from.large == 0 || from.stream.ended {
            pair.detail().pipes[end as usize] = None;
            self.pipes -= 1;
            return false;
        }
        (from.stream.receiving, from.splicing) = (Receiving::Armed, true);
        let (socket, to) = (Descriptor::of(socket), Descriptor::of(other));
        cx.operations.push(end.key(key), Operation::Splice { socket, pipe, to });
        true
    }

    /// Gives up the pipes of a pair through which nothing has moved for a while, so that others get them.
    pub(super) fn give_up_idle_pipes(&mut self, key: Key, now: Millis, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if pair.stage != Stage::Forwarding || !now.reached(pair.progress.after(PIPE_IDLE)) {
            return;
        }
        for end in End::BOTH {
            if pair.pipe(end).is_none() {
                continue;
            }
            let (from, to) = pair.ends(end);
            from.large = 0;
            if from.splicing {
                cx.operations.push(end.key(key), Operation::Cancel(Kind::Receive));
            } else if to.stream.output.is_empty() {
                pair.detail().pipes[end as usize] = None;
                self.pipes -= 1;
            }
        }
    }

    /// A splice has moved something, or ended.
    pub(super) fn spliced(
        &mut self,
        key: Key,
        end: End,
        result: Result<Spliced, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        match result {
            Ok(Spliced { len: 0, .. }) => self.fin(key, end, cx),
            Ok(spliced) => self.moved(key, end, spliced, cx),
            // It cannot be spliced, or nothing has come for long: see `give_up_idle_pipes`.
            Err(Errno::EINVAL | Errno::ECANCELED) => {
                let Some(pair) = self.table.get_mut(key) else { return };
                pair.side(end).large = 0;
                self.touch(key);
            }
            Err(_) => self.broken(key, end, cx),
        }
    }

    /// Bytes have come into the pipe, and have gone on as far as the other end took them.
    fn moved(
        &mut self,
        key: Key,
        end: End,
        Spliced { len, sent }: Spliced,
        cx: &mut LoopContext<'_>,
    ) {
        self.metrics.add(Counter::SplicedBytes, len as u64);
        if let Ok(bytes @ 1..) = sent {
            self.metrics.count(Counter::Sends);
            self.metrics.add(Counter::SentBytes, bytes as u64);
        }
        if !self.note_bytes(key, end, len, cx) {
            // They have gone on all the same.
            if let Some(pair) = self.table.get_mut(key) {
                pair.bytes[end as usize] += sent.unwrap_or(0) as u64;
            }
            return;
        }
        let Ok(sent) = sent else {
            return self.broken(key, end.other(), cx);
        };
        let Some(pair) = self.table.get_mut(key) else { return };
        let Some(ends) = pair.pipe(end).map(PipeEnds::of) else { return };
        let (from, to) = pair.ends(end);
        from.large = self.splicing.weigh(from.large, len, cx.buffers.buffer_bytes());
        if sent < len {
            self.pieces.push_pipe(&mut to.stream.output, ends, len - sent);
        }
        self.touch(key);
    }
}
