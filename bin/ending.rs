//! What is told of the end of a server: when it begins, and how it was.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use humantime::{format_duration, format_rfc3339_micros};
use uring_acceptor::metrics::Counter;
use uring_acceptor::server::{Handle, Phase, RunningThread, Server};

use crate::log;

/// Held from the beginning of a drain until that is told. Without open connections, or with a timeout of zero, the
/// server may be over before.
static TELLING: Mutex<()> = Mutex::new(());

/// Begins a drain, and tells it.
pub(crate) fn drain(handle: &Handle) {
    let _telling = TELLING.lock().unwrap_or_else(PoisonError::into_inner);
    let open = handle.statistics().open;
    handle.shutdown();
    tracing::info!("{}", draining(handle, open));
}

/// Waits until the drain that has begun is told, within a limit: whoever tells it may be stuck.
fn drain_is_told() {
    let start = Instant::now();
    while matches!(TELLING.try_lock(), Err(TryLockError::WouldBlock))
        && start.elapsed() < log::LIMIT
    {
        thread::sleep(Duration::from_millis(1));
    }
}

/// For a drain that has begun with so many connections open.
pub(crate) fn draining(handle: &Handle, open: usize) -> String {
    let (addresses, timeout) = (addresses(handle), handle.drain_timeout());
    if timeout.is_zero() {
        return format!(
            "draining {addresses}: no new connections; those that are open ({open}) are cut off at once, since \
             --drain-timeout is 0s"
        );
    }
    let left = handle
        .draining_until()
        .map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
    let deadline = format_rfc3339_micros(SystemTime::now() + left);
    let timeout = format_duration(timeout);
    format!(
        "draining {addresses}: no new connections; those that are open ({open}) have {timeout} to end, until \
         {deadline}; a second signal stops at once"
    )
}

/// How often a drain that goes on is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Tells now and then what a drain still waits for.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// When it was told last, or the drain began.
    told: Option<Instant>,
}

impl Progress {
    /// To be called every second or so.
    pub(crate) fn look(&mut self, handle: &Handle) {
        let Some(began) = handle.draining_since() else { return };
        let now = Instant::now();
        if handle.phase() == Phase::Draining
            && now.saturating_duration_since(*self.told.get_or_insert(began)) >= PROGRESS_INTERVAL
        {
            self.told = Some(now);
            tracing::info!("{}", still_draining(handle));
        }
    }
}

/// For a drain that goes on.
fn still_draining(handle: &Handle) -> String {
    let open = handle.statistics().open;
    let left = handle
        .draining_until()
        .map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
    let connections = if open == 1 { "connection is" } else { "connections are" };
    format!(
        "draining: {open} {connections} still open, and will be cut off in {}",
        format_duration(Duration::from_secs(left.as_secs()))
    )
}

/// Tells how long it took, and what became of the connections.
pub(crate) fn tell_stopped(handle: &Handle) {
    drain_is_told();
    let (after, cut_off) = (drained_for(handle), cut_off(handle));
    match cut_off {
        0 => tracing::info!("stopped{after}; no connection was cut off"),
        _ => tracing::warn!("stopped{after}; {}", were_cut_off(cut_off)),
    }
}

/// The same for one that did not stop.
pub(crate) fn tell_cut_off(server: &Server) {
    let handle = server.handle();
    let (after, cut_off) = (drained_for(&handle), were_cut_off(cut_off(&handle)));
    let stuck: usize = server.running_threads().iter().map(|thread| thread.open).sum();
    tracing::warn!(
        "ended{after} without stopping; {cut_off}, {stuck} of them on threads that did not stop"
    );
}

fn were_cut_off(connections: u64) -> String {
    match connections {
        1 => "1 connection was cut off".to_owned(),
        _ => format!("{connections} connections were cut off"),
    }
}

/// For one that does not stop.
pub(crate) fn stuck(server: &Server, limit: Duration) -> String {
    let handle = server.handle();
    let (addresses, limit) = (addresses(&handle), format_duration(limit));
    let since = match handle.phase() {
        Phase::Stopping => "being told to",
        _ => "the end of --drain-timeout",
    };
    let threads = named(&server.running_threads());
    format!(
        "the server on {addresses} did not stop within {limit} of {since}: {threads}; the process ends now, \
         and the kernel resets what is open"
    )
}

/// Threads that still run, with their connections.
fn named(threads: &[RunningThread<'_>]) -> String {
    let name = |thread: &RunningThread<'_>| {
        let RunningThread { name, open } = thread;
        format!("'{name}' (open connections: {open})")
    };
    let names = threads.iter().map(name).collect::<Vec<_>>().join(", ");
    match threads.len() {
        1 => format!("thread {names} still runs"),
        _ => format!("threads {names} still run"),
    }
}

fn addresses(handle: &Handle) -> String {
    let addresses = handle.addresses();
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// How long it drained. Only a second signal, or a failure that has been told, ends that before its time.
fn drained_for(handle: &Handle) -> String {
    let Some(since) = handle.draining_since() else { return String::new() };
    let took = Instant::now().saturating_duration_since(since).as_secs_f64();
    let early = if handle.phase() == Phase::Stopping { ", cut short" } else { "" };
    format!(" after {took:.3}s of draining{early}")
}

/// Those that the end of the drain timeout or a second signal has ended, and those that no worker has
/// seen.
fn cut_off(handle: &Handle) -> u64 {
    let counter = |counter| handle.counter_of_this_process(counter);
    let refused = [Counter::AcceptRefused, Counter::AcceptBanned];
    let refused: u64 = refused.into_iter().map(counter).sum();
    let seen = counter(Counter::Dispatched) + refused;
    let unseen = counter(Counter::Accepted).saturating_sub(seen);
    counter(Counter::ClosedByStop) + handle.open_here() as u64 + unseen
}

#[cfg(test)]
mod tests {
    use super::*;
    use uring_acceptor::service::Echo;

    #[test]
    fn one_that_is_stuck_says_what_becomes_of_its_connections() {
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::builder(Echo).listen(address).start().unwrap();
        let told = stuck(&server, Duration::from_secs(3));
        let (where_, threads) = (&server.addresses()[0], named(&server.running_threads()));
        let expected = format!(
            "the server on {where_} did not stop within 3s of the end of --drain-timeout: {threads}; the \
             process ends now"
        );
        assert!(told.starts_with(&expected), "{told}");
        server.handle().shutdown();
        server.join().unwrap();
    }

    #[test]
    fn threads_are_named_with_their_connections() {
        let [worker, acceptor] =
            [("worker-0", 2), ("acceptor-0", 0)].map(|(name, open)| RunningThread { name, open });
        assert_eq!(named(&[worker]), "thread 'worker-0' (open connections: 2) still runs");
        let both = "threads 'worker-0' (open connections: 2), 'acceptor-0' (open connections: 0) still run";
        assert_eq!(named(&[worker, acceptor]), both);
    }
}
