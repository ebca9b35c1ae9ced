//! The line of live figures on a terminal, and a log that does not tear it.

use std::io::{self, Write};
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;
use uring_acceptor::server::Statistics;

/// One line at the bottom of the terminal. Invisible where stderr is none.
pub(crate) struct Live {
    bar: ProgressBar,
    visible: bool,
    before: Option<(Instant, Statistics)>,
}

impl Live {
    pub(crate) fn new(visible: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("a constant template"));
        Self { bar, visible, before: None }
    }

    /// Where the log goes: stderr, above the line.
    pub(crate) fn log_writer(&self) -> LogWriter {
        LogWriter(self.bar.clone())
    }

    /// Draws the figures of the time since the last call.
    pub(crate) fn show(&mut self, statistics: &Statistics) {
        let now = Instant::now();
        if let Some((then, before)) = &self.before {
            if std::mem::take(&mut self.visible) {
                // Only now, so that nothing is drawn between the lines of the start.
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            let seconds = (now - *then).as_secs_f64();
            self.bar.set_message(line(statistics, before, seconds));
            self.bar.tick();
        }
        self.before = Some((now, statistics.clone()));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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

/// Writes to stderr with the live line out of the way.
pub(crate) struct LogWriter(ProgressBar);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self(self.0.clone())
    }
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
