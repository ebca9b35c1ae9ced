//! From backends and what their names resolve to, to endpoints that keep their identity.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::address::EndpointAddress;
use super::endpoint::{Common, Endpoint, EndpointId, NewEndpoint};
use super::resolver::Lookup;
use crate::config::upstream::{Backend, Target, Weight};

/// Most endpoints of one upstream; what names resolve to beyond that is left out.
pub(super) const ENDPOINTS_MAX: usize = 4096;

/// A backend and where it is.
#[derive(Debug)]
struct Member {
    backend: Backend,
    draining: bool,
    addresses: Vec<EndpointAddress>,
    /// Of a name: when it is looked up the next time, and how that has gone so far.
    lookup: Option<Lookup>,
}

/// The backends and all endpoints that have come of them.
#[derive(Debug)]
pub(super) struct Members {
    members: Vec<Member>,
    /// The endpoints of the backends, in their order.
    current: Vec<Arc<Endpoint>>,
    /// Those of them that may be picked.
    serving: Arc<[Arc<Endpoint>]>,
    /// Those that are gone; kept while anybody else holds them, so that an address that comes back
    /// is the endpoint that it was.
    gone: Vec<Arc<Endpoint>>,
    next_id: u64,
}

/// A backend with what was found out about it before it becomes a member.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) backend: Backend,
    /// Of a name: its addresses, and when to look again. `None` leaves what is known.
    pub(super) answer: Option<(Vec<SocketAddr>, Instant)>,
}

/// What one endpoint should be.
struct Wanted {
    target: Target,
    address: EndpointAddress,
    weight: Weight,
    draining: bool,
}

/// Who may be picked now and could not before, and the other way round.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Vec<Arc<Endpoint>>,
    /// The same, but they were there before.
    pub(super) returned: Vec<Arc<Endpoint>>,
    pub(super) left: Vec<Arc<Endpoint>>,
}

impl Changes {
    pub(super) fn are_none(&self) -> bool {
        [&self.added, &self.returned, &self.left].iter().all(|list| list.is_empty())
    }
}

impl Member {
    fn new(located: Located, known: Option<Self>) -> Self {
        let draining = known.as_ref().is_some_and(|member| member.draining);
        let (addresses, lookup) = match (&located.backend.target, located.answer, known) {
            (Target::Socket(address), ..) => (vec![EndpointAddress::Tcp(*address)], None),
            (Target::Unix(path), ..) => (vec![EndpointAddress::Unix(path.clone())], None),
            (Target::Name { .. }, Some((addresses, due)), _) => {
                (endpoint_addresses(&addresses), Some(Lookup::new(due)))
            }
            (Target::Name { .. }, None, Some(known)) => (known.addresses, known.lookup),
            (Target::Name { .. }, None, None) => (Vec::new(), Some(Lookup::new(Instant::now()))),
        };
        Self { backend: located.backend, draining, addresses, lookup }
    }
}

fn endpoint_addresses(addresses: &[SocketAddr]) -> Vec<EndpointAddress> {
    addresses.iter().copied().map(EndpointAddress::Tcp).collect()
}

impl Members {
    pub(super) fn new() -> Self {
        let (members, current, gone) = Default::default();
        Self { members, current, serving: Arc::new([]), gone, next_id: 1 }
    }

    /// Those that may be picked.
    pub(super) fn serving(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.serving
    }

    /// Those of the backends, and those that are gone and still have connections.
    pub(super) fn all(&self) -> Vec<Arc<Endpoint>> {
        let alive = self.gone.iter().filter(|endpoint| endpoint.open() > 0);
        self.current.iter().chain(alive).cloned().collect()
    }

    /// True if the backend is a member, so that its addresses are known.
    pub(super) fn knows(&self, target: &Target) -> bool {
        self.members.iter().any(|member| member.backend.target == *target)
    }

    /// The name that is to be looked up first, and when.
    pub(super) fn next_lookup(&self) -> Option<(Target, Instant)> {
        let due = |member: &Member| Some((member.backend.target.clone(), member.lookup?.due));
        self.members.iter().filter_map(due).min_by_key(|(_, due)| *due)
    }

    /// The lookup of one name, unless it has been replaced.
    pub(super) fn lookup_mut(&mut self, target: &Target) -> Option<&mut Lookup> {
        self.member_mut(target)?.lookup.as_mut()
    }

