//! The arguments of sendmsg(2).

use std::fmt;

/// As the kernel reads it.
pub type MessageHeader = libc::msghdr;

/// Where several parts are that are sent together, as sendmsg(2) wants to be told. What it points to is somebody else's.
pub struct Message {
    parts: Vec<libc::iovec>,
    header: MessageHeader,
}

impl Default for Message {
    /// No parts.
    fn default() -> Self {
        // SAFETY: a header of zeros names no memory.
        Self { parts: Vec::new(), header: unsafe { std::mem::zeroed() } }
    }
}

impl Message {
    /// Names these parts, by address and length, and no others.
    pub fn set(&mut self, parts: impl Iterator<Item = (*const u8, usize)>) {
        self.parts.clear();
        let vector = |(start, len): (*const u8, usize)| libc::iovec {
            iov_base: start.cast_mut().cast(),
            iov_len: len,
        };
        self.parts.extend(parts.map(vector));
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.parts.len() as _;
    }

    /// The header. It holds as long as the message is there and is not [set](Self::set) anew.
    pub fn as_ptr(&self) -> *const MessageHeader {
        &raw const self.header
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} parts)", self.parts.len())
    }
}
