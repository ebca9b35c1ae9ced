//! The old process: it gives its sockets and connections away, and takes back what nobody has taken.

use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::message::{Counts, FORMAT, Hello, Message, Moved, ReadyToServe, SocketEntry, Welcome};
use super::step::{self, Step, reach};
use super::wire::Channel;
use super::{BATCH, MOVE_LIMIT, PATIENCE, START_LIMIT, STEP_LIMIT, SUSPEND_LIMIT, UpgradeError};
use crate::connection::suspended::{Record, Suspended};
use crate::listener::{Listener, Origin};
use crate::server::{ByHand, Handle, Offer, OpenSocket, Phase};
use crate::sys::{DESCRIPTORS_MAX, Pipe};

/// Most sockets of one message.
const SOCKETS_MAX: usize = 200;

/// Bytes of connections of one message, about: one connection may be more.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Between two looks whether this process still serves, while the new one gets ready.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Between two tries to move what cannot be moved now.
const RETRY: Duration = Duration::from_millis(10);

/// Between two times that all that is counted is told.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// A listening socket of the program beside those of its server: it is accepted on until the new process serves.
#[derive(Debug, Clone)]
pub struct Extra {
    /// What it is here.
    pub origin: Origin,
    /// The socket.
    pub listener: Arc<Listener>,
}

/// What was given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The new process.
    pub pid: u32,
    /// What it is.
    pub version: String,
    /// Connections that it has.
    pub moved: usize,
    /// Connections that are left.
    pub left: usize,
    /// From when nobody was accepted until all was given.
    pub took: Duration,
}

/// Why nothing was given.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", ended_with(*moved))]
pub struct NotGiven {
    /// Why.
    #[source]
    pub error: UpgradeError,
    /// Whether the other process was told to serve: it may have accepted connections, and has those that had moved.
    pub has_begun: bool,
    /// Connections that it has, and ends with.
    pub moved: usize,
}

/// What is to be told of connections that had moved when an upgrade failed; nothing if there are none.
pub fn ended_with(moved: usize) -> String {
    match moved {
        0 => String::new(),
        1 => "; 1 connection had moved, and ends with the new process".to_owned(),
        _ => format!("; {moved} connections had moved, and end with the new process"),
    }
}

impl From<UpgradeError> for NotGiven {
    fn from(error: UpgradeError) -> Self {
        Self { error, has_begun: false, moved: 0 }
    }
}

/// Tells whoever supervises this process which one is the main one from now on.
pub type Announce<'a> = &'a dyn Fn(u32);

/// What the program has beside its server.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Sockets that are listened on.
    pub extra: &'a [Extra],
    /// Sockets that nobody listens on now, and that the new process may.
    pub spare: &'a [(Origin, OwnedFd)],
    /// What was set by hand.
    pub by_hand: &'a [ByHand],
    /// Who is told of the new process.
    pub announce: Announce<'a>,
}

impl fmt::Debug for Beside<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { extra, spare, by_hand, announce: _ } = self;
        let mut all = formatter.debug_struct("Beside");
        all.field("extra", extra).field("spare", spare).field("by_hand", by_hand).finish()
    }
}

/// Gives everything to the process at the other end. When this returns the server drains, and what it still has is
/// told by [`Giving::tell`].
///
/// # Errors
/// Why not; then everything is as it was before, but for connections that the other process has taken.
pub fn give(
    channel: Channel,
    handle: &Handle,
    beside: Beside<'_>,
) -> Result<(Given, Giving), NotGiven> {
    let giving = Giving {
        channel,
        handle: handle.clone(),
        moved: Cell::new(0),
        in_transit: Cell::new(0),
        told: Cell::new(None),
    };
    handle.set_being_replaced(true);
    match giving.give(beside) {
        Ok(given) => Ok((given, giving)),
        Err(not_given) => {
            handle.set_being_replaced(false);
            if !matches!(not_given.error, UpgradeError::GivenUp(_)) {
                giving.channel.give_up(&not_given.error.to_string());
            }
            Err(not_given)
        }
    }
}

/// The way to the process that has taken over.
#[derive(Debug)]
pub struct Giving {
    channel: Channel,
    handle: Handle,
    /// Connections that the other process has.
    moved: Cell<usize>,
    /// Connections that are off their threads, and that neither process has.
    in_transit: Cell<usize>,
    /// When all that is counted was told.
    told: Cell<Option<Instant>>,
}

