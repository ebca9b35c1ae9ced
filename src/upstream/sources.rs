//! Which local address a connection is made from, as one worker sees it, and for which backends it has no port left.
//!
//! A connect that finds no port looks at all of them first, which takes the kernel more than a millisecond. So a
//! source that had none for an endpoint rests for that one. Then one connect is made from it, and if that gets a port
//! twice as many, and so on: what is tried in vain is never much more than what has just succeeded.
//!
//! ```text
//!            no port                   PAUSE is over
//!   free ------------> resting ---------------------> a batch of one --+-- no port --> resting
//!    ^                                   ^                              |
//!    |                                   +---- a port: twice as many ---+
//!    +---------------- more than BATCH_MAX ----------------------------+
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::Domain;

use super::address::EndpointAddress;
use super::endpoint::EndpointId;
use crate::config::upstream::SourceAddress;
use crate::sys;

/// How long a source rests for an endpoint for which it has no port.
const PAUSE: Duration = Duration::from_millis(100);

/// Connects that may be made at a time from a source that has had to rest. One that may make more is as good as any
/// other again.
const BATCH_MAX: u16 = 256;

/// Looks whether this machine can connect from an address.
///
/// # Errors
/// Those of socket(2) and bind(2): EADDRNOTAVAIL if it is none of this machine's.
pub fn try_source(source: SourceAddress) -> io::Result<()> {
    let address = source.to_socket_addr();
    let socket = sys::stream_socket(Domain::for_address(address))?;
    sys::bind_without_port(socket.as_fd(), address)
}

/// The number of a source of an upstream; 0 if the kernel chooses.
pub(crate) type SourceNumber = u8;

/// From where to connect to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From this source.
    Source(SourceNumber),
    /// From nowhere for now.
    Resting,
    /// None of the sources is of its address family.
    Nowhere,
}

/// The sources of an upstream, as one worker sees them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    all: Vec<SourceAddress>,
    /// Whose turn it is.
    next: usize,
    resting: Vec<Resting>,
}

/// A source that has no port for an endpoint, or had none a moment ago.
#[derive(Debug)]
struct Resting {
    endpoint: EndpointId,
    source: SourceNumber,
    until: Duration,
    /// Connects that may be made one after another, and how many of them may still be.
    batch: u16,
    left: u16,
}

impl Sources {
    pub(super) fn new(all: &[SourceAddress], number: u64) -> Self {
        let next = number as usize % all.len().max(1);
        Self { all: all.to_vec(), next, resting: Vec::new() }
    }

    pub(super) fn are(&self, all: &[SourceAddress]) -> bool {
        self.all == all
    }

    /// Whether a connect to an endpoint may be tried at `now`: also when there is no source of its family, which is
    /// told then.
    pub(super) fn may_try(&self, endpoint: (EndpointId, &EndpointAddress), now: Duration) -> bool {
        self.resting.is_empty() || self.look(endpoint, now) != Origin::Resting
    }

    /// The next source for an endpoint in turn.
    pub(super) fn take(
        &mut self,
        endpoint: (EndpointId, &EndpointAddress),
        now: Duration,
    ) -> Origin {
        let found = self.look(endpoint, now);
        if let Origin::Source(source) = found {
            self.next = (usize::from(source) + 1) % self.all.len().max(1);
            if let Some(resting) = self.resting(endpoint.0, source) {
                resting.left = resting.left.saturating_sub(1);
                if resting.left == 0 {
                    resting.until = now + PAUSE;
                }
            }
        }
        found
    }

    fn look(&self, (id, address): (EndpointId, &EndpointAddress), now: Duration) -> Origin {
        let EndpointAddress::Tcp(to) = *address else { return Origin::Source(0) };
        let rests = |source: SourceNumber| {
            let this = |rest: &&Resting| (rest.endpoint, rest.source) == (id, source);
            self.resting.iter().find(this).is_some_and(|rest| now < rest.until)
        };
        if self.all.is_empty() {
            return if rests(0) { Origin::Resting } else { Origin::Source(0) };
        }
        let mut found = Origin::Nowhere;
        for turn in 0..self.all.len() {
            let number = (self.next + turn) % self.all.len();
            if self.all[number].towards(to).is_none() {
                continue;
            }
            let number = SourceNumber::try_from(number).unwrap_or(SourceNumber::MAX);
            if !rests(number) {
                return Origin::Source(number);
            }
            found = Origin::Resting;
        }
        found
    }

    fn resting(&mut self, endpoint: EndpointId, source: SourceNumber) -> Option<&mut Resting> {
        self.resting.iter_mut().find(|rest| (rest.endpoint, rest.source) == (endpoint, source))
    }

