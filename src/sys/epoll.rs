//! epoll(7), as far as it is needed to know whether it can be had.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::errno::check;

/// epoll_create1(2). CLOEXEC.
///
/// # Errors
/// Those of epoll_create1(2); ENOSYS in a sandbox that hides it.
pub fn epoll_create1() -> io::Result<OwnedFd> {
    // SAFETY: one integer; no memory of ours is involved.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: `fd` is open, new, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
