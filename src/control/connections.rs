//! The connections that are open, in the order that is asked for.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::request::Sort;
use crate::server::{ConnectionStatus, Handle};

/// How long threads may take to tell of their connections, or to close one. One that takes longer is left out.
pub(super) const THREADS_LIMIT: Duration = Duration::from_secs(5);

/// Some of the connections that are open.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionList {
    /// How many there are.
    pub total: usize,
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
        let mut all = handle.connections(time)?;
        order(&mut all, sort);
        let total = all.len();
        all.truncate(limit);
        Some(Self { total, connections: all.iter().map(entry).collect() })
    }
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
        Sort::Idle => all.sort_by_key(|it| Reverse(it.listed.idle)),
        Sort::Client => all.sort_by_key(|it| it.listed.client),
        Sort::Frontend => all.sort_by(|a, b| a.frontend.cmp(&b.frontend)),
        Sort::Backend => all.sort_by(|a, b| a.listed.backend.cmp(&b.listed.backend)),
    }
}

fn entry(connection: &ConnectionStatus) -> ConnectionEntry {
    let ConnectionStatus { id, frontend, listed } = connection;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    ConnectionEntry {
        id: id.to_string(),
        frontend: frontend.clone(),
        client: listed.client.map(|client| client.to_string()),
        backend: listed.backend.clone(),
        age_ms: millis(listed.age),
        idle_ms: millis(listed.idle),
        bytes_in: listed.from_client,
        bytes_out: listed.to_client,
        stage: listed.stage.to_owned(),
    }
}
