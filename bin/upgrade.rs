//! The program as it is replaced by another process of it, and as it takes the place of one.

mod taking;

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use uring_acceptor::config::ListenAddress;
use uring_acceptor::control::{Leave, Operator, UpgradeReport};
use uring_acceptor::listener::{Inherited, Listener, Origin};
use uring_acceptor::server::{Handle, OpenSocket, Reserved};
use uring_acceptor::upgrade::{
    self, Beside, Channel, Extra, Given, Giving, NotGiven, Taken, Taking, ended_with,
};

use crate::supervisor;
pub(crate) use taking::{ask, inherit, stay_alive, tell_failure, wait_to_serve};

/// Tells a process that the one that started it is to be taken over, over its standard input.
const VARIABLE: &str = "ACCEPTOR_TAKE_OVER";
const STDIN: &str = "stdin";

/// The frontend of a socket that is none of a frontend.
pub(crate) const CONTROL: &str = "control socket";

/// What the supervisor has said to this process alone.
const OWN_VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long a new process that cannot take over has to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// When it is accepted anew after an upgrade that has failed. A process that is killed while it accepts on the same sockets
/// takes connections no more, but the kernel goes on to wake its ring in place of the one of this process until the ring
/// is taken down, which it does by and by (`io_ring_exit_work`): whoever connects then would wait until the next one.
const ANEW: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1)];

/// How long the process waits with its end until an upgrade is told that is as good as over.
const TOLD_LIMIT: Duration = Duration::from_secs(1);

/// How often the new process hears what this one still has.
const TELL_INTERVAL: Duration = Duration::from_millis(200);

/// Between two looks whether the process before this one has ended.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(20);

/// What is needed to replace this process. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Upgrading(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    handle: Handle,
    /// The control socket. Its file goes with the last who holds it, and signals are waited for until the very end.
    control: Option<Weak<Listener>>,
    /// What closes it here.
    leave: OnceLock<Leave>,
    admin: Option<Handle>,
    /// Sockets that somebody else keeps, too.
    inherited: Inherited,
    /// What this process was started as.
    started_as: StartedAs,
    /// Whether connections of the process before this one still come.
    is_taking: AtomicBool,
    /// Whether that process is still there, and what it has is counted here.
    follows: AtomicBool,
    given: Mutex<Option<Giving>>,
    /// The process that has taken over.
    given_to: OnceLock<u32>,
    /// Held from the beginning of an upgrade until its end is told: without open connections this process may be over
    /// before.
    telling: Mutex<()>,
    /// What knows what was set by hand. It has this.
    operator: OnceLock<Weak<Operator>>,
}

/// The command line of this process.
#[derive(Debug, Clone)]
pub(crate) struct StartedAs {
    program: Option<PathBuf>,
    arguments: Vec<OsString>,
}

impl StartedAs {
    /// As this process was started. To be called before the working directory changes.
    pub(crate) fn now() -> Self {
        let mut all = env::args_os();
        let name = all.next().map(PathBuf::from);
        // What the link leads to may be another file by then; where a shell has found it, it is looked for again.
        let by_path = name.filter(|name| name.components().count() > 1);
        let program = by_path.and_then(|name| std::path::absolute(name).ok());
        Self { program: program.or_else(|| env::current_exe().ok()), arguments: all.collect() }
    }
}

impl Upgrading {
    pub(crate) fn new(
        handle: Handle,
        (control, admin, inherited): (Option<Arc<Listener>>, Option<Handle>, Inherited),
        (started_as, is_taking): (StartedAs, bool),
    ) -> Self {
        let control = control.as_ref().map(Arc::downgrade);
        Self(Arc::new(Parts {
            handle,
            control,
            leave: OnceLock::new(),
            admin,
            inherited,
            started_as,
            is_taking: AtomicBool::new(is_taking),
            follows: AtomicBool::new(false),
            given: Mutex::default(),
            given_to: OnceLock::new(),
            telling: Mutex::default(),
            operator: OnceLock::new(),
        }))
    }

    /// What is set by hand is known here.
    pub(crate) fn ask(&self, operator: &Arc<Operator>) {
        let _ = self.0.operator.set(Arc::downgrade(operator));
    }

    /// The control socket is closed by this.
    pub(crate) fn leave_by(&self, leave: Leave) {
        let _ = self.0.leave.set(leave);
    }

    /// Starts this file, or the one that this process was started from, and gives everything to the new process.
    pub(crate) fn upgrade(&self, binary: Option<&Path>) -> Result<UpgradeReport, String> {
        let _telling = self.0.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let started = self.may_give().and_then(|()| self.start(binary));
        let mut has_begun = false;
        let outcome = started.and_then(|(child, channel)| {
            self.give(channel).map_err(|not_given| {
                has_begun = not_given.has_begun;
                self.end(child, not_given)
            })
        });
        self.conclude(&outcome, has_begun);
        outcome
    }

