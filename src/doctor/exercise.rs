//! What a server does with its rings, done once over loopback by a child process.
//!
//! io_uring may answer io_uring_setup(2) and still refuse an operation, and a seccomp filter may kill
//! whoever asks. The child writes a line for each step that is behind it; the parent waits for a
//! bounded time and takes the missing ones as its answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ring::uring::{Sizes, Uring};
use crate::ring::{
    Bytes, Completion, Descriptor, Event, Key, Kind, Operation, Operations, Received, Ring, Shots,
    Wait,
};

/// How long the child may take for all steps.
const CHILD_LIMIT: Duration = Duration::from_secs(5);
/// How long one completion may take.
const COMPLETION_LIMIT: Duration = Duration::from_millis(500);
/// How often the parent looks whether the child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A ring that is large enough for one connection.
const SIZES: Sizes =
    Sizes { submission_entries: 8, completion_entries: 16, buffers: 4, buffer_bytes: 1024 };

const MANY: Shots = Shots::Many { credit_bytes: 64 * 1024 };
const KEY: u32 = 1;

/// One thing that a server does with a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A ring with SINGLE_ISSUER and DEFER_TASKRUN, its descriptor and a buffer ring registered.
    Rings,
    /// Two connections from one accept.
    MultishotAccept,
    /// A receive into a provided buffer.
    Receive,
    /// Several receives from one, up to a credit.
    ReceiveCredit,
    /// A send.
    Send,
    /// A message from one ring that ends the wait of another.
    Wake,
}

impl Step {
    /// In the order in which they are done.
    pub const ALL: [Self; 6] = [
        Self::Rings,
        Self::MultishotAccept,
        Self::Receive,
        Self::ReceiveCredit,
        Self::Send,
        Self::Wake,
    ];

    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rings => "rings",
            Self::MultishotAccept => "multishot-accept",
            Self::Receive => "receive",
            Self::ReceiveCredit => "receive-credit",
            Self::Send => "send",
            Self::Wake => "wake",
        }
    }
}

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// It works.
    Works,
    /// This kernel does not have it, and the server does without.
    Absent,
    /// It should work and does not: why.
    Failed(String),
}

/// What came of all steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exercise {
    /// The steps that are behind the child, in the order of [`Step::ALL`].
    pub found: Vec<(Step, Found)>,
    /// How it came to its end.
    pub end: End,
}

/// How a child process came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All steps are behind it.
    Complete,
    /// It was not made: why.
    NotBegun(String),
    /// In the step after the last that is behind it: how.
    Early(String),
}

impl Exercise {
    /// Nothing was done, because of this.
    pub fn not_done(why: impl Into<String>) -> Self {
        Self { found: Vec::new(), end: End::NotBegun(why.into()) }
    }

    /// Runs `child`, which is expected to call [`perform`] on its stdout, for at most five seconds.
    pub fn observe(child: &mut Command) -> Self {
        let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        match child.spawn() {
            Ok(child) => Self::await_end(child),
            Err(error) => Self::not_done(format!("no child process could be made: {error}")),
        }
    }

    /// The lines are few enough for a pipe, so the child never waits for them to be read.
    fn await_end(mut child: Child) -> Self {
        let status = wait_for(&mut child, CHILD_LIMIT);
        let mut text = String::new();
        let read = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut text));
        let found: Vec<_> =
            text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
        let end = match (status, read) {
            _ if found.len() == Step::ALL.len() => End::Complete,
            (Ok(Some(status)), Some(Ok(_))) => {
                End::Early(format!("the child process ended early ({status})"))
            }
            (Ok(None), _) => End::Early(format!("the child process hung for {CHILD_LIMIT:?}")),
            (Err(error), _) | (_, Some(Err(error))) => {
                End::NotBegun(format!("the child process cannot be observed: {error}"))
            }
            (_, None) => End::NotBegun("the child process has no stdout".to_owned()),
        };
        Self { found, end }
    }

    /// What came of a step, if it was done.
    pub fn of(&self, step: Step) -> Option<&Found> {
        self.found.iter().find(|(own, _)| *own == step).map(|(_, found)| found)
    }

    /// The step in which the child ended early, and how.
    pub fn stuck_at(&self) -> Option<(Step, &str)> {
        let End::Early(how) = &self.end else { return None };
        Some((*Step::ALL.get(self.found.len())?, how))
    }
}

