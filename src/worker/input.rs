//! From received bytes to the service and from its answer to the output queue.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Worker;
use super::connection::Stage;
use crate::connection::{LoopContext, OutOfBuffers, Receiving};
use crate::metrics::Counter;
use crate::ring::{Buffer, Key, Received};
use crate::service::{Action, CloseReason, Input, Item, Outbox, Service};
use crate::sys::Errno;

impl<S: Service> Worker<S> {
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
        let Some(connection) = self.table.get_mut(key) else { return };
        match &mut connection.stage {
            Stage::Open => return self.data(key, (buffer, len), cx),
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
        let Some(connection) = self.table.get_mut(key) else { return };
        connection.stream.ended = true;
        match connection.stage {
            Stage::Open => self.consult(key, None, cx, |service, session, _, outbox| {
                service.half_closed(session, outbox)
            }),
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

    pub(super) fn data(&mut self, key: Key, input: (Buffer, usize), cx: &mut LoopContext<'_>) {
        self.notes.received(key, input.1, cx.now);
        if let Some(connection) = self.table.get_mut(key)
            && !std::mem::replace(&mut connection.stream.spoken, true)
        {
            let times = &self.versions.get(connection.version).settings.times;
            times.first_byte.add(cx.millis.age(connection.began));
        }
        let call =
            |service: &S, session: &mut S::Session, input: &Input<'_>, outbox: &mut Outbox| {
                service.data(session, input, outbox)
            };
        self.consult(key, Some(input), cx, call);
    }

    /// Tells a session that the server drains.
    pub(super) fn session_drains(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        if connection.stage == Stage::Open {
            self.consult(key, None, cx, |service, session, _, outbox| {
                service.draining(session, outbox)
            });
        }
    }

    /// Lets the service look at the input, if there is some, queues its answer and does what it has
    /// decided. A panic costs the connection.
    fn consult(
        &mut self,
        key: Key,
        input: Option<(Buffer, usize)>,
        cx: &mut LoopContext<'_>,
        call: impl FnOnce(&S, &mut S::Session, &Input<'_>, &mut Outbox) -> Action,
    ) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let session = connection.session.as_mut().expect("an open connection has a session");
        let bytes = match &input {
            Some((buffer, len)) => cx.buffers.bytes(buffer, 0..*len),
            None => &[],
        };
        let version = self.versions.get(connection.version);
        let view = Input::new(bytes).draining(version.draining.is_some());
        let (service, outbox) = (&*version.settings.service, &mut self.outbox);
        let action = catch_unwind(AssertUnwindSafe(|| {
            let action = call(service, session, &view, outbox);
            outbox.check(bytes.len());
            action
        }));
        let Ok(action) = action else {
            self.outbox.clear();
            input.into_iter().for_each(|(buffer, _)| cx.buffers.recycle(buffer));
            return self.panicked(key, cx);
        };
        let queued = self.queue_answer(key, input.map(|(buffer, _)| buffer), cx);
        match queued {
            Ok(()) => self.act(key, action, cx),
            Err(OutOfBuffers) => self.terminate(key, CloseReason::OutboxOverflow, cx),
        }
    }

    /// A session whose service has panicked is in no known state, so it is not called again.
    pub(super) fn panicked(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(connection) = self.table.get_mut(key) else { return };
        let session = connection.session.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(session)));
        self.terminate(key, CloseReason::ServicePanicked, cx);
    }

    /// Does what the service has decided.
    fn act(&mut self, key: Key, action: Action, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(connection) = self.table.get_mut(key) else { return };
        if action == Action::Begin {
            connection.begun = now;
        }
        match action {
            // What the peer sends is no excuse for taking nothing.
            Action::Continue | Action::Begin if !connection.stream.sending => {
                connection.progress = now;
            }
            Action::Continue | Action::Begin | Action::Await => {}
            Action::Abort => return self.terminate(key, CloseReason::ServiceAborted, cx),
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
        self.advance(key, cx);
    }

    /// Moves the outbox to the connection's output. Zero-copy: the last part of the input that is to
    /// be sent back takes the receive buffer along.
    pub(super) fn queue_answer(
        &mut self,
        key: Key,
        mut input: Option<Buffer>,
        cx: &mut LoopContext<'_>,
    ) -> Result<(), OutOfBuffers> {
        let Some(connection) = self.table.get_mut(key) else { return Ok(()) };
        let (pieces, pool) = (&mut self.pieces, &mut *cx.buffers);
        let (output, in_flight) = (&mut connection.stream.output, connection.stream.sending);
        let items = self.outbox.items();
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
                    pieces.push_static(output, pool, in_flight, bytes);
                    Ok(())
                }
                (Item::Shared(part), _) => {
                    pieces.push_shared(output, pool, in_flight, part);
                    Ok(())
                }
                (Item::Written(range), _) => pieces.write(output, pool, in_flight, &written[range]),
                (Item::Input(range), Some(buffer)) if last_input != Some(index) => {
                    pieces.copy_input(output, (pool, in_flight), (buffer, range))
                }
                (Item::Input(range), _) => {
                    let buffer = input.take().expect("the last part of the input takes it");
                    pieces.push_input(output, pool, in_flight, (buffer, range));
                    Ok(())
                }
            };
            queued = queued.and(result);
        }
        input.into_iter().for_each(|unused| pool.recycle(unused));
        self.outbox.clear();
        queued
    }
}
