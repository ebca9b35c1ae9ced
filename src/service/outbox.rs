//! The answer of one service call, as a list of pieces that the worker turns into sends.

use std::io;
use std::ops::Range;

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A range of the input, sent from the buffer it was received into.
    Input(Range<usize>),
    /// Bytes that live as long as the process, sent from where they are.
    Static(&'static [u8]),
    /// A range of [`Outbox::written`], copied once into a transmit buffer.
    Written(Range<usize>),
}

/// Bytes prepared once and sent many times without a copy.
///
/// The unit is laid out several times in a row, so that answers to pipelined requests leave in one
/// send. The memory is never freed: it must outlive every send, and it is made once per service.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    repeated: &'static [u8],
    unit_bytes: usize,
}

impl Prepared {
    /// How much memory the copies of a small unit may take; a larger unit is held once.
    pub const REPEATED_BYTES: usize = 64 * 1024;

    /// Lays out `unit`, for the life of the process.
    ///
    /// # Panics
    /// If `unit` is empty.
    pub fn new(unit: &[u8]) -> Self {
        assert!(!unit.is_empty(), "an empty answer cannot be prepared");
        let copies = (Self::REPEATED_BYTES / unit.len()).max(1);
        Self { repeated: Vec::leak(unit.repeat(copies)), unit_bytes: unit.len() }
    }

    /// The unit itself.
    pub fn unit(&self) -> &'static [u8] {
        &self.repeated[..self.unit_bytes]
    }

    /// `sent` grown by one more unit, if it is a run of this answer with room behind it.
    fn extend(&self, sent: &'static [u8]) -> Option<&'static [u8]> {
        let grown = sent.len() + self.unit_bytes;
        let ours = std::ptr::eq(sent.as_ptr(), self.repeated.as_ptr());
        (ours && grown <= self.repeated.len()).then(|| &self.repeated[..grown])
    }
}

/// Where a service puts its answer. Reused from call to call, so it does not allocate once warm.
#[derive(Debug, Default)]
pub struct Outbox {
    items: Vec<Item>,
    written: Vec<u8>,
    bytes: usize,
    overflowed: bool,
}

impl Outbox {
    /// The most that one call may write with [`write`](Self::write). A call that writes more loses
    /// its connection ([`CloseReason::OutboxOverflow`](super::CloseReason::OutboxOverflow)).
    pub const LIMIT_BYTES: usize = 256 * 1024;

    /// Sends a range of the input back without copying it.
    ///
    /// # Panics
    /// In the worker, if the range does not lie within the input: that costs the connection.
    pub fn echo(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.bytes += range.len();
            self.items.push(Item::Input(range));
        }
    }

    /// Sends bytes that live as long as the process, without copying them.
    pub fn send_static(&mut self, bytes: &'static [u8]) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.items.push(Item::Static(bytes));
        }
    }

    /// Sends a prepared answer; answers of the same kind in a row become one send.
    pub fn send_prepared(&mut self, prepared: &Prepared) {
        if let Some(Item::Static(last)) = self.items.last_mut()
            && let Some(grown) = prepared.extend(last)
        {
            *last = grown;
            self.bytes += prepared.unit_bytes;
            return;
        }
        self.send_static(prepared.unit());
    }

    /// Copies `bytes` into the answer, at most [`LIMIT_BYTES`](Self::LIMIT_BYTES) in one call of the
    /// service.
    pub fn write(&mut self, bytes: &[u8]) {
        let start = self.written.len();
        let end = start + bytes.len();
        if end > Self::LIMIT_BYTES {
            self.overflowed = true;
            return;
        }
        if bytes.is_empty() {
            return;
        }
        self.written.extend_from_slice(bytes);
        self.bytes += bytes.len();
        match self.items.last_mut() {
            Some(Item::Written(range)) => range.end = end,
            _ => self.items.push(Item::Written(start..end)),
        }
    }

    /// Bytes queued so far.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether a call wrote more than [`LIMIT_BYTES`](Self::LIMIT_BYTES).
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The pieces, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The bytes that [`Item::Written`] ranges refer to.
    pub fn written(&self) -> &[u8] {
        &self.written
    }

    /// # Panics
    /// If a range of the input is asked for that does not exist.
    pub(crate) fn check(&self, input_bytes: usize) {
        for item in &self.items {
            if let Item::Input(range) = item {
                assert!(range.end <= input_bytes, "{range:?} of {input_bytes} bytes of input");
            }
        }
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.written.clear();
        self.bytes = 0;
        self.overflowed = false;
    }

    /// The bytes that the peer will see, if `input` was the input of the call. For tests of services.
    pub fn render(&self, input: &[u8]) -> Vec<u8> {
        let piece = |item: &Item| match item {
            Item::Input(range) => input[range.clone()].to_vec(),
            Item::Static(bytes) => bytes.to_vec(),
            Item::Written(range) => self.written[range.clone()].to_vec(),
        };
        self.items.iter().flat_map(piece).collect()
    }
}

/// So that `write!(outbox, ...)` works. Never fails; see [`Outbox::overflowed`].
impl io::Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Outbox::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
