//! The answer of one service call, as a list of pieces that the worker turns into sends.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::shared::{FilePart, SharedBytes, SharedPart};

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A range of the input, sent from the buffer it was received into.
    Input(Range<usize>),
    /// Bytes that live as long as the process, sent from where they are.
    Static(&'static [u8]),
    /// Part of [`SharedBytes`] or of a [`Prepared`] answer, sent from where it is and kept until it is sent.
    Shared(SharedPart),
    /// Part of a file, see [`Outbox::file`].
    File(FilePart),
    /// A range of [`Outbox::written`], copied once into a transmit buffer.
    Written(Range<usize>),
}

/// Bytes prepared once and sent many times without a copy.
///
/// The unit is laid out several times in a row, so that answers to pipelined requests leave in one
/// send. It is freed when it has been dropped and every connection that was given it has sent it or
/// has ended. A clone is the same memory.
#[derive(Debug, Clone)]
pub struct Prepared {
    repeated: SharedBytes,
    unit_bytes: usize,
}

impl Prepared {
    /// How much memory the copies of a small unit may take; a larger unit is held once.
    pub const REPEATED_BYTES: usize = 64 * 1024;

    /// Lays out `unit`.
    ///
    /// # Panics
    /// If `unit` is empty.
    pub fn new(unit: &[u8]) -> Self {
        assert!(!unit.is_empty(), "an empty answer cannot be prepared");
        let copies = (Self::REPEATED_BYTES / unit.len()).max(1);
        Self { repeated: SharedBytes::new(unit.repeat(copies)), unit_bytes: unit.len() }
    }

    /// Lays out an answer that no other follows: once.
    ///
    /// # Panics
    /// If `unit` is empty.
    pub fn once(unit: impl Into<Vec<u8>>) -> Self {
        let unit = unit.into();
        assert!(!unit.is_empty(), "an empty answer cannot be prepared");
        Self { unit_bytes: unit.len(), repeated: SharedBytes::new(unit) }
    }

    /// The unit itself.
    pub fn unit(&self) -> &[u8] {
        &self.repeated[..self.unit_bytes]
    }
}

/// What a call has done to the timer of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// It runs down after this time, whatever it was before.
    Set(Duration),
    /// It does not run any more.
    Cancelled,
}

/// Where a service puts its answer. Reused from call to call, so it does not allocate once warm.
#[derive(Debug, Default)]
pub struct Outbox {
    items: Vec<Item>,
    written: Vec<u8>,
    bytes: usize,
    overflowed: bool,
    timer: Option<Timer>,
    unsent: usize,
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
        let Prepared { repeated, unit_bytes } = prepared;
        self.bytes += unit_bytes;
        if let Some(Item::Shared(last)) = self.items.last_mut()
            && last.grow(*unit_bytes, repeated)
        {
            return;
        }
        self.items.push(Item::Shared(repeated.first(*unit_bytes)));
    }

    /// Sends bytes that several own, without copying them: for what many sessions are sent.
    pub fn send_shared(&mut self, bytes: &SharedBytes) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.items.push(Item::Shared(bytes.first(bytes.len())));
        }
    }

    /// Sends bytes of a file, from `range.start` on, without a copy and without memory for them: sendfile(2), on a
    /// thread that may wait for the disk, as fast as the peer takes them. The file stays open until they are sent, and
    /// what it has then is what is sent. If it has fewer bytes than the range, or cannot be read, the connection is
    /// reset ([`CloseReason::FileFailed`](super::CloseReason::FileFailed)).
    ///
    /// The file itself is opened, and asked for its size, by the service. Both may wait for a disk, so they belong on
    /// a thread of the service's own where disks are slow. A connection on which part of a file waits does not move to
    /// another process in an upgrade; it ends in the old one.
    ///
    /// ```
    /// # use std::fs::File;
    /// # use std::sync::Arc;
    /// # use uring_acceptor::service::Outbox;
    /// # fn main() -> std::io::Result<()> {
    /// let file = Arc::new(File::open("Cargo.toml")?);
    /// let mut outbox = Outbox::default();
    /// outbox.file(&file, 0..file.metadata()?.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(&mut self, file: &Arc<File>, range: Range<u64>) {
        if !range.is_empty() {
            let part = FilePart::new(Arc::clone(file), range);
            self.bytes += part.len();
            self.items.push(Item::File(part));
        }
    }

    /// Sets the one timer of this session: [`Service::timeout`](super::Service::timeout) is called once, after this time
    /// and at most 1/32 of it and 8 ms later, unless it is set anew or cancelled before. At most 24 days.
    pub fn timer(&mut self, after: Duration) {
        self.timer = Some(Timer::Set(after));
    }

    /// Lets the timer of this session run no more.
    pub fn cancel_timer(&mut self) {
        self.timer = Some(Timer::Cancelled);
    }

    /// What this call has done to the timer, if anything.
    pub fn timer_change(&self) -> Option<Timer> {
        self.timer
    }

    /// How many bytes of earlier calls wait for the peer to take them, beside what the kernel has, and without what is in
    /// [files](Self::file). A session that is
    /// told more than its peer takes decides by this what to drop, or to end.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Makes known how many bytes wait.
    pub fn set_unsent(&mut self, bytes: usize) {
        self.unsent = bytes;
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

    /// Takes the pieces out, in order, and lends what [`Item::Written`] ranges refer to.
    pub(crate) fn take(&mut self) -> (impl Iterator<Item = Item> + '_, &[u8]) {
        (self.items.drain(..), &self.written)
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.written.clear();
        self.bytes = 0;
        self.overflowed = false;
        self.timer = None;
        self.unsent = 0;
    }

    /// The bytes that the peer will see, if `input` was the input of the call. For tests of services.
    ///
    /// # Panics
    /// If a file cannot be read.
    pub fn render(&self, input: &[u8]) -> Vec<u8> {
        let piece = |item: &Item| match item {
            Item::Input(range) => input[range.clone()].to_vec(),
            Item::Static(bytes) => bytes.to_vec(),
            Item::Shared(part) => part.to_vec(),
            Item::File(part) => part.read().expect("the file can be read"),
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
