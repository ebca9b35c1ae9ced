//! A frontend that runs: where it listens, and where its connections are counted.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use crate::config::Listen;
use crate::dispatch::{ConnectionLimit, FrontendId, ListenerId};
use crate::listener::Listener;
use crate::metrics::FrontendTimes;
use crate::server::binding::Bound;
use crate::server::command::Listening;
use crate::sources::{Admission, Sources};

/// An entry of the configuration that is listened on: a name may be several addresses.
pub(in crate::server) struct Listened {
    pub(in crate::server) listen: Listen,
    /// With their numbers among the listeners of the frontend.
    pub(in crate::server) bound: Vec<(u16, Bound<Weak<Listener>>)>,
}

/// A frontend that runs, or has been removed and is being forgotten.
pub(in crate::server) struct Running {
    pub(in crate::server) name: String,
    pub(in crate::server) id: FrontendId,
    pub(in crate::server) service: String,
    pub(in crate::server) limit: Arc<ConnectionLimit>,
    /// What is known of its sources.
    pub(in crate::server) sources: Arc<Sources>,
    /// Who may come in.
    pub(in crate::server) admission: Arc<Admission>,
    pub(in crate::server) times: Arc<FrontendTimes>,
    /// Its sockets that listen, on all threads.
    pub(in crate::server) sockets: Arc<AtomicUsize>,
    pub(in crate::server) listened: Vec<Listened>,
    pub(in crate::server) next_index: u16,
}

impl Running {
    /// Its listeners, each with the numbers of the accepting threads that have a socket of it.
    pub(in crate::server) fn listeners(&self) -> impl Iterator<Item = (ListenerId, Vec<usize>)> {
        let bound = self.listened.iter().flat_map(|listened| &listened.bound);
        bound.map(|(index, bound)| {
            let threads = bound.sockets.iter().map(|(thread, _)| *thread).collect();
            (ListenerId { frontend: self.id, index: *index }, threads)
        })
    }

    pub(in crate::server) fn next_listener(&mut self) -> ListenerId {
        let index = self.next_index;
        self.next_index = index.wrapping_add(1);
        ListenerId { frontend: self.id, index }
    }

    /// A socket of this frontend, as a thread is told of it.
    pub(in crate::server) fn listening(
        &self,
        listener: ListenerId,
        socket: Arc<Listener>,
    ) -> Listening<Listener> {
        let queues = self.listened.iter().flat_map(|it| &it.bound).map(|(_, it)| it.sockets.len());
        Listening::new(
            listener,
            socket,
            (Arc::clone(&self.limit), queues.sum::<usize>().max(1)),
            Arc::clone(&self.admission),
            &self.sockets,
        )
    }

    /// Takes an address away; with whose it was.
    pub(in crate::server) fn take(&mut self, listen: &Listen) -> Option<(FrontendId, Listened)> {
        let place = self.listened.iter().position(|listened| listened.listen == *listen)?;
        Some((self.id, self.listened.remove(place)))
    }
}
