//! Those who are banned, by the kernel where it lets this process decide, and otherwise by the acceptors.
//!
//! ```text
//!   ban, unban, the end of one --> Bans --compile--> a program, in a new version
//!                                                        |
//!                        every listener of the server <--+--> what acceptors refuse: all, if a listener has it not;
//!                                                             else what was too much for one program
//! ```
//!
//! Listeners that come later are told when they are bound, and all are looked at once a second: what is missing somewhere is
//! made good then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use humantime::format_duration;
use serde::{Deserialize, Serialize};

use super::Handle;
use crate::listener::Listener;
use crate::sources::Sources;
use crate::sources::{Ban, BannedBy, Bans, Network, NoRoom, Ranges, Refusals, filter};
use crate::sys::{self, Errno, FilterStep};

/// The longest ban.
pub const BAN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Most ends of bans that are told one by one.
const TOLD_MAX: usize = 3;

/// Where those who are banned are turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanPlace {
    /// Their SYNs are dropped before there is a handshake.
    Kernel,
    /// They are accepted and reset, for this reason.
    Accept(Errno),
}

impl BanPlace {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Accept(_) => "accept",
        }
    }
}

impl fmt::Display for BanPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => formatter.write_str("in the kernel"),
            Self::Accept(Errno::EPERM) => {
                formatter.write_str("at accept, for want of CAP_NET_ADMIN (EPERM)")
            }
            Self::Accept(errno) => write!(formatter, "at accept, since the kernel says {errno}"),
        }
    }
}

/// One ban, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanStatus {
    /// Who, until when, and by whom.
    pub ban: Ban,
    /// Whether acceptors turn him away, and not the kernel.
    pub at_accept: bool,
}

/// All bans, those that end last first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanList {
    /// Each of them.
    pub bans: Vec<BanStatus>,
    /// Where they are turned away, or would be. Some may be at accept all the same, where a program has no room for more.
    pub place: BanPlace,
}

/// A ban, for the process that takes the place of this one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BanRecord {
    network: String,
    left_ms: u64,
    by: String,
}

impl BanRecord {
    fn of(ban: &Ban, now: Instant) -> Self {
        let left = ban.until.saturating_duration_since(now);
        Self {
            network: ban.network.to_string(),
            left_ms: left.as_millis().try_into().unwrap_or(u64::MAX),
            by: ban.by.name().to_owned(),
        }
    }

    /// `None` if this version knows no such thing.
    fn ban(&self, now: Instant) -> Option<Ban> {
        let left = Duration::from_millis(self.left_ms).min(BAN_MAX);
        let (network, by) = (self.network.parse().ok()?, BannedBy::of_name(&self.by)?);
        Some(Ban { network, until: now + left, by })
    }
}

/// See the module. Shared by all handles of a server.
#[derive(Debug, Default)]
pub(super) struct BanKeeper {
    state: Mutex<State>,
    refusals: Arc<Refusals>,
}

#[derive(Debug, Default)]
struct State {
    bans: Bans,
    /// Goes up with each change; 0 as long as nobody was ever banned.
    version: u64,
    program: Vec<FilterStep>,
    /// Those who are not in the program.
    left_out: Vec<Network>,
    /// Where those are turned away who are; not known before somebody asks.
    place: Option<BanPlace>,
    /// Whether nothing is attached for now: another process is about to have the sockets, and would not know of it.
    is_lifted: bool,
    /// The version that acceptors know, and whether they refuse all.
    told: (u64, bool),
}

impl State {
    /// Another program, for the bans that there are now.
    fn compile(&mut self) {
        let networks: Vec<Network> = self.bans.all().iter().map(|ban| ban.network).collect();
        self.version += 1;
        self.left_out.clear();
        self.program.clear();
        if !networks.is_empty() {
            let filter = filter::compile(&networks);
            self.left_out.extend(&networks[filter.taken..]);
            self.program = filter.program;
        }
    }

    /// Tried on a socket beside, until a listener has shown it.
    fn place(&mut self) -> BanPlace {
        *self.place.get_or_insert_with(|| match sys::try_filter() {
            Ok(()) => BanPlace::Kernel,
            Err(error) => BanPlace::Accept(Errno::of(&error)),
        })
    }
}

