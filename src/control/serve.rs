//! The thread behind the control socket. It waits in poll(2) for all of its clients at once, does at most one request
//! of each in a turn, and hands on what takes long: so nobody who is stuck or hostile keeps another waiting.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::answer::{self, Code, Failure, Outcome};
use super::client::{Client, LINE_MAX_BYTES, Wish};
use super::jobs::{JOBS_MAX, Jobs};
use super::operator::Operator;
use super::request::Request;
use crate::config::Process;
use crate::listener::Listener;
use crate::sys::{self, Polled};

/// Clients at a time.
pub const CLIENTS_MAX: usize = Process::CONTROL_CLIENTS;

/// How long a client has at least before its place is given to another: so long has it to send a request.
pub const PLACE_FOR: Duration = Duration::from_millis(100);

/// Clients that are accepted before others are looked after again.
const ACCEPTS_PER_TURN: usize = 16;

/// How long nobody is accepted when that has failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at whether the thread has ended.
const END_STEP: Duration = Duration::from_millis(1);

/// The thread behind a control socket.
#[derive(Debug)]
pub struct ControlServer {
    /// Of the thread, for as long as it accepts.
    listener: Weak<Listener>,
    thread: JoinHandle<()>,
    wake: Arc<Wake>,
}

/// How others make the thread look.
#[derive(Debug)]
struct Wake {
    stream: UnixStream,
    ends: AtomicBool,
    /// Whether another process accepts on the socket, and this one will not do so any more.
    has_left: AtomicBool,
}

/// Has the thread close its copy of the socket, once another process accepts on it for good: a copy that nobody accepts on
/// would keep the address taken, and let clients wait in its queue, if that process died.
#[derive(Debug, Clone)]
pub struct Leave(Arc<Wake>);

impl Leave {
    /// The socket is closed before any request is answered that the thread has handed on.
    pub fn leave(&self) {
        self.0.has_left.store(true, Ordering::Release);
        self.0.wake();
    }
}

impl Wake {
    /// A full socket is no harm: then there is a byte in it already.
    fn wake(&self) {
        let _ = (&self.stream).write(&[1]);
    }
}

impl ControlServer {
    /// Answers what comes in through a listener.
    ///
    /// # Errors
    /// Those of socketpair(2), fcntl(2), and of starting a thread.
    pub fn start(listener: Arc<Listener>, operator: Arc<Operator>, jobs: Jobs) -> io::Result<Self> {
        let (woken, stream) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        sys::set_nonblocking(listener.as_fd())?;
        let wake = Arc::new(Wake {
            stream,
            ends: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
        });
        let (sender, finished) = channel();
        let handle = operator.handle().clone();
        let (own, next_number) = (sys::effective_user(), 0);
        let weak = Arc::downgrade(&listener);
        let thread = Thread {
            listener: Some(listener),
            operator,
            jobs,
            wake: Arc::clone(&wake),
            woken,
            sender,
            finished,
            clients: Vec::new(),
            next_number,
            own,
            no_accept_until: None,
        };
        let thread = handle.spawn("control", move || thread.run())?;
        Ok(Self { listener: weak, thread, wake })
    }

    /// Has the thread look whether the socket is this process's by now.
    pub fn look(&self) {
        self.wake.wake();
    }

    /// What has the thread close its copy of the socket.
    pub fn leave(&self) -> Leave {
        Leave(Arc::clone(&self.wake))
    }

    /// Ends the thread and removes the socket's file. Whoever waits for an answer gets it; it may take so long.
    pub fn close(self, limit: Duration) {
        self.wake.ends.store(true, Ordering::Release);
        self.wake.wake();
        let listener = self.listener.upgrade();
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < limit {
            thread::sleep(END_STEP);
        }
        // Others may have it to the end of the process.
        if let Some(listener) = listener.filter(|it| !it.is_given_away())
            && let Err(error) = listener.stop_admitting()
        {
            tracing::warn!("control socket: its file is left: {error}");
        }
    }
}

/// A client's number and what it is told.
type Finished = (u64, String);

