//! Whether a connection may have ended as it has.

use std::sync::Arc;
use std::time::Duration;

use super::super::workload::Moment;
use super::draw::State;
use super::homes::failures;
use super::peer::{Heard, Peer, Place};
use super::{SERVED, Tunnels};
use crate::metrics::{Counter, total};
use crate::ring::simulated::RemoteEnd;
use crate::upstream::{Endpoint, EndpointCounter};

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
        self.judge_refused(whom, heard, moment)?;
        let is_broken = self.peer(whom).remote.as_ref().is_some_and(RemoteEnd::is_broken);
        let Some(partner) = partner.filter(|_| lives && !moment.ending && !is_broken) else {
            return Ok(());
        };
        let (own, own_idle) =
            (self.peer(whom).describe(), idle_of(self.peer(whom)).unwrap_or_default());
        let peer_heard = self.peer(whom).heard;
        let other = self.peer(partner);
        let for_long = own_idle.min(idle_of(other).unwrap_or(Duration::MAX));
        let slack = moment.slack();
        let (said, last_said, whose) = (other.said, other.last_said, other.describe());
        let other_asked = other.remote.as_ref().and_then(RemoteEnd::asked_at);
        let latest = moment.scenario.faults.latest * 2;
        if heard == Heard::End {
            if other.finished && peer_heard == said {
                return Ok(());
            }
            let begun = moment.network.elapsed();
            // Of what was said, and of a receive that had no buffer before, the completion may come too late.
            let asked = other_asked.is_some_and(|asked| asked + latest >= begun);
            let late = asked || last_said + TOO_LATE + latest >= begun;
            if for_long + slack >= idle && (peer_heard == said || late) {
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
        let gone = other.left || other.remote.as_ref().is_some_and(RemoteEnd::is_broken);
        if gone || for_long + slack >= shortest || self.may_stall([whom, partner], moment) {
            return Ok(());
        }
        Err(format!("{own} was reset after only {for_long:?} without a byte; other end: {whose}"))
    }

    /// Whether a send may have taken as long as it is allowed to, though bytes moved meanwhile: who is
    /// at either end reads slowly or not at all, or was in the queue of a slow backend.
    fn may_stall(&mut self, pair: [u32; 2], moment: Moment<'_>) -> bool {
        let begun = self.peer(pair[0]).start.min(self.peer(pair[1]).start);
        let timeouts = &self.plan().timeouts;
        let shortest = match moment.held {
            Duration::ZERO => timeouts.write_stall,
            // What goes of a send that is begun again elsewhere is no progress, unless the kernel's queue tells it: here
            // it does not.
            _ => timeouts.write_stall.min(timeouts.idle).min(timeouts.half_closed),
        };
        let long_enough = moment.network.elapsed() + moment.slack() >= begun + shortest;
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

/// What a client that may not be let in sees, and whom the others are joined to.
impl Tunnels {
    /// A client whose preamble is wrong or stops has seen its end: it may only be a reset.
    fn judge_refused(&self, whom: u32, heard: Heard, moment: Moment<'_>) -> Result<(), String> {
        let Some(client) = self.clients.get(whom as usize) else { return Ok(()) };
        let lives = self.plan().timeouts.lifetime.is_none();
        // With a server that has died everything has ended.
        let is_broken = client.remote.as_ref().is_some_and(RemoteEnd::is_broken);
        let ends = !lives || moment.ending || is_broken;
        let is_refused = client.preamble.prefix.is_none() && !ends;
        if is_refused && heard == Heard::End {
            let who = client.describe();
            return Err(format!("{who} is told that all is said, although it may not come in"));
        }
        Ok(())
    }

    /// What has to be read first has one deadline, however it comes.
    pub(super) fn judge_patience(&self, whom: u32, moment: Moment<'_>) -> Result<(), String> {
        let Some(client) = self.clients.get(whom as usize) else { return Ok(()) };
        let Some(remote) = client.remote.as_ref().filter(|_| !client.preamble.is_read()) else {
            return Ok(());
        };
        let gone = client.over || remote.is_closed() || remote.is_over() || remote.is_broken();
        let late = TOO_LATE + moment.scenario.faults.latest * 2;
        let limit = self.plan().timeouts.preread + late + moment.held;
        match remote.worked_on_since() {
            Some(since) if !gone && moment.network.elapsed() > since + limit => {
                let who = client.describe();
                Err(format!("{who} is waited for although it has not said what comes first"))
            }
            _ => Ok(()),
        }
    }

    /// A client and a connection of a backend know each other.
    pub(super) fn judge_joined(&mut self, client: u32, served: u32) -> Result<(), String> {
        let (client, served) =
            (&self.clients[client as usize], &self.served[(served - SERVED) as usize]);
        let Place::Backend(index) = served.place else { return Ok(()) };
        let (preamble, who) = (&client.preamble, client.describe());
        let Some(prefix) = &preamble.prefix else {
            return Err(format!("{who} may not come in, and is joined to backend {index}"));
        };
        let upstream = self.backends[index].upstream;
        if upstream != preamble.upstream {
            let right = preamble.upstream;
            return Err(format!("{who} is led to upstream {upstream}, and not to {right}"));
        }
        // Its backend may have heard less of it than it has heard of its backend.
        if served.partner().is_some() && !served.prefix.was(prefix) {
            return Err(format!("what the backend hears before {who} is not what it has to hear"));
        }
        let plan = self.plan.as_ref().expect("a plan is drawn first");
        match preamble.source {
            Some(source) if plan.is_by_source() => {
                self.homes.arrives(client.number, (upstream, source.ip()), index)
            }
            _ => Ok(()),
        }
    }

    /// Nobody is turned away for what he says first if it is right, nor for want of a backend while
    /// there is one.
    pub(super) fn judge_reasons(&self) -> Result<(), String> {
        let count = |counter| total(self.blocks.iter().map(Arc::as_ref), counter);
        let bad = count(Counter::ClosedByBadProxyHeader) + count(Counter::ClosedByBadClientHello);
        let early = count(Counter::ClosedEarly);
        let is_known = |client: &&Peer| {
            client.remote.as_ref().is_some_and(|remote| remote.worked_on_since().is_some())
        };
        let is_wrong =
            |client: &&Peer| client.preamble.prefix.is_none() || !client.preamble.is_through();
        // Of a connection that was reset nobody may have seen a byte, whatever was said on it.
        let is_reset = |client: &&Peer| {
            client.left || client.remote.as_ref().is_some_and(RemoteEnd::is_broken)
        };
        let wrong = self.clients.iter().filter(is_known).filter(is_wrong).count() as u64;
        let may_end_early = |client: &&Peer| is_wrong(client) || is_reset(client);
        let gone = self.clients.iter().filter(is_known).filter(may_end_early).count() as u64;
        if !self.plan().greets && (bad > wrong || bad + early > gone) {
            return Err(format!(
                "{bad} were turned away for what they said and {early} ended before that; {wrong} said \
                 it wrong, {gone} did or were reset"
            ));
        }
        let without = count(Counter::ClosedForNoBackend);
        if without > 0 && self.fleets.iter().all(|fleet| !fleet.operator.ever_out) {
            return Err(format!("{without} found no backend, although there always was one"));
        }
        Ok(())
    }

    /// Nobody is asked before a client has said all that has to be read first, and not more often
    /// than a retry is allowed.
    pub(super) fn judge_asked(&self) -> Result<(), String> {
        let allowed = self.clients.iter().filter(|client| client.preamble.may_be_joined()).count();
        let most = allowed * (usize::from(self.plan().retries) + 1);
        let asked = |endpoint: &Arc<Endpoint>| {
            let count = |counter| endpoint.counters().get(counter);
            // One without a local port asks nobody.
            count(EndpointCounter::Connects) + failures(endpoint)
                - count(EndpointCounter::ConnectsLocal)
        };
        let endpoints = self.fleets.iter().flat_map(|fleet| &fleet.endpoints);
        let asked: u64 = endpoints.map(asked).sum();
        if asked as usize > most {
            return Err(format!("backends were asked {asked} times, {most} are allowed"));
        }
        Ok(())
    }
}

fn idle_of(peer: &Peer) -> Option<Duration> {
    peer.remote.as_ref().and_then(RemoteEnd::idle_when_given_up)
}