/// `None`: it had to be killed.
fn wait_for(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Does every step and writes a line for each.
///
/// # Errors
/// Those of writing; a step that fails is a line.
pub fn perform(out: &mut impl Write) -> io::Result<()> {
    for step in Step::ALL {
        let found = take(step).unwrap_or_else(Found::Failed);
        serde_json::to_writer(&mut *out, &(step, found))?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

fn take(step: Step) -> Result<Found, String> {
    match step {
        Step::Rings => bench().map(drop),
        Step::MultishotAccept => multishot_accept(),
        Step::Receive => receive(),
        Step::ReceiveCredit => return receive_credit(),
        Step::Send => send(),
        Step::Wake => wake(),
    }
    .map(|()| Found::Works)
}

/// A ring with its queues.
struct Bench {
    ring: Uring,
    operations: Operations,
    completions: Vec<Completion>,
}

fn bench() -> Result<Bench, String> {
    let ring = Uring::new(&SIZES).map_err(|refusal| refusal.to_string())?;
    Ok(Bench { ring, operations: Operations::default(), completions: Vec::new() })
}

impl Bench {
    fn enter(&mut self, wait: Wait) -> Result<(), String> {
        let entered = self.ring.enter(&mut self.operations, &mut self.completions, wait);
        entered.map_err(|error| format!("io_uring_enter: {error}"))
    }

    fn start(&mut self, operation: Operation) -> Result<(), String> {
        self.operations.push(Key::fixed(KEY), operation);
        self.enter(Wait::No)
    }

    fn next(&mut self) -> Result<Completion, String> {
        let deadline = Instant::now() + COMPLETION_LIMIT;
        while self.completions.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("nothing completed within {COMPLETION_LIMIT:?}"));
            }
            self.enter(Wait::For(left))?;
        }
        Ok(self.completions.remove(0))
    }

    /// The bytes of the next completion, which must be a receive.
    fn next_bytes(&mut self) -> Result<(Vec<u8>, bool), String> {
        let completion = self.next()?;
        match completion.event {
            Event::Received(Ok(Received::Bytes { buffer, len })) => {
                let bytes = self.ring.buffers().bytes(&buffer, 0..len).to_vec();
                self.ring.buffers().recycle(buffer);
                Ok((bytes, completion.more))
            }
            other => Err(unexpected(&other)),
        }
    }

    fn expect_bytes(&mut self, expected: &[u8], expected_more: bool) -> Result<(), String> {
        match self.next_bytes()? {
            (bytes, _) if bytes != expected => Err("other bytes came than were sent".to_owned()),
            (_, more) if more != expected_more => Err("the receive did not stay armed".to_owned()),
            _ => Ok(()),
        }
    }
}

fn unexpected(event: &Event) -> String {
    format!("it brought {event:?}")
}

fn loopback<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("a connection over loopback: {error}"))
}

fn pair() -> Result<(TcpStream, TcpStream), String> {
    let listener = loopback(TcpListener::bind("127.0.0.1:0"))?;
    let client = loopback(TcpStream::connect(loopback(listener.local_addr())?))?;
    loopback(client.set_read_timeout(Some(COMPLETION_LIMIT)))?;
    Ok((loopback(listener.accept())?.0, client))
}

fn multishot_accept() -> Result<(), String> {
    let mut bench = bench()?;
    let listener = loopback(TcpListener::bind("127.0.0.1:0"))?;
    let address = loopback(listener.local_addr())?;
    bench.start(Operation::Accept { listener: Descriptor::of(&listener), shots: MANY })?;
    for _ in 0..2 {
        let _client = loopback(TcpStream::connect(address))?;
        match bench.next()? {
            Completion { event: Event::Accepted(Ok(_)), more: true, .. } => {}
            Completion { event: Event::Accepted(Ok(_)), .. } => {
                return Err("the accept did not stay armed".to_owned());
            }
            Completion { event, .. } => return Err(unexpected(&event)),
        }
    }
    bench.start(Operation::Cancel(Kind::Accept))?;
    bench.next().map(drop)
}

