//! The options of `acceptor run` and `acceptor check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use tracing::level_filters::LevelFilter;
use uring_acceptor::config::human::{Human, stats_interval};
use uring_acceptor::config::{AccessLogConfig, AdminAddress, LogFormat, UnixAddress};

use super::control::control_address;
use super::values::log_format;
use super::{Logging, Options, Output};

/// A file that is to be run, and what of it the command line overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FromFile {
    pub(crate) path: PathBuf,
    log_format: Option<LogFormat>,
    log_level: Option<LevelFilter>,
    stats_interval: Option<Human>,
    control: Option<UnixAddress>,
    admin: Option<AdminAddress>,
    /// Whose place is taken.
    pub(crate) take_over: Option<UnixAddress>,
}

/// A file that is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileToCheck {
    pub(crate) path: PathBuf,
    /// JSON in place of text.
    pub(crate) json: bool,
}

const AFTER_CHECK: &str = "\
Exit status: 0 the file can be run, 2 something in it is wrong.";

const AFTER_RUN: &str = "\
docs/CONFIGURATION.md describes the file; `acceptor check --config FILE` checks one, and \
`acceptor SERVICE ... --print-config` writes one.

Exit status: as with a service.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_RUN)]
pub(super) struct Run {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Control socket: unix:PATH or unix:@NAME [default: from the file]
    #[arg(long, value_name = "ADDR", value_parser = control_address)]
    control: Option<UnixAddress>,
    /// Take over from the process with this control socket, its listening sockets and its connections; start
    /// normally if there is none [default: none]
    #[arg(long, value_name = "ADDR", value_parser = control_address)]
    take_over: Option<UnixAddress>,
    /// Serve metrics and the status over HTTP: PORT (on 127.0.0.1), IP:PORT or unix:PATH [default: from the file]
    #[arg(long, value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// Refresh interval of the live statistics on a terminal; 0s: none [default: from the file]
    #[arg(long, value_name = "TIME", value_parser = stats_interval)]
    stats_interval: Option<Human>,
    /// Format of the log on stderr [default: from the file]
    #[arg(long, value_name = "FORM", value_parser = log_format())]
    log_format: Option<LogFormat>,
    /// Log more than the file says; give it twice for everything
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log errors only
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_CHECK)]
pub(super) struct Check {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write JSON (docs/check-schema.md)
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(super) fn into_task(self) -> FromFile {
        FromFile {
            path: self.config,
            log_format: self.log_format,
            log_level: level(self.quiet, self.verbose),
            stats_interval: self.stats_interval,
            control: self.control,
            admin: self.admin,
            take_over: self.take_over,
        }
    }
}

impl Check {
    pub(super) fn into_task(self) -> FileToCheck {
        FileToCheck { path: self.config, json: self.json }
    }
}

impl FromFile {
    /// Whether the control socket is where the command line says.
    pub(crate) fn overrides_control(&self) -> bool {
        self.control.is_some()
    }

    /// Whether the admin endpoint is where the command line says.
    pub(crate) fn overrides_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// Puts what the command line says in place of what the file says.
    pub(crate) fn override_in(&self, options: &mut Options) {
        options.logging.format = self.log_format.unwrap_or(options.logging.format);
        options.logging.level = self.log_level.unwrap_or(options.logging.level);
        if let Some(control) = &self.control {
            options.config.process.control = Some(control.clone());
        }
        if let Some(admin) = &self.admin {
            options.config.process.admin = Some(admin.clone());
        }
        if let Some(interval) = self.stats_interval {
            options.stats_interval = shown(interval);
        }
    }
}

/// The level that is asked for; `None` is the default.
pub(super) fn level(quiet: bool, verbose: u8) -> Option<LevelFilter> {
    match (quiet, verbose) {
        (true, _) => Some(LevelFilter::ERROR),
        (false, 0) => None,
        (false, 1) => Some(LevelFilter::DEBUG),
        (false, _) => Some(LevelFilter::TRACE),
    }
}

/// An interval of zero is none.
pub(super) fn shown(interval: Human) -> Option<Duration> {
    Some(interval.0).filter(|interval| !interval.is_zero())
}

impl Output {
    pub(super) fn logging(&self) -> Logging {
        let level = level(self.quiet, self.verbose).unwrap_or(Logging::default().level);
        Logging { format: self.log_format, level }
    }

    pub(super) fn access_log(&self) -> Option<AccessLogConfig> {
        let format = self.access_log_format;
        self.access_log.clone().map(|target| AccessLogConfig { target, format })
    }

    pub(super) fn stats_interval(&self) -> Option<Duration> {
        shown(self.stats_interval)
    }
}
