//! Stream sockets used without waiting: a call that would have to wait is EAGAIN.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::errno::{Errno, check};

/// socket(2) for a stream, with CLOEXEC.
///
/// # Errors
/// Those of socket(2).
pub fn stream_socket(domain: Domain) -> Result<OwnedFd, Errno> {
    let socket = Socket::new_raw(domain, Type::STREAM.cloexec(), None);
    socket.map(OwnedFd::from).map_err(|error| Errno::of(&error))
}

/// FIONBIO: sets O_NONBLOCK in one call.
///
/// # Errors
/// Those of ioctl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: FIONBIO reads the integer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw const on) }).map(drop)
}

/// F_GETFL: whether a descriptor has O_NONBLOCK. False for one that is not open.
pub fn is_nonblocking(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: the call takes no argument and changes nothing.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_NONBLOCK != 0
}

/// TIOCOUTQ: bytes that were sent and that the peer's kernel has not acknowledged, those that have not
/// left this machine included; of a unix socket, what the peer has not read, in the kernel's measure.
///
/// # Errors
/// Those of ioctl(2); ENOTTY when it is no socket.
pub fn send_queue(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one integer, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    check(result).map_err(|error| Errno::of(&error))?;
    Ok(bytes.cast_unsigned())
}

/// accept4(2) with CLOEXEC, and without the peer's address. On a listener without O_NONBLOCK it waits.
///
/// # Errors
/// Those of accept(2).
pub fn accept4(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let none = std::ptr::null_mut();
    // SAFETY: without an address no memory of ours is involved.
    let fd = unsafe {
        libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), libc::SOCK_CLOEXEC)
    };
    let fd = check(fd).map_err(|error| Errno::of(&error))?;
    // SAFETY: `fd` is open, new, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// recv(2) with MSG_DONTWAIT: how many bytes have come, 0 at the end.
///
/// # Errors
/// Those of recv(2).
pub fn recv(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    let (start, len) = (bytes.as_mut_ptr().cast(), bytes.len());
    // SAFETY: the kernel writes at most `len` bytes into `bytes`, which is borrowed exclusively.
    let count = unsafe { libc::recv(socket.as_raw_fd(), start, len, libc::MSG_DONTWAIT) };
    transferred(count)
}

/// send(2) with MSG_DONTWAIT, MSG_NOSIGNAL and `flags`: how many bytes the kernel has taken.
///
/// # Errors
/// Those of send(2).
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: i32) -> Result<usize, Errno> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (start, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the kernel reads at most `len` bytes of `bytes`.
    transferred(unsafe { libc::send(socket.as_raw_fd(), start, len, flags) })
}

/// The same of several parts, one behind the other: sendmsg(2).
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_vectored(
    socket: BorrowedFd<'_>,
    parts: &[io::IoSlice<'_>],
    flags: i32,
) -> Result<usize, Errno> {
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let sent = SockRef::from(&socket).send_vectored_with_flags(parts, flags);
    sent.map_err(|error| Errno::of(&error))
}

/// Sends as much of these bytes as the kernel takes at once, and says that no more will come (shutdown(2)). Whoever has
/// gone does not get it.
pub fn send_last(socket: BorrowedFd<'_>, bytes: &[u8]) {
    let _ = send(socket, bytes, 0);
    let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Write);
}

/// connect(2).
///
/// # Errors
/// Those of connect(2); EINPROGRESS on a socket with O_NONBLOCK whose handshake has begun.
pub fn connect(socket: BorrowedFd<'_>, address: &SockAddr) -> Result<(), Errno> {
    SockRef::from(&socket).connect(address).map_err(|error| Errno::of(&error))
}

/// SO_ERROR, which reading takes away.
///
/// # Errors
/// The socket's own error, else those of getsockopt(2).
pub fn take_error(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let of = |error: io::Error| Errno::of(&error);
    SockRef::from(&socket).take_error().map_err(of)?.map_or(Ok(()), |error| Err(of(error)))
}

fn transferred(count: isize) -> Result<usize, Errno> {
    usize::try_from(count).map_err(|_| Errno::of(&io::Error::last_os_error()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_would_wait_is_eagain() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_nonblocking(listener.as_fd()).unwrap();
        assert_eq!(accept4(listener.as_fd()).unwrap_err(), Errno::EAGAIN);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = accept4(listener.as_fd()).unwrap();
        assert_eq!(recv(server.as_fd(), &mut [0; 8]), Err(Errno::EAGAIN));
        let chunk = vec![7; 1 << 20];
        let mut sent = 0;
        let full = loop {
            match send(server.as_fd(), &chunk, 0) {
                Ok(count) => sent += count,
                Err(errno) => break errno,
            }
            assert!(sent < 1 << 30);
        };
        assert_eq!(full, Errno::EAGAIN);
        drop(client);
    }

    #[test]
    fn the_send_queue_is_what_the_peer_has_not_taken() {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = accept4(listener.as_fd()).unwrap();
        assert_eq!(send_queue(server.as_fd()), Ok(0));
        let chunk = vec![7; 1 << 20];
        let mut sent = 0;
        while let Ok(count) = send(server.as_fd(), &chunk, 0) {
            sent += count;
        }
        let full = send_queue(server.as_fd()).unwrap() as usize;
        assert!((1..=sent).contains(&full), "{full} of {sent}");
        // Whatever has come is acknowledged; the last acknowledgement may be delayed.
        client.read_exact(&mut vec![0; sent]).unwrap();
        let limit = std::time::Duration::from_secs(10);
        crate::sys::testing::eventually(limit, || send_queue(server.as_fd()) == Ok(0));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(send_queue(file.as_fd()), Err(Errno(libc::ENOTTY)));
    }

    #[test]
    fn bytes_go_and_the_end_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = accept4(listener.as_fd()).unwrap();
        assert_eq!(send(client.as_fd(), b"abc", libc::MSG_MORE), Ok(3));
        drop(client);
        let mut bytes = [0; 8];
        assert_eq!(recv(server.as_fd(), &mut bytes), Ok(3));
        assert_eq!(&bytes[..3], b"abc");
        assert_eq!(recv(server.as_fd(), &mut bytes), Ok(0));
    }

    #[test]
    fn a_refused_connect_leaves_its_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = SockAddr::from(listener.local_addr().unwrap());
        drop(listener);
        let socket = stream_socket(Domain::IPV4).unwrap();
        set_nonblocking(socket.as_fd()).unwrap();
        assert_eq!(connect(socket.as_fd(), &address), Err(Errno::EINPROGRESS));
        assert_eq!(take_error(socket.as_fd()), Err(Errno::ECONNREFUSED));
        assert_eq!(take_error(socket.as_fd()), Ok(()));
    }
}
