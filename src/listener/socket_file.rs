//! The file that a unix socket is bound to.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// What tells a file from all others on this machine for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Removes the file at `path` if it is still this one. A file that takes its place between the
    /// look and the removal is lost: unlink(2) goes by name only.
    pub(super) fn unlink(self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if Self::of(&metadata) == self => forgive_absence(fs::remove_file(path)),
            Ok(_) => Ok(()),
            Err(error) => forgive_absence(Err(error)),
        }
    }
}

fn forgive_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The file of a listening socket, removed when this is dropped unless another has taken its place
/// by then.
///
/// Drop it before the socket: an open socket holds its inode, so that no other file can have the
/// same number and be taken for it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// Whether it is another process's to remove.
    is_given_away: AtomicBool,
}

impl SocketFile {
    /// The file that a socket was just bound to. The path is made absolute, so that a later
    /// chdir(2) does not lose it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = path::absolute(path)?;
        let identity = Identity::of(&fs::symlink_metadata(&path)?);
        Ok(Self { path, identity, is_given_away: AtomicBool::new(false) })
    }

    /// The file that a socket of another process was bound to there, whether it is still there or not.
    pub(super) fn known(path: &Path, identity: Identity) -> io::Result<Self> {
        let path = path::absolute(path)?;
        Ok(Self { path, identity, is_given_away: AtomicBool::new(false) })
    }

    /// Which file it is.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Leaves it to another process that has the socket, or no longer does.
    pub(super) fn give_away(&self, is_given_away: bool) {
        self.is_given_away.store(is_given_away, Ordering::Release);
    }

    /// Whether there is nothing any more by its name.
    pub(super) fn is_gone(&self) -> bool {
        let found = fs::symlink_metadata(&self.path);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Removes it now, if it is still there and not given away.
    pub(super) fn unlink(&self) -> io::Result<()> {
        match self.is_given_away.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.identity.unlink(&self.path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nobody is left who could do anything about it, and the next start replaces the file.
        let _ = self.unlink();
    }
}
