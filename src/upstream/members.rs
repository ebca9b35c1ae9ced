//! From backends and what their names resolve to, to endpoints that keep their identity.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::address::EndpointAddress;
use super::common::Common;
use super::endpoint::{Endpoint, EndpointId, NewEndpoint};
use super::resolver::{Found, Lookup};
use super::standing::Forced;
use crate::config::upstream::{Backend, Target, Weight};

/// Most endpoints of one upstream; what names resolve to beyond that is left out.
pub(super) const ENDPOINTS_MAX: usize = 4096;

/// A backend and where it is.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Backend,
    pub(super) draining: bool,
    pub(super) forced: Forced,
    addresses: Vec<Place>,
    /// Of a name: how its look-ups have gone so far.
    lookup: Option<Lookup>,
}

/// Where a backend is.
#[derive(Debug, Clone)]
struct Place {
    address: EndpointAddress,
    /// Of its own; `None` is that of the backend.
    weight: Option<Weight>,
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
    /// Nothing is checked or looked up any more: the upstream has been removed.
    pub(super) retired: bool,
    next_id: u64,
}

/// A backend with what was found out about it before it becomes a member.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) backend: Backend,
    /// Of a name: its addresses. What a member knows of itself is newer.
    pub(super) addresses: Vec<Found>,
}

/// What becomes of what the operator has set by hand, when there are other backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByHand {
    /// Backends that stay keep draining if they did, and stay forced.
    Stays,
    Ends,
}

/// What one endpoint should be.
struct Wanted {
    target: Target,
    address: EndpointAddress,
    weight: Weight,
    draining: bool,
    forced: Forced,
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

    /// What the log is told, a line for each endpoint.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let added = self.added.iter().map(|endpoint| match endpoint.is_checked() {
            true => format!("backend {endpoint} added, not yet checked"),
            false => format!("backend {endpoint} added; its health is not checked"),
        });
        let returned = self.returned.iter();
        let returned =
            returned.map(|endpoint| format!("backend {endpoint} gets connections again"));
        let left = self.left.iter().map(|endpoint| {
            let open = match endpoint.open() {
                1 => "1 is open".to_owned(),
                count => format!("{count} are open"),
            };
            format!("backend {endpoint} gets no new connections; {open}")
        });
        added.chain(returned).chain(left)
    }
}

impl Member {
    fn new(located: Located, known: Option<Self>, by_hand: ByHand) -> Self {
        let Located { backend, addresses } = located;
        let kept = known.as_ref().filter(|_| by_hand == ByHand::Stays);
        let (draining, forced) =
            kept.map(|member| (member.draining, member.forced)).unwrap_or_default();
        let (addresses, lookup) = match (&backend.target, known) {
            (Target::Socket(address), _) => (alone(EndpointAddress::Tcp(*address)), None),
            (Target::Unix(path), _) => (alone(EndpointAddress::Unix(path.clone())), None),
            (Target::Name { .. } | Target::Srv { .. }, Some(known)) => {
                (known.addresses, known.lookup)
            }
            (Target::Name { .. } | Target::Srv { .. }, None) => {
                (places(&addresses), Some(Lookup::default()))
            }
        };
        Self { backend, draining, forced, addresses, lookup }
    }
}

fn alone(address: EndpointAddress) -> Vec<Place> {
    vec![Place { address, weight: None }]
}

fn places(found: &[Found]) -> Vec<Place> {
    let place = |found: &Found| Place {
        address: EndpointAddress::Tcp(found.address),
        weight: found.weight,
    };
    found.iter().map(place).collect()
}

impl Members {
    pub(super) fn new() -> Self {
        let (members, current, gone) = Default::default();
        Self { members, current, serving: Arc::new([]), gone, retired: false, next_id: 1 }
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

    /// Those of the backends, and all that are gone and may come back.
    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.current.iter().chain(&self.gone)
    }

    /// The endpoint with an address, be it of a backend or of one that is gone.
    pub(super) fn find(&self, address: &EndpointAddress) -> Option<&Arc<Endpoint>> {
        self.known().find(|endpoint| endpoint.address() == address)
    }

    /// The backends as they are now.
    pub(super) fn backends(&self) -> &[Member] {
        &self.members
    }

    /// The addresses of a name that is a member.
    pub(super) fn addresses_of(&self, target: &Target) -> Option<Vec<Found>> {
        let member = self.members.iter().find(|member| member.backend.target == *target)?;
        let tcp = |place: &Place| match place.address {
            EndpointAddress::Tcp(address) => Some(Found { address, weight: place.weight }),
            EndpointAddress::Unix(_) => None,
        };
        Some(member.addresses.iter().filter_map(tcp).collect())
    }

