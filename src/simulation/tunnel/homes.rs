//! With a source-hash, a client stays with its endpoint as long as nothing has happened to any.
//!
//! A choice depends on the source and on what [`Sign`] tells of each endpoint. From the moment at
//! which a client comes to that at which it hears its backend these may not have changed, else it is
//! not known what the choice was made from. Then clients of one source are at one endpoint. With a
//! limit on connections nothing is checked, since an endpoint may have been full within a turn, nor
//! where local ports run out, nor while servers of which one takes the place of the other see different signs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::upstream::{Endpoint, EndpointCounter, EndpointState};

/// What a choice depends on, of one endpoint.
type Sign = (EndpointState, u32, u64);

const FAILURES: [EndpointCounter; 6] = [
    EndpointCounter::ConnectsRefused,
    EndpointCounter::ConnectsTimedOut,
    EndpointCounter::ConnectsUnreachable,
    EndpointCounter::ConnectsReset,
    EndpointCounter::ConnectsLocal,
    EndpointCounter::ConnectsOther,
];

/// Connects that have failed: each may have led to another choice.
pub(super) fn failures(endpoint: &Endpoint) -> u64 {
    FAILURES.iter().map(|counter| endpoint.counters().get(*counter)).sum()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Homes {
    signs: Vec<Sign>,
    /// How often they have changed.
    age: u64,
    /// The age at which a client came.
    came: HashMap<u32, u64>,
    homes: HashMap<(u64, usize, IpAddr), usize>,
}

impl Homes {
    /// Looks whether something has changed, for any of the servers.
    pub(super) fn look<'a, E: Iterator<Item = &'a Endpoint>>(
        &mut self,
        mut fleets: impl Iterator<Item = E>,
        now: Instant,
    ) {
        let state = |it: &Endpoint| match it.state(now) {
            // A choice does not depend on it.
            EndpointState::Unknown => EndpointState::Up,
            state => state,
        };
        let sign = |it: &Endpoint| (state(it), it.weight(), failures(it));
        let mut changed = false;
        for (index, endpoint) in fleets.next().into_iter().flatten().enumerate() {
            let sign = sign(endpoint);
            match self.signs.get_mut(index) {
                Some(old) => changed |= std::mem::replace(old, sign) != sign,
                None => self.signs.push(sign),
            }
        }
        for others in fleets {
            let mut own = self.signs.iter();
            changed |= others.into_iter().any(|endpoint| own.next() != Some(&sign(endpoint)));
        }
        self.age += u64::from(changed);
    }

    pub(super) fn comes(&mut self, client: u32) {
        self.came.insert(client, self.age);
    }

    /// A client of this source has been led to an endpoint of this upstream.
    ///
    /// # Errors
    /// Another was led elsewhere.
    pub(super) fn arrives(
        &mut self,
        client: u32,
        (upstream, source): (usize, IpAddr),
        endpoint: usize,
    ) -> Result<(), String> {
        if self.came.get(&client) != Some(&self.age) {
            return Ok(());
        }
        let home = *self.homes.entry((self.age, upstream, source)).or_insert(endpoint);
        if home == endpoint {
            return Ok(());
        }
        Err(format!("{source} is at home at backend {home} and was led to {endpoint}"))
    }
}
