//! Which new connections the kernel drops for a listener before there is a handshake.
//!
//! ```text
//!   nobody is dropped <---> some are, by a program --- stop_admitting() ---> all are
//! ```

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Listener;
use crate::config::ListenAddress;
use crate::sys::{self, Errno, FilterStep};

/// What is attached to the socket, as far as this process has attached it.
#[derive(Debug, Default)]
pub(super) struct SynFilter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether all are dropped, or refused: then nothing changes any more.
    drains: bool,
    /// Of the last program, and what came of it.
    version: u64,
    outcome: Option<Errno>,
    /// Whether a program is attached.
    is_attached: bool,
}

impl SynFilter {
    /// Does what refuses everybody, once and for all.
    pub(super) fn drain(&self, refuse: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        state.drains = true;
        refuse()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it has left it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// From now on the kernel drops those SYNs that a program drops, instead of those of the last one; without a program,
    /// none. The same version again is not looked at. One that [admits nobody](Self::stop_admitting) any more stays so, one
    /// that was [given away](Self::give_away) is the other process's affair, and a unix socket has no SYNs.
    ///
    /// # Errors
    /// The kernel does not attach it; then none is attached.
    pub fn drop_syns(&self, version: u64, program: &[FilterStep]) -> Result<(), Errno> {
        let mut state = self.syn_filter.state();
        let is_tcp = matches!(self.address, ListenAddress::Tcp(_));
        if !is_tcp || state.drains || self.is_given_away() {
            return Ok(());
        }
        if state.version != version {
            let attached = match program {
                [] => sys::detach_filter(self.socket.as_fd()),
                program => sys::attach_filter(self.socket.as_fd(), program),
            };
            if attached.is_err() {
                // One that the process before this one has left must not outlast its bans.
                let _ = sys::detach_filter(self.socket.as_fd());
            }
            state.version = version;
            state.is_attached = attached.is_ok() && !program.is_empty();
            state.outcome = attached.err().map(|error| Errno::of(&error));
        }
        state.outcome.map_or(Ok(()), Err)
    }

    /// Whether the kernel drops SYNs by a program, and the version of the last one.
    pub fn drops_syns(&self) -> (bool, u64) {
        let state = self.syn_filter.state();
        (state.is_attached, state.version)
    }
}
