//! The server that this program runs, as it is looked at and changed from outside: by the control socket and by
//! signals.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use tracing::level_filters::LevelFilter;
use uring_acceptor::config::SocketOptions;
use uring_acceptor::config_file::{self, Errors, Loaded};
use uring_acceptor::control::{ControlServer, Jobs, Operator, Program};
use uring_acceptor::listener::{BindError, Listener};
use uring_acceptor::process::NoThread;
use uring_acceptor::server::Handle;

use crate::configuration::environment;
use crate::log::Level;
use crate::options::{FromFile, Options};

/// How long the thread of the control socket may take to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The program, as a reload knows it.
struct Started {
    from: Option<FromFile>,
    level: Level,
}

impl Program for Started {
    fn file(&self) -> Option<&Path> {
        self.from.as_ref().map(|from| from.path.as_path())
    }

    fn load(&self) -> Result<Loaded, Errors> {
        let path = self.file().unwrap_or(Path::new(""));
        let mut loaded = config_file::load(path, &environment)?;
        self.from.iter().for_each(|from| from.override_in(&mut loaded.settings));
        Ok(loaded)
    }

    fn log_level(&self) -> LevelFilter {
        self.level.get()
    }

    fn set_log_level(&self, level: LevelFilter) {
        self.level.set(level);
    }
}

/// The control socket, before there is a server behind it.
pub(crate) fn listen(options: &Options) -> Result<Option<Listener>, BindError> {
    let control = options.config.process.control.as_ref();
    control.map(|name| Listener::bind_private(name, &SocketOptions::default())).transpose()
}

/// A server, with what changes it.
pub(crate) struct Running {
    operator: Arc<Operator>,
    jobs: Jobs,
    socket: Option<ControlServer>,
    /// A reload by SIGHUP is waiting for its turn.
    is_waiting: Arc<AtomicBool>,
}

impl fmt::Debug for Running {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Running").finish_non_exhaustive()
    }
}

/// What a SIGHUP has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// A reload, which tells itself how it ends; or one is waiting already.
    Reload,
    /// There is no file.
    NoFile,
}

impl Running {
    /// Starts what is behind the control socket, and what reloads.
    pub(crate) fn start(
        handle: &Handle,
        (options, from): (&Options, Option<&FromFile>),
        level: Level,
        listener: Option<Listener>,
    ) -> io::Result<Self> {
        let program = Started { from: from.cloned(), level };
        let operator = Arc::new(Operator::new(handle.clone(), options.clone(), program));
        let jobs = Jobs::start(handle)?;
        operator.follow_backends_files(jobs.clone());
        let start = |listener| ControlServer::start(listener, Arc::clone(&operator), jobs.clone());
        let socket = listener.map(start).transpose()?;
        Ok(Self { operator, jobs, socket, is_waiting: Arc::default() })
    }

    /// A part of it for the thread that waits for signals.
    pub(crate) fn for_signals(&self) -> ForSignals {
        ForSignals {
            operator: Arc::clone(&self.operator),
            jobs: self.jobs.clone(),
            is_waiting: Arc::clone(&self.is_waiting),
        }
    }

    /// Closes the control socket.
    pub(crate) fn finish(&mut self) {
        self.socket.take().into_iter().for_each(|socket| socket.close(END_LIMIT));
    }
}

/// What signals do with it.
#[derive(Debug)]
pub(crate) struct ForSignals {
    operator: Arc<Operator>,
    jobs: Jobs,
    is_waiting: Arc<AtomicBool>,
}

impl ForSignals {
    /// Reads the file again, on another thread, so that the next signal gets through. How often it is asked
    /// for while it waits for its turn, it is done once.
    pub(crate) fn reload(&self) -> Hangup {
        if self.operator.file().is_none() {
            return Hangup::NoFile;
        }
        if self.is_waiting.swap(true, Ordering::AcqRel) {
            return Hangup::Reload;
        }
        let (operator, is_waiting) = (Arc::clone(&self.operator), Arc::clone(&self.is_waiting));
        let job = move || {
            is_waiting.store(false, Ordering::Release);
            // It is in the log.
            let _ = operator.reload("SIGHUP");
        };
        if self.jobs.push(job).is_err() {
            self.is_waiting.store(false, Ordering::Release);
            tracing::error!("SIGHUP: not reloaded, too many changes wait already; send it again");
        }
        Hangup::Reload
    }
}

/// Why a thread of it could not be made.
pub(crate) fn no_thread(error: &io::Error) -> String {
    NoThread::new(error).to_string()
}