struct Thread {
    /// `None` once another process has it for good.
    listener: Option<Arc<Listener>>,
    operator: Arc<Operator>,
    jobs: Jobs,
    wake: Arc<Wake>,
    woken: UnixStream,
    sender: Sender<Finished>,
    finished: Receiver<Finished>,
    clients: Vec<Client>,
    next_number: u64,
    /// Whose process this is.
    own: u32,
    no_accept_until: Option<Instant>,
}

impl Thread {
    fn run(mut self) {
        while !self.is_over() {
            if let Err(error) = self.wait() {
                tracing::error!("control socket: poll(2) failed, so it is closed: {error}");
                return;
            }
            let now = Instant::now();
            self.leave();
            self.take_finished(now);
            let mut place = 0;
            // One that takes over is a client no more.
            while place < self.clients.len() {
                self.serve(place, now);
                place += 1;
            }
            self.end_late(now);
            self.accept(now);
            // Of those who have just come, some have gone already.
            self.end_late(now);
        }
    }

    fn ends(&self) -> bool {
        self.wake.ends.load(Ordering::Acquire)
    }

    /// Before what has finished is told: whoever hears of an upgrade finds that this is so.
    fn leave(&mut self) {
        // The new process may have another address: then this one still answers on its own.
        let is_given_away = self.listener.as_ref().is_some_and(|it| it.is_given_away());
        if is_given_away && self.wake.has_left.load(Ordering::Acquire) {
            self.listener = None;
        }
    }

    /// What is accepted on now: another process does so once it was given away.
    fn open(&self) -> Option<&Arc<Listener>> {
        self.listener.as_ref().filter(|it| !self.ends() && !it.is_given_away())
    }

    /// Nothing more is asked once it ends, but what was asked is answered: the upgrade after which this process ends, too.
    fn is_over(&mut self) -> bool {
        let ends = self.ends();
        if ends {
            self.clients.retain(Client::is_owed);
        }
        ends && self.clients.is_empty()
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let mut all = vec![Polled::new(self.woken.as_fd(), sys::POLLIN)];
        let now = Instant::now();
        let paused = self.no_accept_until.is_some_and(|until| now < until);
        if let Some(listener) = self.open().filter(|_| !paused) {
            all.push(Polled::new(listener.as_fd(), sys::POLLIN));
        }
        for client in &self.clients {
            if client.wants_to_read() {
                all.push(Polled::new(client.fd(), sys::POLLIN));
            } else if client.wants_to_write() {
                all.push(Polled::new(client.fd(), sys::POLLOUT));
            }
        }
        let deadlines = self.clients.iter().filter_map(Client::deadline);
        let next = deadlines.chain(self.no_accept_until.filter(|_| paused)).min();
        let timeout = match self.clients.iter().any(Client::has_line) {
            true => Some(Duration::ZERO),
            false => next.map(|next| next.saturating_duration_since(now)),
        };
        sys::poll(&mut all, timeout)
    }

    /// Jobs that have ended.
    fn take_finished(&mut self, now: Instant) {
        let mut buffer = [0; 64];
        while let Ok(1..) = (&self.woken).read(&mut buffer) {}
        while let Ok((number, line)) = self.finished.try_recv() {
            let client = self.clients.iter_mut().find(|client| client.number == number);
            client.into_iter().for_each(|client| client.answer(line.clone(), now));
        }
    }

    /// Goes on with a client: it may have sent, or taken, something.
    fn serve(&mut self, place: usize, now: Instant) {
        let client = &mut self.clients[place];
        client.write(now);
        match client.next() {
            None => {}
            Some(Wish::TooLong) => {
                let text = format!(
                    "the request is longer than {LINE_MAX_BYTES} bytes; the connection is closed"
                );
                client.end_with_answer();
                client.answer(answer::to_line(&Err(Failure::new(Code::TooLong, text))), now);
            }
            Some(Wish::Line(line)) => self.follow(place, &line, now),
        }
    }

