//! Who comes in: what source rules say of a connection that has just been accepted, and what becomes of it then.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Acceptor, Source};
use crate::config::{ListenAddress, Refusal};
use crate::dispatch::Accepted;
use crate::log::rate_limit::{Look, RateLimit, Suppressed};
use crate::metrics::Counter;
use crate::ring::{Key, Operation, Operations};
use crate::sources::{DELAY_MOST, Held, Rule, Verdict};
use crate::sys;

/// Connections that one acceptor keeps until it is their turn. Each has a descriptor.
const DELAYED_MAX: usize = 1024;

/// Connections that have been sent a reply, and are closed a little later: what they have sent meanwhile would make
/// the kernel send a reset, and their client might never read the reply.
const LINGERING_MAX: usize = 256;
const LINGER: Duration = Duration::from_secs(1);

/// Refusals are logged this often at most, by each acceptor.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Descriptors that refused connections of an acceptor may take.
pub(crate) fn descriptors_of(refusal: &Refusal) -> usize {
    match refusal {
        Refusal::Delay => DELAYED_MAX,
        Refusal::Reply(_) => LINGERING_MAX,
        Refusal::Reset | Refusal::Close => 0,
    }
}

/// What is in a frontend's way.
#[derive(Debug)]
pub(super) struct Refusals {
    /// Refused in this turn.
    refused: Vec<Operation>,
    /// Refused with a reply, in the order in which they are closed.
    lingering: VecDeque<(Instant, OwnedFd)>,
    /// Too fast, in no order: with their listener, until when.
    delayed: Vec<(Instant, Key, Accepted)>,
    /// The first moment among those.
    first_due: Option<Instant>,
    log: RateLimit,
}

/// What becomes of a connection.
pub(super) enum Asked {
    /// It comes in, although this rule is against it.
    In(Held, Option<Rule>),
    /// It comes in at that moment.
    At(Instant, Held),
    /// It does not.
    Refused(Rule),
}

/// Asks the rules about a connection. One whose address nobody knows, or that is to say first who it is, comes in.
pub(super) fn ask(source: &Source, socket: &OwnedFd, now: Instant) -> Asked {
    let Source { admission, peer, .. } = source;
    if admission.is_empty() {
        return Asked::In(Held::NONE, None);
    }
    let peer = peer(socket.as_fd()).ok().flatten();
    let Some(address) = peer.map(|peer| peer.ip()).filter(|ip| !admission.trusts(*ip)) else {
        return Asked::In(Held::NONE, None);
    };
    match admission.ask(address, now) {
        Verdict::In(held) => Asked::In(held, None),
        Verdict::Observed(held, rule) => Asked::In(held, Some(rule)),
        Verdict::Later(held, wait) => Asked::At(now + wait.min(DELAY_MOST), held),
        Verdict::Refused(rule) => Asked::Refused(rule),
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            refused: Vec::new(),
            lingering: VecDeque::new(),
            delayed: Vec::new(),
            first_due: None,
            log: RateLimit::new(LOG_INTERVAL),
        }
    }
}

impl Refusals {
    /// Refuses a connection, as its frontend wants it.
    pub(super) fn refuse(&mut self, socket: OwnedFd, how: &Refusal, now: Instant) {
        match how {
            Refusal::Reset | Refusal::Delay => self.refused.push(Operation::Reset { socket }),
            Refusal::Close => self.refused.push(Operation::Close { socket }),
            Refusal::Reply(bytes) => {
                sys::send_last(socket.as_fd(), bytes);
                if self.lingering.len() >= LINGERING_MAX {
                    self.close_first();
                }
                self.lingering.push_back((now + LINGER, socket));
            }
        }
    }

    /// Says which rule was against a connection, if nothing like it has been said just now.
    pub(super) fn tell(
        &mut self,
        (address, socket): (&ListenAddress, &OwnedFd),
        (rule, what): (Rule, &str),
        now: Instant,
    ) {
        if let Some(suppressed) = self.log.ask(now).map(Suppressed) {
            let rule = rule.name();
            let peer = sys::peer_address(socket.as_fd()).ok().flatten();
            let peer = peer.map_or_else(|| "a client".to_owned(), |peer| peer.to_string());
            tracing::warn!("{address}: {peer} {what} by {rule}{suppressed}");
        }
    }

    /// Keeps a connection until it is its turn; gives it back if too many are kept.
    pub(super) fn delay(
        &mut self,
        until: Instant,
        (key, accepted): (Key, Accepted),
    ) -> Result<(), Accepted> {
        if self.delayed.len() >= DELAYED_MAX {
            return Err(accepted);
        }
        self.delayed.push((until, key, accepted));
        self.first_due = Some(self.first_due.map_or(until, |first| first.min(until)));
        Ok(())
    }

