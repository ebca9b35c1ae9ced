//! Descriptors that go from one process to another over a unix socket. See unix(7), SCM_RIGHTS.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors of one message: SCM_MAX_FD.
pub const DESCRIPTORS_MAX: usize = 253;

/// sendmsg(2): bytes, and descriptors with the first of them. Returns how many bytes went.
///
/// # Errors
/// Those of sendmsg(2); EINVAL for more than [`DESCRIPTORS_MAX`].
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// recvmsg(2): bytes, and the descriptors that came along, each with FD_CLOEXEC. Fewer than were sent if this process
/// may not have more.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(bytes)];
    let received = recvmsg(socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    Ok((received.bytes, descriptors))
}

/// What this process was given as its standard input. From then on that is empty.
///
/// # Errors
/// Those of fcntl(2), open(2) and dup2(2).
pub fn take_stdin() -> io::Result<OwnedFd> {
    let given = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_come_with_their_bytes() {
        let (from, mut to) = UnixStream::pair().unwrap();
        let (one, mut other) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let some = [one.as_fd(), null.as_fd()];
        assert_eq!(send_with_descriptors(from.as_fd(), b"abc", &some).unwrap(), 3);
        (&from).write_all(b"de").unwrap();
        let mut bytes = [0; 8];
        let (len, came) = receive_with_descriptors(to.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..len], came.len()), (&b"abc"[..], 2));
        to.read_exact(&mut bytes[..2]).unwrap();
        drop(one);
        let mut passed = UnixStream::from(came.into_iter().next().unwrap());
        passed.write_all(b"x").unwrap();
        other.read_exact(&mut bytes[..1]).unwrap();
        assert_eq!(bytes[0], b'x');
        let many = vec![null.as_fd(); DESCRIPTORS_MAX + 1];
        assert!(send_with_descriptors(from.as_fd(), b"a", &many).is_err());
    }
}
