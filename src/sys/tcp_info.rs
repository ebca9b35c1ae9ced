//! TCP_INFO, which on a listening socket describes its accept queue.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::sockopt::{Sockopt, get_words};

const TCP_INFO: Sockopt = Sockopt { level: libc::IPPROTO_TCP, name: libc::TCP_INFO };

/// Where the kernel puts the two numbers of a listening socket (tcp_get_info() in net/ipv4/tcp.c).
const WAITING: usize = word_of(offset_of!(libc::tcp_info, tcpi_unacked));
const LIMIT: usize = word_of(offset_of!(libc::tcp_info, tcpi_sacked));

const LAST_DATA_SENT: usize = word_of(offset_of!(libc::tcp_info, tcpi_last_data_sent));

const fn word_of(offset_bytes: usize) -> usize {
    assert!(offset_bytes.is_multiple_of(size_of::<u32>()));
    offset_bytes / size_of::<u32>()
}

/// The accept queue of a listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueueInfo {
    /// Completed connections that nobody has accepted yet.
    pub waiting: u32,
    /// The backlog in force, after the kernel cut it to `net.core.somaxconn`. The queue is full with
    /// one connection more than this.
    pub limit: u32,
}

/// The accept queue of `listener`. On a socket that does not listen the numbers mean something else.
///
/// # Errors
/// Those of getsockopt(2); EOPNOTSUPP for a socket that is not TCP.
pub fn tcp_accept_queue(listener: BorrowedFd<'_>) -> io::Result<AcceptQueueInfo> {
    let words: [u32; LIMIT + 1] = get_words(listener, TCP_INFO)?;
    Ok(AcceptQueueInfo { waiting: words[WAITING], limit: words[LIMIT] })
}

/// How long ago the handshake of `socket` was completed, as long as nothing has been sent on it: right
/// after accept(2) that is the time it waited in the accept queue. Milliseconds, to the resolution of
/// the kernel's tick.
///
/// # Errors
/// Those of getsockopt(2); EOPNOTSUPP for a socket that is not TCP.
pub fn tcp_accept_wait(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    let words: [u32; LAST_DATA_SENT + 1] = get_words(socket, TCP_INFO)?;
    Ok(Duration::from_millis(words[LAST_DATA_SENT].into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use socket2::{Domain, Socket, Type};

    use super::super::testing::eventually;
    use super::*;

    fn listener(backlog: i32) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(backlog).unwrap();
        socket
    }

    #[test]
    fn the_queue_of_a_listener_is_told() {
        let listener = listener(7);
        let queue = || tcp_accept_queue(listener.as_fd()).unwrap();
        assert_eq!(queue(), AcceptQueueInfo { waiting: 0, limit: 7 });
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _clients = [address; 3].map(|address| TcpStream::connect(address).unwrap());
        eventually(Duration::from_secs(5), || queue().waiting == 3);
    }

    #[test]
    fn the_time_in_the_queue_is_told() {
        let listener = listener(7);
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let waited = Duration::from_millis(60);
        std::thread::sleep(waited);
        let (socket, _) = listener.accept().unwrap();
        // A tick is 10 ms at most.
        let told = tcp_accept_wait(socket.as_fd()).unwrap();
        assert!(told + Duration::from_millis(10) >= waited, "{told:?}");
    }

    #[test]
    fn a_unix_socket_has_no_tcp_info() {
        let (left, _right) = UnixStream::pair().unwrap();
        let error = tcp_accept_queue(left.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }
}
