//! Starts the program, knows its addresses and its process, and ends it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use uring_acceptor::config::Engine;
use uring_acceptor::ring::{Refusal, engine};

use crate::process::{self, Refused};

/// How long anything that should happen soon may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `deadline`; the message says what was waited for.
#[track_caller]
pub(crate) fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "after {deadline:?} it still is not so that {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Holds that `condition` stays true for a while. For what must not happen; so it can pass by luck
/// on a slow machine, but never fail by bad luck.
#[track_caller]
pub(crate) fn meanwhile(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(condition(), "after {:?} it is no longer so that {what}", start.elapsed());
        thread::sleep(POLL_INTERVAL);
    }
}

/// Says on stderr, past the capture of the test runner, that a test did not run.
pub(crate) fn skipped(why: &str) {
    notice(&format!("SKIPPED: {why}"));
}

/// Says something on stderr, past the capture of the test runner.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Set in a test that [`run_inside`] has started.
const INSIDE: &str = "ACCEPTOR_TEST_INSIDE";

/// Whether this test runs in namespaces of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test that calls it once more, in the namespaces that these options of unshare(1) make.
#[track_caller]
pub(crate) fn run_inside(options: &[&str]) {
    let name = std::thread::current().name().expect("it is a test").to_owned();
    let exit = std::process::Command::new("unshare")
        .args(options)
        .arg(std::env::current_exe().expect("it is known"))
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare(1) starts");
    let [stdout, stderr] =
        [exit.stdout, exit.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    assert!(exit.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    notice(&stderr);
}

/// What cargo says now, or said when the test was built: scripts/check-plain-user runs a copy of all of
/// it in a folder that a plain user may read.
fn told(now: &str, then: &str) -> PathBuf {
    std::env::var_os(now).map_or_else(|| PathBuf::from(then), PathBuf::from)
}

/// The program `acceptor`.
pub(crate) fn acceptor() -> PathBuf {
    told("CARGO_BIN_EXE_acceptor", env!("CARGO_BIN_EXE_acceptor"))
}

/// The program `loadgen`.
pub(crate) fn loadgen() -> PathBuf {
    told("CARGO_BIN_EXE_loadgen", env!("CARGO_BIN_EXE_loadgen"))
}

/// A file of the source.
pub(crate) fn source(path: impl AsRef<Path>) -> PathBuf {
    told("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The services and the modes of the programs, which take `--engine`.
const WITH_ENGINE: &[&str] = &[
    "echo", "discard", "http", "proxy", // acceptor; http is a mode of the generator too
    "accept", "crr", "rr", "hold", "stream", "storm",
];

/// Ends this process, loudly and well, if its tests are to run on an engine that is not to be had.
fn must_have_the_engine() {
    static REFUSAL: OnceLock<Option<Refusal>> = OnceLock::new();
    let refusal = REFUSAL.get_or_init(|| match crate::ENGINE {
        "uring" => engine::choose(Engine::Uring).err(),
        _ => None,
    });
    if let Some(refusal) = refusal {
        skipped(&format!("all tests on io_uring: {refusal}"));
        std::process::exit(0);
    }
}

/// A start that has not happened yet.
pub(crate) struct Launch {
    command: Command,
    listeners: usize,
    /// Whether the `listening` lines are on stderr, since stdout has the access log.
    on_stderr: bool,
}

impl Launch {
    /// With `arguments`, and `--listen 127.0.0.1:0` unless they say where.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let mut launch = Self::of(&acceptor(), arguments);
        let listeners = arguments.iter().filter(|argument| **argument == "--listen").count();
        if listeners == 0 {
            launch.command.args(["--listen", "127.0.0.1:0"]);
        }
        let on_stderr = arguments.windows(2).any(|pair| pair == ["--access-log", "-"]);
        Self { listeners: listeners.max(1), on_stderr, ..launch }
    }

    /// Nobody waits for its `listening` lines.
    pub(crate) fn without_listeners(self) -> Self {
        Self { listeners: 0, ..self }
    }

    /// The load generator, with `arguments`; it listens nowhere.
    pub(crate) fn loadgen(arguments: &[&str]) -> Self {
        Self::of(&loadgen(), arguments)
    }

    /// The examination of the machine, with `arguments`; it has no listeners of its own.
    pub(crate) fn doctor(arguments: &[&str]) -> Self {
        let mut launch = Self::of(&acceptor(), &["doctor"]);
        launch.command.args(arguments);
        launch
    }

    /// The acceptor with no other `arguments`: what listens where is in a file, which has so many listeners.
    pub(crate) fn from_file(arguments: &[&str], listeners: usize) -> Self {
        Self { listeners, ..Self::of(&acceptor(), arguments) }
    }

    /// Another program, which becomes the acceptor in the end.
    pub(crate) fn program(program: &str, arguments: &[&str], listeners: usize) -> Self {
        Self { listeners, ..Self::of(Path::new(program), arguments) }
    }

    fn of(program: &Path, arguments: &[&str]) -> Self {
        must_have_the_engine();
        let mut command = Command::new(program);
        let takes_engine = arguments.first().is_some_and(|name| WITH_ENGINE.contains(name));
        if takes_engine && !arguments.contains(&"--engine") {
            command.args([arguments[0], "--engine", crate::ENGINE]).args(&arguments[1..]);
        } else {
            command.args(arguments);
        }
        // Without the second nothing is drawn on a terminal.
        command.env("COLUMNS", "80").env("TERM", "xterm");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, listeners: 0, on_stderr: false }
    }

    /// With something done in the new process before the program begins. It must be async-signal-safe and
    /// allocate nothing.
    pub(crate) fn prepared(
        mut self,
        apply: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        // SAFETY: as the callers promise.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// With this in place of the pipe that collects stderr.
    pub(crate) fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self
    }

    /// With this in place of the pipe that collects stdout: no `listening` line is waited for.
    pub(crate) fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self.listeners = 0;
        self
    }

    /// With this soft and hard limit of open files.
    pub(crate) fn descriptors(mut self, limit: u64) -> Self {
        let apply = move || process::set_descriptor_limits(limit, limit);
        // SAFETY: setrlimit(2) is async-signal-safe and the closure allocates nothing.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// With a seccomp filter that does this with the io_uring calls.
    pub(crate) fn refusing_io_uring(mut self, how: Refused) -> Self {
        let apply = move || process::refuse_io_uring(how);
        // SAFETY: prctl(2) is async-signal-safe and the closure allocates nothing.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// With this variable in its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// In this folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// With so many listeners, where a name has several addresses.
    pub(crate) fn listeners(self, listeners: usize) -> Self {
        Self { listeners, ..self }
    }

    /// Without this capability, which is `CAP_...` of linux/capability.h; a plain user has none.
    pub(crate) fn without_capability(mut self, capability: u32) -> Self {
        let apply = move || process::drop_capability(capability);
        // SAFETY: prctl(2) is async-signal-safe and the closure allocates nothing.
        unsafe { self.command.pre_exec(apply) };
        self
    }

    /// With this limit of locked memory, which a process with CAP_IPC_LOCK would not notice.
    pub(crate) fn locked_memory(self, bytes: u64) -> Self {
        let mut launch = self.without_capability(process::CAP_IPC_LOCK);
        let apply = move || process::set_locked_memory_limit(bytes);
        // SAFETY: setrlimit(2) is async-signal-safe and the closure allocates nothing.
        unsafe { launch.command.pre_exec(apply) };
        launch
    }

    /// On a kernel without IPv6.
    pub(crate) fn without_ipv6(mut self) -> Self {
        // SAFETY: prctl(2) is async-signal-safe and the closure allocates nothing.
        unsafe { self.command.pre_exec(process::refuse_ipv6) };
        self
    }

    /// Starts the program and waits until all its listeners accept.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let (listeners, on_stderr) = (self.listeners, self.on_stderr);
        let mut server = self.spawn();
        for number in 0..listeners {
            let line = if on_stderr { server.line_of_log(number) } else { server.next_line() };
            server.listening.push(Listening::parse(&line));
        }
        server
    }

    /// Runs a program that is expected to end by itself.
    #[track_caller]
    pub(crate) fn run(self) -> Exit {
        self.run_within(SOON)
    }

    /// The same for one that takes longer.
    #[track_caller]
    pub(crate) fn run_within(self, deadline: Duration) -> Exit {
        self.spawn().wait(deadline)
    }

    fn spawn(mut self) -> Server {
        let mut child = self.command.spawn().expect("the program starts");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().map(BufReader::new);
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let log = child.stderr.take().map(|reader| {
            let stderr = Arc::clone(&stderr);
            thread::spawn(move || collect(reader, &stderr))
        });
        Server { child, lines, stderr, log, listening: Vec::new(), status: None }
    }
}

fn collect(mut reader: impl Read, text: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        let piece = String::from_utf8_lossy(&buffer[..count]);
        text.lock().expect("no reader panics").push_str(&piece);
    }
}

/// A line `listening ADDRESS SERVICE`, with the name of the frontend behind it where that is not the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listening {
    pub(crate) address: String,
    pub(crate) service: String,
    pub(crate) frontend: String,
}

