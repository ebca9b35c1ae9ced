//! The options of `acceptor doctor`.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::Args;
use uring_acceptor::config::{Config, Listen};

use super::values::{threads, up_to};
use super::{Task, check};

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Examination {
    /// The server in question.
    pub(crate) config: Config,
    /// The addresses to try; the default of a configuration is not tried unasked.
    pub(crate) listen: Vec<Listen>,
    /// JSON in place of text.
    pub(crate) json: bool,
}

const AFTER_HELP: &str = "\
Exit status: 0 no check fails (there may be warnings), 1 a check fails, 2 usage error.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Typed {
    /// Write JSON (docs/doctor-schema.md)
    #[arg(long)]
    json: bool,
    /// Try to listen on this address, as a server would; takes what a server's --listen takes;
    /// repeatable
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Listen>,
    /// Accept queue length to ask for there [default: net.core.somaxconn]
    #[arg(long, value_name = "N", value_parser = up_to(i32::MAX as u32))]
    backlog: Option<NonZeroU32>,
    /// Check for this many workers [default: the CPUs this process may use]
    #[arg(long, value_name = "N", value_parser = threads)]
    workers: Option<NonZeroUsize>,
    /// Check for this many connections [default: from RLIMIT_NOFILE]
    #[arg(long, value_name = "N", value_parser = up_to(u32::MAX))]
    max_connections: Option<NonZeroU32>,
    /// Do with a ring what a server does, and write what came of it
    #[arg(long, hide = true, exclusive = true)]
    probe: bool,
}

impl Typed {
    pub(super) fn checked(self) -> Result<Task, String> {
        if self.probe {
            return Ok(Task::Probe);
        }
        let mut config = Config::default();
        config.frontends[0].socket.backlog = self.backlog;
        config.process.threads.workers = self.workers;
        config.process.max_connections = self.max_connections.map(|count| {
            NonZeroUsize::try_from(count).expect("a usize has at least 32 bits on Linux")
        });
        if !self.listen.is_empty() {
            config.frontends[0].listen.clone_from(&self.listen);
        }
        check(&config)?;
        Ok(Task::Examine(Box::new(Examination { config, listen: self.listen, json: self.json })))
    }
}
