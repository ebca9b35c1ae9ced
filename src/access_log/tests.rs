//! Entries that are written late, in part, or not.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::SystemTime;

use super::entry::write_line;
use super::*;
use crate::service::CloseReason;
use crate::sys::Errno;
use crate::sys::testing::eventually;

const SOON: Duration = Duration::from_secs(10);

fn entry() -> Entry {
    Entry {
        at: SystemTime::UNIX_EPOCH,
        client: None,
        queued: None,
        dispatch: None,
        first_byte: None,
        total: None,
        from_client: 0,
        ended_by: EndedBy::Client,
        ended: "client",
        reason: None,
        served: Served::Here { to_client: 0 },
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
        write_line(&mut line, LogFormat::Json, ("", &entry())).unwrap();
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

/// docs/logs.md has a row for each field and for each word of `ended`.
#[test]
fn the_document_has_every_field_and_every_ending() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logs.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, access_log) = document.split_once("\n## Access log\n").unwrap();
    let (fields, endings) = access_log.split_once("\n## ended\n").unwrap();
    let (endings, _) = endings.split_once("\n## ").unwrap();
    // The first column of a row may name several.
    let named = |section: &str, name: &str| {
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        let mut columns = rows.filter_map(|row| row.split(" |").next());
        columns.any(|column| column.split(", ").any(|it| it == format!("`{name}`")))
    };
    for served in [Served::Here { to_client: 0 }, Served::Backend(Forwarded::default())] {
        let (mut line, entry) = (Vec::new(), Entry { served, ..entry() });
        write_line(&mut line, LogFormat::Json, ("", &entry)).unwrap();
        let line: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&line).unwrap();
        for field in line.keys() {
            assert!(named(fields, field), "docs/logs.md lacks the field {field}");
        }
    }
    let sources = [include_str!("../proxy/ended.rs"), include_str!("../service/mod.rs")].concat();
    let words = sources.lines().filter_map(|line| line.split_once(" => \""));
    let words: Vec<_> = words.filter_map(|(_, word)| word.strip_suffix("\",")).collect();
    let known = [crate::proxy::Ended::Lifetime.word(), CloseReason::ServiceAborted.word()];
    assert!(known.iter().all(|word| words.contains(word)), "{words:?}");
    for word in words {
        assert!(named(endings, word), "docs/logs.md lacks ended={word}");
    }
}

/// The same of each counter.
#[test]
fn the_document_has_every_counter() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logs.md");
    let document = std::fs::read_to_string(path).unwrap();
    let own = crate::metrics::Counter::ALL.into_iter().map(|counter| counter.name());
    let of_backends = crate::upstream::EndpointCounter::ALL.into_iter().map(|it| it.name());
    for name in own.chain(of_backends) {
        assert!(document.contains(&format!("`{name}`")), "docs/logs.md lacks {name}");
    }
}
