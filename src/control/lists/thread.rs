//! The thread that waits for files to change.
//!
//! It decides when a file is to be looked at, and has that done elsewhere. inotify(7) tells of a change at once; what
//! it does not see, such as a change by another machine on a shared file system, shows in the times of the file, which
//! are compared now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use humantime::format_duration;

use super::timing::Timing;
use super::watches::{Touched, Watches};
use crate::sys::{self, Polled};

/// Between two comparisons of the times of files. So long a change may take where inotify cannot be had.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// Longest time until a file that could not be applied is looked at again; it doubles from [`POLL_INTERVAL`] on.
const AGAIN_MAX: Duration = Duration::from_secs(80);

/// What others have to say to the thread.
pub(super) struct Wishes {
    /// An eventfd.
    wake: File,
    ends: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    files: BTreeSet<PathBuf>,
    /// Those to look at again, though they have not changed.
    again: BTreeMap<PathBuf, Again>,
}

/// Another look at a file: when, unless it is being looked at, and how long after the last one.
struct Again {
    due: Option<Instant>,
    pause: Duration,
}

impl Wishes {
    pub(super) fn new() -> io::Result<Self> {
        let (ends, inner) = (AtomicBool::new(false), Mutex::default());
        Ok(Self { wake: sys::eventfd()?.into(), ends, inner })
    }

    /// These files are to be followed, and no others.
    pub(super) fn follow(&self, files: BTreeSet<PathBuf>) {
        self.inner().files = files;
        let _ = sys::signal(self.wake.as_fd());
    }

    /// A file is to be looked at again later, and later the more often that is so.
    pub(super) fn look_again(&self, file: &Path, now: Instant) {
        let mut inner = self.inner();
        let again = inner.again.entry(file.to_owned());
        let again = again
            .and_modify(|again| again.pause = (again.pause * 2).min(AGAIN_MAX))
            .or_insert(Again { due: None, pause: POLL_INTERVAL });
        again.due = Some(now + again.pause);
    }

    /// A file is applied.
    pub(super) fn settled(&self, file: &Path) {
        self.inner().again.remove(file);
    }

    /// Whether a file is to be looked at again now; it is taken for looked at then.
    fn take_due(&self, file: &Path, now: Instant) -> bool {
        let mut inner = self.inner();
        let again = inner.again.get_mut(file);
        again.is_some_and(|again| again.due.take_if(|due| *due <= now).is_some())
    }

    /// The thread is to end.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Release);
        let _ = sys::signal(self.wake.as_fd());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of a file differs when it is another one, or has been written to; `None` if it cannot be found.
type Signature = Option<[i64; 7]>;

fn signature(file: &Path) -> Signature {
    let it = fs::metadata(file).ok()?;
    let (device, number, size) = (it.dev().cast_signed(), it.ino().cast_signed(), it.size());
    let times = [it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec()];
    let [modified, modified_nsec, changed, changed_nsec] = times;
    let size = size.cast_signed();
    Some([device, number, size, modified, modified_nsec, changed, changed_nsec])
}

#[derive(Default)]
struct Followed {
    timing: Timing,
    signature: Signature,
}

/// Has files looked at.
pub(super) type Look = Box<dyn Fn(BTreeSet<PathBuf>) + Send>;

pub(super) struct Thread {
    wishes: Arc<Wishes>,
    look: Look,
    watches: Watches,
    files: BTreeMap<PathBuf, Followed>,
    next_poll: Instant,
    /// What was said last about what cannot be watched.
    told: Option<String>,
}

impl Thread {
    pub(super) fn new(wishes: Arc<Wishes>, look: Look) -> Self {
        let (watches, files, told) = Default::default();
        Self { wishes, look, watches, files, next_poll: Instant::now() + POLL_INTERVAL, told }
    }

    pub(super) fn run(mut self) {
        while !self.wishes.ends.load(Ordering::Acquire) {
            let now = Instant::now();
            self.adopt(now);
            self.poll_files(now);
            self.look_at_due(now);
            if let Err(error) = self.wait() {
                let interval = format_duration(POLL_INTERVAL);
                tracing::error!(
                    "files with lists: poll(2) failed; next try in {interval}: {error}"
                );
                std::thread::sleep(POLL_INTERVAL);
            }
            let touched = self.watches.read();
            self.touch(&touched, Instant::now());
        }
    }

    /// Follows what is to be followed now. A file that is new may have changed since it was read.
    fn adopt(&mut self, now: Instant) {
        let wanted = self.wishes.inner().files.clone();
        if wanted.iter().eq(self.files.keys()) {
            return;
        }
        self.files.retain(|file, _| wanted.contains(file));
        for file in wanted {
            self.files.entry(file).or_insert_with(|| {
                let mut followed = Followed::default();
                followed.timing.touch(now);
                followed
            });
        }
        self.watch();
    }

    /// Watches what the files depend on now.
    fn watch(&mut self) {
        self.watches.set(self.files.keys());
        let trouble = self.watches.trouble();
        if trouble == self.told.as_deref() {
            return;
        }
        match trouble {
            Some(trouble) => {
                let interval = format_duration(POLL_INTERVAL);
                tracing::warn!(
                    "files cannot be watched, so they are compared every {interval}: {trouble}"
                );
            }
            None => tracing::info!("files are watched again"),
        }
        self.told = trouble.map(str::to_owned);
    }

    /// What inotify has not told of.
    fn poll_files(&mut self, now: Instant) {
        if now < self.next_poll {
            return;
        }
        self.next_poll = now + POLL_INTERVAL;
        for (file, followed) in &mut self.files {
            if self.wishes.take_due(file, now) || signature(file) != followed.signature {
                followed.timing.touch(now);
            }
        }
        if self.told.is_some() {
            self.watch();
        }
    }

    fn look_at_due(&mut self, now: Instant) {
        let mut due = BTreeSet::new();
        for (file, followed) in &mut self.files {
            if followed.timing.take(now) {
                due.insert(file.clone());
            }
        }
        if due.is_empty() {
            return;
        }
        // Before they are read: a change that comes later is a change again.
        self.watch();
        for (file, followed) in &mut self.files {
            if due.contains(file) {
                followed.signature = signature(file);
            }
        }
        (self.look)(due);
    }

    fn touch(&mut self, touched: &Touched, now: Instant) {
        for (file, followed) in &mut self.files {
            if touched.all || touched.files.contains(file) {
                followed.timing.touch(now);
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<()> {
        let mut all = vec![Polled::new(self.wishes.wake.as_fd(), sys::POLLIN)];
        all.extend(self.watches.fd().map(|fd| Polled::new(fd, sys::POLLIN)));
        let due = self.files.values().filter_map(|followed| followed.timing.due());
        let poll = (!self.files.is_empty()).then_some(self.next_poll);
        let next = due.chain(poll).min();
        let now = Instant::now();
        sys::poll(&mut all, next.map(|next| next.saturating_duration_since(now)))?;
        if all[0].ready != 0 {
            (&self.wishes.wake).read_exact(&mut [0; 8])?;
        }
        Ok(())
    }
}
