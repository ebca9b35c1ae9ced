//! The front door for TCP on Linux, on io_uring.
//!
//! A submission loop keeps multishot accepts armed on the listening sockets. Every connection that
//! completes goes over a bounded channel to a worker, whose own ring does the reads and the writes.
//! What a connection says and hears is up to a [`Service`](service::Service):
//!
//! - to run one, start with [`server`];
//! - to write one, start with [`service`];
//! - to see how it works, read [`ring`] (the contract with the kernel), [`acceptor`] and [`worker`]
//!   (two state machines), and `docs/ARCHITECTURE.md`.
//!
//! Nothing here is async, and nothing blocks but a thread that has nothing to do.

pub mod acceptor;
pub mod access_log;
pub mod admin;
pub mod config;
pub mod config_file;
pub mod connection;
pub mod control;
pub mod dispatch;
pub mod doctor;
pub mod listener;
pub mod load;
pub mod log;
pub mod metrics;
pub mod preread;
pub mod process;
pub mod proxy;
pub mod ring;
pub mod server;
pub mod service;
pub mod shared;
pub mod simulation;
pub mod sources;
pub mod sys;
pub mod testing;
pub mod upgrade;
pub mod upstream;
pub mod worker;
