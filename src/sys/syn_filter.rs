//! Two ways in which a listening socket refuses new handshakes and nothing else: a packet filter, and
//! without privileges an interface that does not exist.

use std::io;
use std::os::fd::BorrowedFd;

use super::packet_filter::{
    Comparison, FilterStep, PacketAt, attach_filter, detach_filter, filter_begins_with,
};
use super::sockopt::{Sockopt, get_words, set_word};

/// Linux 5.1; not in the libc crate for every C library. include/uapi/asm-generic/socket.h.
const SO_BINDTOIFINDEX: Sockopt = Sockopt { level: libc::SOL_SOCKET, name: 62 };

/// An interface that nothing arrives at: the kernel numbers them from 1 upwards.
const NOWHERE: u32 = i32::MAX as u32;

/// Byte of the TCP header that holds the flags (RFC 9293, 3.1).
const FLAGS: PacketAt = PacketAt::Transport(13);
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// How a filter of a listening socket begins: all but the first segment of a handshake passes. So whatever follows is about
/// those who begin to connect, and harms no connection that has inherited the filter.
pub const ONLY_SYNS: [FilterStep; 4] = [
    FilterStep::LoadByte(FLAGS),
    FilterStep::And(SYN | ACK),
    FilterStep::If { is: Comparison::Equal, than: SYN, yes: 1, no: 0 },
    FilterStep::Pass,
];

/// SO_ATTACH_FILTER on a listening TCP socket: segments with SYN and without ACK are dropped from
/// now on, all others pass. A client that begins to connect sees silence and sends its SYN again;
/// a handshake that has begun still completes, and what waits in the accept queue stays there.
///
/// Connections that complete later inherit the filter, which does them no harm: it passes all that
/// an established connection receives. Each refused SYN counts in
/// [`socket_drops`](super::socket_drops).
///
/// # Errors
/// Those of setsockopt(2); EPERM without CAP_NET_ADMIN (Linux 6.18; older kernels let everybody).
pub fn refuse_syns(listener: BorrowedFd<'_>) -> io::Result<()> {
    let [load, and, compare, pass] = ONLY_SYNS;
    attach_filter(listener, &[load, and, compare, pass, FilterStep::Drop])
}

/// SO_BINDTOIFINDEX with an interface that does not exist: the listening TCP socket is no longer found
/// for new SYNs, which are answered with a reset (or by another listener of the port). Handshakes under
/// way are found by their four addresses, as they were begun, and complete; what waits in the accept
/// queue stays there. Takes no privilege; taking it back would (CAP_NET_RAW). Doing it twice is allowed.
///
/// A handshake that the kernel keeps nothing of, since its SYN queue was full (tcp_syncookies), does not
/// complete: its last segment is answered with a reset. As long as a member of a SO_REUSEPORT group is
/// not bound so, the kernel still chooses among all of them (reuseport_select_sock), and a SYN that
/// falls to one that is gets no answer, because there is no route for it.
///
/// # Errors
/// Those of setsockopt(2); EPERM for a socket that is bound to another interface.
pub fn bind_to_no_interface(listener: BorrowedFd<'_>) -> io::Result<()> {
    match get_words(listener, SO_BINDTOIFINDEX) {
        Ok([NOWHERE]) => Ok(()),
        _ => set_word(listener, SO_BINDTOIFINDEX, NOWHERE),
    }
}

/// Takes back [`refuse_syns`]. False if the listener was [bound to no interface](bind_to_no_interface), which cannot
/// be taken back.
///
/// # Errors
/// Those of setsockopt(2) and getsockopt(2).
pub fn admit_syns(listener: BorrowedFd<'_>) -> io::Result<bool> {
    if matches!(get_words(listener, SO_BINDTOIFINDEX)?, [NOWHERE]) {
        return Ok(false);
    }
    detach_filter(listener).map(|()| true)
}

