//! What is told of a proxy and its backends: on SIGUSR1 and at the end.

use std::time::Instant;

use uring_acceptor::metrics::Counter;
use uring_acceptor::server::Handle;
use uring_acceptor::upstream::{Connections, EndpointCounter};

/// Logs the counters of the proxy, and the state and the counters of every backend. Those that are zero
/// are left out.
pub(crate) fn report(handle: &Handle) {
    if handle.upstreams().is_empty() {
        return;
    }
    let own = Counter::ALL.into_iter().map(|counter| (counter.name(), handle.counter(counter)));
    tracing::info!("{}", behind("proxy:", own, "nothing has been counted yet"));
    for upstream in handle.upstreams() {
        let name = upstream.name();
        for endpoint in upstream.endpoints() {
            let counters = endpoint.counters();
            let all = EndpointCounter::ALL.into_iter();
            let all = all.map(|counter| (counter.name(), counters.get(counter)));
            let (address, state) = (endpoint.address(), endpoint.state(Instant::now()));
            let Connections { open, connecting } = endpoint.connections();
            let now = format!(
                "backend {address}: upstream={name} state={state:?} open={open} connecting={connecting}"
            );
            tracing::info!("{}", behind(&now, all, ""));
        }
    }
}

/// The counters behind what stands before them, or `nothing` if all are zero.
fn behind(
    before: &str,
    counters: impl Iterator<Item = (&'static str, u64)>,
    nothing: &str,
) -> String {
    let counted = counters.filter(|(_, count)| *count > 0);
    let mut words: Vec<_> = counted.map(|(name, count)| format!("{name}={count}")).collect();
    if words.is_empty() && !nothing.is_empty() {
        words.push(nothing.to_owned());
    }
    words.insert(0, before.to_owned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_space_stands_before_nothing() {
        let counters = |first, second| [("first", first), ("second", second)].into_iter();
        assert_eq!(behind("a:", counters(1, 2), "none"), "a: first=1 second=2");
        assert_eq!(behind("a:", counters(0, 2), "none"), "a: second=2");
        assert_eq!(behind("a:", counters(0, 0), "none"), "a: none");
        assert_eq!(behind("a: open=0", counters(0, 0), ""), "a: open=0");
    }
}
