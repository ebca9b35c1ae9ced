//! The simulated engine against the contract.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::super::conformance::{self, Network as Tested};
use super::*;

const WINDOWS: (usize, usize) = (64 * 1024, 64 * 1024);
const SIZES: Sizes =
    Sizes { completion_entries: 256, buffers: 8, buffer_bytes: 1024, receive_credit: true };

impl Tested for Network {
    type Listener = Listener;
    type Peer = RemoteEnd;

    fn listen(&self) -> (Listener, SocketAddr) {
        let listener = Network::listen(self, 100);
        let address = listener.address();
        (listener, address)
    }

    fn connect(&self, address: SocketAddr) -> RemoteEnd {
        let remote = self.dial(address.port(), WINDOWS, None);
        while !remote.is_established() {
            self.run_next();
        }
        remote
    }

    fn accept(&self, listener: &Listener) -> RemoteEnd {
        listener.take_remote().expect("a connection waits")
    }

    fn pair(&self) -> (OwnedFd, RemoteEnd) {
        let (listener, address) = Tested::listen(self);
        let remote = self.connect(address);
        (listener.take().expect("it is established"), remote)
    }

    fn send_fin(&self, peer: &RemoteEnd) {
        peer.finish();
    }

    fn reset(&self, peer: RemoteEnd) {
        peer.reset();
    }

    fn read_meanwhile(
        &self,
        mut peer: RemoteEnd,
        bytes: usize,
    ) -> impl FnOnce() -> Vec<u8> + use<> {
        let mut read = vec![0; bytes];
        io::Read::read_exact(&mut peer, &mut read).unwrap();
        || read
    }
}

fn keeps_the_contract(sizes: Sizes, faults: Faults) {
    for seed in 0..2 {
        conformance::run_on(|| {
            let network = Network::new(seed, faults.clone());
            Some((network.ring("ring", &sizes).unwrap(), network))
        });
    }
}

#[test]
fn it_keeps_the_contract() {
    keeps_the_contract(SIZES, Faults::none());
}

#[test]
fn it_keeps_the_contract_without_receive_credit() {
    keeps_the_contract(Sizes { receive_credit: false, ..SIZES }, Faults::none());
}

#[test]
fn it_keeps_the_contract_when_completions_are_late_and_few() {
    let faults =
        Faults { late: 500, latest: Duration::from_millis(1), partial_reap: 300, ..Faults::none() };
    keeps_the_contract(Sizes { completion_entries: 2, ..SIZES }, faults);
}