/// Takes away what a process has left that had this socket before and dropped SYNs: [`ONLY_SYNS`] and whatever followed.
/// Another filter stays. True if there was one.
///
/// # Errors
/// Those of getsockopt(2) and setsockopt(2).
pub fn forget_syn_filter(listener: BorrowedFd<'_>) -> io::Result<bool> {
    let is_ours = filter_begins_with(listener, &ONLY_SYNS)?;
    if is_ours {
        detach_filter(listener)?;
    }
    Ok(is_ours)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::super::testing::eventually;
    use super::super::{Errno, set_tcp_defer_accept, socket_drops, tcp_accept_queue};
    use super::*;

    const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];
    /// Long enough for a handshake on loopback, shorter than the first retransmission of a SYN.
    const REFUSAL: Duration = Duration::from_millis(300);
    const DEADLINE: Duration = Duration::from_secs(5);

    /// A way to refuse, and what a client sees then.
    type Way = (fn(BorrowedFd<'_>) -> io::Result<()>, ErrorKind);

    const FILTER: Way = (refuse_syns, ErrorKind::TimedOut);
    const NO_INTERFACE: Way = (bind_to_no_interface, ErrorKind::ConnectionRefused);

    /// Those that this user may go.
    fn ways() -> Vec<Way> {
        let (listener, _) = listener(LOOPBACKS[0]);
        match refuse_syns(listener.as_fd()) {
            Ok(()) => vec![FILTER, NO_INTERFACE],
            Err(error) => {
                assert_eq!(Errno::of(&error), Errno::EPERM);
                vec![NO_INTERFACE]
            }
        }
    }

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

    /// How a connect ends that does not succeed.
    fn refusal(address: &SocketAddr) -> ErrorKind {
        TcpStream::connect_timeout(address, REFUSAL).unwrap_err().kind()
    }

    #[test]
    fn a_new_connection_is_met_with_silence_or_a_reset() {
        for (refuse, seen) in ways() {
            for loopback in LOOPBACKS {
                let (listener, address) = listener(loopback);
                TcpStream::connect_timeout(&address, REFUSAL).unwrap();
                refuse(listener.as_fd()).unwrap();
                assert_eq!(refusal(&address), seen, "{loopback}");
                let counted = socket_drops(listener.as_fd()).unwrap() > 0;
                assert_eq!(counted, seen == ErrorKind::TimedOut, "{loopback}");
            }
        }
    }

    #[test]
    fn an_ipv4_peer_of_a_dual_stack_listener_is_refused_too() {
        for (refuse, seen) in ways() {
            let (listener, address) = listener("[::]:0");
            let mapped = SocketAddr::from(([127, 0, 0, 1], address.port()));
            TcpStream::connect_timeout(&mapped, REFUSAL).unwrap();
            refuse(listener.as_fd()).unwrap();
            assert_eq!(refusal(&mapped), seen);
        }
    }

    #[test]
    fn what_another_process_has_left_is_taken_away_and_nothing_else() {
        let (listener, address) = listener(LOOPBACKS[0]);
        let forget = || forget_syn_filter(listener.as_fd()).unwrap();
        assert!(!forget(), "there is none");
        if refuse_syns(listener.as_fd()).is_err() {
            return eprintln!("SKIPPED: a packet filter wants CAP_NET_ADMIN");
        }
        assert!(forget() && !forget());
        TcpStream::connect_timeout(&address, REFUSAL).unwrap();
        let program = [ONLY_SYNS.as_slice(), &[FilterStep::Drop; 4000]].concat();
        attach_filter(listener.as_fd(), &program).unwrap();
        assert_eq!(refusal(&address), ErrorKind::TimedOut);
        assert!(forget());
        TcpStream::connect_timeout(&address, REFUSAL).unwrap();
        attach_filter(listener.as_fd(), &[FilterStep::Drop]).unwrap();
        assert!(!forget());
        assert_eq!(refusal(&address), ErrorKind::TimedOut, "it is not ours");
    }

    #[test]
    fn refusing_twice_is_allowed() {
        for (refuse, _) in ways() {
            let (listener, _) = listener(LOOPBACKS[0]);
            refuse(listener.as_fd()).unwrap();
            refuse(listener.as_fd()).unwrap();
        }
    }

    #[test]
    fn what_waits_in_the_queue_stays_and_keeps_its_data() {
        for (refuse, seen) in ways() {
            for loopback in LOOPBACKS {
                let (listener, address) = listener(loopback);
                let mut client = TcpStream::connect(address).unwrap();
                eventually(DEADLINE, || waiting(&listener) == 1);
                refuse(listener.as_fd()).unwrap();
                client.write_all(b"after").unwrap();
                assert_eq!(&accept_and_read(&listener), b"after", "{loopback}, {seen:?}");
            }
        }
    }

    /// With TCP_DEFER_ACCEPT the handshake is under way until the client's first bytes: its last
    /// segment passes the filter of the listener, and belongs to no interface.
    #[test]
    fn a_handshake_under_way_completes() {
        for (refuse, seen) in ways() {
            for loopback in LOOPBACKS {
                let (listener, address) = listener(loopback);
                set_tcp_defer_accept(listener.as_fd(), 7).unwrap();
                let mut client = TcpStream::connect(address).unwrap();
                assert_eq!(waiting(&listener), 0);
                refuse(listener.as_fd()).unwrap();
                client.write_all(b"first").unwrap();
                assert_eq!(&accept_and_read(&listener), b"first", "{loopback}, {seen:?}");
            }
        }
    }

    fn shared(address: SocketAddr) -> TcpListener {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).and_then(|()| socket.listen(128)).unwrap();
        socket.into()
    }

    /// Until the last member of a group refuses, nothing is reset: a client gets through to another
    /// member or meets silence.
    #[test]
    fn a_group_refuses_when_all_of_it_does() {
        for loopback in LOOPBACKS {
            let one = shared(loopback.parse().unwrap());
            let address = one.local_addr().unwrap();
            let other = shared(address);
            bind_to_no_interface(one.as_fd()).unwrap();
            let connects: Vec<_> =
                (0..10).map(|_| TcpStream::connect_timeout(&address, REFUSAL)).collect();
            let through = connects.iter().flatten().count();
            let silent = |result: &&Result<TcpStream, io::Error>| {
                result.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut)
            };
            assert_eq!(through + connects.iter().filter(silent).count(), 10, "{loopback}");
            assert_eq!((waiting(&one), waiting(&other) as usize), (0, through), "{loopback}");
            bind_to_no_interface(other.as_fd()).unwrap();
            assert_eq!(refusal(&address), ErrorKind::ConnectionRefused, "{loopback}");
            assert_eq!(waiting(&other) as usize, through, "{loopback}");
        }
    }
}
