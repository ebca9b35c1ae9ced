//! The front door for TCP on Linux, on io_uring.
//!
//! A submission loop keeps multishot accepts armed on the listening sockets. Every connection that
//! completes goes over a bounded channel to a worker, whose own ring does the reads and the writes.
//! What a connection says and hears is up to a [`Service`](service::Service):
//!
//! - to run one, start with [`server`] and its [`config`];
//! - to write one, start with [`service`], and with `docs/protocols.md`; to test it, with [`testing`]
//!   and [`simulation`];
//! - to look at it while it runs, and to change it, with [`control`], [`admin`] and [`metrics`];
//! - to see how it works, read `docs/ARCHITECTURE.md`.
//!
//! What is not listed below is there for the programs of this package, and may change at any time.
//!
//! Nothing here is async, and nothing blocks but a thread that has nothing to do.

#[doc(hidden)]
pub mod acceptor;
#[doc(hidden)]
pub mod access_log;
pub mod admin;
pub mod config;
pub mod config_file;
#[doc(hidden)]
pub mod connection;
pub mod control;
#[doc(hidden)]
pub mod dispatch;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod listener;
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod log;
pub mod metrics;
#[doc(hidden)]
pub mod preread;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod proxy;
#[doc(hidden)]
pub mod ring;
pub mod server;
pub mod service;
#[doc(hidden)]
pub mod shared;
pub mod simulation;
#[doc(hidden)]
pub mod sources;
#[doc(hidden)]
pub mod sys;
pub mod testing;
pub mod upgrade;
#[doc(hidden)]
pub mod upstream;
#[doc(hidden)]
pub mod worker;