impl Listening {
    #[track_caller]
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let (address, service, frontend) = match words[..] {
            ["listening", address, service] => (address, service, service),
            ["listening", address, service, frontend] => (address, service, frontend),
            _ => panic!("'{line}' is not 'listening ADDRESS SERVICE [FRONTEND]'"),
        };
        let [address, service, frontend] = [address, service, frontend].map(str::to_owned);
        Self { address, service, frontend }
    }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// The exit code; `None` when a signal killed it.
    pub(crate) code: Option<i32>,
    /// What came on stdout behind the `listening` lines that `start` has read.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The running program. Killed, by its own pid, when this is dropped.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    log: Option<thread::JoinHandle<()>>,
    listening: Vec<Listening>,
    status: Option<ExitStatus>,
}

impl Server {
    /// Starts the program and waits until its listeners accept.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Launch::new(arguments).start()
    }

    #[track_caller]
    fn next_line(&mut self) -> String {
        self.lines.recv_timeout(SOON).unwrap_or_else(|_| {
            let ended = self.child.try_wait().ok().flatten();
            panic!(
                "no `listening` line came (ended: {ended:?}); stderr:\n{}",
                self.all_of_stderr()
            );
        })
    }

    /// A `listening` line that is on stderr.
    #[track_caller]
    fn line_of_log(&self, number: usize) -> String {
        let mut found = None;
        eventually(SOON, "a `listening` line is on stderr", || {
            let log = self.stderr();
            let mut lines = log.lines().filter(|line| line.starts_with("listening "));
            found = lines.nth(number).map(str::to_owned);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of(0)
    }

    /// The address of a listener that is not a unix socket.
    pub(crate) fn address_of(&self, listener: usize) -> SocketAddr {
        let text = &self.listening[listener].address;
        text.parse().unwrap_or_else(|_| panic!("'{text}' is not IP:PORT"))
    }

    /// All `listening` lines, in the order in which they came.
    pub(crate) fn listening(&self) -> &[Listening] {
        &self.listening
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines that came on stderr so far, whole ones: who finds a part of a line has all of it.
    pub(crate) fn stderr(&self) -> String {
        let mut text = self.all_of_stderr();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    fn all_of_stderr(&self) -> String {
        self.stderr.lock().expect("no reader panics").clone()
    }

    /// Sends a signal, which is `libc::SIG...`.
    pub(crate) fn signal(&self, signal: i32) {
        process::kill(self.pid(), signal);
    }

    /// Stops all of its threads, until it is sent SIGCONT. kill(2) returns before they have stopped.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
        eventually(SOON, "all threads have stopped", || process::is_stopped(self.pid()));
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("it is our child");
        }
        self.status.is_some()
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn wait(mut self, deadline: Duration) -> Exit {
        eventually(deadline, "the program has ended", || self.has_ended());
        if let Some(log) = self.log.take() {
            log.join().expect("no reader panics");
        }
        let stdout: Vec<String> = self.lines.iter().collect();
        let code = self.status.and_then(|status| status.code());
        Exit { code, stdout: stdout.join("\n"), stderr: self.all_of_stderr() }
    }

    /// Drains the server and holds that it ends well, well before its drain timeout: so all
    /// connections must have been closed by then. Returns all that came on stderr: a thread of its own
    /// writes there, so that what is said early may come late.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        const BEFORE_THE_DRAIN_TIMEOUT: Duration = Duration::from_secs(6);
        self.signal(libc::SIGTERM);
        let exit = self.wait(BEFORE_THE_DRAIN_TIMEOUT);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        exit.stderr
    }

    /// CPU time of all threads that are alive.
    pub(crate) fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        process::rss(self.pid())
    }

    /// The number of open descriptors.
    pub(crate) fn open_files(&self) -> usize {
        process::open_files(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("the server's stderr was:\n{}", self.all_of_stderr());
        }
    }
}
