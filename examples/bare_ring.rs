//! The floor that the acceptor is compared with: one thread, one ring, multishot accept and receive,
//! send, close, and nothing else. No limits, no deadlines, no metrics, no second thread; errors that
//! a real server has to survive end this one.
//!
//! `cargo run --release --example bare_ring -- 127.0.0.1:7001 echo|http [defer]`

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

const BUFFERS: u16 = 512;
const BUFFER_BYTES: usize = 4096;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\
    Connection: close\r\n\r\nhello\n";

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const IGNORE: u64 = 4;

/// 8 bits what, 24 bits which buffer, 32 bits which socket.
fn tag(what: u64, buffer: u16, socket: i32) -> u64 {
    what << 56 | u64::from(buffer) << 32 | socket as u64
}

/// Buffers that the kernel receives into, and the ring by which it gets them.
struct Buffers {
    ring: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn address(&self, id: u16) -> *mut u8 {
        // SAFETY: id < BUFFERS.
        unsafe { self.memory.add(usize::from(id) * BUFFER_BYTES) }
    }

    fn give(&mut self, id: u16) {
        // SAFETY: the index is below BUFFERS, and the kernel reads the entry after the tail only.
        let entry = unsafe { &mut *self.ring.add(usize::from(self.tail % BUFFERS)) };
        entry.set_addr(self.address(id) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the ring is never freed.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.ring).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn leak(bytes: usize) -> *mut u8 {
    let layout = std::alloc::Layout::from_size_align(bytes, 4096).expect("a constant layout");
    // SAFETY: the layout is not empty.
    unsafe { std::alloc::alloc_zeroed(layout) }
}

fn receive(socket: i32, many: bool) -> squeue::Entry {
    let entry = if many {
        opcode::RecvMulti::new(Fd(socket), 0).build()
    } else {
        opcode::Recv::new(Fd(socket), std::ptr::null_mut(), 0)
            .buf_group(0)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
    };
    entry.user_data(tag(RECEIVE, 0, socket))
}

fn close(socket: i32) -> squeue::Entry {
    let entry = opcode::Close::new(Fd(socket)).build().flags(squeue::Flags::SKIP_SUCCESS);
    entry.user_data(tag(IGNORE, 0, socket))
}

fn listen(address: &str, defer: bool) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    let socket = socket2::SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    if defer {
        uring_acceptor::sys::set_tcp_defer_accept(std::os::fd::AsFd::as_fd(&listener), 7)?;
    }
    socket.listen(4096)?;
    Ok(listener)
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().map_or("127.0.0.1:7001", String::as_str);
    let http = arguments.get(1).is_some_and(|mode| mode == "http");
    let listener = listen(address, arguments.get(2).is_some_and(|option| option == "defer"))?;
    println!("listening {} bare-ring", listener.local_addr()?);

    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(16_384)
        .build(4096)?;
    let (mut submitter, mut submissions, mut completions) = ring.split();
    submitter.register_ring_fd()?;
    let bytes = usize::from(BUFFERS) * size_of::<BufRingEntry>();
    let entries: *mut BufRingEntry = leak(bytes).cast();
    // SAFETY: the memory is never freed.
    unsafe { submitter.register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0)? };
    let memory = leak(usize::from(BUFFERS) * BUFFER_BYTES);
    let mut buffers = Buffers { ring: entries, memory, tail: 0 };
    (0..BUFFERS).for_each(|id| buffers.give(id));

    let mut push = |entry: squeue::Entry| {
        // SAFETY: what entries point to is never freed.
        unsafe { submissions.push(&entry).expect("4096 entries are enough for a turn") };
        submissions.sync();
    };
    let accept =
        || opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build().user_data(tag(ACCEPT, 0, 0));
    push(accept());
    loop {
        submitter.submit_and_wait(1)?;
        completions.sync();
        for completion in &mut completions {
            let user_data = completion.user_data();
            let (result, flags) = (completion.result(), completion.flags());
            let (socket, more) = (user_data as i32, cqueue::more(flags));
            match user_data >> 56 {
                ACCEPT => {
                    if result >= 0 {
                        push(receive(result, false));
                    }
                    if !more {
                        push(accept());
                    }
                }
                RECEIVE if result <= 0 => push(close(socket)),
                RECEIVE => {
                    let id = cqueue::buffer_select(flags).expect("bytes come in a buffer");
                    if http {
                        let send =
                            opcode::Send::new(Fd(socket), ANSWER.as_ptr(), ANSWER.len() as u32)
                                .flags(uring_acceptor::sys::MSG_MORE);
                        push(send.build().user_data(tag(IGNORE, 0, socket)));
                        push(close(socket));
                        buffers.give(id);
                        continue;
                    }
                    let send = opcode::Send::new(Fd(socket), buffers.address(id), result as u32);
                    push(send.build().user_data(tag(SEND, id, socket)));
                    if !more {
                        push(receive(socket, true));
                    }
                }
                SEND => buffers.give((user_data >> 32) as u16),
                _ => {}
            }
        }
    }
}
