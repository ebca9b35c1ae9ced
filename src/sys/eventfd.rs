//! eventfd(2): a counter that a ring reads and any thread, or a signal handler, adds to.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::check;

/// A counter at zero; one read takes all of it. CLOEXEC. Blocking: a ring waits for the first signal
/// either way on Linux 6.18 (seen), but older ones answered a read of an O_NONBLOCK descriptor with
/// EAGAIN.
///
/// # Errors
/// Those of eventfd(2).
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: two integers; no memory of ours is involved.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: `fd` is open, new, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds one to the counter, which wakes its reader. Async-signal-safe.
///
/// # Errors
/// Those of write(2). A full counter is none: its reader has been woken already.
pub fn signal(eventfd: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1_u64;
    // SAFETY: the kernel reads the eight bytes of `one`, which outlives the call.
    let written =
        unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    if written != -1 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::thread;

    use socket2::SockRef;

    use super::*;

    fn read(counter: &mut File) -> u64 {
        let mut bytes = [0; 8];
        counter.read_exact(&mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn one_read_takes_all_signals() {
        let mut counter = File::from(eventfd().unwrap());
        for _ in 0..3 {
            signal(counter.as_fd()).unwrap();
        }
        assert_eq!(read(&mut counter), 3);
    }

    #[test]
    fn a_read_waits_for_the_first_signal() {
        let mut counter = File::from(eventfd().unwrap());
        assert!(!SockRef::from(&counter).nonblocking().unwrap());
        let writer = counter.try_clone().unwrap();
        let reader = thread::spawn(move || read(&mut counter));
        signal(writer.as_fd()).unwrap();
        assert_eq!(reader.join().unwrap(), 1);
    }

    #[test]
    fn a_full_counter_is_success() {
        let mut counter = File::from(eventfd().unwrap());
        // A blocking write to a full counter would wait.
        SockRef::from(&counter).set_nonblocking(true).unwrap();
        counter.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        signal(counter.as_fd()).unwrap();
        assert_eq!(read(&mut counter), u64::MAX - 1);
    }

    #[test]
    fn what_is_no_eventfd_is_an_error() {
        let (left, right) = io::pipe().unwrap();
        drop(left);
        assert_eq!(signal(right.as_fd()).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
