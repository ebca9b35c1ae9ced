//! Files that list the backends of upstreams, followed while the server runs.
//!
//! ```text
//!   a file changes --inotify--> thread `backends-files` --when it is due--> thread `changes`: read it, and change
//!                                                                           the upstreams that name it, alone
//! ```
//!
//! Reloads are done by the same thread `changes`, one after another: so whichever comes last has read the newest file.
//! A file that is wrong changes nothing, and is told once.

mod places;
#[cfg(test)]
mod tests;
mod thread;
mod timing;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use super::answer::ReloadReport;
use super::jobs::Jobs;
use super::operator::{Operator, first_of, of_errors, with_its_place};
use crate::config::Config;
use crate::config_file::{self, Lookup};
use crate::process::NoThread;
use crate::server::{BackendList, Phase};
use crate::upstream::What;
use thread::{Thread, Wishes};

/// What is known of the files.
#[derive(Default)]
pub(super) struct Discovery {
    files: Mutex<BTreeMap<PathBuf, Known>>,
    /// What looks at files, once they are to be followed.
    jobs: OnceLock<Jobs>,
    thread: OnceLock<Arc<Wishes>>,
    /// Those that are to be looked at.
    due: Mutex<BTreeSet<PathBuf>>,
}

/// A file, as it was when it was last looked at.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// When it was read that which runs.
    pub(super) loaded_at: SystemTime,
    /// Why it is not what runs.
    pub(super) failure: Option<String>,
}

impl Discovery {
    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Known>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a file.
    pub(super) fn known(&self, file: &Path) -> Option<Known> {
        self.files().get(file).cloned()
    }

    /// All files have just been read.
    fn all_read(&self, files: &BTreeSet<PathBuf>) {
        let known = Known { loaded_at: SystemTime::now(), failure: None };
        *self.files() = files.iter().map(|file| (file.clone(), known.clone())).collect();
    }

    /// Remembers why a file is not what runs, or that it is; true if that is news.
    fn note(&self, file: &Path, failure: Option<&str>) -> bool {
        let mut files = self.files();
        let Some(known) = files.get_mut(file) else { return false };
        if failure.is_none() {
            known.loaded_at = SystemTime::now();
        }
        let is_news = known.failure.as_deref() != failure;
        known.failure = failure.map(str::to_owned);
        is_news
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.thread.get().into_iter().for_each(|wishes| wishes.end());
    }
}

impl Operator {
    /// Follows the files that list backends, now and after each reload. What has to be done is done by these jobs.
    pub fn follow_backends_files(self: &Arc<Self>, jobs: Jobs) {
        let _ = self.discovery.jobs.set(jobs);
        self.follow(&self.handle().config());
    }

    /// The configuration has just been read, with all its files.
    pub(super) fn follow(self: &Arc<Self>, config: &Config) {
        let files: BTreeSet<PathBuf> =
            config.upstreams.iter().filter_map(|upstream| upstream.backends_file.clone()).collect();
        self.discovery.all_read(&files);
        let Some(jobs) = self.discovery.jobs.get() else { return };
        if let Some(wishes) = self.discovery.thread.get() {
            wishes.follow(files);
        } else if !files.is_empty() {
            let started = self.start(jobs.clone()).map(|wishes| {
                wishes.follow(files);
                let _ = self.discovery.thread.set(wishes);
            });
            if let Err(error) = started {
                let error = NoThread::new(&error);
                tracing::error!("backends files are read at reloads only: {error}");
            }
        }
    }

    fn start(self: &Arc<Self>, jobs: Jobs) -> io::Result<Arc<Wishes>> {
        let wishes = Arc::new(Wishes::new()?);
        let operator = Arc::downgrade(self);
        let look = move |due| hand_on(&operator, due, &jobs);
        let thread = Thread::new(Arc::clone(&wishes), Box::new(look));
        self.handle().spawn("backends-files", move || thread.run())?;
        Ok(wishes)
    }

    /// Looks at all files that are due.
    fn look_at_due(&self) {
        let due = std::mem::take(&mut *self.discovery.due());
        if self.handle().phase() == Phase::Serving {
            due.iter().for_each(|file| self.look_at(file));
        }
    }

    /// Reads a file, and changes the upstreams that name it to what it says. The outcome is one line of the log. What
    /// failed is tried again, also where the file seems to be wrong: that it could not be read may pass.
    fn look_at(&self, file: &Path) {
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
        let read: Result<Vec<_>, String> = read.collect();
        let changed = read.map(|all| {
            let changed = all.into_iter().filter(|(.., is_same)| !is_same);
            changed.map(|(list, lookups, _)| (list, lookups)).unzip::<_, _, Vec<_>, Vec<_>>()
        });
        let outcome = changed.and_then(|(lists, lookups)| match lists.is_empty() {
            true => Ok(None),
            false => self.apply(&lists, &lookups.concat()).map(Some),
        });
        self.tell(file, outcome);
    }

    fn apply(&self, lists: &[BackendList], lookups: &[Lookup]) -> Result<ReloadReport, String> {
        let reloaded = self.handle().replace_backends(lists);
        let reloaded = reloaded.map_err(|error| with_its_place(error, lookups).text)?;
        let is_undone = |what: &What| matches!(what, What::Undone(_));
        let (undone, changes): (Vec<_>, Vec<_>) =
            reloaded.upstreams.0.iter().partition(|it| is_undone(&it.what));
        let told = |all: Vec<_>| all.into_iter().map(ToString::to_string).collect();
        let (changes, ended) = (told(changes), told(undone));
        Ok(ReloadReport { changes, ended, warnings: reloaded.warnings, ..ReloadReport::default() })
    }

    fn tell(&self, file: &Path, outcome: Result<Option<ReloadReport>, String>) {
        let (name, discovery) = (file.display(), &self.discovery);
        let why = match outcome {
            Ok(report) => {
                discovery.thread.get().into_iter().for_each(|wishes| wishes.settled(file));
                let was_wrong = discovery.note(file, None);
                match report {
                    Some(report) => tracing::info!("backends file {name}: {}", report.summary()),
                    None if was_wrong => {
                        tracing::info!("backends file {name} is right again: nothing changes")
                    }
                    None => {}
                }
                return;
            }
            Err(why) => why,
        };
        let again = |wishes: &Arc<Wishes>| wishes.look_again(file, Instant::now());
        discovery.thread.get().into_iter().for_each(again);
        if discovery.note(file, Some(&why)) {
            tracing::error!("backends file {name}: not applied, nothing has changed: {why}");
        }
    }
}

/// Has files looked at by the thread that does all changes. However often it is asked for while it waits for its turn,
/// it is done once.
fn hand_on(operator: &Weak<Operator>, due: BTreeSet<PathBuf>, jobs: &Jobs) {
    let Some(operator) = operator.upgrade() else { return };
    let is_waiting = {
        let mut all = operator.discovery.due();
        let is_waiting = !all.is_empty();
        all.extend(due.iter().cloned());
        is_waiting
    };
    let doing = Arc::clone(&operator);
    if !is_waiting && jobs.push(move || doing.look_at_due()).is_err() {
        operator.discovery.due().clear();
        if let Some(wishes) = operator.discovery.thread.get() {
            due.iter().for_each(|file| wishes.look_again(file, Instant::now()));
        }
    }
}
