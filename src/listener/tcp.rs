//! A listening TCP socket. See tcp(7).

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::error::{Failure, during};
use super::{AcceptQueue, Backlog, Listener, QueueWaits, Sharing, SynFilter, backlog};
use crate::config::{ListenAddress, SocketOptions};
use crate::sys;

/// How long the kernel keeps a client that says nothing to itself before it hands it over after
/// all. One of the times it knows, 1, 3, 7, 15 s, so that it stays what is written here.
const DEFER_ACCEPT_SECONDS: u32 = 7;

/// One try, with a new socket: a bind that succeeded can still meet EADDRINUSE in listen(2), and
/// nothing but closing undoes it.
pub(super) fn listen(
    address: SocketAddr,
    options: &SocketOptions,
    sharing: Sharing,
) -> Result<Listener, Failure> {
    let domain = Domain::for_address(address);
    let socket =
        Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(during("socket(2)"))?;
    if address.is_ipv6() {
        socket.set_only_v6(options.v6_only).map_err(during("IPV6_V6ONLY"))?;
    }
    share(&socket, sharing == Sharing::Join)?;
    set_inherited(&socket, options)?;
    set_own(&socket, options)?;
    socket.bind(&address.into()).map_err(during("bind(2)"))?;
    if sharing == Sharing::Found {
        // Only now, so that the bind met every other listener, those that share included.
        socket.set_reuse_port(true).map_err(during("SO_REUSEPORT"))?;
    }
    let asked = backlog::asked(options);
    socket.listen(backlog::as_argument(asked)).map_err(during("listen(2)"))?;
    let address = resolved(&socket, address).map_err(during("getsockname(2)"))?;
    let backlog = read_back(&socket, asked).map_err(during("TCP_INFO"))?;
    let address = ListenAddress::Tcp(address);
    let waits = Arc::new(QueueWaits::new(options.queue_wait_sample));
    let (backlog, pauses) = (Mutex::new(backlog), Arc::default());
    Ok(Listener {
        file: None,
        is_kept: AtomicBool::new(false),
        is_of_others: false,
        is_handed_over: false,
        is_given_away: AtomicBool::new(false),
        drops_before: 0,
        socket,
        address,
        backlog,
        waits,
        pauses,
        syn_filter: SynFilter::default(),
        pressure: Arc::default(),
    })
}

/// SO_REUSEADDR always: without it the connections of the process before this one, in TIME_WAIT,
/// would hold the port for a minute.
fn share(socket: &Socket, reuse_port: bool) -> Result<(), Failure> {
    socket.set_reuse_address(true).map_err(during("SO_REUSEADDR"))?;
    socket.set_reuse_port(reuse_port).map_err(during("SO_REUSEPORT"))
}

/// Options that accepted sockets take over, which saves a call for each of them.
fn set_inherited(socket: &Socket, options: &SocketOptions) -> Result<(), Failure> {
    socket.set_tcp_nodelay(options.nodelay).map_err(during("TCP_NODELAY"))?;
    if let Some(idle) = options.keepalive_idle {
        let keepalive = TcpKeepalive::new().with_time(whole_seconds(idle));
        socket.set_tcp_keepalive(&keepalive).map_err(during("TCP_KEEPIDLE"))?;
    }
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout).map_err(during("TCP_USER_TIMEOUT"))?;
    }
    Ok(())
}

/// Options of the listening socket itself.
fn set_own(socket: &Socket, options: &SocketOptions) -> Result<(), Failure> {
    if options.defer_accept {
        sys::set_tcp_defer_accept(socket.as_fd(), DEFER_ACCEPT_SECONDS)
            .map_err(during("TCP_DEFER_ACCEPT"))?;
    }
    if let Some(queue) = options.fast_open {
        set_fast_open(socket, queue).map_err(during("TCP_FASTOPEN"))?;
    }
    Ok(())
}

/// Changes a socket that listens already: what is not asked for is off again.
pub(super) fn configure(socket: &Socket, options: &SocketOptions) -> Result<Backlog, Failure> {
    socket.set_keepalive(options.keepalive_idle.is_some()).map_err(during("SO_KEEPALIVE"))?;
    socket.set_tcp_user_timeout(options.user_timeout).map_err(during("TCP_USER_TIMEOUT"))?;
    set_inherited(socket, options)?;
    let seconds = if options.defer_accept { DEFER_ACCEPT_SECONDS } else { 0 };
    sys::set_tcp_defer_accept(socket.as_fd(), seconds).map_err(during("TCP_DEFER_ACCEPT"))?;
    match options.fast_open {
        Some(queue) => set_fast_open(socket, queue).map_err(during("TCP_FASTOPEN"))?,
        // Where it does not exist it is off.
        None => drop(sys::set_tcp_fastopen(socket.as_fd(), 0)),
    }
    let asked = backlog::asked(options);
    socket.listen(backlog::as_argument(asked)).map_err(during("listen(2)"))?;
    read_back(socket, asked).map_err(during("TCP_INFO"))
}

/// The option is an `int`, so what does not fit means the most; the kernel cuts it to
/// `net.core.somaxconn`.
fn set_fast_open(socket: &Socket, queue: NonZeroU32) -> io::Result<()> {
    sys::set_tcp_fastopen(socket.as_fd(), queue.get().min(i32::MAX as u32))
}

/// TCP_KEEPIDLE counts seconds and refuses zero.
fn whole_seconds(idle: Duration) -> Duration {
    let started = u64::from(idle.subsec_nanos() > 0);
    Duration::from_secs(idle.as_secs().saturating_add(started).max(1))
}

/// With the port that the kernel chose.
fn resolved(socket: &Socket, configured: SocketAddr) -> io::Result<SocketAddr> {
    Ok(socket.local_addr()?.as_socket().unwrap_or(configured))
}

fn read_back(socket: &Socket, asked: u32) -> io::Result<Backlog> {
    let effective = sys::tcp_accept_queue(socket.as_fd())?.limit;
    Ok(Backlog { asked, effective })
}

/// SYNs are dropped where that is allowed, else refused.
pub(super) fn refuse(socket: &Socket) -> io::Result<()> {
    sys::refuse_syns(socket.as_fd()).or_else(|_| sys::bind_to_no_interface(socket.as_fd()))
}

pub(super) fn queue(socket: &Socket) -> io::Result<AcceptQueue> {
    let queue = sys::tcp_accept_queue(socket.as_fd())?;
    let drops = sys::socket_drops(socket.as_fd())?;
    Ok(AcceptQueue { waiting: Some(queue.waiting), limit: queue.limit, drops: Some(drops) })
}
