//! Lists that may be long: connections, their clients, sources, bans. Each says how much of it is wanted.

use std::time::Duration;

use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::endpoint::Answer;
use super::request::Request;
use crate::control::{
    ClientList, ConnectionList, LIST_DEFAULT, Listing, Operator, Sort, SourceList,
};
use crate::server::Handle;

/// How long threads may take to tell of their connections. Probes wait meanwhile.
const THREADS_LIMIT: Duration = Duration::from_millis(250);

/// Rows of a list at most: an answer is held for as long as its client takes to read it.
const LIST_LIMIT: usize = 10_000;

/// Sources of a list, unless it is said.
const SOURCES_DEFAULT: usize = 10;

pub(super) fn connections(handle: &Handle, request: &Request) -> Result<Answer, Answer> {
    let listing = match (request.parameter("by"), request.parameter("sort")) {
        (None, _) => Listing::Each(word::<Sort>(request, "sort")?),
        (Some("client"), None) => Listing::ByClient,
        (Some("client"), Some(_)) => {
            return Err(Answer::bad("sort: a list by client has an order of its own"));
        }
        (Some(name), _) => {
            return Err(Answer::bad(&format!("by: unknown key `{name}`, expected `client`")));
        }
    };
    let limit = limit(request, LIST_DEFAULT)?;
    let answer = match listing {
        Listing::Each(sort) => {
            ConnectionList::of(handle, (sort, limit), THREADS_LIMIT).as_ref().map(Answer::json)
        }
        Listing::ByClient => {
            ClientList::of(handle, limit, THREADS_LIMIT).as_ref().map(Answer::json)
        }
    };
    answer.ok_or_else(|| Answer::unavailable("a configuration change is in progress, try again"))
}

/// What `acceptor ctl --json sources` tells.
pub(super) fn sources(handle: &Handle, request: &Request) -> Result<Answer, Answer> {
    let order = (word(request, "sort")?, limit(request, SOURCES_DEFAULT)?);
    let list = SourceList::of(handle, request.parameter("frontend"), order);
    list.map(|list| Answer::json(&list))
        .map_err(|failure| Answer::bad(&format!("frontend: {}", failure.text)))
}

/// What `acceptor ctl --json bans` tells.
pub(super) fn bans(operator: &Operator) -> Answer {
    Answer::json(&operator.list_bans())
}

/// One of a few words; without any, the default.
fn word<'a, T: Deserialize<'a> + Default>(request: &'a Request, name: &str) -> Result<T, Answer> {
    let Some(text) = request.parameter(name) else { return Ok(T::default()) };
    T::deserialize(StrDeserializer::<ValueError>::new(text))
        .map_err(|error| Answer::bad(&format!("{name}: {error}")))
}

fn limit(request: &Request, default: usize) -> Result<usize, Answer> {
    match request.parameter("limit").map(str::parse) {
        None => Ok(default),
        Some(Ok(limit)) if (1..=LIST_LIMIT).contains(&limit) => Ok(limit),
        Some(_) => Err(Answer::bad(&format!("limit: it must be a number from 1 to {LIST_LIMIT}"))),
    }
}