/// What the new process has said of itself.
struct Successor {
    hello: Hello,
    ready: ReadyToServe,
}

impl Giving {
    /// Tells what this process still has, and has counted: false if nobody listens any more.
    pub fn tell(&self) -> bool {
        match self.told.get().is_none_or(|told| told.elapsed() >= FIGURES_INTERVAL) {
            true => self.tell_all(),
            false => self.say(&Message::Counts(self.counts())).is_ok(),
        }
    }

    /// The same with all that is counted, however short ago that was.
    pub fn tell_all(&self) -> bool {
        self.say(&Message::Counts(self.all_counts())).is_ok()
    }

    fn give(&self, beside: Beside<'_>) -> Result<Given, NotGiven> {
        reach(Step::Asked);
        let (sockets, extra) = (self.handle.sockets(), beside.extra);
        let hello = self.greet(&sockets, beside)?;
        self.wait_while_serving(START_LIMIT)?;
        let ready = match self.channel.receive(STEP_LIMIT)? {
            (Message::Ready(ready), _) => ready,
            (other, _) => return Err(unexpected(&other).into()),
        };
        self.is_serving()?;
        let successor = Successor { hello, ready };
        let begun = Instant::now();
        let hold = self.handle.hold();
        let mut has_begun = false;
        let outcome = self.hand_over(&successor, &mut has_begun);
        match &outcome {
            Ok(_) => self.commit((&sockets, extra), (&successor, beside.announce)),
            Err(_) => {
                self.handle.end_sharing();
                self.handle.renew_bans();
                self.handle.accept_again(|_| true);
            }
        }
        drop(hold);
        let moved =
            outcome.map_err(|error| NotGiven { error, has_begun, moved: self.moved.get() })?;
        let left = self.handle.open_here();
        let Hello { pid, version, .. } = successor.hello;
        Ok(Given { pid, version, moved, left, took: begun.elapsed() })
    }