    /// Gives everything to the process at the other end.
    pub(crate) fn hand_over(&self, to: UnixStream) -> Result<UpgradeReport, String> {
        let _telling = self.0.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = Channel::new(to).map_err(|error| error.to_string());
        let mut has_begun = false;
        let outcome = channel.and_then(|channel| {
            self.may_give().inspect_err(|reason| channel.give_up(reason))?;
            self.give(channel).map_err(|not_given| {
                has_begun = not_given.has_begun;
                not_given.to_string()
            })
        });
        self.conclude(&outcome, has_begun);
        outcome
    }

    fn may_give(&self) -> Result<(), String> {
        if let Some(pid) = self.0.given_to.get() {
            return Err(format!("process {pid} has taken over already"));
        }
        match self.0.is_taking.load(Ordering::Acquire) {
            true => {
                Err("this process is itself still taking over from another; try again".to_owned())
            }
            false => Ok(()),
        }
    }

    /// Sees to it that a process that cannot take over ends. Returns why it could not. One that has begun to serve has the time
    /// of a drain for what it has.
    fn end(&self, mut child: Child, not_given: NotGiven) -> String {
        let NotGiven { error, has_begun, moved } = &not_given;
        let has_begun = *has_begun;
        let has_ended = matches!(error, upgrade::UpgradeError::Ended);
        let status = match has_begun && !has_ended {
            true => None,
            false => wait(&mut child, END_LIMIT),
        };
        match (has_ended, status) {
            (true, Some(status)) => {
                let why = if status.code().is_some() { "; its log says why" } else { "" };
                let lost = ended_with(*moved);
                return format!("the new process has ended ({status}){why}{lost}");
            }
            (false, Some(_)) => return not_given.to_string(),
            (_, None) => {}
        }
        let drain = self.0.handle.drain_timeout() + END_LIMIT;
        let limit = if has_begun { drain } else { Duration::ZERO };
        let upgrading = self.clone();
        let stop = move || {
            if wait(&mut child, limit).is_none() {
                // It may have ended by itself meanwhile.
                let _ = child.kill().and_then(|()| child.wait());
                upgrading.accept_anew();
            }
        };
        if let Err(error) = thread::Builder::new().name("upgrade".to_owned()).spawn(stop) {
            tracing::warn!(
                "upgrade: the new process is not stopped if it does not end by itself: {error}"
            );
        }
        not_given.to_string()
    }

    /// How an upgrade has ended: the new process may have served somebody if it has begun.
    fn conclude(&self, outcome: &Result<UpgradeReport, String>, has_begun: bool) {
        match outcome {
            Ok(report) => tracing::info!("upgrade: {}", report.summary()),
            Err(error) => {
                let state = match has_begun {
                    false => "failed, nothing has changed",
                    true => "failed, and this process goes on",
                };
                tracing::error!("upgrade: {state}: {error}");
                if has_begun {
                    self.accept_anew();
                }
            }
        }
    }

    fn accept_anew(&self) {
        let upgrading = self.clone();
        let run = move || {
            for after in ANEW {
                thread::sleep(after);
                // Not while there is another upgrade.
                let Ok(_telling) = upgrading.0.telling.try_lock() else { return };
                let handle = &upgrading.0.handle;
                // They stay open although no thread has them.
                let _open = handle.sockets();
                // Whoever waits for a place goes on to wait.
                let _ = handle.stop_accepting(ANEW[0]);
                handle.accept_again(|_| true);
            }
        };
        if let Err(error) = thread::Builder::new().name("upgrade".to_owned()).spawn(run) {
            tracing::warn!(
                "upgrade: a connection may wait in an accept queue for a long time: {error}"
            );
        }
    }

