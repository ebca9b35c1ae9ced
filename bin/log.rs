//! The log of the program, on stderr: its form, its thread, and what a panic says.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use uring_acceptor::config::LogFormat;
use uring_acceptor::log::{Format, Outlet};
use uring_acceptor::process::Alarm;

use crate::options::Logging;
use crate::screen::Screen;

/// How long the last lines may take before the process ends without them.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

/// The log, for as long as the program runs. Everything that is said by `tracing` goes there.
pub(crate) struct Log {
    pub(crate) outlet: Outlet,
    /// Raised if the thread that writes panics.
    pub(crate) alarm: Alarm,
    /// The least important level that is written.
    pub(crate) level: Level,
}

/// The least important level that is written, which can be changed at any time. Clones are the same.
#[derive(Clone)]
pub(crate) struct Level(Handle<LevelFilter, Registry>);

impl Level {
    pub(crate) fn get(&self) -> LevelFilter {
        // It fails where there is no log any more.
        self.0.clone_current().unwrap_or(LevelFilter::OFF)
    }

    pub(crate) fn set(&self, level: LevelFilter) {
        let _ = self.0.reload(level);
    }
}

impl Log {
    /// Starts the thread that writes.
    pub(crate) fn start(logging: Logging) -> io::Result<Self> {
        let (outlet, run) = Outlet::new(Screen::new(), format(logging));
        let alarm = Alarm::default();
        thread::Builder::new().name("log".into()).spawn(alarm.watch("log", run))?;
        let writer = LogWriter(outlet.clone());
        // There is none before this one.
        let (dispatch, level) = subscriber(logging, writer);
        let _ = tracing::dispatcher::set_global_default(dispatch);
        panic::set_hook(Box::new(tell_panic));
        Ok(Self { outlet, alarm, level })
    }

    /// Lets the last lines be written, within a limit.
    pub(crate) fn finish(&self) {
        self.outlet.close(LIMIT);
    }
}

/// What makes lines of what is said, and of what.
fn subscriber<W>(logging: Logging, writer: W) -> (Dispatch, Level)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, level) = reload::Layer::new(logging.level);
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer);
    let filtered = tracing_subscriber::registry().with(filter);
    let dispatch = match logging.format {
        LogFormat::Text => Dispatch::new(filtered.with(lines)),
        LogFormat::Json => Dispatch::new(filtered.with(lines.json())),
    };
    (dispatch, Level(level))
}

/// A single line in the form of the log: an error, since lines are lost at every level.
fn format(logging: Logging) -> Box<Format> {
    let line = Arc::<Mutex<Vec<u8>>>::default();
    let (dispatch, _) = subscriber(logging, LineWriter(Arc::clone(&line)));
    Box::new(move |text| {
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::event!(tracing::Level::ERROR, "{text}")
        });
        std::mem::take(&mut *line.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

/// In place of the hook of std, which writes to stderr itself: the thread that panics may be one that goes
/// on, as with a service, and must not wait for whoever reads the log.
fn tell_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map_or("somewhere".to_owned(), ToString::to_string);
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("?");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!("thread '{name}' panicked at {place}: {text}\n{backtrace}");
        }
        _ => tracing::error!("thread '{name}' panicked at {place}: {text}"),
    }
}

/// Puts each line into the outlet; one that is lost is counted there.
struct LogWriter(Outlet);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self(self.0.clone())
    }
}

/// Keeps a line.
struct LineWriter(Arc<Mutex<Vec<u8>>>);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let line = Arc::<Mutex<Vec<u8>>>::default();
        let logging = Logging { format: LogFormat::Json, level: LevelFilter::ERROR };
        let (dispatch, _) = subscriber(logging, LineWriter(Arc::clone(&line)));
        let before = panic::take_hook();
        panic::set_hook(Box::new(tell_panic));
        let run = move || {
            tracing::dispatcher::with_default(&dispatch, || panic!("at {}", "once"));
        };
        let ended = thread::Builder::new().name("told".into()).spawn(run).map(|t| t.join());
        panic::set_hook(before);
        assert!(ended.is_ok_and(|ended| ended.is_err()));
        let text = String::from_utf8(line.lock().unwrap().clone()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let message = json["fields"]["message"].as_str().unwrap();
        let (place, what) = message.split_once(": ").unwrap();
        assert!(place.starts_with("thread 'told' panicked at bin/log.rs:"), "{place}");
        assert!(what.starts_with("at once"), "{what}");
    }

    /// A line that tells of lost ones is shown at the lowest level.
    #[test]
    fn a_notice_has_the_form_of_the_log() {
        for format_of in [LogFormat::Text, LogFormat::Json] {
            let logging = Logging { format: format_of, level: LevelFilter::ERROR };
            let line = String::from_utf8(format(logging)("7 lines of the log lost")).unwrap();
            assert!(line.ends_with('\n') && line.contains("7 lines of the log lost"), "{line}");
            assert_eq!(line.starts_with('{'), format_of == LogFormat::Json, "{line}");
        }
    }
}
