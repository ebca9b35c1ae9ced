//! Whether a connection may have ended as it has.

use std::time::Duration;

use super::super::play::Moment;
use super::Tunnels;
use super::draw::State;
use super::peer::{Heard, Peer, Place};
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
        if gone || for_long + SLACK >= shortest || self.may_stall([whom, partner], moment) {
            return Ok(());
        }
        Err(format!("{own} was reset after only {for_long:?} without a byte; other end: {whose}"))
    }

    /// Whether a send may have taken as long as it is allowed to, though bytes moved meanwhile: who is
    /// at either end reads slowly or not at all, or was in the queue of a slow backend.
    fn may_stall(&mut self, pair: [u32; 2], moment: Moment<'_>) -> bool {
        let begun = self.peer(pair[0]).start.min(self.peer(pair[1]).start);
        let long_enough =
            moment.network.elapsed() + SLACK >= begun + self.plan().timeouts.write_stall;
        long_enough
            && pair.into_iter().any(|one| {
                let peer = self.peer(one);
                let (slow, place) = (peer.is_slow(), peer.place);
                slow || matches!(place, Place::Backend(index) if self.is_slow(index))
            })
    }

    fn is_slow(&self, backend: usize) -> bool {
        matches!(self.backends[backend].state, State::Slow(_))
    }
}

fn idle_of(peer: &Peer) -> Option<Duration> {
    peer.far.as_ref().and_then(Far::idle_when_given_up)
}
