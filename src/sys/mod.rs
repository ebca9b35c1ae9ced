//! The only caller of libc: functions named after the system call, owned descriptors and
//! `io::Result`. Logs nothing, decides nothing.

mod cpu;
mod errno;
mod eventfd;
mod kernel;
mod limits;
mod memory;
mod probe;
mod socket;
mod sockopt;
mod syn_filter;
mod tcp_info;
#[cfg(test)]
pub(crate) mod testing;

pub use cpu::{allowed_cpus, pin_to, set_timer_slack};
pub use errno::Errno;
pub use eventfd::{eventfd, signal};
pub use kernel::{KernelRelease, io_uring_disabled, release, somaxconn};
pub use libc::{MSG_MORE, MSG_NOSIGNAL, MSG_WAITALL, POLLIN, SIGSYS, SOCK_CLOEXEC};
pub use limits::{NofileLimit, nofile, set_nofile_soft};
pub use memory::Memory;
pub use probe::{Probe, probe_io_uring};
pub use socket::{
    incoming_cpu, local_address, peer_address, reset_on_close, set_bind_address_no_port,
    set_nodelay, set_tcp_defer_accept, set_tcp_fastopen, shutdown, socket_drops, tcp_defer_accept,
    tcp_fastopen,
};
pub use syn_filter::refuse_syns;
pub use tcp_info::{AcceptQueueInfo, tcp_accept_queue, tcp_accept_wait};
