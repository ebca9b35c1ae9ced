//! What is read from a client before a backend is chosen, and written to the backend before its bytes.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use ipnet::IpNet;

use super::Proxy;
use super::ended::Ended;
use super::pair::{End, Pair, Stage};
use crate::config::ProxyProtocolVersion;
use crate::connection::{LoopContext, cut_short, invalid_header, reply, trusts};
use crate::preread::client_hello::{self, Peeked};
use crate::preread::proxy_protocol::{self, Endpoints, Invalid, Parsed};
use crate::preread::routes::Routes;
use crate::ring::{Buffer, Key};
use crate::sys;

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
    /// Asks for the client's address if anybody needs it. False if what comes next depends on it and
    /// there is none: a kernel that does not know it of a connection that has been reset (Linux does). Bytes
    /// may still come from it, and whether they begin with a header can no longer be told.
    pub(super) fn find_peer(&self, pair: &mut Pair) -> bool {
        let settings = &self.versions.get(pair.version).settings;
        let decides = settings.preread.needs_peer();
        if !decides && settings.log.is_none() {
            return true;
        }
        let client = pair.side(End::Client).stream.socket.as_ref();
        let peer = client.and_then(|client| sys::peer_address(client.as_fd()).ok());
        pair.detail().client = peer.flatten();
        peer.is_some() || !decides
    }

    /// Begins with a new pair: what has to be read first, else a backend.
    pub(super) fn begin(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        let peer = pair.detail.as_ref().and_then(|detail| detail.client).map(|peer| peer.ip());
        let rules = &self.versions.get(pair.version).settings.preread;
        if trusts(&rules.trusted, peer) {
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
        // One of which part has been read does not move, and nothing of it is in flight any more.
        self.suspension.forget(key);
        let Some(pair) = self.table.get_mut(key) else { return };
        let rules = &self.versions.get(pair.version).settings.preread;
        let detail = pair.detail();
        detail.preread.extend_from_slice(cx.buffers.bytes(&buffer, 0..len));
        cx.buffers.recycle(buffer);
        let read = read(rules, detail.expects_header, &detail.preread);
        match read {
            Read::Incomplete => self.touch(key),
            Read::Bad(invalid) => {
                let reason = invalid_header(invalid, &detail.preread);
                self.refuse(key, (Ended::BadProxyHeader, reason), cx);
            }
            Read::Whole { header_bytes, ends: (client, destination), route } => {
                detail.preread.drain(..header_bytes);
                detail.client = client.or(detail.client);
                detail.destination = destination;
                // It is the word of the proxy in front, and no backend gets it.
                pair.bytes[End::Client as usize] -= header_bytes as u64;
                pair.route = route;
                if client.is_none_or(|client| self.admits(key, client, cx)) {
                    self.preread_complete(key, cx);
                }
            }
        }
    }

    /// Asks the rules about whom a header speaks for. False if that may not come in; then it is over.
    fn admits(&mut self, key: Key, client: SocketAddr, cx: &mut LoopContext<'_>) -> bool {
        let Some(pair) = self.table.get_mut(key) else { return false };
        let admission = Arc::clone(&self.versions.get(pair.version).settings.admission);
        if admission.is_empty() {
            return true;
        }
        let rule = match admission.ask_now(client.ip(), cx.now) {
            Ok((held, observed)) => {
                if let Some(rule) = observed {
                    self.log.over_rule(client, (rule, "would be refused"), cx.now);
                }
                // It may have been counted as whoever sends the header, before a reload that trusts that.
                self.counted.release(key, &admission);
                self.counted.note(key, held);
                return true;
            }
            Err(rule) => rule,
        };
        self.log.over_rule(client, (rule, "is refused"), cx.now);
        pair.trouble().reason = Some(rule.name().to_owned());
        let socket = pair.side(End::Client).stream.socket.as_ref();
        if let Some(socket) = socket {
            reply(socket.as_fd(), admission.refusal());
        }
        self.turn_away(key, Ended::Refused, cx);
        false
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
                let reason = cut_short("PROXY header", came);
                return self.refuse(key, (Ended::BadProxyHeader, reason), cx);
            }
            _ => 0,
        };
        if came.len() > header_bytes {
            let reason = cut_short("ClientHello", &came[header_bytes..]);
            return self.refuse(key, (Ended::BadClientHello, reason), cx);
        }
        self.log.closed_early(detail.client, cx.now);
        self.fail(key, Ended::ClientClosedEarly, cx);
    }

    /// Ends a pair whose client has begun with something else than it has to.
    fn refuse(&mut self, key: Key, (ended, reason): (Ended, String), cx: &mut LoopContext<'_>) {
        let Some(pair) = self.table.get_mut(key) else { return };
        self.log.refused(pair.detail().client, (ended.word(), &reason), cx.now);
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
            let queued = self.pieces.write(&mut backend.stream.output, cx.buffers, &first);
            if queued.is_err() {
                return self.fail(key, Ended::OutOfBuffers, cx);
            }
        }
        self.touch(key);
        self.choose(key, cx);
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
