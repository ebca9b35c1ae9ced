//! What the log is told of clients that do not begin as they have to: with a PROXY header or a ClientHello.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::log::rate_limit::{Look, RateLimit, Suppressed};
use crate::preread::proxy_protocol::Invalid;
use crate::sources::Rule;

/// Clients that do not begin as they have to are logged this often at most, by each thread.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How much of what they have sent is shown.
const BEGINNING_BYTES: usize = 24;

/// Whether an address is in one of these networks, so that its connections begin with a PROXY header.
pub(crate) fn trusts(trusted: &[IpNet], peer: Option<IpAddr>) -> bool {
    // A listener on [::] sees IPv4 clients as mapped addresses.
    let peer = peer.map(|peer| peer.to_canonical());
    peer.is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer)))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PrereadLog {
    refused: RateLimit,
    early: RateLimit,
    over: RateLimit,
}

impl Default for PrereadLog {
    fn default() -> Self {
        let limit = || RateLimit::new(LOG_INTERVAL);
        Self { refused: limit(), early: limit(), over: limit() }
    }
}

impl PrereadLog {
    /// A client has begun with something else than it has to. `ended` is the word for that.
    pub(crate) fn refused(
        &mut self,
        client: Option<SocketAddr>,
        (ended, reason): (&str, &str),
        now: Instant,
    ) {
        if let Some(suppressed) = self.refused.ask(now).map(Suppressed) {
            let client = Name(client);
            tracing::warn!("a connection of {client} is reset, {ended}: {reason}{suppressed}");
        }
    }

    /// A rule by source is against the client that a header speaks for.
    pub(crate) fn over_rule(
        &mut self,
        client: SocketAddr,
        (rule, what): (Rule, &str),
        now: Instant,
    ) {
        if let Some(suppressed) = self.over.ask(now).map(Suppressed) {
            let rule = rule.name();
            tracing::warn!("{client}, as a PROXY header says, {what} by {rule}{suppressed}");
        }
    }

    /// A client has closed without a byte of what it has to send first: a health check, most likely.
    pub(crate) fn closed_early(&mut self, client: Option<SocketAddr>, now: Instant) {
        if let Some(suppressed) = self.early.ask(now).map(Suppressed) {
            let client = Name(client);
            tracing::debug!("{client} closed without a byte of what has to come first{suppressed}");
        }
    }

    /// Tells what was suppressed, if that is to be told now.
    pub(crate) fn catch_up(&mut self, look: Look) {
        if let Some(count) = self.refused.catch_up(look) {
            let what = more(count, ("connection was", "connections were"));
            tracing::warn!(
                "{what} reset since the last such line: what they began with was no PROXY header, or \
                 no whole ClientHello"
            );
        }
        if let Some(count) = self.over.catch_up(look) {
            tracing::warn!(
                "{} over a rule by source, as PROXY headers say, since the last such line",
                more(count, ("connection was", "connections were"))
            );
        }
        if let Some(count) = self.early.catch_up(look) {
            let what = more(count, ("client has", "clients have"));
            tracing::debug!(
                "{what} closed without a byte of what has to come first, since the last such line"
            );
        }
    }

    /// When there is something to tell, if nothing else happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        [&self.refused, &self.early, &self.over].into_iter().filter_map(RateLimit::due).min()
    }
}

/// The rest is told at the end of the thread.
impl Drop for PrereadLog {
    fn drop(&mut self) {
        self.catch_up(Look::Last);
    }
}

/// What is wrong with a header, and how it begins.
pub(crate) fn invalid_header(invalid: Invalid, came: &[u8]) -> String {
    let begins = Beginning(came);
    match invalid {
        Invalid::NoHeader { .. } => format!("not a PROXY header: begins with {begins}"),
        other => format!("{other}: begins with {begins}"),
    }
}

/// How much came of something that the client did not finish.
pub(crate) fn cut_short(what: &str, came: &[u8]) -> String {
    let (len, begins) = (came.len(), Beginning(came));
    let bytes = if len == 1 { "byte" } else { "bytes" };
    format!("the client closed after {len} {bytes} of a {what}: begins with {begins}")
}

/// `1 more client has`, `2 more clients have`.
fn more(count: u64, (one, many): (&str, &str)) -> String {
    format!("{count} more {}", if count == 1 { one } else { many })
}

/// The first bytes of what a client has sent, without anything that a log or a terminal could take for more than
/// text.
struct Beginning<'a>(&'a [u8]);

impl fmt::Display for Beginning<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(BEGINNING_BYTES)];
        let more = if shown.len() < self.0.len() { "..." } else { "" };
        write!(formatter, "'{}'{more}", shown.escape_ascii())
    }
}

/// A client in a line of the log.
struct Name(Option<SocketAddr>);

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(client) => client.fmt(formatter),
            None => formatter.write_str("a client without an address"),
        }
    }
}
