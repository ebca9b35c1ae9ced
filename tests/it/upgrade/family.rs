//! A server whose processes replace each other: they are started from one file, in one folder, and known by a mark in
//! their environment, so that the last one ends with the test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use uring_acceptor::control::UpgradeReport;

use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server, acceptor, eventually};
use crate::process;

/// In the environment of all processes of a family.
const MARK: &str = "ACCEPTOR_TEST_FAMILY";

/// At which step of an upgrade a process ends or hangs.
pub(super) const STEP: &str = "ACCEPTOR_TEST_UPGRADE";

/// An echo service.
pub(super) const ECHO: &str = "[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";

/// See the module. All are killed, by their pids, when this is dropped.
pub(super) struct Family {
    pub(super) folder: Folder,
    /// The process that was there first. Those behind it write where it does.
    pub(super) first: Server,
    engine: &'static str,
    mark: String,
}

impl Family {
    #[track_caller]
    pub(super) fn start(text: &str) -> Self {
        Self::prepared(text, |launch| launch)
    }

    /// With something done to the start of the first process.
    #[track_caller]
    pub(super) fn prepared(text: &str, prepare: impl FnOnce(Launch) -> Launch) -> Self {
        Self::within(Folder::new(), text, prepare)
    }

    /// In a folder that has more in it.
    #[track_caller]
    pub(super) fn within(
        folder: Folder,
        text: &str,
        prepare: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{}-{count}", crate::ENGINE, std::process::id());
        let file = folder.write("a.toml", &in_full(&folder, crate::ENGINE, text));
        let listeners = text.matches("listen = ").count();
        let launch = Launch::from_file(&["run", "--config", &file], listeners);
        let first = prepare(launch).variable(MARK, &mark).start();
        Self { folder, first, engine: crate::ENGINE, mark }
    }

    /// The file says this from now on; what runs does not know.
    pub(super) fn write(&self, text: &str) {
        self.folder.write("a.toml", &in_full(&self.folder, self.engine, text));
    }

    /// The next process runs on this engine.
    pub(super) fn write_for(&mut self, engine: &'static str, text: &str) {
        self.engine = engine;
        self.write(text);
    }

    pub(super) fn control(&self) -> String {
        self.folder.file("c.sock")
    }

