//! The epoll engine against the contract, and what only it has.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::super::conformance;
use super::super::operation::{Bytes, Descriptor, Shots};
use super::super::{Received, operation::Kind};
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

fn enter(ring: &mut Epoll, operation: Operation) -> Vec<Completion> {
    let (mut operations, mut completions) = (Operations::default(), Vec::new());
    operations.push(Key::fixed(1), operation);
    ring.enter(&mut operations, &mut completions, Wait::No).unwrap();
    completions
}

fn registered(ring: &Epoll) -> usize {
    ring.table.find(|socket| socket.registered).len()
}

#[test]
fn a_request_that_is_there_is_answered_without_a_registration() {
    let mut ring = ring().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(b"request").unwrap();
    let accept = Operation::Accept { listener: Descriptor::of(&listener), shots: Shots::Once };
    let Event::Accepted(Ok(socket)) = enter(&mut ring, accept).remove(0).event else { panic!() };
    let receive = Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once };
    let Event::Received(Ok(Received::Bytes { buffer, len: 7 })) =
        enter(&mut ring, receive).remove(0).event
    else {
        panic!("no request")
    };
    ring.buffers().recycle(buffer);
    // FIONBIO on the listener, accept4, recv.
    assert_eq!((registered(&ring), ring.counts().system_calls), (0, 3));
    enter(&mut ring, Operation::SendAndClose { socket, bytes: Bytes::Static(b"answer") });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!((answer, registered(&ring)), (b"answer".to_vec(), 0));
}

#[test]
fn nothing_is_registered_any_more_once_everything_has_ended() {
    let mut ring = ring().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let many = Shots::Many { credit_bytes: 1 << 20 };
    enter(&mut ring, Operation::Accept { listener: Descriptor::of(&listener), shots: many });
    let (socket, _peer) = conformance::pair();
    enter(&mut ring, Operation::Receive { socket: Descriptor::of(&socket), shots: many });
    assert_eq!(registered(&ring), 2);
    enter(&mut ring, Operation::Cancel(Kind::Accept));
    assert_eq!(registered(&ring), 1);
    enter(&mut ring, Operation::Cancel(Kind::Receive));
    enter(&mut ring, Operation::Close { socket: socket.into() });
    assert_eq!(registered(&ring), 0);
}

/// A wait ends for a reason; an event that brings no completion, here room to send, is none.
#[test]
fn an_event_without_a_completion_does_not_end_a_wait() {
    let mut ring = ring().unwrap();
    let (socket, _peer) = conformance::pair();
    let receive = Operation::Receive { socket: Descriptor::of(&socket), shots: Shots::Once };
    enter(&mut ring, receive);
    let start = ring.now();
    let (mut operations, mut completions) = (Operations::default(), Vec::new());
    operations.push(Key::fixed(2), Operation::Cancel(Kind::Connect));
    let wait = Wait::For(Duration::from_millis(30));
    ring.enter(&mut operations, &mut completions, wait).unwrap();
    assert!(ring.now() - start >= Duration::from_millis(30) && completions.is_empty());
}

#[test]
fn what_has_had_its_share_of_a_turn_goes_on_in_the_next() {
    let mut ring = ring().unwrap();
    let (socket, mut peer) = conformance::pair();
    peer.write_all(&[7; 6 * 1024]).unwrap();
    let many = Shots::Many { credit_bytes: 1 << 20 };
    let receive = Operation::Receive { socket: Descriptor::of(&socket), shots: many };
    assert_eq!(enter(&mut ring, receive).len(), 4);
    let mut completions = Vec::new();
    ring.enter(&mut Operations::default(), &mut completions, Wait::Forever).unwrap();
    assert_eq!(completions.len(), 2);
}

#[test]
fn a_storm_on_a_listener_leaves_time_for_others() {
    let mut ring = ring().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let many = Shots::Many { credit_bytes: 0 };
    let accept = Operation::Accept { listener: Descriptor::of(&listener), shots: many };
    assert_eq!(enter(&mut ring, accept).len(), 64);
    let mut completions = Vec::new();
    ring.enter(&mut Operations::default(), &mut completions, Wait::Forever).unwrap();
    assert_eq!(completions.len(), 36);
}