    fn member_mut(&mut self, target: &Target) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.backend.target == *target)
    }

    /// These backends and no others. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn replace(&mut self, backends: Vec<Located>) {
        let mut old = std::mem::take(&mut self.members);
        let member = |located: Located| {
            let same = |member: &Member| member.backend.target == located.backend.target;
            let known = old.iter().position(same).map(|place| old.swap_remove(place));
            Member::new(located, known)
        };
        self.members = backends.into_iter().map(member).collect();
    }

    /// A name has these addresses now. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn set_addresses(&mut self, target: &Target, addresses: &[SocketAddr]) {
        if let Some(member) = self.member_mut(target) {
            member.addresses = endpoint_addresses(addresses);
        }
    }

    /// Returns false if there is no such backend. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn set_draining(&mut self, target: &Target, draining: bool) -> bool {
        self.member_mut(target).map(|member| member.draining = draining).is_some()
    }

    /// Makes the endpoints what the members say.
    ///
    /// # Errors
    /// An address that connect(2) cannot take; nothing has changed then.
    pub(super) fn rebuild(&mut self, common: &Arc<Common>, now: Duration) -> io::Result<Changes> {
        let wanted = self.wanted();
        let mut current = Vec::with_capacity(wanted.len());
        for wanted in &wanted {
            current.push(self.find_or_make(wanted, common, now)?);
        }
        for (endpoint, wanted) in current.iter().zip(&wanted) {
            endpoint.set_weight(wanted.weight);
            let was_away = endpoint.set_draining(wanted.draining) && !wanted.draining;
            if was_away {
                endpoint.returned(now);
            }
        }
        let changes = self.adopt(current);
        changes.left.iter().for_each(|endpoint| {
            endpoint.set_draining(true);
        });
        Ok(changes)
    }

    /// An address that two backends share is one endpoint, that of the first: a limit on its
    /// connections would not hold otherwise.
    fn wanted(&self) -> Vec<Wanted> {
        let mut seen = HashSet::new();
        let each = self
            .members
            .iter()
            .flat_map(|member| member.addresses.iter().map(move |address| (member, address)));
        each.filter(|(_, address)| seen.insert(*address))
            .take(ENDPOINTS_MAX)
            .map(|(member, address)| Wanted {
                target: member.backend.target.clone(),
                address: address.clone(),
                weight: member.backend.weight,
                draining: member.draining,
            })
            .collect()
    }

    fn find_or_make(
        &mut self,
        wanted: &Wanted,
        common: &Arc<Common>,
        now: Duration,
    ) -> io::Result<Arc<Endpoint>> {
        let mut known = self.current.iter().chain(&self.gone);
        if let Some(known) = known.find(|endpoint| *endpoint.address() == wanted.address) {
            return Ok(Arc::clone(known));
        }
        let new = NewEndpoint {
            id: EndpointId(self.next_id),
            target: wanted.target.clone(),
            address: wanted.address.clone(),
            came: now,
        };
        self.next_id += 1;
        Endpoint::new(new, common).map(Arc::new)
    }

    fn adopt(&mut self, current: Vec<Arc<Endpoint>>) -> Changes {
        let serves = |endpoint: &&Arc<Endpoint>| !endpoint.is_draining();
        let serving: Arc<[_]> = current.iter().filter(serves).cloned().collect();
        let came = without(&serving, &self.serving);
        let added = without(&without(&came, &self.current), &self.gone);
        let changes = Changes {
            returned: without(&came, &added),
            added,
            left: without(&self.serving, &serving),
        };
        let mut gone = without(&self.current, &current);
        gone.extend(without(&self.gone, &current));
        (self.current, self.serving, self.gone) = (current, serving, gone);
        // What only this list knows can never get a connection again.
        self.gone.retain(|endpoint| Arc::strong_count(endpoint) > 1 || endpoint.open() > 0);
        changes
    }
}

/// Those of `these` that are not among `others`.
fn without(these: &[Arc<Endpoint>], others: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    let others: HashSet<EndpointId> = others.iter().map(|endpoint| endpoint.id()).collect();
    these.iter().filter(|endpoint| !others.contains(&endpoint.id())).cloned().collect()
}
