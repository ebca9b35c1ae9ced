//! What a proxy reads before it forwards, and what it writes before that: pure functions of bytes.
//!
//! - [`proxy_protocol`]: where a connection really comes from, told by the proxy in front;
//! - [`client_hello`]: which host a TLS client wants, without taking part in its handshake;
//! - [`routes`]: from such a [`HostName`] to a target.
//!
//! Nothing here does I/O, knows a clock or keeps state. The readers are given all that has come so
//! far, every time, and answer in one of three ways: done, not yet, never. They say "never" as soon
//! as no further byte could help, and "not yet" only below a named limit, so whoever calls them
//! needs a buffer of that size and a deadline, and nothing else.

pub mod client_hello;
mod host_name;
pub mod proxy_protocol;
pub mod routes;
#[cfg(test)]
mod testing;

pub use host_name::{HostName, InvalidName, MAX_NAME_BYTES};
