//! Which engine runs: chosen once per process, before there are threads.

use std::fmt;
use std::thread;

use super::uring::{self, Uring};
use super::{Refusal, Sizes};
use crate::config::Engine;
use crate::sys::Errno;

/// The engine that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chosen {
    /// [`Uring`].
    #[default]
    Uring,
    /// [`Epoll`](super::epoll::Epoll).
    Epoll,
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Sizes of a ring that only shows whether there can be one.
const SMALLEST: Sizes =
    Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };

/// Chooses an engine; with it comes why it is not io_uring, if that was to be tried.
///
/// # Errors
/// Why this machine refuses io_uring, if nothing else is allowed.
pub fn choose(asked: Engine) -> Result<(Chosen, Option<Refusal>), Refusal> {
    match asked {
        Engine::Epoll => Ok((Chosen::Epoll, None)),
        Engine::Uring => try_uring().map(|()| (Chosen::Uring, None)),
        Engine::Auto => Ok(match try_uring() {
            Ok(()) => (Chosen::Uring, None),
            Err(refusal) => (Chosen::Epoll, Some(refusal)),
        }),
    }
}

/// The child first: it may be killed for asking. The ring that is tried then belongs to a thread of its
/// own, because the end of a ring comes late and interrupts what its thread is doing meanwhile (EINTR).
fn try_uring() -> Result<(), Refusal> {
    uring::probe()?;
    let failed = |errno| Refusal::Step { step: "a thread for a ring on trial", errno };
    let trial = thread::Builder::new().spawn(|| Uring::new(&SMALLEST).map(drop));
    let trial = trial.map_err(|error| failed(Errno::of(&error)))?;
    trial.join().unwrap_or_else(|_| Err(failed(Errno::EIO)))
}