fn receive() -> Result<(), String> {
    let mut bench = bench()?;
    let (socket, mut client) = pair()?;
    bench.start(Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once })?;
    loopback(client.write_all(b"once"))?;
    bench.expect_bytes(b"once", false)
}

fn receive_credit() -> Result<Found, String> {
    let mut bench = bench()?;
    if !bench.ring.capabilities().receive_credit {
        return Ok(Found::Absent);
    }
    let (socket, mut client) = pair()?;
    let socket_id = Descriptor::of(&socket);
    bench.start(Operation::Receive { socket: socket_id, shots: MANY })?;
    for _ in 0..2 {
        loopback(client.write_all(b"again"))?;
        bench.expect_bytes(b"again", true)?;
    }
    bench.start(Operation::Shutdown { socket: socket_id, how: Shutdown::Both })?;
    bench.next().map(|_| Found::Works)
}

fn send() -> Result<(), String> {
    let mut bench = bench()?;
    let (socket, mut client) = pair()?;
    let bytes = Bytes::Static(b"answer");
    bench.start(Operation::Send { socket: Descriptor::of(&socket), bytes })?;
    match bench.next()?.event {
        Event::Sent(Ok(6)) => {}
        other => return Err(unexpected(&other)),
    }
    let mut read = [0; 6];
    loopback(client.read_exact(&mut read))
}

/// A wait that times out looks like one that was woken, but for the time that it took.
fn wake() -> Result<(), String> {
    let (mut waiting, mut waking) = (bench()?, bench()?);
    // Arms what a ring arms on its first turn.
    waiting.enter(Wait::No)?;
    waking.start(Operation::Wake { ring: waiting.ring.address().descriptor() })?;
    let start = Instant::now();
    waiting.enter(Wait::For(COMPLETION_LIMIT))?;
    if start.elapsed() < COMPLETION_LIMIT { Ok(()) } else { Err("no message came".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Refusal;

    /// What `sh` does, as the parent sees it.
    fn observe(script: &str) -> Exercise {
        Exercise::observe(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn every_step_works_where_a_ring_can_be_made() {
        if let Err(refusal) = Uring::new(&SIZES) {
            assert!(!matches!(refusal, Refusal::Step { .. }), "{refusal}");
            return eprintln!("SKIPPED: {refusal}");
        }
        let mut lines = Vec::new();
        perform(&mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        assert_eq!(text.lines().count(), Step::ALL.len(), "{text}");
        assert!(!text.contains("failed"), "{text}");
    }

    #[test]
    fn a_child_that_is_killed_names_its_last_step() {
        let exercise = observe(r#"echo '["rings","works"]'; kill -SYS $$"#);
        assert_eq!(exercise.of(Step::Rings), Some(&Found::Works));
        let (step, how) = exercise.stuck_at().unwrap();
        assert_eq!(step, Step::MultishotAccept);
        assert!(how.contains("SIGSYS"), "{how}");
    }

    #[test]
    fn a_child_that_does_all_steps_is_not_stuck() {
        let lines = Step::ALL.map(|step| format!(r#"echo '["{}","works"]'"#, step.name()));
        let exercise = observe(&lines.join(";"));
        assert_eq!((exercise.found.len(), &exercise.end), (Step::ALL.len(), &End::Complete));
        assert_eq!(exercise.stuck_at(), None);
    }

    #[test]
    fn what_failed_is_told() {
        let exercise = observe(r#"echo '["rings",{"failed":"no room"}]'"#);
        assert_eq!(exercise.of(Step::Rings), Some(&Found::Failed("no room".to_owned())));
        assert!(matches!(exercise.end, End::Early(_)), "{exercise:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let exercise = Exercise::observe(&mut Command::new("/nonexistent/acceptor"));
        assert_eq!((exercise.found.len(), exercise.stuck_at()), (0, None));
        assert!(matches!(exercise.end, End::NotBegun(why) if why.contains("no child process")));
    }
}
