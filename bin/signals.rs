//! What the program does about signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use signal_hook::iterator::Signals as Received;
use uring_acceptor::server::Handle;

use crate::running::ForSignals;
use crate::{backends, ending};

/// A SIGTERM or SIGINT so soon behind the first is the same wish: timeout(1) and some supervisors signal
/// their child and then its whole process group.
const REPEAT: Duration = Duration::from_millis(100);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To know what goes on.
    Report,
    /// To read the configuration file again.
    Reload,
    /// To be replaced by the program as it is on disk now.
    Upgrade,
    Drain,
    Stop,
    /// Nothing, or nothing that is not done already.
    Nothing,
}

/// Takes signals in the order in which they come.
#[derive(Debug, Default)]
struct Signals {
    /// When the first that ends the program came.
    first: Option<Instant>,
}

impl Signals {
    fn wish(&mut self, signal: i32, now: Instant) -> Wish {
        match (signal, self.first) {
            (SIGUSR1, _) => Wish::Report,
            (SIGHUP, _) => Wish::Reload,
            (SIGUSR2, _) => Wish::Upgrade,
            (_, None) => {
                self.first = Some(now);
                Wish::Drain
            }
            (_, Some(first)) if now.saturating_duration_since(first) < REPEAT => Wish::Nothing,
            (_, Some(_)) => Wish::Stop,
        }
    }
}

/// Begins to receive signals. One that ends the program does so at once for as long as `ends_at_once` is true: a process
/// that takes over from another one has nothing to drain before it serves.
///
/// # Errors
/// Those of sigaction(2).
pub(crate) fn receive(ends_at_once: &Arc<AtomicBool>) -> io::Result<Received> {
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_default(signal, Arc::clone(ends_at_once))?;
    }
    Received::new([SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP])
}

/// Acts on signals until there are no more. First something is done, then it is told.
pub(crate) fn follow(
    signals: impl IntoIterator<Item = i32>,
    handle: &Handle,
    running: &ForSignals,
) {
    let mut state = Signals::default();
    for signal in signals {
        match state.wish(signal, Instant::now()) {
            Wish::Report => backends::report(handle),
            Wish::Reload => running.hang_up(),
            Wish::Upgrade => running.upgrade(),
            Wish::Drain => ending::drain(handle),
            Wish::Stop => handle.stop(),
            Wish::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::{SIGINT, SIGTERM};

    use super::*;

    #[test]
    fn the_first_drains_and_the_second_stops_unless_it_is_the_same_wish() {
        let (mut signals, start) = (Signals::default(), Instant::now());
        let table = [
            (0, SIGUSR1, Wish::Report),
            (0, SIGTERM, Wish::Drain),
            (0, SIGTERM, Wish::Nothing),
            (60, SIGINT, Wish::Nothing),
            (99, SIGTERM, Wish::Nothing),
            (100, SIGUSR1, Wish::Report),
            (100, SIGTERM, Wish::Stop),
            (101, SIGHUP, Wish::Reload),
            (101, SIGUSR2, Wish::Upgrade),
            (101, SIGINT, Wish::Stop),
        ];
        for (millis, signal, expected) in table {
            let now = start + Duration::from_millis(millis);
            assert_eq!(signals.wish(signal, now), expected, "{signal} after {millis} ms");
        }
    }
}
