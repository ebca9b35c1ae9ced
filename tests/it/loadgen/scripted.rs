//! An HTTP server that answers every request with the same bytes, right or wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is done with a connection behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Close,
    Reset,
    /// Closed without a word after so many answers, and when the next request has come.
    DropAfter(u32),
    /// These pieces come while the connection is idle, and with the last one the close, if it is to come.
    Late(&'static [&'static [u8]], bool),
}

/// How long a connection is idle before something comes, and between pieces: well below what loadgen gives a
/// server to finish what it has begun to say.
const LATE: Duration = Duration::from_millis(30);
const BETWEEN: Duration = Duration::from_millis(2);

/// See the module. Its threads end with the connections; the listener is left to the process.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicU64>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// Most heads that are remembered.
const HEADS_MAX: usize = 64;

impl Scripted {
    pub(super) fn start(answer: &'static [u8], then: Then) -> Self {
        Self::pausing(answer, then, |_| Duration::ZERO)
    }

    /// Waits before the answer to the n-th request.
    pub(super) fn pausing(
        answer: &'static [u8],
        then: Then,
        pause: impl Fn(u64) -> Duration + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (requests, heads) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let server = Self { address, requests: Arc::clone(&requests), heads: Arc::clone(&heads) };
        let serve = Arc::new(move |socket: TcpStream| {
            let _ = socket.set_nodelay(true);
            let mut input = BufReader::new(socket.try_clone().expect("a descriptor is free"));
            let mut served = 0;
            while let Some(head) = read(&mut input) {
                if then == Then::DropAfter(served) {
                    return;
                }
                let number = requests.fetch_add(1, Ordering::Relaxed);
                remember(&heads, head);
                thread::sleep(pause(number));
                if (&socket).write_all(answer).is_err() {
                    return;
                }
                served += 1;
                match then {
                    Then::Keep | Then::DropAfter(_) => {}
                    Then::Late(pieces, closes) => {
                        thread::sleep(LATE);
                        for piece in pieces {
                            let _ = (&socket).write_all(piece);
                            thread::sleep(BETWEEN);
                        }
                        if closes {
                            return;
                        }
                    }
                    Then::Close => return,
                    Then::Reset => {
                        let zero = Some(Duration::ZERO);
                        let _ = socket2::SockRef::from(&socket).set_linger(zero);
                        return;
                    }
                }
            }
        });
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(socket));
            }
        });
        server
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The first requests, sorted.
    pub(super) fn heads(&self) -> Vec<String> {
        let mut heads = self.heads.lock().expect("nobody panics with it").clone();
        heads.sort();
        heads
    }
}

fn remember(heads: &Mutex<Vec<String>>, head: String) {
    let mut heads = heads.lock().expect("nobody panics with it");
    if heads.len() < HEADS_MAX {
        heads.push(head);
    }
}

/// A request with its body; `None` at the end.
fn read(input: &mut impl BufRead) -> Option<String> {
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let start = text.len();
        if input.read_line(&mut text).ok()? == 0 {
            return None;
        }
        let line = text[start..].trim_end();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}
