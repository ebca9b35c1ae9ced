//! Who is out by ejection, and whether one more may be.

use std::time::Duration;

use super::endpoint::EndpointId;

/// The ejections of one upstream.
#[derive(Debug)]
pub(super) struct Ejections {
    percent_max: usize,
    /// Endpoints that get connections when they are well.
    members: Vec<EndpointId>,
    /// Who is out, and until when; a member or not, since a member may come back before its time is
    /// over.
    out: Vec<(EndpointId, Duration)>,
}

impl Ejections {
    pub(super) fn new(percent_max: u32) -> Self {
        Self { percent_max: percent_max as usize, members: Vec::new(), out: Vec::new() }
    }

    /// From now on so much may be out. Those that are out stay so until their time is over.
    pub(super) fn set_percent_max(&mut self, percent_max: u32) {
        self.percent_max = percent_max as usize;
    }

    /// The endpoints have changed. Those that are gone do not count as out until they are back.
    pub(super) fn set_members(&mut self, members: &[EndpointId]) {
        self.members = members.to_vec();
    }

    /// True if one more endpoint may be out.
    pub(super) fn has_room(&mut self, now: Duration) -> bool {
        self.out.retain(|(_, until)| *until > now);
        let is_member = |(endpoint, _): &&(EndpointId, Duration)| self.members.contains(endpoint);
        let out = self.out.iter().filter(is_member).count();
        self.may_be_out(out + 1)
    }

    /// True if there are so many endpoints that one may be out at all.
    pub(super) fn may_eject_any(&self) -> bool {
        self.may_be_out(1)
    }

    fn may_be_out(&self, count: usize) -> bool {
        count * 100 <= self.members.len() * self.percent_max
    }

    /// The endpoint is out until then.
    pub(super) fn eject(&mut self, endpoint: EndpointId, until: Duration) {
        self.out.push((endpoint, until));
    }
}
