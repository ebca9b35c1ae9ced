//! Open connections with a message now and then.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{Checked, Ended, Load, PATIENCE, Report, is_over, open};

const MESSAGE_BYTES: usize = 64;
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whose turn it is; answers are seen at once.
const TURN: Duration = Duration::from_millis(5);

struct Session {
    checked: Checked,
    due: Instant,
    /// When the message went that has no whole answer yet.
    asked: Option<Instant>,
}

impl Session {
    fn ask(&mut self, now: Instant) -> Result<(), Ended> {
        // One in flight: a round trip is that of the path, not of a queue.
        if self.asked.is_some() || now < self.due {
            return Ok(());
        }
        // Whoever was late stays in its place among the others.
        while self.due <= now {
            self.due += INTERVAL;
        }
        self.asked = Some(now);
        match self.checked.send(MESSAGE_BYTES)? {
            MESSAGE_BYTES => Ok(()),
            _ => Err(self.checked.silent()),
        }
    }

    /// Takes what has come; how long it took if that is the whole answer.
    fn answer(&mut self) -> Result<Option<Duration>, Ended> {
        match self.checked.receive(2 * MESSAGE_BYTES)? {
            Some(0) => self.checked.fin(false).map(|()| None),
            Some(_) if self.checked.is_answered() => {
                Ok(self.asked.take().map(|asked| asked.elapsed()))
            }
            _ => Ok(None),
        }
    }
}

/// Those that are open, and what became of the others.
struct Sessions {
    open: Vec<Session>,
    report: Report,
    /// How long the last answers may take.
    patience: Duration,
}

impl Sessions {
    fn open(to: SocketAddr, count: usize, patience: Duration) -> Self {
        let mut sessions = Self { open: Vec::new(), report: Report::default(), patience };
        for number in 0..count {
            match open(to) {
                Ok(stream) => {
                    let due = Instant::now();
                    let checked = Checked::new(stream, number);
                    sessions.open.push(Session { checked, due, asked: None });
                }
                Err(ended) => sessions.report.count(&ended),
            }
        }
        sessions
    }

    fn keep(&mut self, mut act: impl FnMut(&mut Session, &mut Report) -> Result<(), Ended>) {
        let report = &mut self.report;
        self.open.retain_mut(|session| {
            act(session, report).inspect_err(|ended| report.count(ended)).is_ok()
        });
    }

    fn take_answers(&mut self) {
        let mut ready = ready_to_read(&self.open).into_iter();
        self.keep(|session, report| {
            if ready.next() == Some(true)
                && let Some(took) = session.answer()?
            {
                report.trip(took);
                report.trips.push((Instant::now() - took, took));
            }
            Ok(())
        });
    }

    /// They ask one after another, spread over the interval: at any moment some are about to.
    fn spread(&mut self) {
        let now = Instant::now();
        let count = self.open.len() as u32;
        for (session, number) in self.open.iter_mut().zip(0..) {
            session.due = now + INTERVAL * number / count;
        }
    }

    fn run(mut self, over: &AtomicBool) -> Report {
        self.spread();
        while !is_over(over) {
            let now = Instant::now();
            self.keep(|session, _| session.ask(now));
            self.take_answers();
        }
        let end = Instant::now() + self.patience;
        while self.open.iter().any(|session| session.asked.is_some()) && Instant::now() < end {
            self.take_answers();
        }
        self.keep(|session, _| session.asked.map_or(Ok(()), |_| Err(session.checked.silent())));
        self.report
    }
}

/// Waits until something has come or a turn is over; of each session whether it has something.
fn ready_to_read(sessions: &[Session]) -> Vec<bool> {
    let entry = |session: &Session| libc::pollfd {
        fd: session.checked.stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries: Vec<libc::pollfd> = sessions.iter().map(entry).collect();
    let turn = TURN.as_millis() as i32;
    // SAFETY: the entries are as many as it says, and outlive the call.
    let found = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, turn) };
    assert!(found >= 0, "poll(2): {}", std::io::Error::last_os_error());
    entries.iter().map(|entry| entry.revents != 0).collect()
}

/// So many open connections, with a message a second on each that must come back. All are open when this returns;
/// none is opened again.
pub(crate) fn sessions(to: SocketAddr, count: usize) -> Load {
    sessions_with(to, count, PATIENCE)
}

/// The same, where an answer may take this long.
pub(crate) fn sessions_with(to: SocketAddr, count: usize, patience: Duration) -> Load {
    let sessions = Sessions::open(to, count, patience);
    Load::start([move |over: &AtomicBool| sessions.run(over)])
}
