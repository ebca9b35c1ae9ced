//! Files that list the backends of upstreams or the networks of source rules, followed while the server runs.
//!
//! ```text
//!   a file changes --inotify--> thread `watched-files` --when it is due--> thread `changes`: read it, and change
//!                                                                          those that name it, alone
//! ```
//!
//! Reloads are done by the same thread `changes`, one after another: so whichever comes last has read the newest file.
//! A file that is wrong changes nothing, and is told once.

mod backends;
mod networks;
mod places;
#[cfg(test)]
mod tests;
mod thread;
mod timing;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use super::answer::ReloadReport;
use super::jobs::Jobs;
use super::operator::Operator;
use crate::config::Config;
use crate::process::NoThread;
use crate::server::Phase;
use thread::{Thread, Wishes};

/// What a file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Backends,
    Networks,
}

/// The name of such a file in the log.
impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Backends => "backends file",
            Self::Networks => "networks file",
        })
    }
}

/// What is known of the files.
#[derive(Default)]
pub(super) struct Lists {
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
    kind: Kind,
    /// When it was read that which runs.
    pub(super) loaded_at: SystemTime,
    /// Why it is not what runs.
    pub(super) failure: Option<String>,
}

impl Lists {
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
    fn all_read(&self, files: &BTreeMap<PathBuf, Kind>) {
        let loaded_at = SystemTime::now();
        let known = |kind: &Kind| Known { kind: *kind, loaded_at, failure: None };
        *self.files() = files.iter().map(|(file, kind)| (file.clone(), known(kind))).collect();
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

impl Drop for Lists {
    fn drop(&mut self) {
        self.thread.get().into_iter().for_each(|wishes| wishes.end());
    }
}

impl Operator {
    /// Follows the files that list something, now and after each reload. What has to be done is done by these jobs.
    pub fn follow_lists(self: &Arc<Self>, jobs: Jobs) {
        let _ = self.lists.jobs.set(jobs);
        self.follow(&self.handle().config());
    }

    /// The configuration has just been read, with all its files.
    pub(super) fn follow(self: &Arc<Self>, config: &Config) {
        let files = files_of(config);
        self.lists.all_read(&files);
        let Some(jobs) = self.lists.jobs.get() else { return };
        let files: BTreeSet<PathBuf> = files.into_keys().collect();
        if let Some(wishes) = self.lists.thread.get() {
            wishes.follow(files);
        } else if !files.is_empty() {
            let started = self.start(jobs.clone()).map(|wishes| {
                wishes.follow(files);
                let _ = self.lists.thread.set(wishes);
            });
            if let Err(error) = started {
                let error = NoThread::new(&error);
                tracing::error!("files with lists are read at reloads only: {error}");
            }
        }
    }

    fn start(self: &Arc<Self>, jobs: Jobs) -> io::Result<Arc<Wishes>> {
        let wishes = Arc::new(Wishes::new()?);
        let operator = Arc::downgrade(self);
        let look = move |due| hand_on(&operator, due, &jobs);
        let thread = Thread::new(Arc::clone(&wishes), Box::new(look));
        self.handle().spawn("watched-files", move || thread.run())?;
        Ok(wishes)
    }

    /// Looks at all files that are due.
    fn look_at_due(&self) {
        let due = std::mem::take(&mut *self.lists.due());
        if self.handle().phase() == Phase::Serving {
            due.iter().for_each(|file| self.look_at(file));
        }
    }

    /// Reads a file, and changes those that name it to what it says. The outcome is one line of the log. What failed
    /// is tried again, also where the file seems to be wrong: that it could not be read may pass.
    fn look_at(&self, file: &Path) {
        let Some(Known { kind, .. }) = self.lists.known(file) else { return };
        let outcome = match kind {
            Kind::Backends => self.apply_backends(file),
            Kind::Networks => self.apply_networks(file),
        };
        self.tell((kind, file), outcome);
    }

    fn tell(&self, (kind, file): (Kind, &Path), outcome: Result<Option<ReloadReport>, String>) {
        let (name, lists) = (file.display(), &self.lists);
        let why = match outcome {
            Ok(report) => {
                lists.thread.get().into_iter().for_each(|wishes| wishes.settled(file));
                let was_wrong = lists.note(file, None);
                match report {
                    Some(report) => tracing::info!("{kind} {name}: {}", report.summary()),
                    None if was_wrong => {
                        tracing::info!("{kind} {name} is right again: nothing changes")
                    }
                    None => {}
                }
                return;
            }
            Err(why) => why,
        };
        let again = |wishes: &Arc<Wishes>| wishes.look_again(file, Instant::now());
        lists.thread.get().into_iter().for_each(again);
        if lists.note(file, Some(&why)) {
            tracing::error!("{kind} {name}: not applied, nothing has changed: {why}");
        }
    }
}

/// The files that list something, by what they list.
fn files_of(config: &Config) -> BTreeMap<PathBuf, Kind> {
    let backends = config.upstreams.iter().filter_map(|it| it.backends_file.as_ref());
    let networks = config.frontends.iter().flat_map(|it| it.sources.files()).map(|it| &it.path);
    let backends = backends.map(|file| (file.clone(), Kind::Backends));
    backends.chain(networks.map(|file| (file.clone(), Kind::Networks))).collect()
}

/// Has files looked at by the thread that does all changes. However often it is asked for while it waits for its turn,
/// it is done once.
fn hand_on(operator: &Weak<Operator>, due: BTreeSet<PathBuf>, jobs: &Jobs) {
    let Some(operator) = operator.upgrade() else { return };
    let is_waiting = {
        let mut all = operator.lists.due();
        let is_waiting = !all.is_empty();
        all.extend(due.iter().cloned());
        is_waiting
    };
    let doing = Arc::clone(&operator);
    if !is_waiting && jobs.push(move || doing.look_at_due()).is_err() {
        operator.lists.due().clear();
        if let Some(wishes) = operator.lists.thread.get() {
            due.iter().for_each(|file| wishes.look_again(file, Instant::now()));
        }
    }
}
