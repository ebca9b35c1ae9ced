//! The epoll engine against the contract, and what only it has.

use super::super::conformance;
use super::*;

const SIZES: Sizes =
    Sizes { submission_entries: 64, completion_entries: 256, buffers: 8, buffer_bytes: 1024 };

fn ring() -> Option<Epoll> {
    Some(Epoll::new(&SIZES).expect("epoll is everywhere"))
}

#[test]
fn it_keeps_the_contract() {
    conformance::run(ring);
}

#[test]
fn it_keeps_the_contract_with_two_buffers() {
    let tiny = Sizes { submission_entries: 2, completion_entries: 2, buffers: 2, ..SIZES };
    conformance::run(|| Epoll::new(&tiny).ok());
}

#[test]
fn it_keeps_the_contract_without_pwait2() {
    conformance::run(|| ring().map(Epoll::without_pwait2));
}
