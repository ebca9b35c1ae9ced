//! poll(2), for threads that wait for a few descriptors and have no ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::errno::check;

/// A descriptor that is waited for, and what for: [`POLLIN`](super::POLLIN), [`POLLOUT`](super::POLLOUT).
#[derive(Debug, Clone, Copy)]
pub struct Polled<'a> {
    fd: BorrowedFd<'a>,
    events: i16,
    /// What is so now: [`POLLHUP`](super::POLLHUP) and [`POLLERR`](super::POLLERR) come unasked.
    pub ready: i16,
}

impl<'a> Polled<'a> {
    /// Waits for these events of this descriptor; for none of them it is an error or the end that are waited for.
    pub fn new(fd: BorrowedFd<'a>, events: i16) -> Self {
        Self { fd, events, ready: 0 }
    }
}

/// Waits until one of the descriptors is ready, or this long; `None` is for ever. A signal ends it early, as if
/// nothing was ready.
///
/// # Errors
/// Those of poll(2).
pub fn poll(all: &mut [Polled<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let raw = |polled: &Polled<'_>| libc::pollfd {
        fd: polled.fd.as_raw_fd(),
        events: polled.events,
        revents: 0,
    };
    let mut raw: Vec<libc::pollfd> = all.iter().map(raw).collect();
    // A part of a millisecond is waited for too, or the caller would come too early and spin.
    let millis = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: the kernel reads and writes the `raw.len()` entries of `raw`, which outlives the call.
    let result = unsafe { libc::poll(raw.as_mut_ptr(), raw.len() as libc::nfds_t, millis) };
    if let Err(error) = check(result)
        && error.kind() != io::ErrorKind::Interrupted
    {
        return Err(error);
    }
    for (polled, raw) in all.iter_mut().zip(raw) {
        polled.ready = raw.revents;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;
    use crate::sys::{POLLHUP, POLLIN, POLLOUT};

    #[test]
    fn it_tells_what_is_ready_and_waits_no_longer_than_asked() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let (begun, wait) = (Instant::now(), Duration::from_micros(1500));
        let mut polled = [Polled::new(one.as_fd(), POLLIN)];
        poll(&mut polled, Some(wait)).unwrap();
        assert_eq!(polled[0].ready, 0);
        assert!(begun.elapsed() >= wait);
        other.write_all(b"x").unwrap();
        let mut polled = [Polled::new(one.as_fd(), POLLIN | POLLOUT)];
        poll(&mut polled, None).unwrap();
        assert_eq!(polled[0].ready, POLLIN | POLLOUT);
        drop(other);
        let mut polled = [Polled::new(one.as_fd(), 0)];
        poll(&mut polled, None).unwrap();
        assert_eq!(polled[0].ready & POLLHUP, POLLHUP);
    }
}
