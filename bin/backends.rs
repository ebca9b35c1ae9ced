//! What is told of a proxy and its backends: on SIGUSR1 and at the end.

use std::time::Instant;

use uring_acceptor::metrics::Counter;
use uring_acceptor::server::Handle;
use uring_acceptor::upstream::EndpointCounter;

/// Logs the counters of the proxy, and the state and the counters of every backend. Those that are zero
/// are left out.
pub(crate) fn report(handle: &Handle) {
    if handle.upstreams().is_empty() {
        return;
    }
    let own = Counter::ALL.into_iter().map(|counter| (counter.name(), handle.counter(counter)));
    tracing::info!("proxy: {}", listed(own));
    for upstream in handle.upstreams() {
        let route = upstream.name();
        for endpoint in upstream.endpoints() {
            let counters = endpoint.counters();
            let all = EndpointCounter::ALL.into_iter();
            let all = all.map(|counter| (counter.name(), counters.get(counter)));
            tracing::info!(
                "backend {}: route={route} state={:?} open={} {}",
                endpoint.address(),
                endpoint.state(Instant::now()),
                endpoint.open(),
                listed(all)
            );
        }
    }
}

fn listed(counters: impl Iterator<Item = (&'static str, u64)>) -> String {
    let counted = counters.filter(|(_, count)| *count > 0);
    counted.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
}
