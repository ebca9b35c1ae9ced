//! Who a process is, and who is at the other end of a unix socket.

use std::io;
use std::os::fd::BorrowedFd;

use super::sockopt::{Sockopt, get_words};

/// geteuid(2): the user with whose rights this process acts.
pub fn effective_user() -> u32 {
    // SAFETY: it has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// SO_PEERCRED: the effective user of the process that has connected a unix socket, as it was then.
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer_user(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let option = Sockopt { level: libc::SOL_SOCKET, name: libc::SO_PEERCRED };
    // `struct ucred` of unix(7): process, user, group.
    let [_process, user, _group] = get_words::<3>(fd, option)?;
    Ok(user)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_peer_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(peer_user(one.as_fd()).unwrap(), effective_user());
    }
}