    /// A source had no port for an endpoint at `now`, or is none of this machine's addresses.
    pub(super) fn has_none(&mut self, endpoint: EndpointId, source: SourceNumber, now: Duration) {
        if usize::from(source) >= self.all.len().max(1) {
            // It was one of another list.
            return;
        }
        let (until, batch, left) = (now + PAUSE, 1, 1);
        match self.resting(endpoint, source) {
            Some(resting) => (resting.until, resting.batch, resting.left) = (until, batch, left),
            None => self.resting.push(Resting { endpoint, source, until, batch, left }),
        }
    }

    /// A connect got as far as the endpoint, well or not: it had a port. True if more may be made now from a source
    /// that had to rest.
    pub(super) fn has_one(&mut self, endpoint: EndpointId, source: SourceNumber) -> bool {
        let Some(resting) = self.resting(endpoint, source) else { return false };
        if resting.left > 0 {
            // It was made before the rest, or others of its batch have not been made yet.
            return false;
        }
        resting.batch *= 2;
        (resting.left, resting.until) = (resting.batch, Duration::ZERO);
        if resting.batch > BATCH_MAX {
            self.resting.retain(|rest| (rest.endpoint, rest.source) != (endpoint, source));
        }
        true
    }

    /// What to bind a socket to that connects to an endpoint from this source; without an address the kernel chooses.
    /// `None` if the source is gone.
    pub(super) fn bound_to(
        &self,
        source: SourceNumber,
        endpoint: &EndpointAddress,
    ) -> Option<Option<SocketAddr>> {
        match *endpoint {
            EndpointAddress::Tcp(to) if !self.all.is_empty() => {
                self.all.get(usize::from(source))?.towards(to).map(Some)
            }
            _ => Some(None),
        }
    }

    /// The address with this number; `None` if the kernel chose.
    pub(super) fn address(&self, source: SourceNumber) -> Option<SourceAddress> {
        self.all.get(usize::from(source)).copied()
    }

    /// Whether there is a source of an endpoint's address family, or none is needed.
    pub(super) fn reach(&self, endpoint: &EndpointAddress) -> bool {
        match *endpoint {
            EndpointAddress::Tcp(to) if !self.all.is_empty() => {
                self.all.iter().any(|source| source.towards(to).is_some())
            }
            _ => true,
        }
    }

