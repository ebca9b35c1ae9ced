//! The front door for TCP on Linux.
pub mod acceptor;
pub mod config;
pub mod dispatch;
pub mod listener;
pub mod metrics;
pub mod ring;
pub mod server;
pub mod service;
pub mod sys;
pub mod worker;
