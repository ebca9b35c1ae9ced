//! What the access log says of a pair that has ended.

use std::time::{Instant, SystemTime};

use super::Proxy;
use super::pair::{End, Pair, Times, Trouble};
use crate::access_log::{Entry, Forwarded, Served};
use crate::metrics::Counter;

impl Proxy {
    /// Logs a pair that has ended.
    pub(super) fn note(&self, pair: &mut Pair, now: Instant) {
        let Some(sink) = &self.versions.get(pair.version).settings.log else { return };
        let backend = pair.last_backend().map(|backend| backend.address().to_string());
        let Some(detail) = pair.detail.take() else { return };
        let trouble = detail.trouble.map_or_else(Trouble::default, |trouble| *trouble);
        let Times { queued, accepted, adopted, connected, first_byte } = detail.times;
        let since = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map(|(from, to)| to.saturating_duration_since(from))
        };
        let entry = Entry {
            at: SystemTime::now(),
            client: detail.client,
            queued,
            dispatch: since(accepted, adopted),
            first_byte: since(adopted, first_byte),
            total: since(accepted, Some(now)),
            from_client: pair.bytes[End::Client as usize],
            ended_by: pair.ended.by(),
            ended: pair.ended.word(),
            reason: trouble.reason,
            served: Served::Backend(Forwarded {
                backend,
                connect: since(adopted, connected),
                from_backend: pair.bytes[End::Backend as usize],
                attempts: pair.attempts,
                failures: pair.failures,
                errno: trouble.errno,
            }),
        };
        if !sink.put(entry) {
            self.metrics.count(Counter::LogDropped);
        }
    }
}
