//! From received bytes to the service and from its answer to the output queue.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Worker;
use super::connection::Stage;
use crate::connection::suspended::Awaited;
use crate::connection::{LoopContext, OutOfBuffers, Receiving, shots};
use crate::metrics::Counter;
use crate::ring::{Buffer, Key, Received};
use crate::service::{Action, CloseReason, Input, Item, Outbox, Service};
use crate::sys::Errno;

/// Input as it is given to a session.
pub(super) enum Given {
    /// In the buffer that it was received into: so many bytes.
    Received(Buffer, usize),
    /// What was held until the session wanted it.
    Held(Vec<u8>),
}

impl<S: Service> Worker<S> {
    /// Asks for more input, unless that is asked already or enough output waits.
    ///
    /// The first receive of a connection is single: if the service then closes, nothing is in flight
    /// and the answer leaves together with the FIN. From the second on it has many shots, as many
    /// bytes as the budget has left, where the ring can cap them.
    pub(super) fn receive(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let waits = |awaited| awaited != Awaited::Input;
        if connection.stage.awaited().is_some_and(waits) || self.held.has(key) {
            return;
        }
        let stream = &mut connection.stream;
        let Some(socket) = stream.readable() else { return };
        let many = stream.spoken && self.receive_credit;
        let budget = self.versions.get(connection.version).settings.budget_bytes;
        if let Some(shots) = shots(&stream.output, budget, many, cx.buffers) {
            stream.arm(key, (socket, shots), cx);
        }
    }

    /// A receive has brought something.
    pub(super) fn received(
        &mut self,
        key: Key,
        result: Result<Received, Errno>,
        cx: &mut LoopContext<'_>,
    ) {
        match result {
            Ok(Received::Bytes { buffer, len }) => self.received_bytes(key, (buffer, len), cx),
            Ok(Received::End) => self.received_end(key, cx),
            // Whoever resumes it asks again.
            Err(Errno::ENOBUFS | Errno::ECANCELED) if self.suspensions.has(key) => {
                self.advance(key, cx);
            }
            Err(Errno::ENOBUFS) => self.starve(key, cx),
            Err(_) => self.terminate(key, CloseReason::PeerReset, cx),
        }
    }

    fn received_bytes(
        &mut self,
        key: Key,
        (buffer, len): (Buffer, usize),
        cx: &mut LoopContext<'_>,
    ) {
        self.metrics.count(Counter::Receives);
        self.metrics.add(Counter::ReceivedBytes, len as u64);
        let holds = self.holds(key);
        let Some(connection) = self.table.get_mut(key) else { return };
        match &mut connection.stage {
            Stage::Open(_) if holds => {
                self.hold(key, (buffer, len), cx);
                return self.advance(key, cx);
            }
            Stage::Open(_) => return self.data(key, (buffer, len), cx),
            Stage::Preread => return self.preread(key, (buffer, len), cx),
            Stage::Lingering { bytes_left } => *bytes_left = bytes_left.saturating_sub(len as u32),
            Stage::Flushing { .. } | Stage::Joining => {}
        }
        self.notes.received(key, len, cx.now);
        let lingered_enough = connection.stage == Stage::Lingering { bytes_left: 0 };
        cx.buffers.recycle(buffer);
        if lingered_enough {
            self.finish(key, cx);
        } else {
            self.advance(key, cx);
        }
    }

    fn received_end(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let holds = self.holds(key);
        let Some(connection) = self.table.get_mut(key) else { return };
        connection.stream.ended = true;
        match connection.stage {
            Stage::Open(_) if holds => {
                self.hold_end(key);
                self.advance(key, cx);
            }
            Stage::Open(_) => {
                self.consult(key, None, cx, |service, (session, local), _, outbox| {
                    service.half_closed(session, local, outbox)
                })
            }
            Stage::Preread => self.ended_in_header(key, cx),
            Stage::Lingering { .. } => self.finish(key, cx),
            Stage::Flushing { .. } => {
                // Nothing is left to linger for.
                connection.stage = Stage::Flushing { linger: false };
                self.advance(key, cx);
            }
            Stage::Joining => self.advance(key, cx),
        }
    }