    /// Forgets endpoints that are gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(EndpointId) -> bool) {
        self.resting.retain(|rest| is_there(rest.endpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::upstream::Target;

    const A: EndpointId = EndpointId(1);
    const B: EndpointId = EndpointId(2);
    const START: Duration = Duration::from_secs(1);

    fn sources(texts: &[&str]) -> Sources {
        let all: Vec<_> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Sources::new(&all, 0)
    }

    fn tcp(text: &str) -> EndpointAddress {
        EndpointAddress::Tcp(text.parse().unwrap())
    }

    /// The number of the source that is taken; `None` if there is none for now.
    #[track_caller]
    fn take(sources: &mut Sources, endpoint: EndpointId, now: Duration) -> Option<SourceNumber> {
        let address = tcp("10.0.0.9:80");
        let may = sources.may_try((endpoint, &address), now);
        match sources.take((endpoint, &address), now) {
            Origin::Source(number) => Some(number).filter(|_| may),
            Origin::Resting => {
                assert!(!may);
                None
            }
            Origin::Nowhere => panic!("there are sources of this family"),
        }
    }

    #[test]
    fn each_has_its_turn() {
        let mut all = sources(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let taken: Vec<_> = (0..7).map(|_| take(&mut all, A, START)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2, 0].map(Some));
        let of_another_worker = Sources::new(&all.all, 4);
        assert_eq!(of_another_worker.next, 1);
    }

    #[test]
    fn only_those_of_the_family_have_one() {
        let mut all = sources(&["10.0.0.1", "2001:db8::1", "10.0.0.2"]);
        let taken: Vec<_> = (0..4).map(|_| take(&mut all, A, START)).collect();
        assert_eq!(taken, [0, 2, 0, 2].map(Some));
        let v6 = all.take((A, &tcp("[2001:db8::9]:80")), START);
        assert_eq!(v6, Origin::Source(1));
        let mut v4 = sources(&["10.0.0.1"]);
        assert_eq!(v4.take((A, &tcp("[2001:db8::9]:80")), START), Origin::Nowhere);
        assert!(v4.may_try((A, &tcp("[2001:db8::9]:80")), START), "to be told that it is in vain");
    }

    #[test]
    fn without_sources_the_kernel_chooses_and_may_have_no_port_either() {
        let mut none = sources(&[]);
        assert_eq!(none.take((A, &tcp("10.0.0.9:80")), START), Origin::Source(0));
        none.has_none(A, 0, START);
        assert_eq!(take(&mut none, A, START), None);
        assert_eq!(take(&mut none, A, START + PAUSE), Some(0));
    }

    #[test]
    fn a_unix_socket_needs_no_source() {
        let mut all = sources(&["10.0.0.1"]);
        let Target::Unix(name) = "unix:/run/a".parse().unwrap() else { panic!() };
        let unix = EndpointAddress::Unix(name);
        assert_eq!(all.take((A, &unix), START), Origin::Source(0));
        assert_eq!(all.bound_to(0, &unix), Some(None));
    }

    #[test]
    fn a_socket_is_bound_to_the_address_of_its_source() {
        let all = sources(&["10.0.0.1", "2001:db8::1"]);
        let to = |number, text: &str| all.bound_to(number, &tcp(text));
        assert_eq!(to(0, "10.0.0.9:80"), Some(Some("10.0.0.1:0".parse().unwrap())));
        let v6 = to(1, "[2001:db8::9]:80");
        assert_eq!(v6, Some(Some("[2001:db8::1]:0".parse().unwrap())));
        assert_eq!((to(1, "10.0.0.9:80"), to(2, "10.0.0.9:80")), (None, None), "another list");
        assert_eq!(sources(&[]).bound_to(0, &tcp("10.0.0.9:80")), Some(None));
    }

    #[test]
    fn one_without_ports_rests_for_that_endpoint_alone() {
        let mut all = sources(&["10.0.0.1", "10.0.0.2"]);
        all.has_none(A, 0, START);
        let taken: Vec<_> = (0..3).map(|_| take(&mut all, A, START)).collect();
        assert_eq!(taken, [1, 1, 1].map(Some));
        all.next = 0;
        assert_eq!(take(&mut all, B, START), Some(0));
        all.has_none(A, 1, START);
        assert_eq!(take(&mut all, A, START), None);
    }

    #[test]
    fn after_the_pause_one_tries_and_then_twice_as_many_each_time() {
        let mut all = sources(&["10.0.0.1"]);
        all.has_none(A, 0, START);
        assert!(!all.has_one(A, 0), "one that was made before says nothing");
        let later = START + PAUSE;
        assert_eq!(take(&mut all, A, later), Some(0));
        assert_eq!(take(&mut all, A, later), None, "one is under way");
        all.has_none(A, 0, later);
        assert_eq!(take(&mut all, A, later), None);
        let later = later + PAUSE;
        let mut batch = 1;
        while batch <= BATCH_MAX {
            for _ in 0..batch {
                assert_eq!(take(&mut all, A, later), Some(0));
            }
            assert_eq!(take(&mut all, A, later), None);
            assert!(all.has_one(A, 0));
            batch *= 2;
        }
        assert!(all.resting.is_empty() && !all.has_one(A, 0));
        for _ in 0..2 * BATCH_MAX {
            assert_eq!(take(&mut all, A, later), Some(0));
        }
    }

    /// A connect may end when there is another list.
    #[test]
    fn a_source_that_is_in_the_list_no_more_does_not_rest() {
        let mut all = sources(&["10.0.0.1"]);
        all.has_none(A, 2, START);
        assert!(all.resting.is_empty());
    }

    #[test]
    fn a_link_local_source_reaches_its_own_interface() {
        let all = sources(&["fe80::5%2"]);
        let reaches = ["[fe80::9%2]:80", "[fe80::9%3]:80", "[2001:db8::9]:80"];
        assert_eq!(reaches.map(|to| all.reach(&tcp(to))), [true, false, true]);
    }

    /// One that never ends, since its pair was closed meanwhile.
    #[test]
    fn one_that_is_given_up_holds_the_others_up_for_a_pause_only() {
        let mut all = sources(&["10.0.0.1"]);
        all.has_none(A, 0, START);
        assert_eq!(take(&mut all, A, START + PAUSE), Some(0));
        assert_eq!(take(&mut all, A, START + 2 * PAUSE), Some(0));
    }

    #[test]
    fn endpoints_that_are_gone_are_forgotten() {
        let mut all = sources(&["10.0.0.1"]);
        all.has_none(A, 0, START);
        all.has_none(B, 0, START);
        all.keep(|endpoint| endpoint == B);
        assert_eq!(take(&mut all, A, START), Some(0));
        assert_eq!(take(&mut all, B, START), None);
    }
}
