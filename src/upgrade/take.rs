//! The new process: it takes over what the old one gives.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::give::unexpected;
use super::message::{Counts, FORMAT, Hello, Message, Moved, ReadyToServe, Welcome};
use super::step::{Step, reach};
use super::wire::Channel;
use super::{START_LIMIT, STEP_LIMIT, UpgradeError};
use crate::connection::suspended::{Record, Suspended};
use crate::listener::Inherited;
use crate::server::{ByHand, Handle, Hold, OpenCounts, Phase, Reserved};
use crate::sys::{self, Polled};
use crate::upstream::NameRecord;

/// How long the old process may take between two batches of connections, and to stop accepting.
const NEXT_LIMIT: Duration = Duration::from_secs(60);

/// How long the old process may say nothing of what it still has.
const COUNTS_LIMIT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long after the end of the channel a process has died, if it has: the kernel closes one descriptor after another.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// Descriptors that connections which are taken over leave for whatever else is opened, if the limit on them is at least
/// four times as high.
const SPARE: u64 = 64;

/// A process that takes over, before it serves.
#[derive(Debug)]
pub struct Taking {
    channel: Channel,
    welcome: Welcome,
    /// The end of a pipe of which the old process has the other one.
    alive: Option<OwnedFd>,
    begun: Instant,
    /// Whether it was told that the old process has died.
    is_told: Cell<bool>,
    /// Threads do not end before everything has come, whatever signal comes first.
    hold: RefCell<Option<Hold>>,
}

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Connections.
    pub connections: usize,
    /// From the first word to the last.
    pub took: Duration,
}

/// What the old process has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    /// It waits for the next word.
    Listens,
    /// It has died: nobody but this process serves.
    Died,
}

impl Taking {
    /// Asks the process at the other end, and gets what it listens on.
    ///
    /// # Errors
    /// Why it does not agree.
    pub fn ask(channel: Channel, inherited: &Inherited) -> Result<Self, UpgradeError> {
        let begun = Instant::now();
        reach(Step::Hello);
        let hello = Hello {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            kinds: Record::KINDS.iter().map(|kind| (*kind).to_owned()).collect(),
            bans: true,
        };
        channel.send(&Message::Hello(hello), &[], STEP_LIMIT)?;
        let (welcome, alive) = match channel.receive(START_LIMIT)? {
            (Message::Welcome(welcome), alive) => (welcome, alive.into_iter().next()),
            (other, _) => return Err(unexpected(&other)),
        };
        if welcome.format != FORMAT {
            return Err(UpgradeError::Format { theirs: welcome.format, version: welcome.version });
        }
        let mut left = welcome.sockets as usize;
        while left > 0 {
            let (entries, descriptors) = match channel.receive(STEP_LIMIT)? {
                (Message::Sockets(entries), descriptors) => (entries, descriptors),
                (other, _) => return Err(unexpected(&other)),
            };
            if entries.len() != descriptors.len() || entries.is_empty() {
                let (came, count) = (descriptors.len(), entries.len());
                return Err(UpgradeError::Descriptors { came, count });
            }
            left = left.saturating_sub(entries.len());
            for (entry, descriptor) in entries.into_iter().zip(descriptors) {
                // Those that somebody else has made may be from anywhere.
                if !entry.origin.is_kept && is_elsewhere(&descriptor) {
                    channel.give_up(&UpgradeError::Elsewhere.to_string());
                    return Err(UpgradeError::Elsewhere);
                }
                inherited.add(entry.number, descriptor, entry.origin);
            }
        }
        reach(Step::Sockets);
        Ok(Self {
            channel,
            welcome,
            alive,
            begun,
            is_told: Cell::new(false),
            hold: RefCell::default(),
        })
    }

    /// The process whose place is taken, and its version.
    pub fn from(&self) -> (u32, &str) {
        (self.welcome.pid, &self.welcome.version)
    }

    /// The addresses that names of backends have there.
    pub fn names(&self) -> &[NameRecord] {
        &self.welcome.names
    }

    /// What was set by hand there.
    pub fn by_hand(&self) -> &[ByHand] {
        &self.welcome.by_hand
    }

    /// Tells the old process why this one cannot take over.
    pub fn give_up(&self, reason: &str) {
        self.channel.give_up(reason);
    }

    /// Says that this process could serve, and waits until it is to do so. What it does not listen on is closed here.
    ///
    /// # Errors
    /// The old process serves as before. If it has died, this one may as well serve: that is no error.
    pub fn wait_to_serve(
        &mut self,
        handle: &Handle,
        inherited: &Inherited,
    ) -> Result<Reserved, UpgradeError> {
        reach(Step::Ready);
        self.hold.replace(Some(handle.hold()));
        self.agree_to_serve(handle, inherited).inspect_err(|_| {
            self.hold.take();
        })
    }

