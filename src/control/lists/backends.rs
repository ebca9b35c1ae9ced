//! What becomes of a file that lists the backends of upstreams.

use std::path::Path;

use crate::config_file::{self, Lookup};
use crate::control::answer::ReloadReport;
use crate::control::operator::{Operator, first_of, of_errors, with_its_place};
use crate::server::BackendList;
use crate::upstream::What;

impl Operator {
    /// Gives the upstreams that name the file the backends in it. `None`: they have them.
    pub(super) fn apply_backends(&self, file: &Path) -> Result<Option<ReloadReport>, String> {
        let config = self.handle().config();
        let upstreams = config.upstreams.iter();
        let upstreams = upstreams.filter(|it| it.backends_file.as_deref() == Some(file));
        let read = upstreams.map(|upstream| {
            let name = upstream.name.clone();
            let loaded = config_file::load_backends(file, &name);
            let loaded = loaded.map_err(|errors| first_of(&of_errors(&errors)))?;
            let is_same = loaded.backends == upstream.backends;
            let list = BackendList { upstream: name, backends: loaded.backends };
            Ok((list, loaded.lookups, is_same))
        });
        let read: Vec<_> = read.collect::<Result<_, String>>()?;
        let changed = read.into_iter().filter(|(.., is_same)| !is_same);
        let (lists, lookups): (Vec<_>, Vec<_>) =
            changed.map(|(list, lookups, _)| (list, lookups)).unzip();
        match lists.is_empty() {
            true => Ok(None),
            false => self.replace_backends(&lists, &lookups.concat()).map(Some),
        }
    }

    fn replace_backends(
        &self,
        lists: &[BackendList],
        lookups: &[Lookup],
    ) -> Result<ReloadReport, String> {
        let reloaded = self.handle().replace_backends(lists);
        let reloaded = reloaded.map_err(|error| with_its_place(error, lookups).text)?;
        let is_undone = |what: &What| matches!(what, What::Undone(_));
        let (undone, changes): (Vec<_>, Vec<_>) =
            reloaded.upstreams.0.iter().partition(|it| is_undone(&it.what));
        let told = |all: Vec<_>| all.into_iter().map(ToString::to_string).collect();
        let (changes, ended) = (told(changes), told(undone));
        Ok(ReloadReport { changes, ended, warnings: reloaded.warnings, ..ReloadReport::default() })
    }
}
