//! What is read from a client before a backend is chosen, and written to the backend before its bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Stage};
use crate::config::ProxyProtocolVersion;
use crate::connection::LoopContext;
use crate::log::rate_limit::{Look, RateLimit, Suppressed};
use crate::preread::client_hello::{self, Peeked};
use crate::preread::proxy_protocol::{self, Endpoints, Invalid, Parsed};
use crate::preread::routes::Routes;
use crate::ring::{Buffer, Key};
use crate::sys;

/// Clients that do not begin as they have to are logged this often at most, by each thread.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How much of what they have sent is shown.
const BEGINNING_BYTES: usize = 24;

/// What the log is told of clients that do not begin as they have to.
#[derive(Debug)]
pub(super) struct Complaints {
    refused: RateLimit,
    early: RateLimit,
}

impl Default for Complaints {
    fn default() -> Self {
        Self { refused: RateLimit::new(LOG_INTERVAL), early: RateLimit::new(LOG_INTERVAL) }
    }
}

impl Complaints {
    /// Tells what was suppressed, if that is to be told now.
    pub(super) fn catch_up(&mut self, look: Look) {
        if let Some(count) = self.refused.catch_up(look) {
            let what = more(count, ("connection was", "connections were"));
            tracing::warn!(
                "{what} reset since the last such line: what they began with was no PROXY header, or \
                 no whole ClientHello"
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
    pub(super) fn due(&self) -> Option<Instant> {
        self.refused.due().into_iter().chain(self.early.due()).min()
    }
}

/// The rest is told at the end of the thread.
impl Drop for Complaints {
    fn drop(&mut self) {
        self.catch_up(Look::Last);
    }
}

/// `1 more client has`, `2 more clients have`.
fn more(count: u64, (one, many): (&str, &str)) -> String {
    format!("{count} more {}", if count == 1 { one } else { many })
}

/// What has to be read and written first, the same for all pairs.
#[derive(Debug, Default)]
pub struct PrereadRules {
    /// Whose connections begin with a PROXY header. Nobody else's is looked for.
    pub trusted: Vec<IpNet>,
    /// Which PROXY header backends are sent.
    pub send: Option<ProxyProtocolVersion>,
    /// Which upstream a TLS server name leads to: indexes of [`Proxy`]'s views.
    pub routes: Option<Routes<u16>>,
    /// Whether an upstream balances by the client's address.
    pub balances_by_source: bool,
}

impl PrereadRules {
    /// Whether the client's address is needed.
    pub(super) fn needs_peer(&self) -> bool {
        !self.trusted.is_empty() || self.send.is_some() || self.balances_by_source
    }

    fn trusts(&self, peer: Option<IpAddr>) -> bool {
        // A listener on [::] sees IPv4 clients as mapped addresses.
        let peer = peer.map(|peer| peer.to_canonical());
        peer.is_some_and(|peer| self.trusted.iter().any(|network| network.contains(&peer)))
    }
}

/// The client and where it connected to, as far as a header says so.
type Ends = (Option<SocketAddr>, Option<SocketAddr>);

/// What has been read so far says.
enum Read {
    /// More has to come.
    Incomplete,
    /// It is no PROXY header, although one has to come first.
    Bad(Invalid),
    /// Everything is there.
    Whole { header_bytes: usize, ends: Ends, route: u16 },
}

impl Proxy {
    /// Begins with a new pair: what has to be read first, else a backend.
    pub(super) fn begin(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let peer = pair.detail.as_ref().and_then(|detail| detail.client).map(|peer| peer.ip());
        let rules = &self.versions.get(pair.version).settings.preread;
        if rules.trusts(peer) {
            pair.detail().expects_header = true;
            pair.stage = Stage::Preread;
        } else if rules.routes.is_some() {
            pair.stage = Stage::Preread;
        } else {
            self.preread_complete(key, cx);
        }
    }

    /// Takes more of what the client sends first.
    pub(super) fn take_preread(
        &mut self,
        key: Key,
        (buffer, len): (Buffer, usize),
        cx: &mut LoopContext<'_>,
    ) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let rules = &self.versions.get(pair.version).settings.preread;
        let detail = pair.detail();
        detail.preread.extend_from_slice(cx.buffers.bytes(&buffer, 0..len));
        cx.buffers.recycle(buffer);
        let read = read(rules, detail.expects_header, &detail.preread);
        match read {
            Read::Incomplete => self.touch(key),
            Read::Bad(invalid) => {
                let reason = reason(invalid, &detail.preread);
                self.refuse(key, (Ended::BadProxyHeader, reason), cx);
            }
            Read::Whole { header_bytes, ends: (client, destination), route } => {
                detail.preread.drain(..header_bytes);
                detail.client = client.or(detail.client);
                detail.destination = destination;
                // It is the word of the proxy in front, and no backend gets it.
                pair.bytes[End::Client as usize] -= header_bytes as u64;
                pair.route = route;
                self.preread_complete(key, cx);
            }
        }
    }

    /// Whether nothing has come of what a client has to say first.
    pub(super) fn is_silent(&mut self, key: Key) -> bool {
        let pair = self.table.get_mut(key);
        pair.is_some_and(|pair| {
            pair.stage == Stage::Preread && !pair.side(End::Client).stream.spoken
        })
    }

    /// The client has closed before it had said what it has to say first.
    pub(super) fn cut_short(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let detail = pair.detail();
        let came = detail.preread.as_slice();
        let header_bytes = match detail.expects_header.then(|| proxy_protocol::parse(came)) {
            Some(Ok(Parsed::Header { len, .. })) => len,
            Some(_) if !came.is_empty() => {
                let reason = cut("PROXY header", came);
                return self.refuse(key, (Ended::BadProxyHeader, reason), cx);
            }
            _ => 0,
        };
        if came.len() > header_bytes {
            let reason = cut("ClientHello", &came[header_bytes..]);
            return self.refuse(key, (Ended::BadClientHello, reason), cx);
        }
        if let Some(suppressed) = self.complaints.early.ask(cx.now).map(Suppressed) {
            let client = Name(detail.client);
            tracing::debug!("{client} closed without a byte of what has to come first{suppressed}");
        }
        self.fail(key, Ended::ClientClosedEarly, cx);
    }

    /// Ends a pair whose client has begun with something else than it has to.
    fn refuse(&mut self, key: Key, (ended, reason): (Ended, String), cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        if let Some(suppressed) = self.complaints.refused.ask(cx.now).map(Suppressed) {
            let (client, ended) = (Name(pair.detail().client), ended.word());
            tracing::warn!("a connection of {client} is reset, {ended}: {reason}{suppressed}");
        }
        pair.trouble().reason = Some(reason);
        self.fail(key, ended, cx);
    }

    /// Queues what the backend is sent first, and chooses it.
    fn preread_complete(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let now = cx.millis;
        let Some(pair) = self.table.get_mut(key) else { return };
        pair.stage = Stage::Choosing;
        pair.progress = now;
        let mut first = Vec::new();
        if let Some(version) = self.versions.get(pair.version).settings.preread.send {
            let (client, destination) = (pair.detail().client, pair.detail().destination);
            let socket = pair.side(End::Client).stream.socket.as_ref();
            let own = || socket.and_then(|it| sys::local_address(it.as_fd()).ok().flatten());
            let endpoints = match client.zip(destination.or_else(own)) {
                Some((source, destination)) => Endpoints::Tcp { source, destination },
                None => Endpoints::Unknown,
            };
            match version {
                ProxyProtocolVersion::V1 => proxy_protocol::write_v1(&mut first, &endpoints),
                ProxyProtocolVersion::V2 => proxy_protocol::write_v2(&mut first, &endpoints),
            }
        }
        if let Some(detail) = &mut pair.detail {
            first.append(&mut std::mem::take(&mut detail.preread));
        }
        if !first.is_empty() {
            let backend = pair.side(End::Backend);
            let queued = self.pieces.write(&mut backend.stream.output, cx.buffers, false, &first);
            if queued.is_err() {
                return self.fail(key, Ended::OutOfBuffers, cx);
            }
        }
        self.touch(key);
        self.choose(key, cx);
    }
}

/// What is wrong with a header, and how it begins.
fn reason(invalid: Invalid, came: &[u8]) -> String {
    let begins = Beginning(came);
    match invalid {
        Invalid::NoHeader { .. } => format!("not a PROXY header: begins with {begins}"),
        other => format!("{other}: begins with {begins}"),
    }
}

fn cut(what: &str, came: &[u8]) -> String {
    let (len, begins) = (came.len(), Beginning(came));
    let bytes = if len == 1 { "byte" } else { "bytes" };
    format!("the client closed after {len} {bytes} of a {what}: begins with {begins}")
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

fn read(preread: &PrereadRules, expects_header: bool, bytes: &[u8]) -> Read {
    let (header_bytes, ends) = match expects_header.then(|| proxy_protocol::parse(bytes)) {
        None => (0, (None, None)),
        Some(Ok(Parsed::Incomplete)) => return Read::Incomplete,
        Some(Err(invalid)) => return Read::Bad(invalid),
        Some(Ok(Parsed::Header { header, len })) => (len, (header.source(), header.destination())),
    };
    let Some(routes) = &preread.routes else {
        return Read::Whole { header_bytes, ends, route: 0 };
    };
    let name = match client_hello::peek(&bytes[header_bytes..]) {
        Ok(Peeked::Incomplete) => return Read::Incomplete,
        Ok(Peeked::Name(name)) => Some(name),
        // What is no TLS goes where TLS without a name goes.
        Ok(Peeked::NoName) | Err(_) => None,
    };
    let route = routes.target(name.as_ref()).copied().unwrap_or(0);
    Read::Whole { header_bytes, ends, route }
}
