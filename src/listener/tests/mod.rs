//! Listeners on real sockets: every port is 0, every path in a directory of its own.

mod addresses;
mod drain;
mod lookup;
mod options;
mod queue;
mod unix;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::*;
use crate::sys;
pub(super) use crate::sys::testing::eventually;

/// For what must happen.
const DEADLINE: Duration = Duration::from_secs(5);
/// For what must not happen; shorter than the first retransmission of a SYN.
const REFUSAL: Duration = Duration::from_millis(300);

#[track_caller]
fn listen(address: &str, options: &SocketOptions) -> Listener {
    Listener::bind(&address.parse().unwrap(), options, Sharing::Exclusive).unwrap()
}

/// With the default options.
#[track_caller]
fn listen_plainly(address: &str) -> Listener {
    listen(address, &SocketOptions::default())
}

#[track_caller]
fn refused(address: &str) -> BindError {
    let options = SocketOptions::default();
    Listener::bind(&address.parse().unwrap(), &options, Sharing::Exclusive).unwrap_err()
}

#[track_caller]
fn tcp_address(listener: &Listener) -> SocketAddr {
    match listener.address() {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(name) => panic!("{name}"),
    }
}

#[track_caller]
fn connect(listener: &Listener) -> TcpStream {
    TcpStream::connect_timeout(&tcp_address(listener), DEADLINE).unwrap()
}

/// The next connection; an error when none comes within the deadline.
fn try_accept(listener: &Listener) -> io::Result<Socket> {
    let socket = SockRef::from(listener);
    // A receive timeout is what bounds accept(2), see socket(7).
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(socket.accept()?.0)
}

#[track_caller]
fn accept(listener: &Listener) -> Socket {
    try_accept(listener).unwrap()
}

#[track_caller]
fn wait_for(listener: &Listener, waiting: u32) {
    eventually(DEADLINE, || listener.queue().unwrap().waiting == Some(waiting));
}
