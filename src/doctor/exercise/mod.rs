//! What a server does with its rings, done once over loopback by a child process.
//!
//! io_uring may answer io_uring_setup(2) and still refuse an operation, and a seccomp filter may kill
//! whoever asks. The child writes a line for each step that is behind it; the parent waits for a
//! bounded time and takes the missing ones as its answer.

mod child;

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use child::perform;

/// How long the child may take for all steps.
const CHILD_LIMIT: Duration = Duration::from_secs(5);
/// How often the parent looks whether the child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sh` does, as the parent sees it.
    fn observe(script: &str) -> Exercise {
        Exercise::observe(Command::new("sh").args(["-c", script]))
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
