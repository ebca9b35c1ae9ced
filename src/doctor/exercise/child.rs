//! What the child process does: each step on a ring of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Found, Step};
use crate::ring::uring::Uring;
use crate::ring::{
    Bytes, Completion, Descriptor, Event, Key, Kind, Operation, Operations, Received, Ring, Shots,
    Wait,
};
use crate::ring::{Sizes, engine};

/// How long one completion may take.
const COMPLETION_LIMIT: Duration = Duration::from_millis(500);

/// A ring that is large enough for one connection.
const SIZES: Sizes =
    Sizes { submission_entries: 8, completion_entries: 16, buffers: 4, buffer_bytes: 1024 };

const MANY: Shots = Shots::Many { credit_bytes: 64 * 1024 };
const KEY: u32 = 1;

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
    let ring = engine::patiently(|| Uring::new(&SIZES)).map_err(|refusal| refusal.to_string())?;
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
    bench.start(Operation::Send { socket: Descriptor::of(&socket), bytes, more: false })?;
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
}
