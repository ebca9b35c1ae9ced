//! The only caller of libc: functions named after the system call, owned descriptors and
//! `io::Result`. Logs nothing, decides nothing.

mod cpu;
mod credentials;
mod descriptors;
mod dns;
mod epoll;
mod errno;
mod eventfd;
mod file;
mod kernel;
mod limits;
mod listen_fds;
mod memory;
mod message;
mod net_counters;
mod packet_filter;
mod pipe;
mod poll;
mod probe;
mod signals;
mod socket;
mod sockopt;
mod stream;
mod syn_filter;
mod tcp_info;
#[cfg(test)]
pub(crate) mod testing;

pub use cpu::{allowed_cpus, pin_to, set_timer_slack, thread_cpu_time};
pub use credentials::{effective_user, peer_user};
pub use descriptors::{
    DESCRIPTORS_MAX, receive_with_descriptors, send_with_descriptors, take_stdin,
};
pub use dns::{TYPE_SRV, query};
pub use epoll::{EpollEvent, epoll_add, epoll_create1, epoll_delete, epoll_pwait2, epoll_wait};
pub use errno::Errno;
pub use eventfd::{eventfd, signal};
pub use file::{open_without_waiting, read_cached, sendfile};
pub use kernel::{KernelRelease, io_uring_disabled, release, somaxconn};
pub use libc::{
    MSG_MORE, MSG_NOSIGNAL, MSG_WAITALL, POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, SOCK_CLOEXEC,
};
pub use libc::{SIGCHLD, SIGSYS, SIGXFSZ};
pub use limits::{
    MemlockLimit, NofileLimit, memlock, nofile, nproc, set_memlock_soft, set_nofile_soft,
};
pub use listen_fds::listen_fds;
pub use memory::{Memory, page_bytes};
pub use message::{Message, MessageHeader};
pub use net_counters::net_counter;
pub use packet_filter::{
    Comparison, FILTER_STEPS_MAX, FilterStep, PacketAt, attach_filter, detach_filter,
    filter_begins_with, try_filter,
};
pub use pipe::{Pipe, block_sigpipe, open_fifo, peek, splice, splice_received};
pub use poll::{Polled, poll};
pub use probe::{Probe, probe_io_uring};
pub use signals::{ignore_signal, reset_signal, unblock_signals};
pub use socket::{
    bind_without_port, cookie_behind, has_way_to, incoming_cpu, local_address, network_namespace,
    peer_address, reset_on_close, set_any_local_port, set_bind_address_no_port, set_cork,
    set_nodelay, set_tcp_defer_accept, set_tcp_fastopen, shutdown, socket_cookie, socket_drops,
    tcp_defer_accept, tcp_fastopen,
};
pub use stream::{
    accept4, connect, is_nonblocking, recv, send, send_last, send_queue, send_vectored,
    set_nonblocking, stream_socket, take_error,
};
pub use syn_filter::{ONLY_SYNS, admit_syns, bind_to_no_interface, forget_syn_filter, refuse_syns};
pub use tcp_info::{
    AcceptQueueInfo, AcceptedInfo, TcpBytes, tcp_accept_queue, tcp_accept_wait, tcp_accepted,
    tcp_bytes,
};

/// The events of epoll_ctl(2), as the unsigned numbers that the kernel takes.
pub const EPOLLIN: u32 = libc::EPOLLIN as u32;
/// Urgent data has come.
pub const EPOLLPRI: u32 = libc::EPOLLPRI as u32;
/// There is room to send.
pub const EPOLLOUT: u32 = libc::EPOLLOUT as u32;
/// An error waits to be read; always reported.
pub const EPOLLERR: u32 = libc::EPOLLERR as u32;
/// Both directions are shut; always reported.
pub const EPOLLHUP: u32 = libc::EPOLLHUP as u32;
/// The peer's FIN has come.
pub const EPOLLRDHUP: u32 = libc::EPOLLRDHUP as u32;
/// Report changes, not states.
pub const EPOLLET: u32 = libc::EPOLLET as u32;
