//! Whether a connection may have ended as it has.

use std::time::Duration;

use super::super::play::Moment;
use super::Tunnels;
use super::peer::{Heard, Peer};
use crate::ring::simulated::Far;

/// Deadlines count whole milliseconds.
const SLACK: Duration = Duration::from_millis(2);
/// Bytes that were said so short a time before a deadline may be too late.
const TOO_LATE: Duration = Duration::from_millis(60);

impl Tunnels {
    /// `whom` has seen an end that it did not make.
    pub(super) fn judge(
        &mut self,
        whom: u32,
        heard: Heard,
        moment: Moment<'_>,
    ) -> Result<(), String> {
        let timeouts = &self.plan().timeouts;
        let shortest = timeouts.idle.min(timeouts.half_closed);
        let (idle, lives) = (timeouts.idle, timeouts.lifetime.is_none());
        let partner = self.links.get(&whom).copied();
        let is_broken = self.peer(whom).far.as_ref().is_some_and(Far::is_broken);
        let Some(partner) = partner.filter(|_| lives && !moment.ending && !is_broken) else {
            return Ok(());
        };
        let (own, own_idle) =
            (self.peer(whom).describe(), idle_of(self.peer(whom)).unwrap_or_default());
        let peer_heard = self.peer(whom).heard;
        let other = self.peer(partner);
        let for_long = own_idle.min(idle_of(other).unwrap_or(Duration::MAX));
        let (said, last_said, whose) = (other.said, other.last_said, other.describe());
        if heard == Heard::End {
            if other.finished && peer_heard == said {
                return Ok(());
            }
            let begun = moment.network.elapsed();
            let late = last_said + TOO_LATE + moment.scenario.faults.latest * 2 >= begun;
            if for_long + SLACK >= idle && (peer_heard == said || late) {
                return Ok(());
            }
            // Closed with everything said is as good as a FIN.
            if other.left && peer_heard == said {
                return Ok(());
            }
            return Err(format!(
                "{own} was told that all is said after {for_long:?} without a byte, but: {whose}"
            ));
        }
        let gone = other.left || other.far.as_ref().is_some_and(Far::is_broken);
        if gone || for_long + SLACK >= shortest {
            return Ok(());
        }
        Err(format!("{own} was reset after only {for_long:?} without a byte; other end: {whose}"))
    }
}

fn idle_of(peer: &Peer) -> Option<Duration> {
    peer.far.as_ref().and_then(Far::idle_when_given_up)
}
