//! Access logs that were rotated are opened again, and that is told: what is news always, the same again not too often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uring_acceptor::control::Operator;
use uring_acceptor::log::{RateLimit, Suppressed};

/// How often the log says the same of it.
const INTERVAL: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Reopening(Mutex<Told>);

#[derive(Debug)]
struct Told {
    lines: RateLimit,
    /// Whether the last time failed.
    failed: Option<bool>,
}

impl Reopening {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Told { lines: RateLimit::new(INTERVAL), failed: None }))
    }

    /// Opens them, for a reason that each line begins with.
    pub(crate) fn reopen(&self, operator: &Operator, why: &str) {
        let (opened, failed) = operator.handle().reopen_logs();
        let has_failed = !failed.is_empty();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = told.lines.ask(Instant::now());
        let is_news = told.failed.replace(has_failed) != Some(has_failed);
        drop(told);
        let Some(suppressed) = asked.or(is_news.then_some(0)).map(Suppressed) else { return };
        for error in &failed {
            let error = operator.explain_log(error);
            tracing::error!(
                "{why}an access log cannot be opened again and goes on as before: {error}"
            );
        }
        match opened {
            0 if !has_failed => {
                tracing::info!("{why}there is no access log to open again{suppressed}")
            }
            0 => {}
            1 => tracing::info!("{why}the access log is opened again{suppressed}"),
            count => tracing::info!("{why}{count} access logs are opened again{suppressed}"),
        }
    }
}
