//! The protocol as it is written, and the server against clients that do as they please.

mod clients;
mod protocol;