    fn follow(&mut self, place: usize, line: &[u8], now: Instant) {
        let outcome = match Request::parse(line) {
            Err(failure) => Err(failure),
            Ok(Request::TakeOver) => return self.hand_over(place, now),
            Ok(request) if request.is_slow() => match self.hand_on(place, request) {
                Ok(()) => return self.clients[place].wait(now),
                Err(failure) => Err(failure),
            },
            Ok(request) => self.operator.answer(&request),
        };
        self.clients[place].answer(answer::to_line(&outcome), now);
    }

    /// Has a request done on the other thread.
    fn hand_on(&self, place: usize, request: Request) -> Result<(), Failure> {
        let number = self.clients[place].number;
        let (operator, wake) = (Arc::clone(&self.operator), Arc::clone(&self.wake));
        let sender = self.sender.clone();
        let job = move || {
            let outcome: Outcome = operator.answer(&request);
            // Whoever has gone meanwhile is not told.
            let _ = sender.send((number, answer::to_line(&outcome)));
            wake.wake();
        };
        self.jobs.push(job).map_err(|_| {
            let text = format!(
                "{JOBS_MAX} changes wait already; nothing was done, try again when some are done"
            );
            Failure::new(Code::Busy, text)
        })
    }

    /// Gives everything to a client, which is a process of this program.
    fn hand_over(&mut self, place: usize, now: Instant) {
        let answer = self.operator.answer(&Request::TakeOver);
        if answer.is_err() {
            return self.clients[place].answer(answer::to_line(&answer), now);
        }
        let mut stream = self.clients.remove(place).into_stream();
        let operator = Arc::clone(&self.operator);
        let job = move || {
            // It asks for no more than it is told, so there is room for it.
            if stream.write_all(answer::to_line(&answer).as_bytes()).is_ok() {
                operator.hand_over(stream);
            }
        };
        // Without room for it, whoever asked sees its connection closed.
        if self.jobs.push(job).is_err() {
            tracing::warn!("upgrade: {JOBS_MAX} changes wait already, so nothing is handed over");
        }
    }

    /// Those who take too long.
    fn end_late(&mut self, now: Instant) {
        self.clients.retain(|client| {
            !client.is_over() && client.deadline().is_none_or(|deadline| now < deadline)
        });
    }

    fn accept(&mut self, now: Instant) {
        if self.no_accept_until.is_some_and(|until| now < until) {
            return;
        }
        let Some(listener) = self.open().cloned() else { return };
        self.no_accept_until = None;
        for _ in 0..ACCEPTS_PER_TURN {
            if self.clients.len() >= CLIENTS_MAX && !self.make_room(now) {
                // Somebody has to go first, or get old enough.
                self.no_accept_until = Some(now + PLACE_FOR);
                return;
            }
            match sys::accept4(listener.as_fd()).map(UnixStream::from) {
                Ok(stream) => self.admit(stream, now),
                Err(sys::Errno::EAGAIN) => return,
                Err(_) => {
                    self.no_accept_until = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Gives up the client that has been without a request for the longest.
    fn make_room(&mut self, now: Instant) -> bool {
        let waiting = self.clients.iter().enumerate();
        let waiting = waiting.filter_map(|(place, it)| Some((it.asking_since()?, place)));
        let Some((since, place)) = waiting.min() else { return false };
        let is_old = now.saturating_duration_since(since) >= PLACE_FOR;
        if is_old {
            self.clients.remove(place);
        }
        is_old
    }

    fn admit(&mut self, stream: UnixStream, now: Instant) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut client = Client::new(self.next_number, stream, now);
        self.next_number += 1;
        let may = sys::peer_user(client.fd()).map(|user| user == self.own || user == 0);
        if !may.unwrap_or(false) {
            let text = "this socket is for the user of the server, and for root";
            client.end_with_answer();
            client.answer(answer::to_line(&Err(Failure::new(Code::Denied, text))), now);
            return;
        }
        self.clients.push(client);
        // What it wanted to say has mostly come already.
        self.serve(self.clients.len() - 1, now);
    }
}
