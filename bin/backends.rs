//! What is told of a proxy's backends: on SIGUSR1 and at the end.

use std::time::Instant;

use uring_acceptor::server::Handle;
use uring_acceptor::upstream::EndpointCounter;

/// Logs the state and the counters of every backend; those that are zero are left out.
pub(crate) fn report(handle: &Handle) {
    for (route, upstream) in handle.upstreams().iter().enumerate() {
        for endpoint in upstream.endpoints() {
            let counters = endpoint.counters();
            let counted: Vec<_> = EndpointCounter::ALL
                .into_iter()
                .map(|counter| (counter.name(), counters.get(counter)))
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| format!("{name}={count}"))
                .collect();
            tracing::info!(
                "backend {}: route={route} state={:?} open={} {}",
                endpoint.address(),
                endpoint.state(Instant::now()),
                endpoint.open(),
                counted.join(" ")
            );
        }
    }
}
