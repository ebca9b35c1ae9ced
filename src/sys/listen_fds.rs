//! Sockets that a supervisor has opened for this process. See sd_listen_fds(3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether they were taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors that LISTEN_FDS counts, if LISTEN_PID is this process, each with its name from LISTEN_FDNAMES.
/// None in any later call. To be called before anything else opens descriptors.
///
/// # Errors
/// A variable that is no number, or a descriptor that is not open (EBADF).
pub fn listen_fds() -> io::Result<Vec<(OwnedFd, String)>> {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    Ok(passed
        .map(|(number, name)| {
            // SAFETY: whoever set LISTEN_PID to this process passed these numbers to it alone. Each is open, since
            // FD_CLOEXEC was just set on it, and becomes an OwnedFd once, since they are taken once.
            (unsafe { OwnedFd::from_raw_fd(number) }, name)
        })
        .collect())
}
