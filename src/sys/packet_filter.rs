//! Packet filters of sockets: programs of classic BPF. See socket(7), and Documentation/networking/filter.rst of the
//! kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD,
    BPF_MEM, BPF_RET, BPF_RSH, BPF_ST, BPF_W, SKF_NET_OFF,
};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::errno::check;

/// BPF_MAXINSNS: the kernel takes no longer program.
pub const FILTER_STEPS_MAX: usize = 4096;

/// Where a value is loaded from, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketAt {
    /// From the first byte of the TCP or UDP header: tcp_v4_rcv(), tcp_v6_rcv() and their like for UDP run a filter with the
    /// data there.
    Transport(u32),
    /// From the first byte of the IP header.
    Network(u32),
}

/// How a value is compared with that of a [`FilterStep`], unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// It is that.
    Equal,
    /// It is more.
    Greater,
    /// It is that or more.
    AtLeast,
}

/// One instruction. There is one value at a time, and 16 slots of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FilterStep {
    /// The value is this byte of the packet.
    LoadByte(PacketAt),
    /// The value is these four bytes of the packet, the first of them the highest.
    LoadWord(PacketAt),
    /// The value is what was kept in this slot.
    Recall(u32),
    /// The value is kept in this slot.
    Keep(u32),
    /// The value is what it has in common with these bits.
    And(u32),
    /// The value is shifted to the right, by so many bits.
    ShiftRight(u32),
    /// Goes on so many instructions behind the next one, as the comparison says.
    If {
        /// How the value is compared.
        is: Comparison,
        /// With what.
        than: u32,
        /// How many are passed over if it is so.
        yes: u8,
        /// How many if it is not.
        no: u8,
    },
    /// Passes over so many instructions.
    Skip(u32),
    /// The end: the packet passes.
    Pass,
    /// The end: the packet is dropped.
    Drop,
}

impl FilterStep {
    fn encoded(self) -> libc::sock_filter {
        let (code, jt, jf, k) = match self {
            Self::LoadByte(at) => (BPF_LD | BPF_B | BPF_ABS, 0, 0, at.offset()),
            Self::LoadWord(at) => (BPF_LD | BPF_W | BPF_ABS, 0, 0, at.offset()),
            Self::Recall(slot) => (BPF_LD | BPF_MEM, 0, 0, slot),
            Self::Keep(slot) => (BPF_ST, 0, 0, slot),
            Self::And(bits) => (BPF_ALU | BPF_AND | BPF_K, 0, 0, bits),
            Self::ShiftRight(bits) => (BPF_ALU | BPF_RSH | BPF_K, 0, 0, bits),
            Self::If { is, than, yes, no } => (BPF_JMP | is.code() | BPF_K, yes, no, than),
            Self::Skip(steps) => (BPF_JMP | BPF_JA, 0, 0, steps),
            Self::Pass => (BPF_RET | BPF_K, 0, 0, u32::MAX),
            Self::Drop => (BPF_RET | BPF_K, 0, 0, 0),
        };
        libc::sock_filter { code: code as u16, jt, jf, k }
    }

    fn for_socket(self) -> SockFilter {
        let libc::sock_filter { code, jt, jf, k } = self.encoded();
        SockFilter::new(code, jt, jf, k)
    }
}

impl Comparison {
    fn code(self) -> u32 {
        match self {
            Self::Equal => BPF_JEQ,
            Self::Greater => BPF_JGT,
            Self::AtLeast => BPF_JGE,
        }
    }
}

impl PacketAt {
    fn offset(self) -> u32 {
        match self {
            Self::Transport(offset) => offset,
            Self::Network(offset) => (SKF_NET_OFF as u32).wrapping_add(offset),
        }
    }
}

/// SO_ATTACH_FILTER: from now on the program decides which packets the socket takes; one that was there before is
/// replaced at once. Each packet that is dropped counts in [`socket_drops`](super::socket_drops). Sockets that are accepted
/// later inherit it.
///
/// The kernel charges the old program and the new one to the socket (net.core.optmem_max). Where there is no room for both
/// there is none for a moment.
///
/// # Errors
/// Those of setsockopt(2); EPERM without CAP_NET_ADMIN (Linux 6.18; older kernels let everybody), or for a filter that is
/// locked; ENOMEM for a program that is too long for net.core.optmem_max. In the last case the socket has none.
pub fn attach_filter(socket: BorrowedFd<'_>, program: &[FilterStep]) -> io::Result<()> {
    let encoded: Vec<SockFilter> = program.iter().map(|step| step.for_socket()).collect();
    let attach = || SockRef::from(&socket).attach_filter(&encoded);
    match attach() {
        Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
            detach_filter(socket)?;
            attach()
        }
        result => result,
    }
}

/// SO_DETACH_FILTER: the socket takes all packets. Nothing happens if it had no filter.
///
/// # Errors
/// Those of setsockopt(2); EPERM for a filter that is locked.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    match SockRef::from(&socket).detach_filter() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// SO_GET_FILTER: whether the filter of a socket begins with these instructions. False if it has none.
///
/// # Errors
/// Those of getsockopt(2).
pub fn filter_begins_with(socket: BorrowedFd<'_>, begin: &[FilterStep]) -> io::Result<bool> {
    const NONE: libc::sock_filter = libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 };
    let mut program = vec![NONE; FILTER_STEPS_MAX];
    // Unlike other options it counts instructions, not bytes.
    let mut length = FILTER_STEPS_MAX as libc::socklen_t;
    let (fd, level, name) = (socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_GET_FILTER);
    // SAFETY: the kernel writes at most `length` instructions, for which there is room in `program`, and it outlives the
    // call, as `length` does.
    let result =
        unsafe { libc::getsockopt(fd, level, name, program.as_mut_ptr().cast(), &raw mut length) };
    check(result)?;
    let there = &program[..(length as usize).min(FILTER_STEPS_MAX)];
    let same = |(it, step): (&libc::sock_filter, &FilterStep)| {
        let step = step.encoded();
        (it.code, it.jt, it.jf, it.k) == (step.code, step.jt, step.jf, step.k)
    };
    Ok(there.len() >= begin.len() && there.iter().zip(begin).all(same))
}

/// Whether this process may attach a filter to a socket: tried with one of its own.
///
/// # Errors
/// Those of socket(2), and of [`attach_filter`].
pub fn try_filter() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    SockRef::from(&socket).attach_filter(&[FilterStep::Pass.for_socket()])
}