    /// The names that are to be looked up again and again.
    pub(super) fn names(&self) -> impl Iterator<Item = &Target> {
        let names = self.members.iter().filter(|member| member.lookup.is_some());
        names.map(|member| &member.backend.target)
    }

    /// The lookup of one name, unless it has been replaced.
    pub(super) fn lookup_mut(&mut self, target: &Target) -> Option<&mut Lookup> {
        self.member_mut(target)?.lookup.as_mut()
    }

    /// Call [`rebuild`](Self::rebuild) after a change.
    pub(super) fn member_mut(&mut self, target: &Target) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.backend.target == *target)
    }

    /// These backends and no others. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn replace(&mut self, backends: Vec<Located>, by_hand: ByHand) {
        // What a retired one knows has grown old.
        let mut old = std::mem::take(&mut self.members);
        if self.retired {
            old.clear();
        }
        let member = |located: Located| {
            let same = |member: &Member| member.backend.target == located.backend.target;
            let known = old.iter().position(same).map(|place| old.swap_remove(place));
            Member::new(located, known, by_hand)
        };
        self.members = backends.into_iter().map(member).collect();
    }

    /// A name has these addresses now. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn set_addresses(&mut self, target: &Target, addresses: &[Found]) {
        if let Some(member) = self.member_mut(target) {
            member.addresses = places(addresses);
        }
    }

    /// One more. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn add(&mut self, located: Located) {
        self.members.push(Member::new(located, None, ByHand::Ends));
    }

    /// Removes those that are not among these. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn keep(&mut self, is_wanted: impl Fn(&Target) -> bool) {
        self.members.retain(|member| is_wanted(&member.backend.target));
    }

    /// An endpoint that no backend has any more, and that has connections in another process. It stays for as long as
    /// anybody else holds it.
    pub(super) fn add_gone(
        &mut self,
        (target, address): (Target, EndpointAddress),
        common: &Arc<Common>,
    ) -> Arc<Endpoint> {
        let id = EndpointId(self.next_id);
        self.next_id += 1;
        let new = NewEndpoint { id, target, address, came: Duration::ZERO };
        let endpoint = Arc::new(Endpoint::new(new, common));
        endpoint.set_draining(true);
        self.gone.push(Arc::clone(&endpoint));
        endpoint
    }

    /// One less. Call [`rebuild`](Self::rebuild) afterwards.
    pub(super) fn remove(&mut self, target: &Target) {
        self.members.retain(|member| member.backend.target != *target);
    }

    /// Makes the endpoints what the members say.
    pub(super) fn rebuild(&mut self, common: &Arc<Common>, now: Duration) -> Changes {
        let wanted = self.wanted();
        let known: HashMap<_, _> = self
            .gone
            .iter()
            .chain(&self.current)
            .map(|endpoint| (endpoint.address().clone(), Arc::clone(endpoint)))
            .collect();
        let mut current = Vec::with_capacity(wanted.len());
        for wanted in &wanted {
            let known = known.get(&wanted.address).map(Arc::clone);
            current.push(known.unwrap_or_else(|| self.make(wanted, common, now)));
        }
        for (endpoint, wanted) in current.iter().zip(&wanted) {
            endpoint.set_weight(wanted.weight);
            endpoint.set_forced(wanted.forced);
            let stays_away = wanted.draining || wanted.forced == Forced::Down;
            let was_away = endpoint.set_draining(stays_away) && !stays_away;
            if was_away {
                endpoint.returned(now);
            }
        }
        // Nothing but the lists may hold them: what only these know is let go.
        drop(known);
        let changes = self.adopt(current);
        changes.left.iter().for_each(|endpoint| {
            endpoint.set_draining(true);
        });
        changes
    }

    /// An address that two backends share is one endpoint, that of the first: a limit on its
    /// connections would not hold otherwise.
    fn wanted(&self) -> Vec<Wanted> {
        let mut seen = HashSet::new();
        let each = self
            .members
            .iter()
            .flat_map(|member| member.addresses.iter().map(move |place| (member, place)));
        each.filter(|(_, place)| seen.insert(&place.address))
            .take(ENDPOINTS_MAX)
            .map(|(member, place)| Wanted {
                target: member.backend.target.clone(),
                address: place.address.clone(),
                weight: place.weight.unwrap_or(member.backend.weight),
                draining: member.draining,
                forced: member.forced,
            })
            .collect()
    }

    fn make(&mut self, wanted: &Wanted, common: &Arc<Common>, now: Duration) -> Arc<Endpoint> {
        let new = NewEndpoint {
            id: EndpointId(self.next_id),
            target: wanted.target.clone(),
            address: wanted.address.clone(),
            came: now,
        };
        self.next_id += 1;
        Arc::new(Endpoint::new(new, common))
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
        gone.iter().for_each(|endpoint| endpoint.set_forced(Forced::Auto));
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
