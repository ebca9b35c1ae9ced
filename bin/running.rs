//! The server that this program runs, as it is looked at and changed from outside: by the control socket and by
//! signals.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use tracing::level_filters::LevelFilter;
use uring_acceptor::admin::{Admin, ReadyAdmin};
use uring_acceptor::config::{ListenAddress, SocketOptions};
use uring_acceptor::config_file::{self, Errors, Loaded, Places, Problem};
use uring_acceptor::control::{ControlServer, Jobs, Operator, Program, UpgradeReport, told};
use uring_acceptor::listener::{BindError, Inherited, Listener};
use uring_acceptor::process::NoThread;
use uring_acceptor::server::{ByHand, Handle, Phase, StartError};

use crate::configuration::environment;
use crate::ending;
use crate::log::Level;
use crate::options::{FromFile, Options};
use crate::reopening::Reopening;
use crate::supervisor;
use crate::upgrade::{self, Upgrading};

/// How long the thread of the control socket may take to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The program, as a reload knows it.
struct Started {
    from: Option<FromFile>,
    level: Level,
    upgrading: Upgrading,
}

impl Program for Started {
    fn file(&self) -> Option<&Path> {
        self.from.as_ref().map(|from| from.path.as_path())
    }

    fn load(&self) -> Result<Loaded, Errors> {
        let Some(from) = &self.from else { return Ok(Loaded::default()) };
        let mut loaded = config_file::load(&from.path, &environment)?;
        from.override_in(&mut loaded.settings);
        Ok(loaded)
    }

    fn log_level(&self) -> LevelFilter {
        self.level.get()
    }

    fn set_log_level(&self, level: LevelFilter) {
        self.level.set(level);
    }

    fn tell_draining(&self, handle: &Handle, open: usize) {
        tracing::info!("{}", ending::draining(handle, open));
    }

    fn upgrade(&self, binary: Option<&Path>) -> Result<UpgradeReport, String> {
        self.upgrading.upgrade(binary)
    }

    fn hand_over(&self, to: UnixStream) -> Result<UpgradeReport, String> {
        self.upgrading.hand_over(to)
    }
}

/// A file that the program was started from.
pub(crate) struct Source {
    pub(crate) from: FromFile,
    pub(crate) places: Places,
    /// What is right and may not be what was meant.
    pub(crate) warnings: Vec<Problem>,
}

/// The control socket, before there is a server behind it.
///
/// # Errors
/// Why it cannot be made, with its place in the file.
pub(crate) fn listen(
    options: &Options,
    (places, inherited): (&Places, &Inherited),
) -> Result<Option<Arc<Listener>>, String> {
    let Some(name) = &options.config.process.control else { return Ok(None) };
    let place = places.control();
    let failed = |error: BindError| told(place, error.cause(), error.to_string());
    let address = ListenAddress::Unix(name.clone()).to_string();
    let mut given = inherited.claim_entry(upgrade::CONTROL, &address);
    let listener = match given.pop() {
        Some(given) => given.listen(&SocketOptions::default()),
        None => Listener::bind_private(name, &SocketOptions::default()),
    };
    listener.map(|listener| Some(Arc::new(listener))).map_err(failed)
}

/// Closes the sockets that this process was given and that nobody listens on.
pub(crate) fn close_rest(inherited: &Inherited) {
    for rest in inherited.close_rest() {
        tracing::warn!("no frontend listens on the inherited socket {rest}: closed");
    }
}

/// The admin endpoint, before it listens.
///
/// # Errors
/// Why it cannot be served, with its place in the file.
pub(crate) fn prepare_admin(
    options: &Options,
    (places, inherited): (&Places, &Inherited),
) -> Result<Option<ReadyAdmin>, String> {
    let Some(address) = &options.config.process.admin else { return Ok(None) };
    let admin = Admin::prepare(address, inherited).map_err(|error| match &error {
        StartError::Bind { error, .. } => told(places.admin(), error.cause(), error.to_string()),
        _ => error.to_string(),
    });
    admin.map(Some)
}

/// Serves it. It is not ready before there is a server behind it.
///
/// # Errors
/// It has no thread.
pub(crate) fn serve_admin(admin: ReadyAdmin) -> Result<Admin, String> {
    let admin = admin.serve().map_err(|error| error.to_string())?;
    for address in admin.addresses() {
        tracing::info!("the admin endpoint is on {address}");
    }
    Ok(admin)
}

