//! The load generator as its users run it, against servers on loopback.
//!
//! Its verdict goes by the kernel's counters of this network namespace, which the tests beside these
//! move too. So these run one at a time, and a verdict that may only tell of others counts as good.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::harness::{Exit, Launch};

mod answers;
mod compare;
mod files;
mod idle;
mod knee;
mod modes;
mod outputs;
mod page;
mod scripted;
mod servers;
mod trouble;

/// Exit codes of the program.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const INVALID: i32 = 4;

/// Operations of which one may fail before a run counts as failed.
const OPERATIONS_PER_FAILURE: u64 = 100;

static ALONE: Mutex<()> = Mutex::new(());

/// The right to run.
fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that goes away with everything in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()));
        fs::create_dir(&folder).expect("the folder is new");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A run that is over, with its JSON.
struct Measured {
    exit: Exit,
    json: Value,
}

impl Measured {
    /// Runs `arguments` with the JSON in a file of its own, and judges what any run must hold to.
    #[track_caller]
    fn run(name: &str, arguments: &[&str]) -> Self {
        let folder = Folder::new(name);
        let file = folder.file("run.json");
        let exit = Launch::loadgen(&[arguments, &["--json", &file]].concat()).run();
        let text = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{arguments:?} left no JSON: {error}; {exit:?}"));
        let json = serde_json::from_str(&text).expect("it is JSON");
        let measured = Self { exit, json };
        measured.holds_together();
        measured
    }

    #[track_caller]
    fn holds_together(&self) {
        assert_eq!(self.json["schema"], "uring-acceptor/loadgen");
        assert_eq!((&self.json["version"], &self.json["runs"]), (&4.into(), &1.into()));
        assert_eq!(self.exit.stdout.matches("verdict:").count(), 1, "{}", self.exit.stdout);
        assert!(!self.exit.stderr.contains("panicked"), "{}", self.exit.stderr);
        assert_eq!(self.exit.code, Some(self.code()), "{:?}", self.exit);
        assert_eq!(self.count("started"), self.count("completed") + self.count("failed"));
    }

    /// The exit code that its figures ask for.
    fn code(&self) -> i32 {
        let failures = self.count("failed") + self.count("unasked");
        if failures * OPERATIONS_PER_FAILURE > self.count("started") {
            FAILED
        } else if self.json["verdict"]["valid"] == true {
            DONE
        } else {
            INVALID
        }
    }

    #[track_caller]
    fn count(&self, name: &str) -> u64 {
        self.json["counts"][name].as_u64().unwrap_or_else(|| panic!("no count {name}"))
    }

    #[track_caller]
    fn kernel(&self, name: &str) -> u64 {
        self.json["kernel"][0][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Every operation succeeded, and the verdict has nothing to say but perhaps of other tests.
    #[track_caller]
    fn all_well(&self) {
        assert_eq!(self.json["faults"], serde_json::json!({}), "{:?}", self.exit);
        assert!(self.count("completed") > 0, "{:?}", self.exit);
        let reasons = self.json["verdict"]["reasons"].as_array().expect("it is a list");
        let others = "an accept queue overflowed";
        let ours = |reason: &&Value| reason.as_str().is_none_or(|text| !text.contains(others));
        let ours: Vec<_> = reasons.iter().filter(ours).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            let Exit { stdout, stderr, .. } = &self.exit;
            assert!(stdout.contains(word), "'{word}' is missing in: {stdout}{stderr}");
        }
    }
}
