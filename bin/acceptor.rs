//! The acceptor.
fn main() {}
