//! Descriptors that refuse, that are full, and that come back.

use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::outlet::LINES_MAX;
use super::{Lines, Outlet, Target};

/// For what must happen.
const SOON: Duration = Duration::from_secs(10);

/// Answers writes as it is told, then takes everything.
#[derive(Default)]
struct Told {
    answers: Vec<io::Result<usize>>,
    taken: Vec<u8>,
}

impl Told {
    fn new(answers: impl IntoIterator<Item = io::Result<usize>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self { answers, taken: Vec::new() }
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.answers.pop().unwrap_or(Ok(bytes.len()))?;
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused() -> io::Result<usize> {
    Err(ErrorKind::StorageFull.into())
}

/// Lines that are lost when `lines` are flushed, and then what is taken with `more` behind them.
fn flush(answers: Vec<io::Result<usize>>, text: &str, more: &str) -> (u64, String) {
    let mut lines = Lines::new(Told::new(answers));
    lines.pending().extend_from_slice(text.as_bytes());
    let lost = lines.flush().map_or_else(|unwritten| unwritten.lines, |()| 0);
    lines.pending().extend_from_slice(more.as_bytes());
    lines.flush().unwrap();
    (lost, String::from_utf8(lines.target().taken.clone()).unwrap())
}

#[test]
fn whole_lines_are_lost_and_counted() {
    let text = "one\ntwo\nthree\n";
    let table = [
        (vec![], 0, "one\ntwo\nthree\nmore\n"),
        (vec![Err(ErrorKind::Interrupted.into()), Ok(5)], 0, "one\ntwo\nthree\nmore\n"),
        (vec![Err(ErrorKind::WouldBlock.into()), Ok(1)], 0, "one\ntwo\nthree\nmore\n"),
        (vec![refused()], 3, "more\n"),
        (vec![Ok(0)], 3, "more\n"),
        (vec![Ok(4), refused()], 2, "one\nmore\n"),
        // The rest of a line comes later, never without its beginning.
        (vec![Ok(2), refused()], 2, "one\nmore\n"),
        (vec![Ok(3), refused()], 2, "one\nmore\n"),
        (vec![Ok(5), refused()], 1, "one\ntwo\nmore\n"),
        (vec![Ok(13), refused()], 0, "one\ntwo\nthree\nmore\n"),
    ];
    for (answers, lost, taken) in table {
        let what = format!("{answers:?}");
        assert_eq!(flush(answers, text, "more\n"), (lost, taken.to_owned()), "{what}");
    }
}

#[test]
fn the_rest_of_a_line_survives_a_second_refusal() {
    let mut lines = Lines::new(Told::new([Ok(1), refused(), refused(), Ok(1), refused()]));
    let mut lost = Vec::new();
    for line in ["one\n", "two\n", "three\n", "four\n"] {
        lines.pending().extend_from_slice(line.as_bytes());
        lost.push(lines.flush().map_or_else(|unwritten| unwritten.lines, |()| 0));
    }
    assert_eq!(lost, [0, 1, 1, 0]);
    assert_eq!(lines.target().taken, b"one\nfour\n");
}

/// Waits for leave before each write, and may be refused.
struct Gated {
    leave: Receiver<io::Result<()>>,
    taken: Arc<Mutex<String>>,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without a gate keeper everything goes through.
        self.leave.recv().unwrap_or(Ok(()))?;
        self.taken.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Gated {
    fn draw(&mut self, live: &str) {
        self.taken.lock().unwrap().push_str(&format!("[{live}]"));
    }

    fn end(&mut self) {
        self.taken.lock().unwrap().push_str("end");
    }
}

struct Bench {
    outlet: Outlet,
    gate: SyncSender<io::Result<()>>,
    taken: Arc<Mutex<String>>,
    thread: JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let (gate, leave) = sync_channel(0);
        let taken = Arc::<Mutex<String>>::default();
        let target = Gated { leave, taken: Arc::clone(&taken) };
        let format = |text: &str| format!("<{text}>\n").into_bytes();
        let (outlet, run) = Outlet::new(target, Box::new(format));
        Self { outlet, gate, taken, thread: thread::spawn(run) }
    }

    fn put(&self, line: &str) -> bool {
        self.outlet.put(format!("{line}\n").into_bytes())
    }

    /// Lets everything through and waits for the end.
    fn end(self) -> String {
        drop(self.gate);
        assert!(self.outlet.close(SOON));
        self.thread.join().unwrap();
        let taken = self.taken.lock().unwrap();
        taken.clone()
    }
}

#[test]
fn a_loss_is_told_before_the_next_line() {
    let bench = Bench::new();
    for line in ["one", "two", "three"] {
        assert!(bench.put(line));
    }
    bench.gate.send(Ok(())).unwrap();
    bench.gate.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
    // That of the notice, which takes the third line with it.
    bench.gate.send(Err(ErrorKind::BrokenPipe.into())).unwrap();
    assert!(bench.put("four"));
    assert_eq!(bench.end(), "one\n<2 lines of the log lost: broken pipe>\nfour\nend");
}

#[test]
fn a_loss_is_told_without_another_line() {
    let bench = Bench::new();
    bench.put("one");
    bench.gate.send(Err(ErrorKind::StorageFull.into())).unwrap();
    // The thread tries by itself.
    bench.gate.send(Err(ErrorKind::StorageFull.into())).unwrap();
    bench.gate.send(Ok(())).unwrap();
    assert_eq!(bench.end(), "<1 line of the log lost: no storage space>\nend");
}

#[test]
fn whoever_has_something_to_say_never_waits() {
    let bench = Bench::new();
    let put = |count: usize| (0..count).filter(|number| bench.put(&number.to_string())).count();
    // One is in the hands of the thread, or about to be.
    let taken = put(LINES_MAX + 10);
    assert!((LINES_MAX..=LINES_MAX + 1).contains(&taken), "{taken}");
    let lost = LINES_MAX + 10 - taken;
    (0..10).for_each(|_| bench.gate.send(Ok(())).unwrap());
    assert!(bench.put("behind"));
    let text = bench.end();
    let notice =
        format!("<{lost} lines of the log lost: it could not be written as fast as they came>");
    let end: Vec<_> = text.lines().rev().take(4).collect();
    let last = (taken - 1).to_string();
    assert_eq!(end, ["end", "behind", &notice, &last], "a loss is told where it was");
}

#[test]
fn an_end_is_bounded_in_time() {
    let bench = Bench::new();
    bench.put("stuck");
    assert!(!bench.outlet.close(Duration::from_millis(10)));
    assert!(!bench.put("too late"));
    let notice = "<1 line of the log lost: it could not be written as fast as they came>";
    assert_eq!(bench.end(), format!("stuck\n{notice}\nend"));
}

#[test]
fn the_last_live_line_is_the_one_that_is_drawn() {
    let bench = Bench::new();
    bench.put("line");
    for live in ["a", "b"] {
        bench.outlet.draw(live.to_owned());
    }
    bench.gate.send(Ok(())).unwrap();
    let taken = Arc::clone(&bench.taken);
    crate::sys::testing::eventually(SOON, || taken.lock().unwrap().contains("[b]"));
    assert_eq!(bench.end(), "line\n[b]end");
}

/// What waits for the end must not wait for a thread that is gone.
#[test]
fn a_panic_of_the_target_ends_the_outlet() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("on purpose");
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Target for Broken {}
    let (outlet, run) = Outlet::new(Broken, Box::new(|_: &str| Vec::new()));
    let thread = thread::spawn(run);
    outlet.put(b"line\n".to_vec());
    assert!(thread.join().is_err());
    assert!(outlet.close(SOON));
    assert!(!outlet.put(b"line\n".to_vec()));
}