    /// No buffer: wait in line for one.
    fn starve(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        self.metrics.count(Counter::Starved);
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.stage == Stage::Joining {
            self.advance(key, cx);
        } else {
            connection.stream.receiving = Receiving::Starved;
            cx.starved.push(key);
        }
    }

    /// Notes that the peer has sent so many bytes.
    pub(super) fn heard(&mut self, key: Key, len: usize, cx: &mut LoopContext<'_>) {
        self.notes.received(key, len, cx.now);
        if let Some(connection) = self.table.get_mut(key)
            && !std::mem::replace(&mut connection.stream.spoken, true)
        {
            let times = &self.versions.get(connection.version).settings.times;
            times.first_byte.add(cx.millis.age(connection.began));
        }
    }

    pub(super) fn data(&mut self, key: Key, input: (Buffer, usize), cx: &mut LoopContext<'_>) {
        self.heard(key, input.1, cx);
        let input = Some(Given::Received(input.0, input.1));
        self.consult(key, input, cx, |service, (session, local), input, outbox| {
            service.data(session, local, input, outbox)
        });
    }

    /// Tells a session that the server drains.
    pub(super) fn session_drains(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.stage.is_open() {
            self.consult(key, None, cx, |service, (session, local), _, outbox| {
                service.draining(session, local, outbox)
            });
        }
    }

    /// Calls the service, and starts what comes next.
    pub(super) fn consult(
        &mut self,
        key: Key,
        input: Option<Given>,
        cx: &mut LoopContext<'_>,
        call: impl FnOnce(&S, (&mut S::Session, &mut S::Local), &Input<'_>, &mut Outbox) -> Action,
    ) {
        if self.call(key, input, cx, call) {
            self.advance(key, cx);
        }
    }

    /// Lets the service look at the input, if there is some, queues its answer and does what it has
    /// decided. A panic costs the connection. False if the connection has ended.
    pub(super) fn call(
        &mut self,
        key: Key,
        input: Option<Given>,
        cx: &mut LoopContext<'_>,
        call: impl FnOnce(&S, (&mut S::Session, &mut S::Local), &Input<'_>, &mut Outbox) -> Action,
    ) -> bool {
        let Some(connection) = self.table.get_mut(key) else { return false };
        let session = connection.session.as_mut().expect("an open connection has a session");
        let bytes = match &input {
            Some(Given::Received(buffer, len)) => cx.buffers.bytes(buffer, 0..*len),
            Some(Given::Held(bytes)) => bytes,
            None => &[],
        };
        let version = self.versions.get(connection.version);
        let view = Input::new(bytes).draining(version.draining.is_some());
        let (service, outbox) = (&*version.settings.service, &mut self.outbox);
        outbox.set_unsent(self.pieces.in_memory(&connection.stream.output));
        let action = catch_unwind(AssertUnwindSafe(|| {
            let local = &mut *version.local(&self.mail);
            let action = call(service, (session, local), &view, outbox);
            outbox.check(bytes.len());
            action
        }));
        let Ok(action) = action else {
            self.outbox.clear();
            if let Some(Given::Received(buffer, _)) = input {
                cx.buffers.recycle(buffer);
            }
            self.panicked(key, cx);
            return false;
        };
        let action = match action {
            // Nobody would call it again for that: there is room already.
            Action::More if self.outbox.is_empty() => Action::Pause,
            action => action,
        };
        if let Some(change) = self.outbox.timer_change() {
            self.timers.change(key, change, cx.millis);
        }
        let queued = self.queue_answer(key, input, cx);
        match queued {
            Ok(()) => self.act(key, action, cx),
            Err(OutOfBuffers) => {
                self.terminate(key, CloseReason::OutboxOverflow, cx);
                false
            }
        }
    }

    /// A session whose service has panicked is in no known state, so it is not called again.
    pub(super) fn panicked(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let session = connection.session.take();
        self.mailboxes.close(key);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(session)));
        self.terminate(key, CloseReason::ServicePanicked, cx);
    }

