//! Black-box tests: the programs as their users run them, over loopback, on epoll. Without those of Prometheus and
//! `acceptor top`: the admin endpoint is on epoll always.

/// The engine on which the programs run unless a test names one.
const ENGINE: &str = "epoll";

mod browser;
mod client;
mod folder;
mod foreign;
mod harness;
mod process;

mod access_log;
mod addresses;
mod admin;
mod admin_page;
mod bans;
mod broken;
mod cli;
mod closing;
mod configuration;
mod connections;
mod control;
mod deadlines;
mod deploy;
mod doctor;
mod drain;
mod echo;
mod engine;
mod http;
mod inherited;
mod limits;
mod loadgen;
mod loadgen_cli;
mod log;
mod overload;
mod preread;
mod pressure;
mod proxy;
mod refused;
mod slow;
mod sources;
mod stuck;
mod supervisor;
mod upgrade;
mod upgrade_state;
