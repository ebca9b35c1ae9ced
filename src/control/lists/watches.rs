//! Directories watched by inotify(7), or not where that cannot be had.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use super::places::{Place, places};
use crate::sys::Errno;

/// Bytes of events that are read at a time.
const EVENT_BYTES: usize = 4096;

/// Reads of events in a turn; what is left wakes the thread again.
const READS_PER_TURN: usize = 64;

/// What is a sign of a change. Writing alone is none: a file is looked at when whoever wrote it closes it.
const SIGNS: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// What events are about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) files: BTreeSet<PathBuf>,
    /// Some events were lost.
    pub(super) all: bool,
}

/// An entry of a watched directory, and a file that depends on it.
type Entry = (OsString, PathBuf);

/// The watches of a set of files.
#[derive(Default)]
pub(super) struct Watches {
    inotify: Option<Inotify>,
    watched: HashMap<WatchDescriptor, Vec<Entry>>,
    /// Why not all is watched that should be, and what to do.
    trouble: Option<String>,
}

impl Watches {
    /// Watches what these files depend on now, and nothing else.
    pub(super) fn set<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        self.trouble = None;
        let mut wanted: BTreeMap<PathBuf, Vec<Entry>> = BTreeMap::new();
        for file in files {
            for Place { directory, name } in places(file) {
                wanted.entry(directory).or_default().push((name, file.clone()));
            }
        }
        if self.inotify.is_none() && !wanted.is_empty() {
            let made = Inotify::init().map_err(|error| self.trouble = Some(no_instance(&error)));
            self.inotify = made.ok();
        }
        let Some(inotify) = &self.inotify else { return };
        let (mut inner, mut watched) = (inotify.watches(), HashMap::new());
        for (directory, entries) in wanted {
            // One that is watched already has the same descriptor again.
            match inner.add(&directory, SIGNS) {
                Ok(watch) => watched.entry(watch).or_insert_with(Vec::new).extend(entries),
                // It has gone a moment ago; the times of the file tell.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self.trouble = Some(no_watch(&directory, &error)),
            }
        }
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // The kernel has removed it already if its directory is gone.
            let _ = inner.remove(old.clone());
        }
        self.watched = watched;
    }

    /// Why not all is watched, and what to do.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Ready to read when there are events.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// The files that the events are about that have come. It does not wait.
    pub(super) fn read(&mut self) -> Touched {
        let (mut touched, mut buffer) = (Touched::default(), [0; EVENT_BYTES]);
        let Some(inotify) = &mut self.inotify else { return touched };
        for _ in 0..READS_PER_TURN {
            let events = match inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for event in events {
                touched.all |= event.mask.contains(EventMask::Q_OVERFLOW);
                let entries = self.watched.get(&event.wd).into_iter().flatten();
                // Without a name it is about the directory itself.
                let is_meant =
                    |(name, _): &&Entry| event.name.is_none_or(|changed| changed == name);
                touched.files.extend(entries.filter(is_meant).map(|(_, file)| file.clone()));
            }
        }
        touched
    }
}

fn no_instance(error: &io::Error) -> String {
    let what = match Errno::of(error) {
        Errno::EMFILE => {
            "this user has too many inotify instances; raise fs.inotify.max_user_instances with sysctl(8)"
        }
        _ => "inotify is unavailable",
    };
    format!("{what}: {error}")
}

fn no_watch(directory: &Path, error: &io::Error) -> String {
    let directory = directory.display();
    match Errno::of(error) {
        Errno::ENOSPC => format!(
            "{directory}: this user has too many inotify watches; raise \
             fs.inotify.max_user_watches with sysctl(8)"
        ),
        Errno::EACCES => {
            format!("{directory} may not be read by this user; allow it with chmod(1): {error}")
        }
        _ => format!("{directory} cannot be watched: {error}"),
    }
}
