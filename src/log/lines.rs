//! Whole lines to a descriptor that may refuse them.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

/// How often a descriptor that is full is asked again, if it does not block: somebody who has it too may
/// have set O_NONBLOCK.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// Lines that could not be written.
#[derive(Debug)]
pub struct Unwritten {
    /// How many are lost. None if all that is missing is the rest of a line.
    pub lines: u64,
    /// What came back.
    pub error: io::Error,
}

/// Writes lines, whole ones: what a short write has left of a line is kept until it can be written.
#[derive(Debug)]
pub struct Lines<W> {
    to: W,
    pending: Vec<u8>,
    /// How much of `pending` is the rest of a line that has begun.
    torn: usize,
}

impl<W: Write> Lines<W> {
    /// Writes to `to`, which should not buffer: what it keeps counts as written.
    pub fn new(to: W) -> Self {
        Self { to, pending: Vec::new(), torn: 0 }
    }

    /// What is written to.
    pub fn target(&mut self) -> &mut W {
        &mut self.to
    }

    /// Where the next line is put. It has to end with a newline.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Writes all that is pending. Blocks as long as the target does, and while it says EAGAIN.
    ///
    /// # Errors
    /// The lines that could not be written; nothing of them is kept.
    pub fn flush(&mut self) -> Result<(), Unwritten> {
        let (written, result) = self.write_pending();
        match result.and_then(|()| self.to.flush()) {
            Ok(()) => {
                self.pending.clear();
                self.torn = 0;
                Ok(())
            }
            Err(error) => Err(Unwritten { lines: self.drop_from(written), error }),
        }
    }

    /// How many bytes were written, and what ended that.
    fn write_pending(&mut self) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < self.pending.len() {
            match self.to.write(&self.pending[written..]) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Keeps the rest of a line that has begun and drops the lines behind it. Returns their number.
    fn drop_from(&mut self, written: usize) -> u64 {
        let has_begun = match written.checked_sub(1) {
            None => self.torn > 0,
            Some(last) => self.pending[last] != b'\n',
        };
        let unwritten = &self.pending[written..];
        let rest = unwritten.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.torn = if has_begun { rest } else { 0 };
        let lost = unwritten[self.torn..].iter().filter(|byte| **byte == b'\n').count();
        self.pending.copy_within(written..written + self.torn, 0);
        self.pending.truncate(self.torn);
        lost as u64
    }
}
