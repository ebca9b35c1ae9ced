//! Numbers that tell sockets on the same address from each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::Arc;

use super::{Socket, SocketRecord};
use crate::config::ListenAddress;
use crate::listener::Listener;
use crate::server::directory::FrontendStatus;
use crate::sys;

/// The numbers of the open sockets on each address.
pub(super) struct Numbers(HashMap<ListenAddress, HashSet<usize>>);

impl Numbers {
    /// Those that sockets have, and those that are kept for the ones to come.
    pub(super) fn of<'a>(
        sockets: impl Iterator<Item = &'a Socket>,
        open: &[(&FrontendStatus, Vec<Arc<Listener>>)],
        known: &BTreeMap<u64, SocketRecord>,
    ) -> Self {
        let mut numbers = HashMap::<_, HashSet<_>>::new();
        for listener in open.iter().flat_map(|(_, all)| all).filter(|_| !known.is_empty()) {
            let cookie = sys::socket_cookie(listener.as_fd()).unwrap_or_default();
            if let Some(kept) = known.get(&cookie) {
                numbers.entry(listener.address().clone()).or_default().insert(kept.number);
            }
        }
        for socket in sockets.filter(|it| it.listener.strong_count() > 0) {
            numbers.entry(socket.address.clone()).or_default().insert(socket.number);
        }
        Self(numbers)
    }

    /// The first that no socket on this address has.
    pub(super) fn take(&mut self, address: &ListenAddress) -> usize {
        let taken = self.0.entry(address.clone()).or_default();
        let number = (0..).find(|number| !taken.contains(number)).unwrap_or_default();
        taken.insert(number);
        number
    }
}
