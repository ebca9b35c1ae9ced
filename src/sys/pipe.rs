//! pipe2(2) and splice(2).

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::errno::{Errno, check};

/// Both ends of a pipe, with CLOEXEC and O_NONBLOCK. What is in it is lost when it is dropped.
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub read: OwnedFd,
    /// Where bytes go in.
    pub write: OwnedFd,
}

impl Pipe {
    /// pipe2(2). It takes 64 KiB or more, less for a user who has many: pipe(7).
    ///
    /// # Errors
    /// Those of pipe2(2).
    pub fn new() -> io::Result<Self> {
        let mut fds = [-1; 2];
        // SAFETY: the kernel writes two integers into the array.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: both are open, new, and owned by nobody else.
        let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { read, write })
    }

    /// F_GETPIPE_SZ: how many bytes it takes.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn capacity(&self) -> io::Result<usize> {
        // SAFETY: the call takes no argument and changes nothing.
        let bytes = check(unsafe { libc::fcntl(self.read.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
        Ok(bytes as usize)
    }

    /// FIONREAD: how many bytes are in it.
    ///
    /// # Errors
    /// Those of ioctl(2).
    pub fn held(&self) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one integer, which outlives the call.
        check(unsafe { libc::ioctl(self.read.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
        Ok(bytes as usize)
    }

    /// read(2) of all that is in it.
    ///
    /// # Errors
    /// Those of [`held`](Self::held) and read(2).
    pub fn take(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held()?];
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &mut bytes[taken..];
            // SAFETY: the kernel writes at most as many bytes as `rest` has, which outlives the call.
            let count =
                unsafe { libc::read(self.read.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) };
            match usize::try_from(count) {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        bytes.truncate(taken);
        Ok(bytes)
    }
}

/// open(2) of a FIFO to write to it, with O_NONBLOCK: it does not wait for a reader, and writes do not either.
///
/// # Errors
/// Those of open(2); ENXIO if nobody has it open for reading.
pub fn open_fifo(path: &Path) -> io::Result<File> {
    File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Blocks SIGPIPE for the calling thread, so that a peer which has gone cannot end a program that
/// wants this signal: splice(2) has no flag against it.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn block_sigpipe() -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that the other calls read; the old mask is not asked for.
    let errno = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// splice(2) with SPLICE_F_NONBLOCK: moves up to `bytes` bytes from one descriptor to the other, one
/// of which is a pipe. Returns how many, 0 at the end. With `more`, a segment that is not full is held
/// back for what follows. A socket that is written to needs O_NONBLOCK: the flag is for the pipe. So
/// does one that is read from, unless bytes or the end have come.
///
/// A peer that has gone is EPIPE, and SIGPIPE unless that is blocked or ignored.
///
/// # Errors
/// Those of splice(2).
pub fn splice(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    bytes: usize,
    more: bool,
) -> Result<usize, Errno> {
    let none = std::ptr::null_mut();
    let more = if more { libc::SPLICE_F_MORE } else { 0 };
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE | more;
    // SAFETY: without offsets no memory of ours is involved.
    let count = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, bytes, flags) };
    usize::try_from(count).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

/// [`splice`] of what has come to a socket into an empty pipe; 0 at the end, `None` if nothing has come.
///
/// # Errors
/// Those of splice(2); EINVAL also if something has come that only recv(2) can take. So it is with the
/// bytes behind urgent data: splice(2) says EAGAIN of them, or 0 with a FIN behind them.
pub fn splice_received(
    socket: BorrowedFd<'_>,
    pipe: BorrowedFd<'_>,
    bytes: usize,
) -> Result<Option<usize>, Errno> {
    match splice(socket, pipe, bytes, false) {
        Ok(0) | Err(Errno::EAGAIN) => {}
        result => return result.map(Some),
    }
    match peek(socket) {
        Err(Errno::EAGAIN) => Ok(None),
        Ok(0) => Ok(Some(0)),
        Ok(_) => Err(Errno::EINVAL),
        Err(errno) => Err(errno),
    }
}

/// recv(2) with MSG_PEEK and MSG_DONTWAIT of one byte: how many there are, 0 at the end.
///
/// # Errors
/// Those of recv(2): EAGAIN if nothing has come.
pub fn peek(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut byte = [0u8; 1];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most one byte into the array.
    let count = unsafe { libc::recv(socket.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) };
    usize::try_from(count).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_signal_of_a_broken_pipe_is_blocked_for_one_thread() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
            let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
            mask & 1 << (libc::SIGPIPE - 1) != 0
        };
        let blocks = move || {
            block_sigpipe().unwrap();
            blocked()
        };
        assert!(std::thread::spawn(blocks).join().unwrap());
        assert!(!blocked());
    }

    #[test]
    fn what_is_in_it_is_counted_and_taken_out() {
        let (mut client, from) = UnixStream::pair().unwrap();
        let pipe = Pipe::new().unwrap();
        assert_eq!((pipe.held().unwrap(), pipe.take().unwrap()), (0, Vec::new()));
        // Several pieces, each of which is a page of the pipe.
        for _ in 0..3 {
            client.write_all(&[7; 5000]).unwrap();
            assert_eq!(splice(from.as_fd(), pipe.write.as_fd(), 5000, false), Ok(5000));
        }
        let (to, _server) = UnixStream::pair().unwrap();
        assert_eq!(splice(pipe.read.as_fd(), to.as_fd(), 1000, false), Ok(1000));
        assert_eq!(pipe.held().unwrap(), 14_000);
        assert_eq!(pipe.take().unwrap(), [7; 14_000]);
        assert_eq!(pipe.held().unwrap(), 0);
    }

    #[test]
    fn bytes_go_through_and_nothing_waits() {
        let (mut client, from) = UnixStream::pair().unwrap();
        let (to, mut server) = UnixStream::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        let pipe = Pipe::new().unwrap();
        assert!(pipe.capacity().unwrap() >= 4096);
        assert_eq!(splice(from.as_fd(), pipe.write.as_fd(), 100, false), Err(Errno::EAGAIN));
        client.write_all(b"through").unwrap();
        assert_eq!(splice(from.as_fd(), pipe.write.as_fd(), 100, false), Ok(7));
        assert_eq!(splice(pipe.read.as_fd(), to.as_fd(), 7, true), Ok(7));
        assert_eq!(splice(pipe.read.as_fd(), to.as_fd(), 7, false), Err(Errno::EAGAIN));
        let mut bytes = [0; 7];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"through");
        drop(client);
        assert_eq!(splice(from.as_fd(), pipe.write.as_fd(), 100, false), Ok(0));
    }
}
