//! The program for banned sources, run step by step as the kernel runs it, beside a plain look through the list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uring_acceptor::sources::{Network, filter};
use uring_acceptor::sys::{Comparison, FILTER_STEPS_MAX, FilterStep, PacketAt};

/// A SYN, and the last segment of a handshake.
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

/// The IP header and the TCP header of a segment.
pub struct Segment {
    network: Vec<u8>,
    transport: [u8; 20],
}

impl Segment {
    pub fn new(source: IpAddr, flags: u8) -> Self {
        let mut transport = [0; 20];
        transport[13] = flags;
        let network = match source {
            IpAddr::V4(source) => {
                let mut header = vec![0x45; 20];
                header[12..16].copy_from_slice(&source.octets());
                header
            }
            IpAddr::V6(source) => {
                let mut header = vec![0x60; 40];
                header[8..24].copy_from_slice(&source.octets());
                header
            }
        };
        Self { network, transport }
    }

    fn bytes(&self, at: PacketAt, count: usize) -> u32 {
        let (header, offset) = match at {
            PacketAt::Transport(offset) => (&self.transport[..], offset as usize),
            PacketAt::Network(offset) => (&self.network[..], offset as usize),
        };
        let bytes = &header[offset..offset + count];
        bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }
}

/// Whether a segment passes, and after how many steps.
///
/// # Panics
/// If the program goes on behind its end, or is too long for the kernel.
pub fn passes(program: &[FilterStep], segment: &Segment) -> (bool, usize) {
    assert!((1..=FILTER_STEPS_MAX).contains(&program.len()));
    let (mut value, mut slots) = (0_u32, [0_u32; 16]);
    let (mut at, mut steps) = (0, 0);
    loop {
        let step = program[at];
        (at, steps) = (at + 1, steps + 1);
        match step {
            FilterStep::LoadByte(from) => value = segment.bytes(from, 1),
            FilterStep::LoadWord(from) => value = segment.bytes(from, 4),
            FilterStep::Recall(slot) => value = slots[slot as usize],
            FilterStep::Keep(slot) => slots[slot as usize] = value,
            FilterStep::And(bits) => value &= bits,
            FilterStep::ShiftRight(bits) => value >>= bits,
            FilterStep::If { is, than, yes, no } => {
                let is_so = match is {
                    Comparison::Equal => value == than,
                    Comparison::Greater => value > than,
                    Comparison::AtLeast => value >= than,
                };
                at += usize::from(if is_so { yes } else { no });
            }
            FilterStep::Skip(steps) => at += steps as usize,
            FilterStep::Pass => return (true, steps),
            FilterStep::Drop => return (false, steps),
        }
    }
}

/// A network for each nine bytes, the same address space for all that are alike in the first of them. For each network its
/// edges and their neighbours are looked up.
pub fn ban_filter(data: &[u8]) {
    let networks: Vec<Network> = data.chunks_exact(9).filter_map(network).collect();
    let compiled = filter::compile(&networks);
    let kept = &networks[..compiled.taken];
    assert!(compiled.taken == networks.len() || compiled.program.len() > FILTER_STEPS_MAX / 2);
    for source in networks.iter().flat_map(|network| around(*network)) {
        let is_banned = kept.iter().any(|network| contains(*network, source));
        let (passed, steps) = passes(&compiled.program, &Segment::new(source, SYN));
        assert_eq!(passed, !is_banned, "{source}");
        assert!(steps < 100, "{steps} steps for {source}");
        for flags in [ACK, SYN | ACK, 0x18, 0x11, 0x04] {
            assert!(passes(&compiled.program, &Segment::new(source, flags)).0, "{source} {flags}");
        }
    }
}

/// The first byte says which kind it is, the second how long its prefix is.
fn network(bytes: &[u8]) -> Option<Network> {
    let [kind, prefix, rest @ ..] = bytes else { return None };
    let text = match kind % 2 {
        0 => {
            let bits = u32::from_be_bytes(rest[..4].try_into().ok()?);
            let prefix = if kind & 2 == 0 { 32 } else { prefix % 32 + 1 };
            let bits = bits & u32::MAX << (32 - prefix);
            format!("{}/{prefix}", Ipv4Addr::from_bits(bits))
        }
        _ => {
            // Many that are alike in the first half.
            let shift = if kind & 4 == 0 { 32 } else { 0 };
            let number = u64::from_be_bytes([rest, &[*kind]].concat().try_into().ok()?) >> shift;
            let prefix = if kind & 2 == 0 { 64 } else { prefix % 64 + 1 };
            let bits = u128::from(number & u64::MAX << (64 - prefix)) << 64;
            format!("{}/{prefix}", Ipv6Addr::from_bits(bits))
        }
    };
    text.parse().ok()
}

fn bounds(network: Network) -> (IpAddr, IpAddr) {
    let text = network.to_string();
    match text.parse::<ipnet::IpNet>() {
        Ok(network) => (network.network(), network.broadcast()),
        Err(_) => {
            let one: IpAddr = text.parse().expect("it is an address or a network");
            (one, one)
        }
    }
}

/// Whether an address is in a network, by its text.
pub fn contains(network: Network, source: IpAddr) -> bool {
    let (first, last) = bounds(network);
    source.is_ipv4() == first.is_ipv4() && (first..=last).contains(&source)
}

/// Its first and last address, and those before and behind.
fn around(network: Network) -> Vec<IpAddr> {
    let (first, last) = bounds(network);
    let mut around = vec![first, last];
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let near = [first.to_bits().checked_sub(1), last.to_bits().checked_add(1)];
            around
                .extend(near.into_iter().flatten().map(|it| IpAddr::from(Ipv4Addr::from_bits(it))));
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let near = [first.to_bits().checked_sub(1), last.to_bits().checked_add(1)];
            let near = near.into_iter().flatten().map(Ipv6Addr::from_bits);
            // A mapped address comes as the IPv4 address.
            let near = near.filter(|it| it.to_ipv4_mapped().is_none());
            around.extend(near.map(IpAddr::from));
        }
        _ => unreachable!("both are of one kind"),
    }
    around
}
