//! What becomes of a file that lists the networks of source rules.

use std::path::Path;

use crate::config::NetworksFile;
use crate::config_file;
use crate::control::answer::ReloadReport;
use crate::control::operator::Operator;
use crate::server::Step;

impl Operator {
    /// Gives the rules that name the file the networks in it. `None`: they have them.
    pub(super) fn apply_networks(&self, file: &Path) -> Result<Option<ReloadReport>, String> {
        let networks = config_file::load_networks(file)?.into();
        let new = NetworksFile { path: file.to_owned(), networks };
        let reloaded = self.handle().replace_networks(&new).map_err(|error| error.to_string())?;
        let count = new.networks.len();
        let change = |step: &Step| match step {
            Step::Publish { frontend } => Some(format!("frontend {frontend}: {count} networks")),
            _ => None,
        };
        let changes: Vec<_> = reloaded.steps.iter().filter_map(change).collect();
        let report = ReloadReport { changes, warnings: reloaded.warnings, ..Default::default() };
        Ok(Some(report).filter(|report| !report.changes.is_empty()))
    }
}
