//! Streams that send and receive at the same time, each byte checked by its place.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{Checked, Ended, Load, PATIENCE, Report, is_over, open};

/// What a stream may send and receive in a turn: 20 of them are some 30 MB a second each way.
const TURN: Duration = Duration::from_millis(5);
const PIECE_BYTES: usize = 8 * 1024;
/// Of one that has not read for a while.
const RECEIVE_BYTES: usize = 64 * 1024;

const SMALL_BUFFER_BYTES: usize = 32 * 1024;

/// How long a lazy one reads, and does not, in turn.
const LAZY: Duration = Duration::from_millis(300);

/// One that half-closes sends without reading until nothing has gone for this long: both directions are full then.
const FULL: Duration = Duration::from_millis(50);
/// What it reads in a turn behind its FIN, so that it is half-closed for a while, and with much in the server.
const HALF_CLOSED_BYTES: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sends and receives all the time.
    Steady,
    /// Sends all the time and receives half of it, with small buffers in its kernel.
    Lazy,
    /// Sends until nothing goes any more, says FIN, receives slowly; then from the beginning.
    HalfClosing,
}

impl Kind {
    fn of(number: usize) -> Self {
        [Self::Steady, Self::Lazy, Self::Steady, Self::HalfClosing][number % 4]
    }
}

struct Stream {
    kind: Kind,
    checked: Checked,
    began: Instant,
    /// When bytes went last, and when some came.
    went: Instant,
    came: Instant,
    has_finished: bool,
    /// Everything has come, and the FIN.
    has_ended: bool,
}

impl Stream {
    fn open(to: SocketAddr, number: usize) -> Result<Self, Ended> {
        let kind = Kind::of(number);
        let stream = match kind {
            Kind::Steady => open(to)?,
            Kind::Lazy | Kind::HalfClosing => open_small(to)?,
        };
        let now = Instant::now();
        let checked = Checked::new(stream, number);
        let (has_finished, has_ended) = (false, false);
        Ok(Self { kind, checked, began: now, went: now, came: now, has_finished, has_ended })
    }

    fn turn(&mut self) -> Result<(), Ended> {
        match self.kind {
            Kind::Steady => {
                self.send(PIECE_BYTES)?;
                self.receive(RECEIVE_BYTES)
            }
            Kind::Lazy => {
                self.send(PIECE_BYTES)?;
                let is_reading = self.began.elapsed().as_millis() / LAZY.as_millis() % 2 == 1;
                if is_reading { self.receive(RECEIVE_BYTES) } else { Ok(()) }
            }
            Kind::HalfClosing if self.has_finished => self.receive(HALF_CLOSED_BYTES),
            Kind::HalfClosing => {
                self.send(RECEIVE_BYTES)?;
                if self.went.elapsed() > FULL {
                    self.finish();
                }
                Ok(())
            }
        }
    }

    fn send(&mut self, most: usize) -> Result<(), Ended> {
        if self.checked.send(most)? > 0 {
            self.went = Instant::now();
        }
        Ok(())
    }

    fn receive(&mut self, most: usize) -> Result<(), Ended> {
        match self.checked.receive(most)? {
            Some(0) => {
                self.checked.fin(self.has_finished)?;
                self.has_ended = true;
            }
            Some(_) => self.came = Instant::now(),
            None => {}
        }
        Ok(())
    }

    /// The rest, as fast as it comes: some MB wait in kernels, and go through a small window.
    fn receive_rest(&mut self) -> Result<(), Ended> {
        self.receive(RECEIVE_BYTES)?;
        if !self.has_ended && self.came.elapsed() > PATIENCE {
            return Err(self.checked.silent());
        }
        Ok(())
    }

    fn finish(&mut self) {
        if !self.has_finished {
            self.has_finished = true;
            self.checked.finish();
        }
    }
}

/// A connection with little room in the kernel, so that it is full soon.
fn open_small(to: SocketAddr) -> Result<TcpStream, Ended> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).expect("it can be set");
    socket.set_send_buffer_size(SMALL_BUFFER_BYTES).expect("it can be set");
    socket.connect_timeout(&to.into(), PATIENCE).map_err(Ended::Refused)?;
    Ok(socket.into())
}

struct Streams {
    to: SocketAddr,
    open: Vec<Stream>,
    report: Report,
}

impl Streams {
    fn open(&mut self, number: usize) {
        match Stream::open(self.to, number) {
            Ok(stream) => self.open.push(stream),
            Err(ended) => self.report.count(&ended),
        }
    }

    /// Does something with each; what it has carried is counted when it ends, and returned are those that ended well.
    fn each(&mut self, mut act: impl FnMut(&mut Stream) -> Result<(), Ended>) -> Vec<usize> {
        let (report, mut well) = (&mut self.report, Vec::new());
        self.open.retain_mut(|stream| {
            let result = act(stream).inspect_err(|ended| report.count(ended));
            let goes_on = result.is_ok() && !stream.has_ended;
            if !goes_on {
                report.done += stream.checked.received;
            }
            if result.is_ok() && !goes_on {
                well.push(stream.checked.number);
            }
            goes_on
        });
        well
    }

    fn run(mut self, over: &AtomicBool) -> Report {
        while !is_over(over) {
            for number in self.each(Stream::turn) {
                self.open(number);
            }
            thread::sleep(TURN);
        }
        self.end()
    }

    /// Each says FIN; everything must come then, and the FIN.
    fn end(mut self) -> Report {
        let now = Instant::now();
        for stream in &mut self.open {
            stream.finish();
            stream.came = now;
        }
        while !self.open.is_empty() {
            self.each(Stream::receive_rest);
            thread::sleep(Duration::from_millis(1));
        }
        self.report
    }
}

/// So many streams through something that echoes; all are open when this returns. Those that half-close begin
/// anew when all has come back.
pub(crate) fn streams(to: SocketAddr, count: usize) -> Load {
    let mut streams = Streams { to, open: Vec::new(), report: Report::default() };
    (0..count).for_each(|number| streams.open(number));
    Load::start([move |over: &AtomicBool| streams.run(over)])
}
