//! A packet filter that lets a listening socket refuse new handshakes and nothing else.

use std::io;
use std::os::fd::BorrowedFd;

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
use socket2::{SockFilter, SockRef};

/// Byte of the TCP header that holds the flags (RFC 9293, 3.1).
const FLAGS_OFFSET_BYTES: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

const PASS: u32 = u32::MAX;
const DROP: u32 = 0;

/// From the segment to the bytes of it that pass. tcp_v4_rcv() and tcp_v6_rcv() run the filter with
/// the data at the TCP header.
const REFUSE_SYNS: [SockFilter; 5] = [
    step(BPF_LD | BPF_B | BPF_ABS, FLAGS_OFFSET_BYTES),
    step(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
    jump_unless_equal(SYN, 1),
    step(BPF_RET | BPF_K, DROP),
    step(BPF_RET | BPF_K, PASS),
];

const fn step(code: u32, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, operand)
}

const fn jump_unless_equal(value: u32, steps: u8) -> SockFilter {
    SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 0, steps, value)
}

/// SO_ATTACH_FILTER on a listening TCP socket: segments with SYN and without ACK are dropped from
/// now on, all others pass. A client that begins to connect sees silence and sends its SYN again;
/// a handshake that has begun still completes, and what waits in the accept queue stays there.
///
/// Connections that complete later inherit the filter, which does them no harm: it passes all that
/// an established connection receives. Each refused SYN counts in
/// [`socket_drops`](super::socket_drops).
///
/// # Errors
/// Those of setsockopt(2); EPERM when SO_LOCK_FILTER is set.
pub fn refuse_syns(listener: BorrowedFd<'_>) -> io::Result<()> {
    SockRef::from(&listener).attach_filter(&REFUSE_SYNS)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::super::testing::eventually;
    use super::super::{set_tcp_defer_accept, socket_drops, tcp_accept_queue};
    use super::*;

    const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
    /// Long enough for a handshake on loopback, shorter than the first retransmission of a SYN.
    const REFUSAL: Duration = Duration::from_millis(300);
    const DEADLINE: Duration = Duration::from_secs(5);

    fn listener(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn waiting(listener: &TcpListener) -> u32 {
        tcp_accept_queue(listener.as_fd()).unwrap().waiting
    }

    fn accept_and_read(listener: &TcpListener) -> [u8; 5] {
        eventually(DEADLINE, || waiting(listener) > 0);
        let mut bytes = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_new_connection_is_met_with_silence() {
        for loopback in LOOPBACKS {
            let (listener, address) = listener(loopback);
            TcpStream::connect_timeout(&address, REFUSAL).unwrap();
            refuse_syns(listener.as_fd()).unwrap();
            let error = TcpStream::connect_timeout(&address, REFUSAL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{loopback}: {error}");
            assert!(socket_drops(listener.as_fd()).unwrap() > 0, "{loopback}");
        }
    }

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_listener_is_refused_too() {
        let (listener, address) = listener("[::]:0");
        let mapped = SocketAddr::from(([127, 0, 0, 1], address.port()));
        TcpStream::connect_timeout(&mapped, REFUSAL).unwrap();
        refuse_syns(listener.as_fd()).unwrap();
        let error = TcpStream::connect_timeout(&mapped, REFUSAL).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn what_waits_in_the_queue_stays_and_keeps_its_data() {
        for loopback in LOOPBACKS {
            let (listener, address) = listener(loopback);
            let mut client = TcpStream::connect(address).unwrap();
            eventually(DEADLINE, || waiting(&listener) == 1);
            refuse_syns(listener.as_fd()).unwrap();
            client.write_all(b"after").unwrap();
            assert_eq!(&accept_and_read(&listener), b"after", "{loopback}");
        }
    }

    /// With TCP_DEFER_ACCEPT the handshake is under way until the client's first bytes: its last
    /// segment passes the filter of the listener.
    #[test]
    fn a_handshake_under_way_completes() {
        for loopback in LOOPBACKS {
            let (listener, address) = listener(loopback);
            set_tcp_defer_accept(listener.as_fd(), 7).unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            assert_eq!(waiting(&listener), 0);
            refuse_syns(listener.as_fd()).unwrap();
            client.write_all(b"first").unwrap();
            assert_eq!(&accept_and_read(&listener), b"first", "{loopback}");
        }
    }
}
