//! Clients that have waited too long, or have gone meanwhile: nobody reads what they would be answered.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::config::{Patience, Refusal};
use crate::dispatch::Shed;
use crate::sys;

/// Most bytes of a client that are read before it is told that it is refused.
const READ_MAX: usize = 64 * 1024;

/// Why a new connection is not served although nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// It has waited too long while its frontend is overloaded.
    Shed,
    /// It has waited longer than anybody need wait for its client, who has gone: has reset it, or has sent a FIN and
    /// nothing before. A FIN behind bytes is that of a client that waits for its answer, if clients of this frontend do
    /// that.
    Dead,
}

/// Whether a new connection, on which nothing has been sent yet, has waited too long to be served.
pub(crate) fn unserved(
    (patience, shed): (Option<Patience>, Option<&Shed>),
    (socket, accepted_at): (BorrowedFd<'_>, Instant),
    now: Instant,
) -> Option<Unserved> {
    if patience.is_none() && shed.is_none() {
        return None;
    }
    let waited = waited(socket, accepted_at, now);
    if shed.is_some_and(|shed| shed.takes(waited)) {
        return Some(Unserved::Shed);
    }
    let is_dead =
        |Patience { limit, half_close }: Patience| waited > limit && has_gone(socket, half_close);
    patience.is_some_and(is_dead).then_some(Unserved::Dead)
}

/// Says to a client that it is refused, if its frontend has words for that. What it has sent is read first, up to
/// [`READ_MAX`] bytes, since the kernel resets a connection that is closed with bytes unread, and the client might not
/// read the reply then.
pub(crate) fn reply(socket: BorrowedFd<'_>, refusal: &Refusal) {
    let Refusal::Reply(bytes) = refusal else { return };
    let mut read = [0; 4096];
    let mut left = READ_MAX / read.len();
    while left > 0 && sys::recv(socket, &mut read).is_ok_and(|count| count > 0) {
        left -= 1;
    }
    sys::send_last(socket, bytes);
}

/// How long a connection has waited on which nothing has been sent: since its handshake, which the kernel tells of TCP;
/// else since it was accepted.
pub(crate) fn waited(socket: BorrowedFd<'_>, accepted_at: Instant, now: Instant) -> Duration {
    let here = now.saturating_duration_since(accepted_at);
    sys::tcp_accept_wait(socket).map_or(here, |waited| waited.max(here))
}

fn has_gone(socket: BorrowedFd<'_>, half_close: bool) -> bool {
    let events = sys::POLLIN | sys::POLLRDHUP;
    let mut polled = [sys::Polled::new(socket, events)];
    if sys::poll(&mut polled, Some(Duration::ZERO)).is_err() {
        return false;
    }
    let ready = polled[0].ready;
    if ready & (sys::POLLERR | sys::POLLHUP) != 0 {
        return true;
    }
    ready & sys::POLLRDHUP != 0 && (!half_close || sys::peek(socket) == Ok(0))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// What the client does before it is served.
    #[derive(Debug, Clone, Copy)]
    enum Client {
        Waits,
        Asks,
        Ends,
        AsksAndEnds,
        Resets,
        AsksAndResets,
    }

    fn act(client: Client, mut socket: TcpStream) -> Option<TcpStream> {
        use Client::*;
        if matches!(client, Asks | AsksAndEnds | AsksAndResets) {
            socket.write_all(b"?").unwrap();
        }
        match client {
            Waits | Asks => {}
            Ends | AsksAndEnds => socket.shutdown(Shutdown::Write).unwrap(),
            Resets | AsksAndResets => {
                let socket = socket2::Socket::from(socket);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                return None;
            }
        }
        Some(socket)
    }

    fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    #[test]
    fn a_client_has_gone_or_waits_for_its_answer() {
        let table = [
            (Client::Waits, false, false),
            (Client::Asks, false, false),
            (Client::Ends, true, true),
            (Client::AsksAndEnds, false, true),
            (Client::Resets, true, true),
            (Client::AsksAndResets, true, true),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (client, with_half_close, without) in table {
            let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let _open = act(client, socket);
            let (socket, _) = listener.accept().unwrap();
            for (half_close, expected) in [(true, with_half_close), (false, without)] {
                let gone = || has_gone(socket.as_fd(), half_close);
                match expected {
                    true => assert!(eventually(gone), "{client:?}, half close: {half_close}"),
                    false => assert!(!gone(), "{client:?}, half close: {half_close}"),
                }
            }
        }
    }

    /// Whoever has not waited for long is served, however it ends.
    #[test]
    fn nobody_is_dead_before_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let patience = |limit| Some(Patience { limit, half_close: true });
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (socket, _) = listener.accept().unwrap();
        let accepted_at = Instant::now();
        assert!(eventually(|| has_gone(socket.as_fd(), true)));
        let dead = |patience, here| {
            let judged =
                unserved((patience, None), (socket.as_fd(), accepted_at), accepted_at + here);
            assert_ne!(judged, Some(Unserved::Shed));
            judged.is_some()
        };
        let hour = Duration::from_secs(3600);
        assert!(!dead(patience(hour), LIMIT) && !dead(None, hour));
        assert!(dead(patience(LIMIT), 2 * LIMIT));
    }

    /// The time in the accept queue counts: nobody knew of it then.
    #[test]
    fn the_time_in_the_accept_queue_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::thread::sleep(2 * LIMIT);
        let (socket, _) = listener.accept().unwrap();
        let now = Instant::now();
        assert!(waited(socket.as_fd(), now, now) > LIMIT);
    }

    #[test]
    fn a_unix_socket_counts_from_accept_and_tells_a_client_that_has_gone() {
        let (client, server) = UnixStream::pair().unwrap();
        let (accepted_at, here) = (Instant::now(), 2 * LIMIT);
        assert_eq!(waited(server.as_fd(), accepted_at, accepted_at + here), here);
        (&client).write_all(b"?").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(server.as_fd(), true) && has_gone(server.as_fd(), false));
        drop(client);
        assert!(has_gone(server.as_fd(), true));
    }
}
