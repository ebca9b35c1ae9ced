//! stderr: lines, and on a terminal a live line below them that they do not tear.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uring_acceptor::log::Target;

/// stderr, for the one thread that writes there.
pub(crate) struct Screen {
    /// Hidden until there is something to draw, and for ever where stderr is no terminal.
    bar: ProgressBar,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("a constant template"));
        Self { bar }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for Screen {
    fn draw(&mut self, live: &str) {
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_message(live.to_owned());
        self.bar.tick();
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
