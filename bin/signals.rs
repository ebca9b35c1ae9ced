//! What the program does about signals.

use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGUSR1};
use uring_acceptor::log::{RateLimit, Suppressed};
use uring_acceptor::server::Handle;

use crate::{backends, ending};

/// A SIGTERM or SIGINT so soon behind the first is the same wish: timeout(1) and some supervisors signal
/// their child and then its whole process group.
const REPEAT: Duration = Duration::from_millis(100);

/// How often the log says that SIGHUP changes nothing.
const HANGUP_INTERVAL: Duration = Duration::from_secs(10);

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// To know what goes on.
    Report,
    /// Something that is not there: to read a configuration file again. So often was it suppressed.
    Reload(u64),
    Drain,
    Stop,
    /// Nothing, or nothing that is not done already.
    Nothing,
}

/// Takes signals in the order in which they come.
#[derive(Debug)]
struct Signals {
    /// When the first that ends the program came.
    first: Option<Instant>,
    hangups: RateLimit,
}

impl Signals {
    fn new() -> Self {
        Self { first: None, hangups: RateLimit::new(HANGUP_INTERVAL) }
    }

    fn wish(&mut self, signal: i32, now: Instant) -> Wish {
        match (signal, self.first) {
            (SIGUSR1, _) => Wish::Report,
            (SIGHUP, _) => self.hangups.ask(now).map_or(Wish::Nothing, Wish::Reload),
            (_, None) => {
                self.first = Some(now);
                Wish::Drain
            }
            (_, Some(first)) if now.saturating_duration_since(first) < REPEAT => Wish::Nothing,
            (_, Some(_)) => Wish::Stop,
        }
    }
}

/// Acts on signals until there are no more. First something is done, then it is told.
pub(crate) fn follow(signals: impl IntoIterator<Item = i32>, handle: &Handle) {
    let mut state = Signals::new();
    for signal in signals {
        match state.wish(signal, Instant::now()) {
            Wish::Report => backends::report(handle),
            Wish::Reload(suppressed) => {
                let suppressed = Suppressed(suppressed);
                tracing::info!(
                    "SIGHUP: a configuration is read at the start only, nothing changes{suppressed}"
                );
            }
            Wish::Drain => {
                let open = handle.statistics().open;
                handle.shutdown();
                tracing::info!("{}", ending::draining(handle, open));
            }
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
        let (mut signals, start) = (Signals::new(), Instant::now());
        let table = [
            (0, SIGUSR1, Wish::Report),
            (0, SIGTERM, Wish::Drain),
            (0, SIGTERM, Wish::Nothing),
            (60, SIGINT, Wish::Nothing),
            (99, SIGTERM, Wish::Nothing),
            (100, SIGUSR1, Wish::Report),
            (100, SIGTERM, Wish::Stop),
            (101, SIGINT, Wish::Stop),
        ];
        for (millis, signal, expected) in table {
            let now = start + Duration::from_millis(millis);
            assert_eq!(signals.wish(signal, now), expected, "{signal} after {millis} ms");
        }
    }

    #[test]
    fn a_flood_of_hangups_is_a_line_in_ten_seconds() {
        let (mut signals, start) = (Signals::new(), Instant::now());
        let wishes =
            (0..25).map(|second| signals.wish(SIGHUP, start + Duration::from_secs(second)));
        let told = wishes.filter(|wish| *wish != Wish::Nothing).collect::<Vec<_>>();
        assert_eq!(told, [Wish::Reload(0), Wish::Reload(9), Wish::Reload(9)]);
    }
}