    fn agree_to_serve(
        &self,
        handle: &Handle,
        inherited: &Inherited,
    ) -> Result<Reserved, UpgradeError> {
        let mut reserved = Reserved::default();
        let begin = self.or_died(self.say_ready(handle, inherited))?;
        if begin == Old::Died {
            return Ok(reserved);
        }
        match self.channel.receive(NEXT_LIMIT) {
            Ok((Message::Begin(counts), _)) => self.note(handle, &mut reserved, &counts),
            Ok((other, _)) => return Err(unexpected(&other)),
            Err(error) => return self.or_died(Err(error)).map(|_| reserved),
        }
        reach(Step::Begun);
        let begun = self.or_died(self.channel.send(&Message::Begun, &[], STEP_LIMIT))?;
        let went = match begun {
            Old::Died => Ok(Old::Died),
            Old::Listens => match self.channel.receive(NEXT_LIMIT) {
                Ok((Message::Go, _)) => Ok(Old::Listens),
                Ok((other, _)) => Err(unexpected(&other)),
                Err(error) => self.or_died(Err(error)),
            },
        };
        if went? == Old::Died {
            handle.reserve(&mut reserved, &OpenCounts::default());
        }
        Ok(reserved)
    }

    /// What it does not listen on is closed.
    pub(super) fn say_ready(
        &self,
        handle: &Handle,
        inherited: &Inherited,
    ) -> Result<(), UpgradeError> {
        let unclaimed = inherited.close_unclaimed();
        let ready = ReadyToServe { offers: handle.offers(), unclaimed };
        self.channel.send(&Message::Ready(ready), &[], STEP_LIMIT)
    }

