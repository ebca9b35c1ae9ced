//! What a supervisor such as systemd is told: sd_notify(3), sd_pid_notify_with_fds(3).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::sys;

/// Tells it something, with sockets that it is to keep, at the address that NOTIFY_SOCKET has: a path, or `@` and an
/// abstract name.
///
/// # Errors
/// Those of connect(2) and sendmsg(2).
pub fn notify(to: &OsStr, text: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    match to.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(to)?,
    }
    // A datagram goes as a whole.
    sys::send_with_descriptors(socket.as_fd(), text.as_bytes(), sockets).map(drop)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn told(at: &SocketAddr, name: &OsString) {
        let supervisor = UnixDatagram::bind_addr(at).unwrap();
        notify(name, "READY=1\n", &[supervisor.as_fd()]).unwrap();
        let mut bytes = [0; 64];
        let (length, sockets) =
            sys::receive_with_descriptors(supervisor.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], sockets.len()), (&b"READY=1\n"[..], 1));
    }

    #[test]
    fn a_supervisor_is_told_at_a_path_and_at_an_abstract_name() {
        let name = format!("notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        told(&SocketAddr::from_pathname(&path).unwrap(), &path.clone().into());
        std::fs::remove_file(path).unwrap();
        let name = format!("test-{name}");
        told(&SocketAddr::from_abstract_name(&name).unwrap(), &format!("@{name}").into());
        notify(OsStr::new("@nobody-is-there"), "READY=1\n", &[]).unwrap_err();
    }
}
