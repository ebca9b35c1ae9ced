//! Backends by name.

use crate::client::expect_alive;

use super::Proxy;
use super::backend::Backend;

/// It has an IPv6 address on many machines, where nobody listens here: that costs a retry at most.
#[test]
fn localhost() {
    let backend = Backend::echo();
    let to = format!("localhost:{}", backend.address().port());
    let proxy = Proxy::start_to(&[&to], &[]);
    for _ in 0..10 {
        expect_alive(proxy.address());
    }
    assert_eq!(backend.accepted(), 10);
    let entries = proxy.ended(10);
    assert!(entries.iter().all(|entry| entry["backend"] == backend.to()), "{entries:#?}");
    proxy.stop();
}
