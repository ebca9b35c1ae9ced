//! The connections that are open, in the order that is asked for.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use serde::{Deserialize, Serialize};

use super::answer::{Outcome, result};
use super::clients::ClientList;
use super::request::{Listing, Sort};
use crate::server::{ConnectionStatus, Handle};

/// How long threads may take to tell of their connections, or to close one. One that takes longer is left out.
pub(super) const THREADS_LIMIT: Duration = Duration::from_secs(5);

/// Some of the connections that are open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionList {
    /// How many there are.
    pub total: usize,
    /// Since when it is noted how long each new connection waited in the accept queue (RFC 3339): from the first list that
    /// was sorted by it, until none has been for half a minute. `None`: only for frontends with an access log.
    pub accept_queue_waits_since: Option<String>,
    /// The first of them.
    pub connections: Vec<ConnectionEntry>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionEntry {
    /// What `close` names it by.
    pub id: String,
    /// What it came in through.
    pub frontend: String,
    /// The client; `None` for unix sockets.
    pub client: Option<String>,
    /// Where it is passed on to.
    pub backend: Option<String>,
    /// Since it was accepted.
    pub age_ms: u64,
    /// Since when nothing has come forward.
    pub idle_ms: u64,
    /// In the kernel's accept queue; `None` if that was not noted when it came.
    pub accept_queue_wait_ms: Option<u64>,
    /// For how long the client or the backend has taken nothing of what is being sent to it; `None` if nothing is.
    pub stalled_ms: Option<u64>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Where it is in its life, in one word.
    pub stage: String,
}

impl ConnectionList {
    /// Asks the threads, each of which is left out if it has not answered in time. `None` if a change of the server takes
    /// longer than that.
    pub fn of(handle: &Handle, (sort, limit): (Sort, usize), time: Duration) -> Option<Self> {
        let since = match sort {
            Sort::Wait => Some(handle.watch_waits()),
            _ => handle.waits_watched_since(),
        };
        let mut all = handle.connections(time)?;
        order(&mut all, sort);
        let total = all.len();
        all.truncate(limit);
        Some(Self {
            total,
            accept_queue_waits_since: since.map(rfc3339),
            connections: all.iter().map(entry).collect(),
        })
    }
}

/// What is answered to whoever asks for a list.
pub(super) fn list(handle: &Handle, (listing, limit): (Listing, usize)) -> Option<Outcome> {
    match listing {
        Listing::Each(sort) => ConnectionList::of(handle, (sort, limit), THREADS_LIMIT).map(result),
        Listing::ByClient => ClientList::of(handle, limit, THREADS_LIMIT).map(result),
    }
}

fn rfc3339(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string()
}

/// Closes a connection. False if there is none.
pub(super) fn close(handle: &Handle, id: crate::server::ConnectionId) -> bool {
    handle.close(id, THREADS_LIMIT)
}

fn order(all: &mut [ConnectionStatus], sort: Sort) {
    match sort {
        Sort::Bytes => {
            all.sort_by_key(|it| Reverse(it.listed.from_client.saturating_add(it.listed.to_client)))
        }
        Sort::Age => all.sort_by_key(|it| Reverse(it.listed.age)),
        Sort::Wait => all.sort_by_key(|it| Reverse(it.listed.waited)),
        Sort::Stall => all.sort_by_key(|it| Reverse(it.listed.stalled)),
        Sort::Idle => all.sort_by_key(|it| Reverse(it.listed.idle)),
        Sort::Client => all.sort_by_key(|it| it.listed.client),
        Sort::Frontend => all.sort_by(|a, b| a.frontend.cmp(&b.frontend)),
        Sort::Backend => all.sort_by(|a, b| a.listed.backend.cmp(&b.listed.backend)),
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn entry(connection: &ConnectionStatus) -> ConnectionEntry {
    let ConnectionStatus { id, frontend, listed } = connection;
    ConnectionEntry {
        id: id.to_string(),
        frontend: frontend.clone(),
        client: listed.client.map(|client| client.to_string()),
        backend: listed.backend.clone(),
        age_ms: millis(listed.age),
        idle_ms: millis(listed.idle),
        accept_queue_wait_ms: listed.waited.map(millis),
        stalled_ms: listed.stalled.map(millis),
        bytes_in: listed.from_client,
        bytes_out: listed.to_client,
        stage: listed.stage.to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::connection::Listed;
    use crate::dispatch::FrontendId;
    use crate::ring::{Generation, Key};
    use crate::server::{ConnectionId, ProcessMark};

    /// A connection from there.
    pub(in crate::control) fn status(
        client: Option<&str>,
        change: impl FnOnce(&mut Listed),
    ) -> ConnectionStatus {
        let key = Key { slot: 0, generation: Generation::FIRST };
        let mut listed = Listed {
            key,
            frontend: FrontendId(0),
            client: client.map(|it| it.parse().unwrap()),
            backend: None,
            age: Duration::ZERO,
            idle: Duration::ZERO,
            waited: None,
            stalled: None,
            from_client: 0,
            to_client: 0,
            stage: "open",
        };
        change(&mut listed);
        ConnectionStatus {
            id: ConnectionId { process: ProcessMark::own(), thread: 0, key },
            frontend: "f".into(),
            listed,
        }
    }

    #[test]
    fn those_of_which_it_is_not_known_come_last() {
        let waited = |wait: Option<u64>| {
            status(None, |it| {
                it.waited = wait.map(Duration::from_millis);
                it.stalled = wait.map(|wait| Duration::from_millis(1000 - wait));
            })
        };
        let mut all = [None, Some(0), Some(700), None, Some(30)].map(waited);
        order(&mut all, Sort::Wait);
        let waits = all.each_ref().map(|it| entry(it).accept_queue_wait_ms);
        assert_eq!(waits, [Some(700), Some(30), Some(0), None, None]);
        order(&mut all, Sort::Stall);
        let stalls = all.each_ref().map(|it| entry(it).stalled_ms);
        assert_eq!(stalls, [Some(1000), Some(970), Some(300), None, None]);
    }
}