/// A server, with what changes it.
pub(crate) struct Running {
    operator: Arc<Operator>,
    jobs: Jobs,
    socket: Option<ControlServer>,
    upgrading: Upgrading,
    /// A reload by SIGHUP is waiting for its turn.
    is_waiting: Arc<AtomicBool>,
}

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Starts what is behind the control socket, and what reloads.
    pub(crate) fn start(
        handle: &Handle,
        (options, from): (&Options, Option<&Source>),
        (level, by_hand): (Level, Vec<ByHand>),
        (listener, upgrading): (Option<Arc<Listener>>, Upgrading),
    ) -> io::Result<Self> {
        let from_file = from.map(|source| source.from.clone());
        let program = Started { from: from_file, level, upgrading: upgrading.clone() };
        let places = from.map(|source| source.places.clone()).unwrap_or_default();
        let operator = Operator::new(handle.clone(), (options.clone(), places), program);
        let operator = Arc::new(operator.with_by_hand(by_hand));
        upgrading.ask(&operator);
        let jobs = Jobs::start(handle)?;
        operator.follow_lists(jobs.clone());
        let start = |listener| ControlServer::start(listener, Arc::clone(&operator), jobs.clone());
        let socket = listener.map(start).transpose()?;
        socket.iter().for_each(|socket| upgrading.leave_by(socket.leave()));
        Ok(Self { operator, jobs, socket, upgrading, is_waiting: Arc::default() })
    }

    /// A part of it for the thread that waits for signals.
    pub(crate) fn for_signals(&self) -> ForSignals {
        ForSignals {
            operator: Arc::clone(&self.operator),
            jobs: self.jobs.clone(),
            upgrading: self.upgrading.clone(),
            is_waiting: Arc::clone(&self.is_waiting),
            reopening: Arc::new(Reopening::new()),
        }
    }

    /// What was handed over is this process's: it answers on the control socket, too.
    pub(crate) fn has_taken_over(&self) {
        self.socket.iter().for_each(ControlServer::look);
    }

    /// Lets the admin endpoint tell of it.
    pub(crate) fn show_on(&self, admin: &Admin) {
        admin.tell_of(&self.operator);
    }

    /// Tells the process that has taken over what has become of the rest, and closes the control socket.
    pub(crate) fn finish(&mut self) {
        self.upgrading.finish();
        self.socket.take().into_iter().for_each(|socket| socket.close(END_LIMIT));
    }
}

/// What signals do with it.
#[derive(Debug)]
pub(crate) struct ForSignals {
    operator: Arc<Operator>,
    jobs: Jobs,
    upgrading: Upgrading,
    is_waiting: Arc<AtomicBool>,
    reopening: Arc<Reopening>,
}

impl ForSignals {
    /// Has another process take over, on another thread, so that the next signal gets through.
    pub(crate) fn upgrade(&self) {
        let (handle, upgrading) = (self.operator.handle().clone(), self.upgrading.clone());
        let job = move || match handle.phase() {
            // How it ends is in the log.
            Phase::Serving => drop(upgrading.upgrade(None)),
            _ => tracing::warn!("SIGUSR2: not upgraded, the server drains already"),
        };
        if self.jobs.push(job).is_err() {
            tracing::error!("SIGUSR2: not upgraded, too many changes wait already; send it again");
        }
    }

    /// Reads the file again, on another thread, so that the next signal gets through. How often it is asked
    /// for while it waits for its turn, it is done once. Where nothing is reloaded, access logs are opened again all the
    /// same: a server that drains may do so for hours.
    pub(crate) fn hang_up(&self) {
        if self.operator.file().is_none() {
            let why = "SIGHUP: there is no file to reload; ";
            return self.reopening.reopen(&self.operator, why);
        }
        if self.is_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (operator, is_waiting) = (Arc::clone(&self.operator), Arc::clone(&self.is_waiting));
        let reopening = Arc::clone(&self.reopening);
        let job = move || {
            is_waiting.store(false, Ordering::Release);
            supervisor::reloading();
            let drains = || operator.handle().phase() != Phase::Serving;
            if !drains() {
                // It is in the log.
                let _ = operator.reload("SIGHUP");
            }
            // It may have begun to while this has waited for an upgrade.
            if drains() {
                reopening.reopen(&operator, "SIGHUP: the server drains, so nothing is reloaded; ");
            }
            supervisor::reloaded();
        };
        if self.jobs.push(job).is_err() {
            self.is_waiting.store(false, Ordering::Release);
            tracing::error!("SIGHUP: not reloaded, too many changes wait already; send it again");
        }
    }
}

/// Why a thread of it could not be made.
pub(crate) fn no_thread(error: &io::Error) -> String {
    NoThread::new(error).to_string()
}