    /// Does what the service has decided. False if the connection has ended.
    fn act(&mut self, key: Key, action: Action, cx: &mut LoopContext<'_>) -> bool {
        let now = cx.millis;
        let Some(connection) = self.table.get_mut(key) else { return false };
        if action == Action::Begin {
            connection.begun = now;
        }
        match action {
            Action::Continue | Action::Begin => {
                // Only what writes the parts of an answer says that it is over.
                if connection.stage != Stage::Open(Awaited::Room) {
                    connection.stage = Stage::Open(Awaited::Input);
                }
                // What the peer sends is no excuse for taking nothing.
                if !connection.stream.sending {
                    connection.progress = now;
                }
            }
            Action::Await => {}
            Action::Pause => connection.stage = Stage::Open(Awaited::Word),
            Action::More => connection.stage = Stage::Open(Awaited::Room),
            Action::Abort => {
                self.terminate(key, CloseReason::ServiceAborted, cx);
                return false;
            }
            Action::Close | Action::Linger => {
                let linger = action == Action::Linger && !connection.stream.ended;
                connection.stage = Stage::Flushing { linger };
                connection.reason = if connection.stream.ended {
                    CloseReason::PeerClosed
                } else {
                    CloseReason::ServiceClosed
                };
            }
        }
        true
    }

    /// Moves the outbox to the connection's output. Zero-copy: the last part of the input that is to
    /// be sent back takes the receive buffer along.
    pub(super) fn queue_answer(
        &mut self,
        key: Key,
        input: Option<Given>,
        cx: &mut LoopContext<'_>,
    ) -> Result<(), OutOfBuffers> {
        let Some(connection) = self.table.get_mut(key) else { return Ok(()) };
        let (pieces, pool) = (&mut self.pieces, &mut *cx.buffers);
        let output = &mut connection.stream.output;
        let was_full = pieces.in_memory(output) > S::UNSENT_BYTES && !self.outbox.is_empty();
        let items = self.outbox.items();
        let (mut input, held) = match input {
            Some(Given::Received(buffer, _)) => (Some(buffer), Vec::new()),
            Some(Given::Held(bytes)) => (None, bytes),
            None => (None, Vec::new()),
        };
        let is_unasked = input.is_none();
        let last_input = items.iter().rposition(|item| matches!(item, Item::Input(_)));
        if last_input.is_none() {
            // First, so that what is copied goes into this buffer, which is warm.
            input.take().into_iter().for_each(|unused| pool.recycle(unused));
        }
        let overflowed = self.outbox.overflowed();
        let (items, written) = self.outbox.take();
        let mut queued = if overflowed { Err(OutOfBuffers) } else { Ok(()) };
        for (index, item) in items.enumerate() {
            let result = match (item, &input) {
                (Item::Static(bytes), _) => {
                    pieces.push_static(output, pool, bytes);
                    Ok(())
                }
                (Item::Shared(part), _) => {
                    pieces.push_shared(output, pool, part);
                    Ok(())
                }
                (Item::File(part), _) => {
                    pieces.push_file(output, pool, part);
                    Ok(())
                }
                (Item::Written(range), _) if is_unasked => {
                    pieces.write_unasked(output, pool, &written[range]);
                    Ok(())
                }
                (Item::Input(range), _) if is_unasked => {
                    pieces.write_unasked(output, pool, &held[range]);
                    Ok(())
                }
                (Item::Written(range), _) => pieces.write(output, pool, &written[range]),
                (Item::Input(range), Some(buffer)) if last_input != Some(index) => {
                    pieces.copy_input(output, pool, (buffer, range))
                }
                (Item::Input(range), _) => {
                    let buffer = input.take().expect("the last part of the input takes it");
                    pieces.push_input(output, pool, (buffer, range));
                    Ok(())
                }
            };
            queued = queued.and(result);
        }
        input.into_iter().for_each(|unused| pool.recycle(unused));
        self.outbox.clear();
        if was_full {
            queued = Err(OutOfBuffers);
        }
        queued
    }
}
