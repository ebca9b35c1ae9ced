//! The program around the server that is operated, and what only it can do.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::answer::{Code, Failure};
use super::operator::Operator;
use crate::config_file::{Errors, Loaded};
use crate::server::Handle;

/// What an upgrade has done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeReport {
    /// The process that serves now.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Connections that moved there.
    pub moved: usize,
    /// Connections that did not, and that the old process drains.
    pub left: usize,
    /// From when nobody was accepted until all was moved.
    pub milliseconds: u64,
}

impl UpgradeReport {
    /// In one line.
    pub fn summary(&self) -> String {
        let Self { pid, version, moved, left, milliseconds } = self;
        let left = match left {
            0 => "none is left".to_owned(),
            1 => "1 is left, and drains in the old process".to_owned(),
            left => format!("{left} are left, and drain in the old process"),
        };
        format!(
            "process {pid} (version {version}) has taken over: {moved} connections moved within {milliseconds}ms, {left}"
        )
    }
}

/// The program around the server.
pub trait Program: Send + Sync + 'static {
    /// The file that it was started from; `None` if that was the command line.
    fn file(&self) -> Option<&Path>;

    /// Reads the file again, and puts what the command line says in place of what it says. Never called without a
    /// file.
    ///
    /// # Errors
    /// All that is wrong with it.
    fn load(&self) -> Result<Loaded, Errors>;

    /// The least important level that is logged.
    fn log_level(&self) -> LevelFilter;

    /// Logs from this level on.
    fn set_log_level(&self, level: LevelFilter);

    /// Logs that the server drains, which so many connections were open for.
    fn tell_draining(&self, handle: &Handle, open: usize);

    /// Starts the program again, this file of it or the one that it was started from, and gives everything to the new
    /// process. The server drains when this returns.
    ///
    /// # Errors
    /// Why not, in words; everything is as it was then.
    fn upgrade(&self, binary: Option<&Path>) -> Result<UpgradeReport, String>;

    /// Gives everything to the process at the other end of a stream.
    ///
    /// # Errors
    /// As [`upgrade`](Self::upgrade).
    fn hand_over(&self, to: UnixStream) -> Result<UpgradeReport, String>;
}

/// A program that knows nothing of its operator.
pub(super) struct NoProgram;

/// Why such a program does not do something.
const NO_UPGRADE: &str =
    "this program cannot be upgraded while it runs: it has to do that by itself";

impl Program for NoProgram {
    fn file(&self) -> Option<&Path> {
        None
    }

    fn load(&self) -> Result<Loaded, Errors> {
        Ok(Loaded::default())
    }

    fn log_level(&self) -> LevelFilter {
        LevelFilter::current()
    }

    fn set_log_level(&self, _: LevelFilter) {}

    fn tell_draining(&self, _: &Handle, _: usize) {}

    fn upgrade(&self, _: Option<&Path>) -> Result<UpgradeReport, String> {
        Err(NO_UPGRADE.to_owned())
    }

    fn hand_over(&self, _: UnixStream) -> Result<UpgradeReport, String> {
        Err(NO_UPGRADE.to_owned())
    }
}

impl Operator {
    /// Has another process of the program take over.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn upgrade(&self, binary: Option<&Path>) -> Result<UpgradeReport, Failure> {
        self.program.upgrade(binary).map_err(|text| Failure::new(Code::Failed, text))
    }

    /// Has the process at the other end of a stream take over. How that ends is in the log.
    pub(super) fn hand_over(self: &Arc<Self>, to: UnixStream) {
        let _ = self.program.hand_over(to);
    }
}
