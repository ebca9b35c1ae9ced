//! Bans by the control socket: asked for, ended, listed.

use std::time::{Duration, Instant};

use humantime::format_duration;
use serde::{Deserialize, Serialize};

use super::answer::{Code, Failure, SetReport};
use super::operator::Operator;
use super::request::Request;
use crate::config::ConfigError;
use crate::metrics::Counter;
use crate::server::{BAN_MAX, BanList as Bans, BanPlace, BanStatus, Handle};
use crate::sources::{BANS_MAX, BannedBy, Network};

/// The shortest ban: they end within a second of their time.
const BAN_MIN: Duration = Duration::from_secs(1);

/// Who is banned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BanList {
    /// Each ban, those that end last first.
    pub bans: Vec<BanEntry>,
    /// Where they are turned away.
    pub place: BansPlace,
    /// SYNs that the kernel has dropped since the process was started, as far as it is known.
    pub syns_dropped: u64,
    /// Connections that were reset as soon as they were accepted.
    pub refused_at_accept: u64,
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BanEntry {
    /// Who: an IPv4 address, an IPv4 network, or an IPv6 network.
    pub source: String,
    /// By whom: `operator`, `limit`.
    pub by: String,
    /// Where he is turned away: `kernel`, `accept`.
    pub at: String,
    /// How long it lasts.
    pub left_seconds: u64,
}

/// Where those are turned away who are banned, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BansPlace {
    /// `kernel`, `accept`.
    pub at: String,
    /// The same in words, with the reason.
    pub text: String,
    /// How many bans there are.
    pub active: usize,
    /// How many of them acceptors turn away.
    pub active_at_accept: usize,
}

impl BansPlace {
    /// As it is now.
    pub(super) fn of(handle: &Handle) -> Self {
        Self::from_list(&handle.bans())
    }

    fn from_list(Bans { bans, place }: &Bans) -> Self {
        Self {
            at: place.name().to_owned(),
            text: place.to_string(),
            active: bans.len(),
            active_at_accept: bans.iter().filter(|it| it.at_accept).count(),
        }
    }
}

/// Reads what a request says.
pub(super) fn parsed(source: &str, for_seconds: u64) -> Result<Request, Failure> {
    let time = Duration::from_secs(for_seconds);
    if !(BAN_MIN..=BAN_MAX).contains(&time) {
        let most = BAN_MAX.as_secs();
        return Err(wrong(format!("`for_seconds` is {for_seconds}; it must be 1 to {most}")));
    }
    Ok(Request::Ban { network: network(source)?, time })
}

/// The same for one that is to end.
pub(super) fn network(source: &str) -> Result<Network, Failure> {
    source.parse().map_err(|error: ConfigError| wrong(error.to_string()))
}

fn wrong(text: String) -> Failure {
    Failure::new(Code::Request, text)
}

impl Operator {
    pub(super) fn ban(&self, network: Network, time: Duration) -> Result<SetReport, Failure> {
        let handle = self.handle();
        let banned = handle.ban(network, time, BannedBy::Operator).map_err(|_| {
            let text = format!("there are {BANS_MAX} bans, and no more can be; end some of them");
            Failure::new(Code::Failed, text)
        })?;
        let now = format!("banned for {}", format_duration(time));
        tracing::info!("control socket: {network} is {now}");
        let warning = warning(&banned, handle.bans().place);
        let what = format!("source {network}");
        Ok(SetReport { what, now, warnings: warning.into_iter().collect() })
    }

    pub(super) fn unban(&self, network: Network) -> Result<SetReport, Failure> {
        if !self.handle().unban(network) {
            let text = format!("there is no ban of {network}; it may have ended by itself");
            return Err(Failure::new(Code::Unknown, text));
        }
        tracing::info!("control socket: the ban of {network} has ended");
        let now = "banned no more".to_owned();
        Ok(SetReport { what: format!("source {network}"), now, warnings: Vec::new() })
    }

    /// Who is banned, and where that is kept.
    pub(crate) fn list_bans(&self) -> BanList {
        let handle = self.handle();
        handle.watch_queues();
        let (list, now) = (handle.bans(), Instant::now());
        let entry = |BanStatus { ban, at_accept }: &BanStatus| BanEntry {
            source: ban.network.to_string(),
            by: ban.by.name().to_owned(),
            at: if *at_accept { "accept" } else { "kernel" }.to_owned(),
            left_seconds: ban.left(now).as_secs(),
        };
        BanList {
            place: BansPlace::from_list(&list),
            bans: list.bans.iter().map(entry).collect(),
            syns_dropped: handle.dropped_by_bans(),
            refused_at_accept: handle.counter(Counter::AcceptBanned),
        }
    }
}

/// What whoever bans somebody may not expect.
fn warning(banned: &BanStatus, place: BanPlace) -> Option<String> {
    match (banned.at_accept, place) {
        (false, _) => None,
        (true, BanPlace::Kernel) => Some(
            "the filter of the kernel has no room for it: connections are accepted and reset"
                .to_owned(),
        ),
        (true, place) => Some(format!("it is kept {place}: connections are accepted and reset")),
    }
}
