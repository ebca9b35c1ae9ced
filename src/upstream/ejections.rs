//! Who is out by ejection, and whether one more may be.

use std::time::Duration;

use super::endpoint::EndpointId;

/// The ejections of one upstream.
#[derive(Debug)]
pub(super) struct Ejections {
    percent_max: usize,
    /// Endpoints that get connections when they are well.
    members: usize,
    /// Who is out, and until when.
    out: Vec<(EndpointId, Duration)>,
}

impl Ejections {
    pub(super) fn new(percent_max: u32) -> Self {
        Self { percent_max: percent_max as usize, members: 0, out: Vec::new() }
    }

    /// The endpoints have changed. Those that are gone no longer count as out.
    pub(super) fn set_members(&mut self, members: &[EndpointId]) {
        self.members = members.len();
        self.out.retain(|(endpoint, _)| members.contains(endpoint));
    }

    /// True if one more endpoint may be out.
    pub(super) fn has_room(&mut self, now: Duration) -> bool {
        self.out.retain(|(_, until)| *until > now);
        (self.out.len() + 1) * 100 <= self.members * self.percent_max
    }

    /// The endpoint is out until then.
    pub(super) fn eject(&mut self, endpoint: EndpointId, until: Duration) {
        self.out.push((endpoint, until));
    }
}
