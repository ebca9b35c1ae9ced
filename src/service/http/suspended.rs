//! A session as bytes, from which this or a later version of the program makes it again.
//!
//! CBOR, a map with a version. The names in it are those of the types that a reader of requests is made of: to rename
//! one is to change the format, and makes a new version.

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::head::{MAX_HEAD_BYTES, PartialHead};
use super::response::Reply;
use super::session::{Session, Unfinished};

/// What is written. Others are not read: there have been none.
const VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u8,
    /// Whether a request has been answered.
    served: bool,
    /// What has come of the next one.
    request: Option<Request>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    /// These bytes of its head.
    #[serde(with = "serde_bytes")]
    Head(Vec<u8>),
    /// Its head; where in the body its reader is, and how it will be answered.
    Body {
        body: Body,
        reply: Reply,
        /// Bytes of the body that have come; earlier versions did not count them.
        #[serde(default)]
        taken: u64,
    },
}

pub(super) fn write(session: &Session) -> Option<Vec<u8>> {
    let (served, unfinished) = session.parts();
    let request = unfinished.map(|unfinished| match unfinished {
        Unfinished::Head(partial) => Request::Head(partial.bytes().to_vec()),
        Unfinished::Body { body, reply, taken } => {
            Request::Body { body: *body, reply: *reply, taken: *taken }
        }
    });
    let mut bytes = Vec::new();
    ciborium::into_writer(&Record { version: VERSION, served, request }, &mut bytes).ok()?;
    Some(bytes)
}

/// `None` for what no reader of requests can have written.
pub(super) fn read(bytes: &[u8]) -> Option<Session> {
    let Record { version: VERSION, served, request } = ciborium::from_reader(bytes).ok()? else {
        return None;
    };
    let unfinished = match request {
        None => None,
        Some(Request::Head(bytes)) if bytes.len() <= MAX_HEAD_BYTES => {
            Some(Unfinished::Head(PartialHead::of(bytes)))
        }
        Some(Request::Body { body, reply, taken }) if body.is_possible() => {
            Some(Unfinished::Body { body, reply, taken })
        }
        Some(_) => return None,
    };
    Some(Session::new(served, unfinished))
}
