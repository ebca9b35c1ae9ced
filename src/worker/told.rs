//! Sessions that are told something, and what the sessions of a worker share.

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::{Version, Worker};
use crate::connection::{LoopContext, VersionId};
use crate::dispatch::{ListenerId, Mail, Mailbox};
use crate::metrics::Counter;
use crate::ring::Key;
use crate::service::{ConnectionInfo, NewMailbox, Service, WorkerInfo};

/// Most messages that are handled in one turn, so that a flood of them does not keep input waiting.
const MESSAGES_PER_TURN: usize = 1024;

/// What the sessions of a service share on this thread; it is made when it is needed first.
pub(super) type Shared<S> = Rc<RefCell<Option<<S as Service>::Local>>>;

/// The mailboxes of sessions that have asked for one, by slot.
#[derive(Debug)]
pub(super) struct Mailboxes<M>(HashMap<u32, Mailbox<M>>);

impl<M> Default for Mailboxes<M> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<M> Mailboxes<M> {
    fn note(&mut self, key: Key, mailbox: Option<Mailbox<M>>) {
        if let Some(mailbox) = mailbox {
            self.0.insert(key.slot, mailbox);
        }
    }

    /// The session is over: nothing reaches it any more.
    #[inline]
    pub(super) fn close(&mut self, key: Key) {
        if !self.0.is_empty()
            && let Some(mailbox) = self.0.remove(&key.slot)
        {
            mailbox.close();
        }
    }
}

impl<S: Service> Version<S> {
    /// What its sessions share.
    pub(super) fn local(&self, mail: &Mail<S::Message>) -> RefMut<'_, S::Local> {
        let service = &self.settings.service;
        let make = || service.local(&WorkerInfo::new(mail.index(), mail.workers()));
        RefMut::map(self.local.borrow_mut(), |local| local.get_or_insert_with(make))
    }
}

impl<S: Service> Worker<S> {
    /// What the sessions of a version share.
    pub(crate) fn local(&self, version: VersionId) -> RefMut<'_, S::Local> {
        self.versions.get(version).local(&self.mail)
    }

    /// What the sessions of a service share, whatever the version: that of a live version with the same service.
    pub(super) fn shared(&self, service: &Arc<S>) -> Shared<S> {
        let same = self.versions.iter().find(|it| Arc::ptr_eq(&it.settings.service, service));
        same.map_or_else(Shared::<S>::default, |version| Rc::clone(&version.local))
    }

    /// Opens the session of a connection that has this key, or is to get it. `None` if the service panicked.
    pub(super) fn open_session(
        &mut self,
        key: Key,
        peer: &dyn Fn() -> Option<SocketAddr>,
        (listener, version): (ListenerId, VersionId),
    ) -> Option<S::Session> {
        let version = self.versions.get(version);
        let made = OnceCell::new();
        let make = || made.get_or_init(|| self.mail.mailbox(key)).clone();
        let info = ConnectionInfo::new(usize::from(listener.index), peer).with_mailbox(&make);
        let service = &version.settings.service;
        let opened =
            catch_unwind(AssertUnwindSafe(|| service.open(&mut version.local(&self.mail), &info)));
        self.note_mailbox(key, made.into_inner(), opened.ok())
    }

    /// Makes a session of what its service has written. `None` if that makes no sense to it.
    pub(super) fn revive(
        &mut self,
        key: Key,
        bytes: &[u8],
        version: VersionId,
    ) -> Option<S::Session> {
        let version = self.versions.get(version);
        let made = OnceCell::new();
        let make = || made.get_or_init(|| self.mail.mailbox(key)).clone();
        let service = &version.settings.service;
        let revived = catch_unwind(AssertUnwindSafe(|| {
            service.resume(bytes, &mut version.local(&self.mail), &NewMailbox::new(&make))
        }));
        self.note_mailbox(key, made.into_inner(), revived.ok().flatten())
    }

    fn note_mailbox(
        &mut self,
        key: Key,
        made: Option<Mailbox<S::Message>>,
        session: Option<S::Session>,
    ) -> Option<S::Session> {
        match &session {
            Some(_) => self.mailboxes.note(key, made),
            // Whoever was given it meanwhile has the mailbox of nobody.
            None => made.iter().for_each(Mailbox::close),
        }
        session
    }

    /// Whether there is a session that can be told something.
    pub(super) fn is_open(&self, key: Key) -> bool {
        let connection = self.table.get(key);
        connection.is_some_and(|it| it.stage.is_open() && it.session.is_some())
    }

    /// Whether messages wait.
    pub(crate) fn has_mail(&self) -> bool {
        S::MESSAGES > 0 && self.mail.len() > 0
    }

    /// Hands out messages that have come.
    pub(super) fn deliver(&mut self, cx: &mut LoopContext<'_>) {
        if S::MESSAGES == 0 {
            return;
        }
        for _ in 0..self.mail.len().min(MESSAGES_PER_TURN) {
            let Some((to, message)) = self.mail.take() else { return };
            match to.session() {
                Some(key) if to.is_open() && self.is_open(key) => {
                    self.metrics.count(Counter::Messages);
                    self.consult(key, None, cx, |service, (session, local), _, outbox| {
                        service.message(session, local, message, outbox)
                    });
                }
                Some(_) => {
                    self.metrics.count(Counter::MessagesUndelivered);
                    self.tell(|service, local| service.undelivered(local, message));
                }
                None => {
                    self.metrics.count(Counter::Messages);
                    self.tell(|service, local| service.local_message(local, message));
                }
            }
        }
    }

    /// Tells what the sessions of this worker share something. There is one service on a thread that is told anything.
    fn tell(&self, call: impl FnOnce(&S, &mut S::Local)) {
        let Some(version) = self.versions.iter().next() else { return };
        // It has no connection that could pay for a panic; the hook has told of it.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            call(&version.settings.service, &mut version.local(&self.mail));
        }));
    }
}