    /// One that has died without a word is no error. One that has closed its end and lives has gone back to what was.
    fn or_died(&self, result: Result<(), UpgradeError>) -> Result<Old, UpgradeError> {
        match result {
            Ok(()) => Ok(Old::Listens),
            Err(UpgradeError::Ended) => {
                self.last_word()?;
                let pid = self.welcome.pid;
                if !self.is_told.replace(true) {
                    tracing::warn!("upgrade: process {pid} has died; this one serves");
                }
                Ok(Old::Died)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the old process has. Its end of the pipe goes with it, a little before or after that of the channel.
    fn has_died(&self) -> bool {
        let Some(alive) = &self.alive else { return true };
        let deadline = Instant::now() + DEATH_LIMIT;
        // A signal ends a wait early.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut polled = [Polled::new(alive.as_fd(), 0)];
            let asked = sys::poll(&mut polled, Some(left));
            let has_died = asked.is_err() || polled[0].ready & sys::POLLHUP != 0;
            if has_died || left.is_zero() {
                return has_died;
            }
        }
    }

    /// Why it has gone back, if it has: it mostly says so, and otherwise it lives.
    fn last_word(&self) -> Result<(), UpgradeError> {
        loop {
            match self.channel.receive(DEATH_LIMIT) {
                Ok(_) => {}
                Err(error @ UpgradeError::GivenUp(_)) => return Err(error),
                Err(_) if self.has_died() => return Ok(()),
                Err(_) => return Err(UpgradeError::GivenUp("it serves again".to_owned())),
            }
        }
    }

    /// Takes connections, until the old process has none that it could give.
    ///
    /// # Errors
    /// The old process has taken back what it had not given, and listens again: this one is to drain what it has. If it
    /// has died, that is no error.
    pub fn take_connections(
        &self,
        handle: &Handle,
        reserved: &mut Reserved,
    ) -> Result<Taken, UpgradeError> {
        reach(Step::Serving);
        let taken = self.take_all(handle, reserved);
        self.hold.take();
        // What the old process has is its own affair then.
        let connections =
            taken.inspect_err(|_| handle.reserve(reserved, &OpenCounts::default()))?;
        handle.keep_sockets();
        Ok(Taken { connections, took: self.begun.elapsed() })
    }

    fn take_all(&self, handle: &Handle, reserved: &mut Reserved) -> Result<usize, UpgradeError> {
        let mut connections = 0;
        loop {
            match self.take_next(handle, reserved) {
                Ok(Some(count)) => connections += count,
                Ok(None) => break,
                Err(error) => {
                    self.or_died(Err(error))?;
                    handle.reserve(reserved, &OpenCounts::default());
                    break;
                }
            }
        }
        Ok(connections)
    }

    /// `None` after the last word.
    fn take_next(
        &self,
        handle: &Handle,
        reserved: &mut Reserved,
    ) -> Result<Option<usize>, UpgradeError> {
        match self.channel.receive(NEXT_LIMIT)? {
            (Message::Connections(moved), descriptors) => {
                reach(Step::Received);
                self.take_batch(handle, pair(moved, descriptors)).map(Some)
            }
            (Message::Counts(counts), _) => {
                self.note(handle, reserved, &counts);
                Ok(Some(0))
            }
            (Message::Done, _) => {
                reach(Step::LastWord);
                self.serves(handle)?;
                self.channel.send(&Message::Done, &[], STEP_LIMIT)?;
                // Until that comes, the old process may go back.
                match self.channel.receive(NEXT_LIMIT)? {
                    (Message::Counts(counts), _) => self.note(handle, reserved, &counts),
                    (other, _) => return Err(unexpected(&other)),
                }
                Ok(None)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Takes connections that were offered, once the old process has let them go.
    fn take_batch(
        &self,
        handle: &Handle,
        offered: Vec<(Moved, Vec<OwnedFd>)>,
    ) -> Result<usize, UpgradeError> {
        self.serves(handle)?;
        let can_take = |(moved, sockets): &(Moved, Vec<OwnedFd>)| {
            let is_whole = sockets.len() == usize::from(moved.sockets) && !sockets.is_empty();
            is_whole && leaves_room(sockets) && handle.makes_sense(&moved.frontend, &moved.record)
        };
        let (mut refused, mut taken) = (Vec::new(), Vec::new());
        for (place, offer) in (0_u32..).zip(offered) {
            match can_take(&offer) {
                true => taken.push(offer),
                false => refused.push(place),
            }
        }
        let agreed = self.agree(refused);
        // One that has died has let everything go.
        self.or_died(agreed)?;
        let count = taken.len();
        let resumed = taken.into_iter().filter_map(|(moved, sockets)| {
            let (frontend, place) = handle.place_for(&moved.frontend)?;
            Some(Suspended { frontend, record: moved.record, sockets, place })
        });
        let resumed: Vec<Suspended> = resumed.collect();
        let homeless = count - resumed.len();
        let lost = homeless + handle.resume(resumed, STEP_LIMIT);
        if lost > 0 {
            tracing::error!(
                "upgrade: {lost} connections that were taken over could not go on and are closed"
            );
        }
        Ok(count - lost)
    }

    /// Says what is taken, and waits until that is let go.
    fn agree(&self, refused: Vec<u32>) -> Result<(), UpgradeError> {
        self.channel.send(&Message::Taken(refused), &[], STEP_LIMIT)?;
        reach(Step::Taken);
        match self.channel.receive(NEXT_LIMIT)? {
            (Message::Go, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// One that drains must not be left alone.
    fn serves(&self, handle: &Handle) -> Result<(), UpgradeError> {
        if handle.phase() == Phase::Serving {
            return Ok(());
        }
        self.channel.give_up("the new process drains");
        Err(UpgradeError::Draining)
    }

    /// Follows what the old process still has, until it has ended.
    pub fn follow(self, handle: &Handle, mut reserved: Reserved) {
        while let Ok((Message::Counts(counts), _)) = self.channel.receive(COUNTS_LIMIT) {
            self.note(handle, &mut reserved, &counts);
        }
        handle.reserve(&mut reserved, &OpenCounts::default());
    }

    fn note(&self, handle: &Handle, reserved: &mut Reserved, counts: &Counts) {
        // Backends first: those are among them that only connections still hold.
        let lines = handle.restore_upstreams(&counts.upstreams);
        lines.iter().for_each(|line| tracing::info!("upgrade: {line}"));
        handle.restore_bans(&counts.bans);
        handle.reserve(reserved, &counts.open);
        handle.set_counted_before(&counts.counters);
        if let Some(figures) = &counts.figures {
            handle.count_figures(reserved, figures);
        }
    }
}

/// Whether a socket is of another network namespace than what this process makes. False where the kernel does not tell.
fn is_elsewhere(socket: &OwnedFd) -> bool {
    let Ok(own) = UnixDatagram::unbound() else { return false };
    let [theirs, own] = [socket.as_fd(), own.as_fd()].map(sys::network_namespace);
    matches!((theirs, own), (Ok(theirs), Ok(own)) if theirs != own)
}

/// Whether some descriptors are free beyond these: the kernel gives the lowest number that is.
fn leaves_room(sockets: &[OwnedFd]) -> bool {
    let limit = sys::nofile().map_or(u64::MAX, |limit| limit.soft);
    let number = |socket: &OwnedFd| u64::try_from(socket.as_raw_fd()).unwrap_or(0);
    let highest = sockets.iter().map(number).max().unwrap_or(0);
    highest < limit - SPARE.min(limit / 4)
}

/// Gives each connection its descriptors. Fewer may have come than were sent.
fn pair(moved: Vec<Moved>, descriptors: Vec<OwnedFd>) -> Vec<(Moved, Vec<OwnedFd>)> {
    let mut descriptors = descriptors.into_iter();
    let own = |moved: Moved| {
        let sockets = descriptors.by_ref().take(moved.sockets.into()).collect();
        (moved, sockets)
    };
    moved.into_iter().map(own).collect()
}