impl BanKeeper {
    /// What acceptors refuse.
    pub(super) fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Brings these listeners, and the acceptors, to what is so now. `are_all` says that there are no others.
    pub(super) fn cover<'a>(
        &self,
        listeners: impl Iterator<Item = &'a Arc<Listener>>,
        are_all: bool,
    ) {
        self.cover_with(&mut self.state(), listeners, are_all);
    }

    fn cover_with<'a>(
        &self,
        state: &mut State,
        listeners: impl Iterator<Item = &'a Arc<Listener>>,
        are_all: bool,
    ) {
        if state.version == 0 {
            return;
        }
        let (mut failed, mut is_attached) = (None, false);
        for listener in listeners.filter(|_| !state.is_lifted) {
            match listener.drop_syns(state.version, &state.program) {
                Ok(()) => is_attached |= listener.drops_syns().0,
                Err(errno) => failed = Some(errno),
            }
        }
        match failed {
            Some(errno) => state.place = Some(BanPlace::Accept(errno)),
            // Where it could not be before, that listener is gone.
            None if are_all && is_attached => state.place = Some(BanPlace::Kernel),
            None => {}
        }
        let refuses_all = state.place() != BanPlace::Kernel;
        if state.told != (state.version, refuses_all) {
            state.told = (state.version, refuses_all);
            let all = || state.bans.all().iter().map(|ban| ban.network).collect::<Vec<_>>();
            let refused = if refuses_all { all() } else { state.left_out.clone() };
            self.refusals.set(Ranges::of(&refused));
        }
    }

    /// Another process has had the sockets meanwhile: what it has left there is replaced.
    fn renew(&self, listeners: &[Arc<Listener>]) {
        let mut state = self.state();
        state.is_lifted = false;
        if state.version > 0 {
            state.compile();
        }
        self.cover_with(&mut state, listeners.iter(), true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Bans a network for a time, on all TCP listeners of the server: those who connect from there meet silence, or a reset
    /// where the kernel does not let this process decide about SYNs. What is open goes on. A ban that is there already gets
    /// this end.
    ///
    /// # Errors
    /// There are too many bans.
    ///
    /// # Panics
    /// If it is longer than [`BAN_MAX`].
    pub fn ban(&self, network: Network, time: Duration, by: BannedBy) -> Result<BanStatus, NoRoom> {
        assert!(time <= BAN_MAX, "a ban of {time:?} is too long");
        let mut state = self.bans.state();
        let ban = Ban { network, until: Instant::now() + time, by };
        state.bans.add(ban)?;
        state.compile();
        self.bans.cover_with(&mut state, self.listeners().iter(), true);
        Ok(status(&mut state, ban))
    }

    /// The same for many by a limit, at once: the program for the kernel is made once. Returns how many had no room.
    pub fn ban_by_limit(&self, networks: &[Network], time: Duration) -> usize {
        self.add_by_limit(networks, time).without_room
    }

    fn add_by_limit(&self, networks: &[Network], time: Duration) -> ByLimit {
        let (mut state, until) = (self.bans.state(), Instant::now() + time.min(BAN_MAX));
        let mut done = ByLimit::default();
        for network in networks {
            let ban = Ban { network: *network, until, by: BannedBy::Limit };
            match state.bans.add(ban) {
                Ok(holds) if holds == ban => done.banned.push(*network),
                Ok(holds) => done.were_banned.push(holds),
                Err(NoRoom) => done.without_room += 1,
            }
        }
        if !done.banned.is_empty() {
            state.compile();
            self.bans.cover_with(&mut state, self.listeners().iter(), true);
        }
        done
    }

    /// Ends the ban of exactly this network. False if there is none.
    pub fn unban(&self, network: Network) -> bool {
        let mut state = self.bans.state();
        let was_banned = state.bans.remove(network);
        if was_banned {
            state.compile();
            self.bans.cover_with(&mut state, self.listeners().iter(), true);
        }
        was_banned
    }

    /// Everybody who is banned.
    pub fn bans(&self) -> BanList {
        let mut state = self.bans.state();
        let all = state.bans.all();
        let bans = all.into_iter().map(|ban| status(&mut state, ban)).collect();
        BanList { bans, place: state.place() }
    }

    /// How many bans there are, and how many of them are the acceptors' to keep.
    pub fn ban_counts(&self) -> (usize, usize) {
        let mut state = self.bans.state();
        let (all, left_out) = (state.bans.len(), state.left_out.len());
        match all {
            0 => (0, 0),
            _ if state.place() != BanPlace::Kernel => (all, all),
            _ => (all, left_out),
        }
    }

    /// Ends bans that are over, and makes good what a listener lacks. Called with each look at the queues.
    pub(super) fn look_after_bans(&self) {
        self.ban_offenders();
        let mut state = self.bans.state();
        let over = state.bans.take_over(Instant::now());
        match &over[..] {
            [] => {}
            all if all.len() <= TOLD_MAX => {
                all.iter().for_each(|network| tracing::info!("the ban of {network} has ended"));
            }
            all => tracing::info!("{} bans have ended", all.len()),
        }
        if !over.is_empty() {
            state.compile();
        }
        self.bans.cover_with(&mut state, self.listeners().iter(), true);
    }

    /// Bans those that limits by source have refused too often.
    fn ban_offenders(&self) {
        let frontends = self.frontends();
        let of_all = self.process_sources();
        let sources = frontends.iter().map(|it| it.sources()).chain([&*of_all]);
        let mut by_time: BTreeMap<Duration, Vec<Network>> = BTreeMap::new();
        for (network, time) in sources.flat_map(Sources::take_offenders) {
            by_time.entry(time).or_default().push(network);
        }
        for (time, networks) in by_time {
            let done = self.add_by_limit(&networks, time);
            done.lines(time, Instant::now()).iter().for_each(|line| tracing::warn!("{line}"));
        }
    }

    /// What another process is to know of bans that takes the place of this one.
    pub fn ban_records(&self) -> Vec<BanRecord> {
        let now = Instant::now();
        self.bans.state().bans.all().iter().map(|ban| BanRecord::of(ban, now)).collect()
    }

    /// Bans those whom another process has banned whose place this one takes. Their sockets have its filter still.
    pub fn restore_bans(&self, records: &[BanRecord]) {
        if records.is_empty() {
            return;
        }
        let (mut state, now) = (self.bans.state(), Instant::now());
        let restored = records.iter().filter_map(|record| record.ban(now));
        let lost = restored.filter(|ban| state.bans.add(*ban).is_err()).count();
        if lost > 0 {
            tracing::warn!("{lost} bans of the process before this one have no room here");
        }
        state.compile();
        self.bans.cover_with(&mut state, self.listeners().iter(), true);
    }

    /// Another process that had the listening sockets, too, has not taken the place of this one.
    pub fn renew_bans(&self) {
        self.bans.renew(&self.listeners());
    }

    /// Takes the bans off the listening sockets, for a process that would not know of them.
    pub fn lift_bans(&self) {
        let (mut state, listeners) = (self.bans.state(), self.listeners());
        if state.version > 0 {
            state.version += 1;
            state.is_lifted = true;
            for listener in &listeners {
                // What cannot be detached could not be attached either.
                let _ = listener.drop_syns(state.version, &[]);
            }
        }
    }
}

/// What has become of those that a limit bans.
#[derive(Debug, Default)]
struct ByLimit {
    banned: Vec<Network>,
    /// Bans that were there and hold on as they are.
    were_banned: Vec<Ban>,
    without_room: usize,
}

impl ByLimit {
    /// What is logged of it, for bans of this time.
    fn lines(&self, time: Duration, now: Instant) -> Vec<String> {
        const WHY: &str = "refused too often by a limit by source";
        let mut lines = Vec::new();
        if let [first, others @ ..] = &self.banned[..] {
            let are = match others.len() {
                0 => " is".to_owned(),
                count => format!(" and {count} more are"),
            };
            lines.push(format!("{first}{are} banned for {}: {WHY}", format_duration(time)));
        }
        let held = self.were_banned.iter().take(TOLD_MAX).map(|ban| {
            let (network, left) = (ban.network, format_duration(ban.left(now)));
            let by = match ban.by {
                BannedBy::Operator => "an operator",
                BannedBy::Limit => "a limit",
            };
            format!("{network} stays banned by {by}, for {left} more: {WHY}")
        });
        lines.extend(held);
        if self.were_banned.len() > TOLD_MAX {
            let count = self.were_banned.len() - TOLD_MAX;
            lines.push(format!("{count} more stay banned as they were: {WHY}"));
        }
        if self.without_room > 0 {
            let count = self.without_room;
            lines.push(format!("{count} sources have no room among the bans: {WHY}"));
        }
        lines
    }
}

fn status(state: &mut State, ban: Ban) -> BanStatus {
    let at_accept = state.place() != BanPlace::Kernel || state.left_out.contains(&ban.network);
    BanStatus { ban, at_accept }
}

#[cfg(test)]
mod tests;
