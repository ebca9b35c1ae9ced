//! Moments of an upgrade at which a test lets a process end or hang.

use std::process;
use std::time::Duration;
use std::{env, thread};

/// A moment of an upgrade, of either process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The new one: before it asks.
    Hello,
    /// The new one: it has the sockets.
    Sockets,
    /// The new one: before it says that it is ready.
    Ready,
    /// The new one: it was told to begin, and has not said that it has.
    Begun,
    /// The new one: it accepts.
    Serving,
    /// The new one: it has connections, and has not said so.
    Received,
    /// The new one: it has said so.
    Taken,
    /// The new one: before its last word.
    LastWord,
    /// The old one: it was asked.
    Asked,
    /// The old one: it accepts nobody any more.
    Stopped,
    /// The old one: it has said `Go` for the sockets.
    Went,
    /// The old one: connections are off their threads, and were not sent.
    Suspended,
    /// The old one: they were sent.
    Sent,
    /// The old one: it has said `Go` for them.
    Moved,
    /// The old one: before it says that these were all.
    Done,
}

impl Step {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::Hello, "new-hello"),
        (Self::Sockets, "new-sockets"),
        (Self::Ready, "new-ready"),
        (Self::Begun, "new-begun"),
        (Self::Serving, "new-serving"),
        (Self::Received, "new-received"),
        (Self::Taken, "new-taken"),
        (Self::LastWord, "new-last-word"),
        (Self::Asked, "old-asked"),
        (Self::Stopped, "old-stopped"),
        (Self::Went, "old-went"),
        (Self::Suspended, "old-suspended"),
        (Self::Sent, "old-sent"),
        (Self::Moved, "old-moved"),
        (Self::Done, "old-done"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(step, _)| *step == self).map_or("", |(_, name)| name)
    }
}

/// The variable that names a step: `end:STEP` as by SIGKILL, or `hang:STEP`; or how long the other process may take at
/// most, `limit:MILLISECONDS`. For tests alone.
const VARIABLE: &str = "ACCEPTOR_TEST_UPGRADE";

/// How long a test lets a process hang.
const HANG: Duration = Duration::from_secs(600);

/// This moment has come.
pub(super) fn reach(step: Step) {
    let Ok(wish) = env::var(VARIABLE) else { return };
    match wish.split_once(':') {
        // No destructor runs and nothing is flushed.
        Some(("end", name)) if name == step.name() => process::abort(),
        Some(("hang", name)) if name == step.name() => thread::sleep(HANG),
        _ => {}
    }
}

/// How long the other process may take: what a test says, if that is less.
pub(super) fn limit(otherwise: Duration) -> Duration {
    let wish = env::var(VARIABLE).unwrap_or_default();
    let millis = wish.strip_prefix("limit:").and_then(|text| text.parse().ok());
    millis.map_or(otherwise, |millis| otherwise.min(Duration::from_millis(millis)))
}
