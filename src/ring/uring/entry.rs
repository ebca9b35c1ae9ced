//! Operations as submission queue entries.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd};
use socket2::{Domain, SockAddr, Type};

use super::super::operation::{Descriptor, Kind, Shots};
use super::super::tag::{Generation, Key, Tag};
use crate::sys::{self, Errno, MessageHeader};

/// The only group of provided buffers of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// The key of wakes from other rings.
pub(super) const WAKE_FROM_RING: Key = key(0);
/// The key of the poll on the ring's eventfd.
pub(super) const WAKE_FROM_THREAD: Key = key(1);

const fn key(slot: u32) -> Key {
    Key { slot, generation: Generation::FIRST }
}

/// The masks of poll(2).
const POLLIN: u32 = sys::POLLIN as u32;
const POLLOUT: u32 = sys::POLLOUT as u32;

/// Every byte, or an error; a peer that has gone is an error and no signal.
const SEND_FLAGS: i32 = sys::MSG_WAITALL | sys::MSG_NOSIGNAL;

pub(super) fn open(key: Key, domain: Domain) -> Entry {
    let kind = i32::from(Type::STREAM) | sys::SOCK_CLOEXEC;
    tagged(opcode::Socket::new(domain.into(), kind, 0).build(), Kind::Open, key)
}

/// The kernel copies the address when the entry is submitted.
pub(super) fn connect(key: Key, socket: Descriptor, address: &SockAddr) -> Entry {
    let start = address.as_ptr().cast();
    tagged(opcode::Connect::new(Fd(socket.raw()), start, address.len()).build(), Kind::Connect, key)
}

pub(super) fn accept(key: Key, listener: Descriptor, shots: Shots) -> Entry {
    let fd = Fd(listener.raw());
    let cloexec = sys::SOCK_CLOEXEC;
    let entry = match shots {
        Shots::Once => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
            .flags(cloexec)
            .build(),
        Shots::Many { .. } => opcode::AcceptMulti::new(fd).flags(cloexec).build(),
    };
    tagged(entry, Kind::Accept, key)
}

pub(super) fn receive(key: Key, socket: Descriptor, shots: Shots) -> Entry {
    let fd = Fd(socket.raw());
    let entry = match shots {
        Shots::Once => opcode::Recv::new(fd, std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT),
        Shots::Many { credit_bytes } => {
            with_credit(opcode::RecvMulti::new(fd, BUFFER_GROUP).build(), credit_bytes)
        }
    };
    tagged(entry, Kind::Receive, key)
}

/// Where the bytes of a send are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory {
    /// In one place: so many.
    Bytes(*const u8, usize),
    /// In several, which a message names.
    Message(*const MessageHeader),
}

pub(super) fn send(tag: Tag, socket: Descriptor, memory: Memory, more: bool) -> Entry {
    let flags = if more { SEND_FLAGS | sys::MSG_MORE } else { SEND_FLAGS };
    send_entry(tag, socket, memory, flags)
}

/// A send that keeps the last segment back, and the close that lets it go together with the FIN.
///
/// The two are not linked: if the peer is slow, the close takes the descriptor away at once and the
/// pending send holds the socket, which the kernel closes when the send ends, however it ends. A
/// link would cost a round of task work per connection and add only ways to fail.
pub(super) fn send_and_close(tag: Tag, socket: Descriptor, memory: Memory) -> [Entry; 2] {
    [send_entry(tag, socket, memory, SEND_FLAGS | sys::MSG_MORE), close(socket)]
}

/// Brings a completion only if it fails, and close(2) of a socket takes the descriptor in any case.
pub(super) fn close(socket: Descriptor) -> Entry {
    let entry = opcode::Close::new(Fd(socket.raw())).build().flags(Flags::SKIP_SUCCESS);
    tagged(entry, Kind::Close, Key::fixed(0))
}

pub(super) fn cancel(key: Key, kind: Kind) -> Entry {
    let target = CancelBuilder::user_data(Tag::new(kind, key).pack()).all();
    let entry = opcode::AsyncCancel2::new(target).build().flags(Flags::SKIP_SUCCESS);
    tagged(entry, Kind::Cancel, key)
}

pub(super) fn wake(ring: Descriptor) -> Entry {
    let tag = Tag::new(Kind::Wake, WAKE_FROM_RING).pack();
    let entry = opcode::MsgRingData::new(Fd(ring.raw()), 0, tag, None).build();
    tagged(entry.flags(Flags::SKIP_SUCCESS), Kind::Wake, WAKE_FROM_RING)
}

pub(super) fn poll_eventfd(eventfd: Descriptor) -> Entry {
    let entry = opcode::PollAdd::new(Fd(eventfd.raw()), POLLIN).multi(true).build();
    tagged(entry, Kind::Wake, WAKE_FROM_THREAD)
}

/// Tells once that there is something to receive, or that the socket has failed.
pub(super) fn poll_readable(key: Key, socket: Descriptor) -> Entry {
    tagged(opcode::PollAdd::new(Fd(socket.raw()), POLLIN).build(), Kind::Receive, key)
}

/// Tells each time that there is room to send, or that the socket has failed.
pub(super) fn poll_writable(number: u32, socket: Descriptor) -> Entry {
    let entry = opcode::PollAdd::new(Fd(socket.raw()), POLLOUT).multi(true).build();
    tagged(entry, Kind::Poll, Key::fixed(number))
}

/// Completes at once.
pub(super) fn nop(key: Key, kind: Kind) -> Entry {
    tagged(opcode::Nop::new().build(), kind, key)
}

fn send_entry(tag: Tag, socket: Descriptor, memory: Memory, flags: i32) -> Entry {
    let fd = Fd(socket.raw());
    let entry = match memory {
        Memory::Bytes(address, bytes) => {
            let len = u32::try_from(bytes).expect("a send is at most 256 KiB");
            opcode::Send::new(fd, address, len).flags(flags).build()
        }
        Memory::Message(header) => {
            opcode::SendMsg::new(fd, header).flags(flags.cast_unsigned()).build()
        }
    };
    entry.user_data(tag.pack())
}

fn tagged(entry: Entry, kind: Kind, key: Key) -> Entry {
    entry.user_data(Tag::new(kind, key).pack())
}

/// Caps what all shots of a receive may bring together: the field `optlen` of the entry, at byte 44
/// (Linux 6.17), which the crate does not name.
fn with_credit(mut entry: Entry, credit_bytes: u32) -> Entry {
    const OPTLEN_OFFSET: usize = 44;
    const { assert!(size_of::<Entry>() == 64 && align_of::<Entry>() >= align_of::<u32>()) };
    // SAFETY: an Entry is the 64-byte submission queue entry (repr(C)), so bytes 44 to 47 lie within
    // it, aligned, and every bit pattern of them is valid.
    unsafe { (&raw mut entry).byte_add(OPTLEN_OFFSET).cast::<u32>().write(credit_bytes) };
    entry
}

/// A cancel that finds a send on a thread of the kernel, where it goes after many waits, interrupts it.
pub(super) fn cancelled(errno: Errno) -> Errno {
    if errno == Errno::EINTR { Errno::ECANCELED } else { errno }
}
