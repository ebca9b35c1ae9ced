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

/// Where the kernel puts the bytes that the peer has acknowledged and those that have come (struct tcp_info in
/// include/uapi/linux/tcp.h); 64 bits each.
const BYTES_ACKED: usize = word_of(120);
const BYTES_RECEIVED: usize = word_of(128);

/// Bytes of a TCP connection, either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpBytes {
    /// That have come.
    pub received: u64,
    /// That the peer has acknowledged.
    pub acknowledged: u64,
}

/// How many bytes `socket` has moved.
///
/// # Errors
/// Those of getsockopt(2); EOPNOTSUPP for a socket that is not TCP.
pub fn tcp_bytes(socket: BorrowedFd<'_>) -> io::Result<TcpBytes> {
    let words: [u32; BYTES_RECEIVED + 2] = get_words(socket, TCP_INFO)?;
    let wide = |at: usize| {
        let [low, high] = [words[at], words[at + 1]].map(u32::to_ne_bytes);
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&low);
        bytes[4..].copy_from_slice(&high);
        u64::from_ne_bytes(bytes)
    };
    Ok(TcpBytes { received: wide(BYTES_RECEIVED), acknowledged: wide(BYTES_ACKED) })
}

/// Where the kernel puts the segments of a connection that were sent again (struct tcp_info).
const TOTAL_RETRANS: usize = word_of(offset_of!(libc::tcp_info, tcpi_total_retrans));

/// A TCP connection that was just accepted, before anything was sent on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedInfo {
    /// How long it waited in the accept queue: as [`tcp_accept_wait`].
    pub waited: Duration,
    /// How often the SYN-ACK was sent again.
    pub retransmissions: u32,
}

/// What there is to know of a connection that was just accepted.
///
/// # Errors
/// Those of getsockopt(2); EOPNOTSUPP for a socket that is not TCP.
pub fn tcp_accepted(socket: BorrowedFd<'_>) -> io::Result<AcceptedInfo> {
    let words: [u32; TOTAL_RETRANS + 1] = get_words(socket, TCP_INFO)?;
    let waited = Duration::from_millis(words[LAST_DATA_SENT].into());
    Ok(AcceptedInfo { waited, retransmissions: words[TOTAL_RETRANS] })
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
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
    fn the_bytes_of_a_connection_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&[7; 1234]).unwrap();
        server.read_exact(&mut [0; 1234]).unwrap();
        server.write_all(&[7; 56]).unwrap();
        client.read_exact(&mut [0; 56]).unwrap();
        eventually(Duration::from_secs(5), || {
            let moved = tcp_bytes(server.as_fd()).unwrap();
            // The handshake counts as a byte on some kernels.
            moved.received == 1234 && moved.acknowledged.abs_diff(56) <= 1
        });
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
