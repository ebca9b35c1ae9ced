//! What is told of the end of a server: when it begins, and how it was.

use std::time::{Duration, Instant, SystemTime};

use humantime::{format_duration, format_rfc3339_seconds};
use uring_acceptor::metrics::Counter;
use uring_acceptor::server::{Handle, Phase, Server};

/// For a drain that is to begin.
pub(crate) fn draining(handle: &Handle) -> String {
    let (open, timeout) = (handle.statistics().open, handle.drain_timeout());
    let deadline = format_rfc3339_seconds(SystemTime::now() + timeout);
    let timeout = format_duration(timeout);
    let addresses = addresses(handle);
    format!(
        "draining {addresses}: no new connections; those that are open ({open}) have {timeout} to end, until \
         {deadline}; a second signal stops at once"
    )
}

/// Tells how long it took, and what became of the connections.
pub(crate) fn tell_stopped(handle: &Handle) {
    let (after, cut_off) = (drained_for(handle), cut_off(handle));
    match cut_off {
        0 => tracing::info!("stopped{after}; no connection was cut off"),
        1 => tracing::warn!("stopped{after}; 1 connection was cut off"),
        _ => tracing::warn!("stopped{after}; {cut_off} connections were cut off"),
    }
}

/// For one that does not stop.
pub(crate) fn stuck(server: &Server, limit: Duration) -> String {
    let handle = server.handle();
    let (addresses, open) = (addresses(&handle), handle.statistics().open);
    let (running, limit) = (server.running_threads(), format_duration(limit));
    format!(
        "the server on {addresses} did not stop within {limit} of being told to: threads still run \
         ({running}), and the open connections ({open}) are cut off, since the process ends now"
    )
}

fn addresses(handle: &Handle) -> String {
    let addresses = handle.addresses().iter().map(ToString::to_string);
    addresses.collect::<Vec<_>>().join(", ")
}

/// How long it drained. Only a second signal, or a failure that has been told, ends that before its time.
fn drained_for(handle: &Handle) -> String {
    let Some(since) = handle.draining_since() else { return String::new() };
    let took = Instant::now().saturating_duration_since(since).as_millis() as u64;
    let took = format_duration(Duration::from_millis(took));
    let early = if handle.phase() == Phase::Stopping { ", cut short" } else { "" };
    format!(" after {took} of draining{early}")
}

/// Those that the end of the drain timeout or a second signal has ended, and those that no worker has
/// seen.
fn cut_off(handle: &Handle) -> u64 {
    let unseen =
        handle.counter(Counter::Accepted).saturating_sub(handle.counter(Counter::Dispatched));
    handle.counter(Counter::ClosedByStop) + handle.statistics().open as u64 + unseen
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
        let (where_, threads) = (&server.addresses()[0], server.running_threads());
        let expected = format!(
            "the server on {where_} did not stop within 3s of being told to: threads still run \
             ({threads}), and the open connections (0) are cut off"
        );
        assert!(told.starts_with(&expected), "{told}");
        server.handle().shutdown();
        server.join().unwrap();
    }
}
