//! The PROXY header that connections from trusted networks begin with, before their session opens.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Worker;
use super::connection::Stage;
use crate::connection::suspended::Awaited;
use crate::connection::{LoopContext, VersionId, cut_short, invalid_header, reply, trusts};
use crate::dispatch::ListenerId;
use crate::preread::proxy_protocol::{self, Invalid, Parsed};
use crate::ring::{Buffer, Key};
use crate::service::{CloseReason, Service};
use crate::sources::Held;
use crate::sys;

/// A connection whose PROXY header is still to come.
#[derive(Debug)]
pub(super) struct Preread {
    listener: ListenerId,
    /// Who sends the header.
    peer: Option<SocketAddr>,
    /// What has come so far. The parser says when it is too much.
    came: Vec<u8>,
}

impl Preread {
    /// All of the header is still to come from this peer.
    pub(super) fn new(listener: ListenerId, peer: Option<SocketAddr>) -> Self {
        Self { listener, peer, came: Vec::new() }
    }

    /// What it came in through, as long as nothing has come.
    pub(super) fn untouched(&self) -> Option<ListenerId> {
        self.came.is_empty().then_some(self.listener)
    }
}

/// What a new connection begins with.
pub(super) enum Begins {
    /// Its session.
    Session,
    /// A PROXY header.
    Header(Preread),
    /// Nothing: it was reset before anybody could ask whose it is.
    Gone,
}

impl<S: Service> Worker<S> {
    /// Looks whether a new connection begins with a PROXY header.
    pub(super) fn begins_with(
        &self,
        socket: &OwnedFd,
        (listener, version): (ListenerId, VersionId),
    ) -> Begins {
        let trusted = &self.versions.get(version).settings.trusted;
        if trusted.is_empty() {
            return Begins::Session;
        }
        match sys::peer_address(socket.as_fd()) {
            Err(_) => Begins::Gone,
            Ok(peer) if trusts(trusted, peer.map(|peer| peer.ip())) => {
                Begins::Header(Preread::new(listener, peer))
            }
            Ok(_) => Begins::Session,
        }
    }

    /// Takes more of the header. Once it is whole the session opens, and gets what came behind it.
    pub(super) fn preread(
        &mut self,
        key: Key,
        (mut buffer, len): (Buffer, usize),
        cx: &mut LoopContext<'_>,
    ) {
        let Some(preread) = self.prereads.get_mut(&key.slot) else { return };
        let before = preread.came.len();
        preread.came.extend_from_slice(cx.buffers.bytes(&buffer, 0..len));
        match proxy_protocol::parse(&preread.came) {
            Ok(Parsed::Incomplete) => {
                cx.buffers.recycle(buffer);
                self.advance(key, cx);
            }
            Ok(Parsed::Header { header, len: header_len }) => {
                let client = header.source();
                // Until this buffer came it was not whole, so it ends here.
                let of_header = header_len - before;
                cx.buffers.move_to_front(&mut buffer, of_header..len);
                if self.open_behind(key, client, cx) && of_header < len {
                    self.data(key, (buffer, len - of_header), cx);
                } else {
                    cx.buffers.recycle(buffer);
                    self.advance(key, cx);
                }
            }
            Err(invalid) => {
                cx.buffers.recycle(buffer);
                self.refuse_header(key, Some(invalid), cx);
            }
        }
    }

    /// Opens the session of a connection whose header is whole. `client` is who that speaks for; `None`: for
    /// whoever sent it. False if the service panicked.
    fn open_behind(
        &mut self,
        key: Key,
        client: Option<SocketAddr>,
        cx: &mut LoopContext<'_>,
    ) -> bool {
        let Some(Preread { listener, peer, .. }) = self.prereads.remove(&key.slot) else {
            return false;
        };
        let Some(version) = self.table.get_mut(key).map(|it| it.version) else { return false };
        let held = match self.admit_client(key, client, version, cx) {
            Ok(held) => held,
            Err(()) => return false,
        };
        // It may have been counted as whoever sends the header, before a reload that trusts that.
        self.counted.release(key, &self.versions.get(version).settings.admission);
        self.counted.note(key, held);
        let client = client.or(peer);
        let session = self.open_session(key, &|| client, (listener, version));
        let Some(connection) = self.table.get_mut(key) else { return false };
        let Some(session) = session else {
            self.terminate(key, CloseReason::ServicePanicked, cx);
            return false;
        };
        connection.session = Some(session);
        connection.stage = Stage::Open(Awaited::Input);
        connection.progress = cx.millis;
        if let Some(client) = client {
            self.told.insert(key.slot, client);
        }
        true
    }

    /// Asks the rules about whom a header speaks for. An error if that may not come in; then it is over.
    fn admit_client(
        &mut self,
        key: Key,
        client: Option<SocketAddr>,
        version: VersionId,
        cx: &mut LoopContext<'_>,
    ) -> Result<Held, ()> {
        let admission = Arc::clone(&self.versions.get(version).settings.admission);
        // Whoever sends the header speaks for itself: a health check.
        let Some(client) = client.filter(|_| !admission.is_empty()) else { return Ok(Held::NONE) };
        match admission.ask_now(client.ip(), cx.now) {
            Ok((held, observed)) => {
                if let Some(rule) = observed {
                    self.preread_log.over_rule(client, (rule, "would be refused"), cx.now);
                }
                Ok(held)
            }
            Err(rule) => {
                self.preread_log.over_rule(client, (rule, "is refused"), cx.now);
                let socket = self.table.get_mut(key).and_then(|it| it.stream.socket.as_ref());
                if let Some(socket) = socket {
                    reply(socket.as_fd(), admission.refusal());
                }
                self.notes.refused(key, rule.name().to_owned());
                self.told.insert(key.slot, client);
                self.terminate(key, CloseReason::Refused, cx);
                Err(())
            }
        }
    }

    /// The client has closed before its header was whole.
    pub(super) fn ended_in_header(&mut self, key: Key, cx: &mut LoopContext<'_>) {
        match self.prereads.get(&key.slot) {
            Some(preread) if preread.came.is_empty() => {
                self.preread_log.closed_early(preread.peer, cx.now);
                self.terminate(key, CloseReason::PeerClosed, cx);
            }
            _ => self.refuse_header(key, None, cx),
        }
    }

    /// Ends a connection that does not begin with a header; `None`: with not all of it.
    fn refuse_header(&mut self, key: Key, invalid: Option<Invalid>, cx: &mut LoopContext<'_>) {
        if let Some(Preread { peer, came, .. }) = self.prereads.get(&key.slot) {
            let reason = match invalid {
                Some(invalid) => invalid_header(invalid, came),
                None => cut_short("PROXY header", came),
            };
            self.preread_log.refused(*peer, ("bad-proxy-header", &reason), cx.now);
            self.notes.refused(key, reason);
        }
        self.terminate(key, CloseReason::BadProxyHeader, cx);
    }

    /// Who is at the other end of a connection, as far as its header said so.
    pub(super) fn told(&self, key: Key) -> Option<SocketAddr> {
        self.told.get(&key.slot).copied()
    }

    /// A connection is gone.
    pub(super) fn forget_header(&mut self, key: Key) {
        if !self.told.is_empty() {
            self.told.remove(&key.slot);
        }
        if !self.prereads.is_empty() {
            self.prereads.remove(&key.slot);
        }
    }
}