    fn start(&self, binary: Option<&Path>) -> Result<(Child, Channel), String> {
        let StartedAs { program, arguments } = &self.0.started_as;
        let Some(program) = binary.or(program.as_deref()) else {
            return Err(
                "it is not known what this process was started from; name the file".to_owned()
            );
        };
        let failed = |error: io::Error| format!("{} cannot be started: {error}", program.display());
        let (own, theirs) = UnixStream::pair().map_err(failed)?;
        let channel = Channel::new(own).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::from(OwnedFd::from(theirs))).env(VARIABLE, STDIN);
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        tracing::info!("upgrade: starting {}", program.display());
        Ok((command.spawn().map_err(failed)?, channel))
    }

    fn give(&self, channel: Channel) -> Result<UpgradeReport, NotGiven> {
        let Parts { handle, admin, .. } = &*self.0;
        let announce = |pid| supervisor::main_process(pid);
        handle.set_being_replaced(true);
        let operator = self.0.operator.get().and_then(Weak::upgrade);
        let by_hand = operator.map(|it| it.by_hand()).unwrap_or_default();
        let (extra, spare) = (self.extra(), self.spare());
        let beside =
            Beside { extra: &extra, spare: &spare, by_hand: &by_hand, announce: &announce };
        let (given, giving) = upgrade::give(channel, handle, beside)?;
        drop(extra);
        self.let_go();
        admin.iter().for_each(Handle::shutdown);
        *self.given() = Some(giving);
        self.tell_from_now_on();
        let Given { pid, version, moved, left, took } = given;
        // There is one upgrade at a time.
        let _ = self.0.given_to.set(pid);
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Ok(UpgradeReport { pid, version, moved, left, milliseconds })
    }

    /// Leaves everything that is listened on to the process that it came from, and drains.
    fn leave(&self) {
        let Parts { handle, admin, .. } = &*self.0;
        handle.sockets().iter().for_each(|socket| socket.listener.give_away());
        self.extra().iter().for_each(|extra| extra.listener.give_away());
        self.let_go();
        handle.shutdown();
        admin.iter().for_each(Handle::shutdown);
    }

    /// Closes what another process accepts on, and no thread of the server: if that process dies, nobody is to wait there, and
    /// the addresses are free.
    fn let_go(&self) {
        self.0.leave.get().into_iter().for_each(Leave::leave);
        self.0.inherited.give_away();
    }

    /// What nobody listens on now and a frontend may listen on again.
    fn spare(&self) -> Vec<(Origin, OwnedFd)> {
        let listeners = self.0.handle.sockets().into_iter().map(|it| it.listener);
        let listeners = listeners.chain(self.extra().into_iter().map(|it| it.listener));
        let listened: Vec<ListenAddress> = listeners.map(|it| it.address().clone()).collect();
        self.0.inherited.unlistened(&listened).unwrap_or_else(|error| {
            tracing::warn!("upgrade: sockets that no frontend listens on do not move: {error}");
            Vec::new()
        })
    }

    /// What is listened on beside the server.
    fn extra(&self) -> Vec<Extra> {
        let control = self.0.control.iter().filter_map(Weak::upgrade).map(|listener| Extra {
            origin: Origin {
                frontend: CONTROL.to_owned(),
                listen: listener.address().to_string(),
                entry: 0,
                is_kept: listener.is_kept(),
                file: listener.file(),
            },
            listener,
        });
        let admin = self.0.admin.iter().flat_map(Handle::sockets);
        control
            .chain(admin.map(|OpenSocket { origin, listener }| Extra { origin, listener }))
            .collect()
    }

    /// Tells the new process now and then what this one still has.
    fn tell_from_now_on(&self) {
        let upgrading = self.clone();
        let run = move || {
            while upgrading.given().as_ref().is_some_and(Giving::tell) {
                thread::sleep(TELL_INTERVAL);
            }
        };
        if let Err(error) = thread::Builder::new().name("upgrade".to_owned()).spawn(run) {
            // The last word comes all the same.
            tracing::warn!(
                "upgrade: the new process is not told how many connections remain here: {error}"
            );
        }
    }

    /// The server has ended: the new process hears the last of it.
    pub(crate) fn finish(&self) {
        let begun = Instant::now();
        while matches!(self.0.telling.try_lock(), Err(TryLockError::WouldBlock))
            && begun.elapsed() < TOLD_LIMIT
        {
            thread::sleep(Duration::from_millis(1));
        }
        if self.given().is_some() {
            self.wait_for_before();
        }
        if let Some(giving) = self.given().take() {
            giving.tell_all();
        }
    }

    /// What the process before this one still has, the new one knows from this one alone: it is told of that until this
    /// one has to end, too.
    fn wait_for_before(&self) {
        if self.0.follows.load(Ordering::Acquire) {
            tracing::info!(
                "upgrade: the process before this one has not ended; until it has, this one stays and reports its connections to the new one"
            );
        }
        let is_over = || self.0.handle.over_since().is_some_and(|over| Instant::now() >= over);
        while self.0.follows.load(Ordering::Acquire) && !is_over() {
            thread::sleep(FOLLOW_INTERVAL);
        }
    }

    /// Takes the connections of the process that is taken over from, and counts with what that still has until it has
    /// ended. False if it goes on to serve: then this one drains.
    pub(crate) fn take(&self, taking: Taking, mut reserved: Reserved) -> bool {
        let handle = &self.0.handle;
        let taken = taking.take_connections(handle, &mut reserved);
        self.0.is_taking.store(false, Ordering::Release);
        match taken {
            Ok(Taken { connections, took }) => {
                self.0.control.iter().filter_map(Weak::upgrade).for_each(|it| it.make_own());
                self.0.admin.iter().for_each(Handle::keep_sockets);
                let took = took.as_millis();
                tracing::info!("upgrade: taken over: {connections} connections, after {took}ms");
                let upgrading = self.clone();
                self.0.follows.store(true, Ordering::Release);
                let follow = move || {
                    taking.follow(&upgrading.0.handle, reserved);
                    upgrading.0.follows.store(false, Ordering::Release);
                };
                if let Err(error) = thread::Builder::new().name("upgrade".to_owned()).spawn(follow)
                {
                    self.0.follows.store(false, Ordering::Release);
                    tracing::warn!(
                        "upgrade: what the old process still has is not counted: {error}"
                    );
                }
                true
            }
            Err(error) => {
                tracing::error!("upgrade: the old process goes on, and this one drains: {error}");
                self.leave();
                false
            }
        }
    }

    fn given(&self) -> MutexGuard<'_, Option<Giving>> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a process has ended; `None` if it has not within this time.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            status => return status.ok().flatten(),
        }
    }
}