    /// It is the turn of all of a listener: it is about to close.
    pub(super) fn hurry(&mut self, listener: Key) {
        let own = self.delayed.iter_mut().filter(|(_, key, _)| *key == listener);
        own.for_each(|(until, _, accepted)| *until = accepted.accepted_at);
        self.first_due = self.delayed.iter().map(|(until, ..)| *until).min();
    }

    /// Those whose turn it is.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Key, Accepted)> {
        if self.first_due.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let mut due: Vec<_> = self.delayed.extract_if(.., |(until, ..)| *until <= now).collect();
        due.sort_by_key(|(until, ..)| *until);
        self.first_due = self.delayed.iter().map(|(until, ..)| *until).min();
        due.into_iter().map(|(_, key, accepted)| (key, accepted)).collect()
    }

    /// Ends what was refused.
    pub(super) fn close(&mut self, now: Instant, operations: &mut Operations) {
        while self.lingering.front().is_some_and(|(until, _)| *until <= now) {
            self.close_first();
        }
        for operation in self.refused.drain(..) {
            operations.push(Key::fixed(0), operation);
        }
    }

    fn close_first(&mut self) {
        if let Some((_, socket)) = self.lingering.pop_front() {
            self.refused.push(Operation::Close { socket });
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let linger = self.lingering.front().map(|(until, _)| *until);
        self.first_due.into_iter().chain(linger).min()
    }

    /// Those that are kept, with their listeners.
    pub(super) fn delayed(&mut self) -> impl Iterator<Item = (Key, &mut Accepted)> {
        self.delayed.iter_mut().map(|(_, key, accepted)| (*key, accepted))
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        self.delayed.len()
    }

    /// Whether some that have been sent a reply are not closed yet.
    pub(super) fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Whether one of a listener is kept.
    pub(super) fn keeps(&self, listener: Key) -> bool {
        self.delayed.iter().any(|(_, key, _)| *key == listener)
    }

    /// Drops everything.
    pub(super) fn abandon(&mut self) {
        *self = Self::default();
    }

    /// Tells what was not told.
    pub(super) fn catch_up(&mut self, look: Look) {
        if let Some(count) = self.log.catch_up(look) {
            tracing::warn!("{count} more connections were refused by source rules");
        }
    }
}

impl Acceptor {
    /// Asks source rules about a connection: gives it back if it comes in now, with where it is counted.
    pub(super) fn let_in(
        &mut self,
        key: Key,
        socket: OwnedFd,
        now: Instant,
    ) -> Option<(OwnedFd, Held)> {
        let source = &self.listenings.get(key)?.source;
        let Source { admission, listener, address, .. } = source;
        match ask(source, &socket, now) {
            Asked::In(held, None) => {
                admission.count(now);
                return Some((socket, held));
            }
            Asked::In(held, Some(rule)) => {
                admission.count(now);
                self.refusals.tell((address, &socket), (rule, "would be refused"), now);
                return Some((socket, held));
            }
            Asked::At(moment, held) => {
                let accepted = Accepted { held, ..Accepted::new(socket, *listener, now) };
                let Err(Accepted { socket, .. }) = self.refusals.delay(moment, (key, accepted))
                else {
                    admission.count(now);
                    return None;
                };
                admission.withdraw(held);
                self.refusals.tell((address, &socket), (Rule::RatePerSource, "is refused"), now);
                self.refusals.refuse(socket, admission.refusal(), now);
            }
            Asked::Refused(rule) => {
                self.refusals.tell((address, &socket), (rule, "is refused"), now);
                self.refusals.refuse(socket, admission.refusal(), now);
            }
        }
        self.metrics.count(Counter::AcceptRefused);
        None
    }

    /// Whether a client may not have read yet why it was refused.
    pub(crate) fn lingers(&self) -> bool {
        self.refusals.lingers()
    }

    /// Ends what was refused, and tells what was not told.
    pub(crate) fn close_refused(&mut self, now: Instant, operations: &mut Operations) {
        self.refusals.close(now, operations);
        self.refusals.catch_up(Look::At(now));
    }

    /// Holds a connection until it is placed.
    pub(super) fn hold(&mut self, key: Key, (socket, held): (OwnedFd, Held), now: Instant) {
        let pressed = self.press(key, now);
        let Some(Source { listener, .. }) = self.listenings.get(key).map(|it| &it.source) else {
            return;
        };
        let accepted = Accepted { socket, listener: *listener, accepted_at: now, held, pressed };
        self.held.push_back((key, accepted));
    }
}
