//! What tests on real sockets share.

use std::thread;
use std::time::{Duration, Instant};

/// Looks again until `condition` holds.
///
/// # Panics
/// When it does not hold within `deadline`.
#[track_caller]
pub(crate) fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "not within {deadline:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
