//! The line of live figures on a terminal.

use std::time::Instant;

use indicatif::HumanBytes;
use uring_acceptor::log::Outlet;
use uring_acceptor::server::Statistics;

/// The figures of one line at the bottom of the terminal. Invisible where stderr is none.
pub(crate) struct Live {
    outlet: Outlet,
    visible: bool,
    before: Option<(Instant, Statistics)>,
}

impl Live {
    pub(crate) fn new(outlet: Outlet, visible: bool) -> Self {
        Self { outlet, visible, before: None }
    }

    /// Draws the figures of the time since the last call; not at the first, so that nothing is drawn between
    /// the lines of the start.
    pub(crate) fn show(&mut self, statistics: &Statistics) {
        let now = Instant::now();
        if let Some((then, before)) = self.before.as_ref().filter(|_| self.visible) {
            let seconds = (now - *then).as_secs_f64();
            self.outlet.draw(line(statistics, before, seconds));
        }
        self.before = Some((now, statistics.clone()));
    }
}

fn line(now: &Statistics, before: &Statistics, seconds: f64) -> String {
    let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
    let (waiting, limit) = now.waiting();
    format!(
        "{}  open {}  accepted/s {}  in/s {}  out/s {}  accept queue {waiting}/{limit}",
        now.engine,
        now.open,
        rate(now.accepted, before.accepted),
        HumanBytes(rate(now.received_bytes, before.received_bytes)),
        HumanBytes(rate(now.sent_bytes, before.sent_bytes)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_whatever_the_interval() {
        let before = Statistics { accepted: 100, sent_bytes: 1 << 20, ..Statistics::default() };
        let now = Statistics { accepted: 350, sent_bytes: 3 << 20, open: 7, ..before.clone() };
        assert_eq!(
            line(&now, &before, 0.5),
            "io_uring  open 7  accepted/s 500  in/s 0 B  out/s 4.00 MiB  accept queue 0/0"
        );
    }
}