    /// Where its first frontend listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.first.address()
    }

    /// Another process of it, which is not started by one of the others.
    pub(super) fn by_hand(&self, arguments: &[&str]) -> Launch {
        let file = self.folder.file("a.toml");
        let run = [&["run", "--config", &file], arguments].concat();
        Launch::from_file(&run, 0).variable(MARK, &self.mark)
    }

    /// Runs a command of the client.
    pub(super) fn ctl(&self, command: &str, arguments: &[&str]) -> Exit {
        let control = format!("unix:{}", self.control());
        let before: &[&str] = if command == "upgrade" { &[] } else { &["ctl"] };
        let all = match before {
            [] => [&[command, "--control", &control], arguments].concat(),
            _ => [before, &["--control", &control, command], arguments].concat(),
        };
        Launch::from_file(&all, 0).run_within(8 * SOON)
    }

    /// Asks over the control socket.
    #[track_caller]
    pub(super) fn ask(&self, request: &Value) -> Result<Value, String> {
        ask(&connect_to(&self.control()), request)
    }

    /// Upgrades, or says why not.
    #[track_caller]
    pub(super) fn try_upgrade(&self, binary: Option<&str>) -> Result<UpgradeReport, String> {
        upgrade_by(&self.control(), binary)
    }

    #[track_caller]
    pub(super) fn upgrade(&self) -> UpgradeReport {
        self.try_upgrade(None).unwrap_or_else(|error| panic!("{error}\n{}", self.first.stderr()))
    }

    /// Upgrades as soon as nothing is in the way.
    #[track_caller]
    pub(super) fn upgrade_in_the_end(&self) -> UpgradeReport {
        let mut report = None;
        eventually(4 * SOON, "an upgrade succeeds", || {
            report = self.try_upgrade(None).ok();
            report.is_some()
        });
        report.expect("it was waited for")
    }

    /// A program that does this and becomes the acceptor then.
    pub(super) fn wrapper(&self, name: &str, before: &str) -> String {
        let program = acceptor();
        let text = format!("#!/bin/sh\n{before}\nexec '{}' \"$@\"\n", program.display());
        self.script(name, &text)
    }

    /// One that ends or hangs at a step.
    pub(super) fn faulty(&self, wish: &str) -> String {
        let name = format!("{}.sh", wish.replace(':', "-"));
        self.wrapper(&name, &format!("export {STEP}={wish}"))
    }

    pub(super) fn script(&self, name: &str, text: &str) -> String {
        let path = self.folder.write(name, text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("it is ours");
        path
    }

    #[track_caller]
    pub(super) fn status(&self) -> Value {
        self.ask(&json!({"version": 1, "command": "status"})).expect("it tells")
    }

    /// The process that answers now.
    #[track_caller]
    pub(super) fn pid(&self) -> u32 {
        self.status()["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a number")
    }

    /// Connections that the process that answers now has or knows of.
    #[track_caller]
    pub(super) fn open(&self) -> u64 {
        self.status()["connections"]["open"].as_u64().expect("a number")
    }

    /// All processes of it that have not ended.
    pub(super) fn members(&self) -> Vec<u32> {
        members(&self.mark)
    }

    /// Waits until there is one process, this one.
    #[track_caller]
    pub(super) fn expect_alone(&self, pid: u32) {
        eventually(SOON, "no other process is left", || self.members() == [pid]);
    }

    /// What all processes have written to stderr.
    pub(super) fn log(&self) -> String {
        self.first.stderr()
    }

    #[track_caller]
    pub(super) fn expect_logged(&self, what: &str) {
        eventually(SOON, what, || self.log().contains(what));
    }

    /// Ends the process that is left, which has nothing to do any more.
    #[track_caller]
    pub(super) fn stop(mut self) {
        self.members().into_iter().for_each(|pid| process::kill(pid, libc::SIGTERM));
        eventually(SOON, "all have ended", || self.members().is_empty());
        // Whoever is our own child is to be waited for.
        eventually(SOON, "the first has ended", || self.first.has_ended());
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.members() {
            // SAFETY: kill(2) takes no pointer; only processes of this family have its mark.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        }
    }
}

/// With the part of the process in front, unless the text has one.
fn in_full(folder: &Folder, engine: &str, text: &str) -> String {
    let socket = folder.file("c.sock");
    let (own, rest) = match text.strip_prefix("[process]\n") {
        Some(rest) => ("", rest),
        None => ("workers = 2\n", text),
    };
    // Two processes at a time, of several tests: a plain user may not lock much memory.
    let small = "cq_entries = 1024\n";
    format!("[process]\nengine = '{engine}'\ncontrol = 'unix:{socket}'\n{small}{own}{rest}")
}

/// Processes with this mark that have not ended; a zombie has.
fn members(mark: &str) -> Vec<u32> {
    let mark = format!("{MARK}={mark}");
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let all = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_marked).collect()
}

#[track_caller]
pub(super) fn connect_to(control: &str) -> UnixStream {
    let stream = UnixStream::connect(control).expect("the control socket listens");
    stream.set_read_timeout(Some(8 * SOON)).expect("not zero");
    stream
}

/// Has whoever has this control socket upgraded, or says why not.
#[track_caller]
pub(super) fn upgrade_by(control: &str, binary: Option<&str>) -> Result<UpgradeReport, String> {
    let mut request = json!({"version": 1, "command": "upgrade"});
    if let Some(binary) = binary {
        request["binary"] = json!(binary);
    }
    let result = ask(&connect_to(control), &request);
    result.map(|result| serde_json::from_value(result).expect("a report"))
}

#[track_caller]
pub(super) fn ask(mut stream: &UnixStream, request: &Value) -> Result<Value, String> {
    stream.write_all(format!("{request}\n").as_bytes()).expect("it can be sent");
    let answer = answer(stream);
    match answer["ok"] == json!(true) {
        true => Ok(answer["result"].clone()),
        false => Err(answer["error"]["text"].as_str().expect("words").to_owned()),
    }
}

#[track_caller]
pub(super) fn answer(stream: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream.take(64 << 20)).read_line(&mut line).expect("an answer comes");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}'"))
}
