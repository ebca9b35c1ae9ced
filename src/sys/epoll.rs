//! epoll(7): which of many descriptors are ready.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::errno::check;

/// One event: what has happened, and the 64 bits that the descriptor was registered with.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

impl EpollEvent {
    /// EPOLLIN and its siblings.
    pub fn events(&self) -> u32 {
        self.0.events
    }

    /// What [`epoll_add`] was given.
    pub fn data(&self) -> u64 {
        self.0.u64
    }
}

impl std::fmt::Debug for EpollEvent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "EpollEvent {{ {:#x}, {:#x} }}", self.events(), self.data())
    }
}

/// epoll_create1(2) with CLOEXEC.
///
/// # Errors
/// Those of epoll_create1(2).
pub fn epoll_create1() -> io::Result<OwnedFd> {
    // SAFETY: an integer; no memory of ours is involved.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: `fd` is open, new, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// EPOLL_CTL_ADD. What is ready already is an event too.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn epoll_add(
    epoll: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    events: u32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    let (epoll, fd) = (epoll.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: the kernel reads `event`, which outlives the call.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) }).map(drop)
}

/// EPOLL_CTL_DEL.
///
/// # Errors
/// Those of epoll_ctl(2).
pub fn epoll_delete(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> io::Result<()> {
    let none = std::ptr::null_mut();
    // SAFETY: EPOLL_CTL_DEL takes no event (Linux 2.6.9).
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), none) })
        .map(drop)
}

/// epoll_pwait2(2), Linux 5.11: replaces what is in `events`, up to its capacity, which must not be
/// zero. `None` waits for ever.
///
/// # Errors
/// Those of epoll_pwait2(2).
pub fn epoll_pwait2(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<EpollEvent>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    events.clear();
    let timeout = timeout.map(|duration| libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    });
    let time = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: the kernel writes at most `capacity` events, for which the vector has room (EpollEvent
    // is a transparent epoll_event), and reads `timeout`, which outlives the call.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr(),
            events.capacity().min(i32::MAX as usize) as libc::c_int,
            time,
            no_mask,
            0_usize,
        )
    };
    // SAFETY: as many events as the kernel says it has written.
    written(events, count as libc::c_int, |events, count| unsafe { events.set_len(count) })
}

/// epoll_wait(2), as [`epoll_pwait2`] with milliseconds, rounded up.
///
/// # Errors
/// Those of epoll_wait(2).
pub fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<EpollEvent>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    events.clear();
    let room = events.capacity().min(i32::MAX as usize) as libc::c_int;
    let timeout = timeout.map_or(-1, milliseconds);
    // SAFETY: the kernel writes at most `room` events, for which the vector has room (EpollEvent is
    // a transparent epoll_event).
    let count =
        unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr().cast(), room, timeout) };
    // SAFETY: as many events as the kernel says it has written.
    written(events, count, |events, count| unsafe { events.set_len(count) })
}

fn written(
    events: &mut Vec<EpollEvent>,
    count: libc::c_int,
    set_len: impl FnOnce(&mut Vec<EpollEvent>, usize),
) -> io::Result<()> {
    let count = check(count)?;
    set_len(events, count as usize);
    Ok(())
}

/// Never shorter than the duration, as far as the kernel can count.
fn milliseconds(duration: Duration) -> libc::c_int {
    libc::c_int::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::super::{EPOLLET, EPOLLIN, eventfd, signal};
    use super::*;

    type WaitCall = fn(BorrowedFd<'_>, &mut Vec<EpollEvent>, Option<Duration>) -> io::Result<()>;

    const CALLS: [WaitCall; 2] = [epoll_pwait2, epoll_wait];

    #[test]
    fn an_event_brings_the_data_of_its_descriptor() {
        for wait in CALLS {
            let (epoll, counter) = (epoll_create1().unwrap(), eventfd().unwrap());
            let mut events = Vec::with_capacity(4);
            epoll_add(epoll.as_fd(), counter.as_fd(), EPOLLIN | EPOLLET, u64::MAX - 1).unwrap();
            wait(epoll.as_fd(), &mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty());
            signal(counter.as_fd()).unwrap();
            wait(epoll.as_fd(), &mut events, None).unwrap();
            assert_eq!((events.len(), events[0].data()), (1, u64::MAX - 1));
            assert_eq!(events[0].events(), EPOLLIN);
        }
    }

    /// The engine never reads its eventfd: epoll(7) promises an event for each write.
    #[test]
    fn each_signal_is_an_edge_though_nobody_reads_the_counter() {
        let (epoll, counter) = (epoll_create1().unwrap(), eventfd().unwrap());
        let mut events = Vec::with_capacity(4);
        epoll_add(epoll.as_fd(), counter.as_fd(), EPOLLIN | EPOLLET, 0).unwrap();
        for _ in 0..3 {
            signal(counter.as_fd()).unwrap();
            epoll_wait(epoll.as_fd(), &mut events, Some(Duration::ZERO)).unwrap();
            assert_eq!(events.len(), 1);
            epoll_wait(epoll.as_fd(), &mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty());
        }
    }

    #[test]
    fn what_is_deleted_brings_no_event() {
        let (epoll, counter) = (epoll_create1().unwrap(), eventfd().unwrap());
        let mut events = Vec::with_capacity(4);
        epoll_add(epoll.as_fd(), counter.as_fd(), EPOLLIN | EPOLLET, 0).unwrap();
        epoll_delete(epoll.as_fd(), counter.as_fd()).unwrap();
        signal(counter.as_fd()).unwrap();
        epoll_wait(epoll.as_fd(), &mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
        let twice = epoll_delete(epoll.as_fd(), counter.as_fd()).unwrap_err();
        assert_eq!(twice.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn milliseconds_are_rounded_up_and_never_wrap() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(2000)), 2);
        assert_eq!(milliseconds(Duration::MAX), libc::c_int::MAX);
    }
}
