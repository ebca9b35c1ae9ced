//! One turn of a splice through a pipe, for the engines that call splice(2).

use std::os::fd::BorrowedFd;

use super::{SPLICE_LIMIT_BYTES, Spliced};
use crate::sys::{self, Errno};

/// A pipe's ends, to be read from and to be written to.
pub(super) struct Ends<'a> {
    pub(super) read: BorrowedFd<'a>,
    pub(super) write: BorrowedFd<'a>,
}

/// Moves what has come to `from` into the empty pipe, and on to `to` as far as that takes it; `None` if
/// nothing has come. Each system call is added to `calls`.
///
/// # Errors
/// Those of [`sys::splice_received`].
pub(super) fn splice_through(
    from: BorrowedFd<'_>,
    pipe: &Ends<'_>,
    to: BorrowedFd<'_>,
    calls: &mut u64,
) -> Result<Option<Spliced>, Errno> {
    *calls += 1;
    let came = sys::splice_received(from, pipe.write, SPLICE_LIMIT_BYTES)?;
    Ok(came.map(|len| Spliced { len, sent: splice_out(pipe.read, (to, len), calls) }))
}

/// As much as goes without waiting.
fn splice_out(
    pipe: BorrowedFd<'_>,
    (to, len): (BorrowedFd<'_>, usize),
    calls: &mut u64,
) -> Result<usize, Errno> {
    let mut sent = 0;
    while sent < len {
        *calls += 1;
        match sys::splice(pipe, to, len - sent, false) {
            Ok(count) => sent += count,
            Err(Errno::EAGAIN | Errno::EINTR) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}
