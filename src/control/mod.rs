//! How a running server is looked at and changed: a unix socket with a line of JSON for each request and each answer.
//!
//! ```text
//!   client --a line--> thread `control` --what takes long--> thread `changes` <-- SIGHUP
//!          <-an answer-                 <-----an answer-----
//!                          |                                      |
//!                          +--------------> Operator <------------+--> Handle, and the program around it
//! ```
//!
//! The thread `control` waits in poll(2) for all clients, with a limit on each thing that a client can hold up: how many
//! there are, how long a line is, how long it may take to come and an answer to be read. No thread of the data path
//! ever waits for it. `docs/CONTROL.md` has the protocol.

mod answer;
mod bans;
mod call;
mod client;
mod clients;
mod connections;
mod effects;
mod fields;
mod jobs;
mod lists;
mod operator;
mod program;
mod replaced;
mod request;
mod serve;
mod sources;
mod status;
#[cfg(test)]
mod tests;
mod told;
mod unresolved;
mod words;

pub use crate::server::ByHand;
pub use answer::{Code, Failure, Outcome, ReloadReport, SetReport, parse as parse_answer, to_line};
pub use bans::{BanEntry, BanList, BansPlace};
pub use call::{CALL_TIMEOUT, CallError, call, connect};
pub use client::{ANSWER_TIMEOUT, LINE_MAX_BYTES, REQUEST_TIMEOUT};
pub use clients::{ClientEntry, ClientList};
pub use connections::{ConnectionEntry, ConnectionList};
pub use jobs::{JOBS_MAX, Jobs, TooMany};
pub use operator::Operator;
pub use program::{Program, UpgradeReport};
pub use request::{
    BackendChange, LEVELS, LIST_DEFAULT, LIST_MAX, Listing, Request, Setting, Sort, VERSION,
};
pub use serve::{CLIENTS_MAX, ControlServer, Leave, PLACE_FOR};
pub use sources::{RuleCount, SourceEntry, SourceList, SourceSort};
pub use status::{
    BackendStatus, Configuration, Connections, Frontend, LastReload, ListFile, Queue, Status,
    UpstreamStatus,
};
pub use told::{explain, told};
