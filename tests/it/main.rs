//! Black-box tests: the program as its users run it, over loopback.

mod client;
mod harness;
mod process;

mod addresses;
mod cli;
mod closing;
mod deadlines;
mod deploy;
mod doctor;
mod drain;
mod echo;
mod http;
mod limits;
mod loadgen;
mod loadgen_cli;
mod pressure;
mod refused;