    /// Agrees on a format, and sends what is listened on.
    fn greet(&self, sockets: &[OpenSocket], beside: Beside<'_>) -> Result<Hello, UpgradeError> {
        let Beside { extra, spare, by_hand, announce: _ } = beside;
        self.wait_while_serving(STEP_LIMIT)?;
        let hello = match self.channel.receive(STEP_LIMIT)? {
            (Message::Hello(hello), _) => hello,
            (other, _) => return Err(unexpected(&other)),
        };
        if hello.format != FORMAT {
            return Err(UpgradeError::Format { theirs: hello.format, version: hello.version });
        }
        let own = sockets.iter().map(|it| (&it.origin, it.listener.as_fd()));
        let extra = extra.iter().map(|it| (&it.origin, it.listener.as_fd()));
        let spare = spare.iter().map(|(origin, socket)| (origin, socket.as_fd()));
        let all: Vec<_> = own.chain(extra).chain(spare).collect();
        let welcome = Welcome {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            sockets: all.len() as u32,
            names: self.handle.names(),
            by_hand: by_hand.to_vec(),
        };
        let alive = alive().map(|pipe| pipe.read.as_fd());
        self.channel.send(&Message::Welcome(welcome), alive.as_slice(), STEP_LIMIT)?;
        let numbered: Vec<_> = (0_u32..).zip(all).collect();
        for some in numbered.chunks(SOCKETS_MAX) {
            let entry = |&(number, (origin, _)): &(u32, (&Origin, BorrowedFd<'_>))| SocketEntry {
                number,
                origin: origin.clone(),
            };
            let entries = some.iter().map(entry).collect();
            let descriptors: Vec<_> = some.iter().map(|(_, (_, socket))| *socket).collect();
            self.channel.send(&Message::Sockets(entries), &descriptors, STEP_LIMIT)?;
        }
        Ok(hello)
    }

    /// Stops accepting, lets the new process accept, and moves connections. Returns how many.
    fn hand_over(
        &self,
        successor: &Successor,
        has_begun: &mut bool,
    ) -> Result<usize, UpgradeError> {
        self.handle.stop_accepting(STEP_LIMIT)?;
        // Or its threads may have told the sockets to refuse.
        self.is_serving()?;
        reach(Step::Stopped);
        let (upstreams, bans) = (self.handle.upstream_records(), self.handle.ban_records());
        if !successor.hello.bans {
            // It would have them on its sockets for ever.
            self.handle.lift_bans();
        }
        self.say(&Message::Begin(Counts { upstreams, bans, ..self.all_counts() }))?;
        self.expect(|message| matches!(message, Message::Begun))?;
        self.say(&Message::Go)?;
        *has_begun = true;
        reach(Step::Went);
        let moved = self.move_all(successor)?;
        reach(Step::Done);
        self.say(&Message::Counts(self.all_counts()))?;
        self.say(&Message::Done)?;
        self.expect(|message| matches!(message, Message::Done))?;
        Ok(moved)
    }

    /// Moves what can be moved, as long as there is something.
    fn move_all(&self, successor: &Successor) -> Result<usize, UpgradeError> {
        let frontends = self.movable(successor);
        let (mut moved, mut last) = (0, Instant::now());
        while self.handle.open_of(&frontends) > 0 && last.elapsed() < PATIENCE {
            let taken = self.handle.suspend(&frontends, BATCH, SUSPEND_LIMIT);
            if taken.is_empty() {
                thread::sleep(RETRY);
                continue;
            }
            reach(Step::Suspended);
            let count = self.move_some(taken)?;
            moved += count;
            match count {
                // Those that it has no room for go on in between.
                0 => thread::sleep(RETRY),
                _ => last = Instant::now(),
            }
        }
        Ok(moved)
    }

    /// Frontends whose connections the new process can serve.
    fn movable(&self, successor: &Successor) -> Vec<String> {
        let theirs = &successor.ready.offers;
        let knows = |kind: &str| successor.hello.kinds.iter().any(|known| known == kind);
        let [session, pair] = Record::KINDS.map(knows);
        let is_known = |offer: &Offer| if offer.is_proxied { pair } else { session };
        let own = self.handle.offers().into_iter().filter(|it| theirs.contains(it) && is_known(it));
        own.map(|offer| offer.frontend).collect()
    }

    /// Moves connections that are off their threads. Returns how many.
    fn move_some(&self, taken: Vec<(String, Suspended)>) -> Result<usize, UpgradeError> {
        let mut moved = 0;
        let mut rest = taken;
        while !rest.is_empty() {
            let some: Vec<_> = rest.drain(..fitting(&rest)).collect();
            self.in_transit.set(rest.len());
            match self.move_message(some) {
                Ok(count) => moved += count,
                Err((error, some)) => {
                    self.resume(some.into_iter().chain(rest).map(|(_, it)| it).collect());
                    return Err(error);
                }
            }
        }
        Ok(moved)
    }

    /// The same for as many as one message takes. With an error those come back that nobody else has.
    fn move_message(
        &self,
        mut some: Vec<(String, Suspended)>,
    ) -> Result<usize, (UpgradeError, Vec<(String, Suspended)>)> {
        let refused = match self.offer(&some) {
            Ok(refused) => refused,
            Err(error) => return Err((error, some)),
        };
        let refused: Vec<Suspended> = refused.iter().rev().map(|at| some.remove(*at).1).collect();
        self.resume(refused);
        if let Err(error) = self.say(&Message::Go) {
            return Err((error, some));
        }
        reach(Step::Moved);
        let moved = some.len();
        self.moved.set(self.moved.get() + moved);
        some.into_iter().for_each(|(_, suspended)| suspended.place.give_away());
        let told = self.say(&Message::Counts(self.counts()));
        told.map(|()| moved).map_err(|error| (error, Vec::new()))
    }

    /// Sends connections. Returns the places of those that the other process does not take, in order.
    fn offer(&self, some: &[(String, Suspended)]) -> Result<Vec<usize>, UpgradeError> {
        let moved = |(frontend, suspended): &(String, Suspended)| Moved {
            frontend: frontend.clone(),
            sockets: suspended.sockets.len() as u8,
            record: suspended.record.clone(),
        };
        let message = Message::Connections(some.iter().map(moved).collect());
        let sockets = some.iter().flat_map(|(_, suspended)| &suspended.sockets);
        let descriptors: Vec<BorrowedFd<'_>> = sockets.map(AsFd::as_fd).collect();
        self.channel.send(&message, &descriptors, MOVE_LIMIT)?;
        reach(Step::Sent);
        match self.channel.receive(MOVE_LIMIT)? {
            (Message::Taken(mut refused), _) => {
                refused.sort_unstable();
                refused.dedup();
                Ok(refused
                    .into_iter()
                    .map(|at| at as usize)
                    .filter(|at| *at < some.len())
                    .collect())
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Goes on with connections that stay.
    fn resume(&self, connections: Vec<Suspended>) {
        let lost = self.handle.resume(connections, STEP_LIMIT);
        if lost > 0 {
            tracing::error!("upgrade: {lost} connections could not go on and are closed");
        }
    }

    /// The new process has everything that it wants. What it does not listen on drains here.
    fn commit(
        &self,
        (sockets, extra): (&[OpenSocket], &[Extra]),
        (successor, announce): (&Successor, Announce<'_>),
    ) {
        // The new one tells the supervisor nothing before it hears the counts.
        announce(successor.hello.pid);
        self.tell();
        let is_left = |number: usize| successor.ready.unclaimed.contains(&(number as u32));
        let mut left: Vec<&Arc<Listener>> = Vec::new();
        for (number, OpenSocket { listener, .. }) in sockets.iter().enumerate() {
            match is_left(number) {
                true => left.push(listener),
                false => listener.give_away(),
            }
        }
        let taken = extra.iter().enumerate().filter(|(at, _)| !is_left(sockets.len() + at));
        taken.for_each(|(_, extra)| extra.listener.give_away());
        self.handle.accept_again(|listener| left.iter().any(|it| Arc::ptr_eq(it, listener)));
        self.handle.shutdown();
    }

    /// Waits for the next message. The upgrade ends when the server drains: then nobody is to serve in its place.
    fn wait_while_serving(&self, limit: Duration) -> Result<(), UpgradeError> {
        let deadline = Instant::now() + step::limit(limit);
        while !self.channel.is_readable(LOOK_INTERVAL)? {
            self.is_serving()?;
            if Instant::now() >= deadline {
                return Err(UpgradeError::Late(step::limit(limit)));
            }
        }
        Ok(())
    }

    fn is_serving(&self) -> Result<(), UpgradeError> {
        match self.handle.phase() {
            Phase::Serving => Ok(()),
            Phase::Draining | Phase::Stopping => Err(UpgradeError::Draining),
        }
    }

    fn counts(&self) -> Counts {
        let (open, counters) =
            (self.handle.share_limits(self.in_transit.get()), self.handle.counters());
        Counts { open, counters, ..Counts::default() }
    }

    fn all_counts(&self) -> Counts {
        self.told.set(Some(Instant::now()));
        Counts { figures: Some(Box::new(self.handle.figures())), ..self.counts() }
    }

    fn say(&self, message: &Message) -> Result<(), UpgradeError> {
        self.channel.send(message, &[], STEP_LIMIT)
    }

    /// Nobody is accepted meanwhile, or connections stand still.
    fn expect(&self, is_it: impl Fn(&Message) -> bool) -> Result<(), UpgradeError> {
        match self.channel.receive(MOVE_LIMIT)? {
            (message, _) if is_it(&message) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

/// A pipe that this process keeps to its end: whoever has the other end of it sees that it has died.
fn alive() -> Option<&'static Pipe> {
    static ALIVE: OnceLock<Option<Pipe>> = OnceLock::new();
    ALIVE.get_or_init(|| Pipe::new().ok()).as_ref()
}

/// How many of these, at least one, fit into one message.
fn fitting(connections: &[(String, Suspended)]) -> usize {
    let (mut sockets, mut bytes) = (0, 0);
    let fits = |(_, suspended): &&(String, Suspended)| {
        sockets += suspended.sockets.len();
        bytes += suspended.record.unsent_bytes();
        sockets <= DESCRIPTORS_MAX && bytes <= BYTES_MAX
    };
    connections.iter().take_while(fits).count().max(1)
}

pub(super) fn unexpected(message: &Message) -> UpgradeError {
    UpgradeError::Unexpected(format!("'{}'", message.name()))
}
