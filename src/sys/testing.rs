//! What tests on real sockets share.

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::thread;
use std::time::{Duration, Instant};

/// Looks again until `condition` holds.
///
/// # Panics
/// When it does not hold within `deadline`.
#[track_caller]
pub(crate) fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "not within {deadline:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A file of these bytes that has no name: memfd_create(2).
pub(crate) fn file_of(bytes: &[u8]) -> File {
    // SAFETY: the kernel reads the name, which is static and ends with a zero.
    let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
    // SAFETY: it is open, new, and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes).unwrap();
    file
}
