//! Entries that are written late, in part, or not.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::SystemTime;

use super::super::log::{Entry, write_line};
use super::*;
use crate::proxy::Ended;
use crate::sys::testing::eventually;

const SOON: Duration = Duration::from_secs(10);

fn entry() -> Entry {
    Entry {
        at: SystemTime::UNIX_EPOCH,
        client: None,
        backend: None,
        queued: None,
        dispatch: None,
        connect: None,
        first_byte: None,
        total: None,
        from_client: 0,
        from_backend: 0,
        attempts: 0,
        failures: 0,
        errno: None,
        ended: Ended::Client,
        reason: None,
    }
}

/// Writes as much as it is let, or is refused; takes everything when nobody keeps the gate.
struct Gated(Receiver<Result<usize, Errno>>);

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.0.recv().unwrap_or(Ok(usize::MAX))?;
        Ok(bytes.len().min(most))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gated() -> (LogSink, AccessLog, SyncSender<Result<usize, Errno>>) {
    let (gate, leave) = sync_channel(0);
    let made = AccessLog::new(LogFormat::Json, "test".into(), Box::new(Gated(leave))).unwrap();
    (made.0, made.1, gate)
}

fn dropped(metrics: &[Arc<Block>]) -> u64 {
    metrics.iter().map(|block| block.get(Counter::LogDropped)).sum()
}

#[test]
fn what_waits_at_the_end_is_lost_to_the_entry() {
    let (sink, log, gate) = gated();
    let line = {
        let mut line = Vec::new();
        write_line(&mut line, LogFormat::Json, &entry()).unwrap();
        line.len()
    };
    assert!((0..10).all(|_| sink.put(entry())));
    // The first write has one entry at least; of the second a part is written.
    gate.send(Ok(line)).unwrap();
    gate.send(Ok(line / 2)).unwrap();
    let metrics = sink.metrics().to_vec();
    drop(sink);
    assert_eq!(log.finish(Duration::from_millis(50)), 9);
    assert_eq!(dropped(&metrics), 9);
}

#[test]
fn nothing_is_lost_when_all_is_written() {
    let (sink, log, gate) = gated();
    assert!((0..10).all(|_| sink.put(entry())));
    let metrics = sink.metrics().to_vec();
    drop((sink, gate));
    assert_eq!(log.finish(SOON), 0);
    assert_eq!(dropped(&metrics), 0);
}

/// The worker counts those by itself.
#[test]
fn what_the_queue_has_no_room_for_is_lost() {
    let (sink, mut log, gate) = gated();
    // More than the thread takes out for one write, and it does not get beyond that.
    const MORE: usize = super::writer::BATCH_BYTES / 64;
    let refused = (0..ENTRIES_MAX + MORE).filter(|_| !sink.put(entry())).count() as u64;
    assert!((1..=MORE as u64).contains(&refused), "{refused}");
    assert_eq!(log.look_at(Instant::now()), [News::Trouble(Trouble::Full), News::Lost(refused)]);
    drop((sink, gate));
    assert_eq!(log.finish(SOON), refused);
}

#[test]
fn what_write_refuses_is_lost() {
    let (sink, mut log, gate) = gated();
    assert!(sink.put(entry()));
    gate.send(Err(Errno::ENOSPC)).unwrap();
    let mut news = Vec::new();
    eventually(SOON, || {
        news.extend(log.look_at(Instant::now()));
        !news.is_empty()
    });
    assert_eq!(news, [News::Trouble(Trouble::Refused(Errno::ENOSPC)), News::Lost(1)]);
    let metrics = sink.metrics().to_vec();
    drop((sink, gate));
    assert_eq!((log.finish(SOON), dropped(&metrics)), (1, 1));
}

#[test]
fn a_write_that_waits_is_told() {
    let (sink, mut log, _gate) = gated();
    assert!(sink.put(entry()));
    eventually(SOON, || log.flow.state().writing_since.is_some());
    assert_eq!(log.look_at(Instant::now()), []);
    let news = log.look_at(Instant::now() + STALL);
    assert!(
        matches!(news[..], [News::Trouble(Trouble::Waits(waited))] if waited >= STALL),
        "{news:?}"
    );
}
