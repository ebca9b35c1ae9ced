//! The name of a unix socket: `unix:/path` for a file, `unix:@name` for a name in the abstract namespace
//! of Linux (unix(7)), `unix:./@name` for a file with such a name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::ConfigError;

/// Longest name of either kind, in bytes: `sun_path` without the zero behind a path or in front of an
/// abstract name.
const NAME_MAX_BYTES: usize = 107;

/// What an abstract name begins with in `sun_path`, and as it is typed.
const ABSTRACT: u8 = 0;
const ABSTRACT_AS_TYPED: char = '@';

/// The name of a unix socket, as bind(2) and connect(2) take it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixAddress(PathBuf);

impl UnixAddress {
    /// A name in the abstract namespace: no file, no permissions; it goes when its socket is closed.
    pub fn of_abstract(name: impl AsRef<OsStr>) -> Self {
        let name = [&[ABSTRACT], name.as_ref().as_bytes()].concat();
        Self(OsString::from_vec(name).into())
    }

    /// The file; `None` for an abstract name.
    pub fn file(&self) -> Option<&Path> {
        self.abstract_name().is_none().then_some(&self.0)
    }

    /// The abstract name, without what marks it as one; `None` for a file.
    pub fn abstract_name(&self) -> Option<&OsStr> {
        match self.0.as_os_str().as_bytes() {
            [ABSTRACT, name @ ..] => Some(OsStr::from_bytes(name)),
            _ => None,
        }
    }

    /// As `sun_path` has it: an abstract name with a zero in front.
    pub fn as_sun_path(&self) -> &Path {
        &self.0
    }

    /// Whether it is longer than a socket can have it, as one that was not parsed may be.
    pub(super) fn is_too_long(&self) -> bool {
        let marks = usize::from(self.abstract_name().is_some());
        self.0.as_os_str().len() > NAME_MAX_BYTES + marks
    }

    /// The name behind `unix:` in `text`, if a socket can have it.
    pub(super) fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let bare = name.strip_prefix(ABSTRACT_AS_TYPED);
        let (kind, bytes) = match bare {
            Some(bare) => ("abstract name", bare.len()),
            None => ("path", name.len()),
        };
        if bytes == 0 {
            return Err(ConfigError::new(format!(
                "'{text}' has no {kind}; write unix:/run/name.sock, or unix:@name for an abstract one"
            )));
        }
        if bytes > NAME_MAX_BYTES {
            return Err(ConfigError::new(format!(
                "the {kind} in '{text}' has {bytes} bytes; a unix socket takes at most {NAME_MAX_BYTES}"
            )));
        }
        Ok(bare.map_or_else(|| Self(name.into()), Self::of_abstract))
    }
}

impl From<PathBuf> for UnixAddress {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&str> for UnixAddress {
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.abstract_name() {
            Some(name) => write!(formatter, "unix:{ABSTRACT_AS_TYPED}{}", name.display()),
            None if self.0.as_os_str().as_bytes().starts_with(b"@") => {
                write!(formatter, "unix:./{}", self.0.display())
            }
            None => write!(formatter, "unix:{}", self.0.display()),
        }
    }
}
