//! Packet filters of sockets: programs of classic BPF. See socket(7), and Documentation/networking/filter.rst of the
//! kernel.

use std::io;
use std::os::fd::BorrowedFd;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD,
    BPF_MEM, BPF_RET, BPF_RSH, BPF_ST, BPF_W, SKF_NET_OFF,
};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

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
    fn encoded(self) -> SockFilter {
        let plain = |code: u32, operand: u32| SockFilter::new(code as u16, 0, 0, operand);
        match self {
            Self::LoadByte(at) => plain(BPF_LD | BPF_B | BPF_ABS, at.offset()),
            Self::LoadWord(at) => plain(BPF_LD | BPF_W | BPF_ABS, at.offset()),
            Self::Recall(slot) => plain(BPF_LD | BPF_MEM, slot),
            Self::Keep(slot) => plain(BPF_ST, slot),
            Self::And(bits) => plain(BPF_ALU | BPF_AND | BPF_K, bits),
            Self::ShiftRight(bits) => plain(BPF_ALU | BPF_RSH | BPF_K, bits),
            Self::If { is, than, yes, no } => {
                let how = match is {
                    Comparison::Equal => BPF_JEQ,
                    Comparison::Greater => BPF_JGT,
                    Comparison::AtLeast => BPF_JGE,
                };
                SockFilter::new((BPF_JMP | how | BPF_K) as u16, yes, no, than)
            }
            Self::Skip(steps) => plain(BPF_JMP | BPF_JA, steps),
            Self::Pass => plain(BPF_RET | BPF_K, u32::MAX),
            Self::Drop => plain(BPF_RET | BPF_K, 0),
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
    let encoded: Vec<SockFilter> = program.iter().map(|step| step.encoded()).collect();
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

/// Whether this process may attach a filter to a socket: tried with one of its own.
///
/// # Errors
/// Those of socket(2), and of [`attach_filter`].
pub fn try_filter() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    SockRef::from(&socket).attach_filter(&[FilterStep::Pass.encoded()])
}
