//! open(2) and sendfile(2): files that somebody else may have put there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::errno::Errno;

/// open(2) to read, with O_NONBLOCK: a FIFO without a writer is opened too, instead of waiting for one. CLOEXEC.
///
/// # Errors
/// Those of open(2).
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(path)
}

/// preadv2(2) with RWF_NOWAIT: reads what is in memory already, without waiting for a disk. Returns how many bytes, 0 at
/// the end of the file.
///
/// # Errors
/// Those of preadv2(2); EAGAIN where nothing is in memory, EOPNOTSUPP where the file system cannot tell.
pub fn read_cached(file: BorrowedFd<'_>, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    let offset = libc::off64_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel writes at most as many bytes as `bytes` has, which outlives the call, as `part` does.
    let count =
        unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(count).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

/// sendfile(2) of up to `bytes` bytes of `file`, from `offset` on, to a socket. Returns how many, 0 at the end of the
/// file. It waits for the disk, and for room to send unless the socket has O_NONBLOCK.
///
/// A peer that has gone is EPIPE, and SIGPIPE unless that is blocked or ignored.
///
/// # Errors
/// Those of sendfile(2); EINVAL also for an offset that no file has.
pub fn sendfile(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    bytes: usize,
) -> Result<usize, Errno> {
    let mut offset = libc::off64_t::try_from(offset).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads and writes the offset, which outlives the call, and no other memory of ours.
    let count =
        unsafe { libc::sendfile64(socket.as_raw_fd(), file.as_raw_fd(), &raw mut offset, bytes) };
    usize::try_from(count).map_err(|_| Errno::of(&io::Error::last_os_error()))
}
