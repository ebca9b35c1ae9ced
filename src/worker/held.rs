//! Input that waits until its session wants it, and answers that come in parts.
//!
//! A receive that is in flight when a session [pauses](crate::service::Action::Pause) may still bring something: no more
//! than its credit, which is what may wait for the peer. That is kept here, and given to the session before anything else is
//! read.

use std::collections::HashMap;

use super::Worker;
use super::connection::{Connection, Stage};
use super::input::Given;
use crate::connection::LoopContext;
use crate::connection::suspended::Awaited;
use crate::ring::{Buffer, Key};
use crate::service::Service;

/// What has come of one connection and was not wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeldInput {
    pub(super) bytes: Vec<u8>,
    /// Whether the peer's FIN came behind it.
    pub(super) end: bool,
}

/// The same of all connections, by slot.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<u32, HeldInput>);

impl Held {
    #[inline]
    pub(super) fn has(&self, key: Key) -> bool {
        !self.0.is_empty() && self.0.contains_key(&key.slot)
    }

    #[inline]
    pub(super) fn take(&mut self, key: Key) -> HeldInput {
        let held = if self.0.is_empty() { None } else { self.0.remove(&key.slot) };
        held.unwrap_or_default()
    }

    pub(super) fn put(&mut self, key: Key, input: HeldInput) {
        if input != HeldInput::default() {
            self.0.insert(key.slot, input);
        }
    }
}

/// What an open session is called for next, without anything having completed.
enum Next {
    /// To write more of its answer.
    Write,
    /// For input that was held.
    Input(Vec<u8>),
    /// For the peer's FIN behind it.
    End,
}

impl<S: Service> Worker<S> {
    /// Whether what comes from the peer now has to wait.
    pub(super) fn holds(&self, key: Key) -> bool {
        let connection = self.table.get(key);
        let reads = |it: &Connection<_>| it.stage.awaited() == Some(Awaited::Input);
        connection.is_some_and(|it| it.stage.is_open() && !reads(it)) || self.held.has(key)
    }

    /// Keeps input for later.
    pub(super) fn hold(
        &mut self,
        key: Key,
        (buffer, len): (Buffer, usize),
        cx: &mut LoopContext<'_>,
    ) {
        self.heard(key, len, cx);
        let mut held = self.held.take(key);
        held.bytes.extend_from_slice(cx.buffers.bytes(&buffer, 0..len));
        cx.buffers.recycle(buffer);
        self.held.put(key, held);
    }

    /// The same with the peer's FIN.
    pub(super) fn hold_end(&mut self, key: Key) {
        let held = self.held.take(key);
        self.held.put(key, HeldInput { end: true, ..held });
    }

    /// Calls an open session for what it can do now: for more of its answer while there is room for it, for input that was
    /// held once it wants that.
    pub(super) fn catch_up(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        while let Some(next) = self.next_call(key) {
            let goes_on = match next {
                Next::Write => self.write_more(key, cx),
                Next::Input(bytes) => {
                    let input = Some(Given::Held(bytes));
                    self.call(key, input, cx, |service, (session, local), input, outbox| {
                        service.data(session, local, input, outbox)
                    })
                }
                Next::End => self.call(key, None, cx, |service, (session, local), _, outbox| {
                    service.half_closed(session, local, outbox)
                }),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Lets the service write more of its answer.
    fn write_more(&mut self, key: Key, cx: &mut LoopContext<'_>) -> bool {
        let Some(connection) = self.table.get_mut(key) else { return false };
        // Unless it says once more that there is more.
        connection.stage = Stage::Open(Awaited::Input);
        self.call(key, None, cx, |service, (session, local), _, outbox| {
            service.writable(session, local, outbox)
        })
    }

    fn next_call(&mut self, key: Key) -> Option<Next> {
        let connection = self.table.get(key)?;
        let budget = self.versions.get(connection.version).settings.budget_bytes as usize;
        let unsent = connection.stream.output.bytes;
        match connection.stage.awaited()? {
            Awaited::Word => None,
            Awaited::Room => (unsent <= budget / 2).then_some(Next::Write),
            Awaited::Input if unsent >= budget => None,
            Awaited::Input if self.held.has(key) => Some(self.next_held(key)),
            Awaited::Input => None,
        }
    }

    /// The next of what is held, as if it came now.
    fn next_held(&mut self, key: Key) -> Next {
        let HeldInput { bytes, end } = self.held.take(key);
        if bytes.is_empty() {
            return Next::End;
        }
        self.held.put(key, HeldInput { bytes: Vec::new(), end });
        Next::Input(bytes)
    }
}
