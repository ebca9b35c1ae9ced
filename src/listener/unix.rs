//! A listening unix stream socket. See unix(7).

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::{fs, io, thread};

use socket2::{Domain, SockAddr, Socket, Type};

use super::error::{Failure, during};
use super::socket_file::{Identity, SocketFile};
use super::{AcceptQueue, Access, Backlog, IN_USE_RETRY_STEP, Listener, SynFilter, backlog};
use crate::config::{ListenAddress, SocketOptions, UnixAddress};
use crate::sys::Errno;

/// Read and written by its owner: whoever may write may connect.
const OWNER_ONLY: u32 = 0o600;

/// One try, with a new socket. An abstract name has no file that could be stale or that would have to
/// be removed.
pub(super) fn listen(
    name: &UnixAddress,
    options: &SocketOptions,
    access: Access,
) -> Result<Listener, Failure> {
    let address = socket_address(name.as_sun_path())?;
    let socket = stream_socket().map_err(during("socket(2)"))?;
    if access == Access::Owner {
        keep_others_out(&socket).map_err(during("fchmod(2)"))?;
    }
    let file = match name.file() {
        None => socket.bind(&address).map(|()| None).map_err(during("bind(2)"))?,
        Some(path) => {
            bind(&socket, &address, path)?;
            Some(SocketFile::of(path).map_err(during("stat(2)"))?)
        }
    };
    let asked = backlog::asked(options);
    socket.listen(backlog::as_argument(asked)).map_err(during("listen(2)"))?;
    let address = ListenAddress::Unix(name.clone());
    let backlog = Mutex::new(backlog::assumed(asked));
    // The kernel does not tell how long they wait.
    let (waits, pauses, pressure) = Default::default();
    let is_kept = AtomicBool::new(false);
    Ok(Listener {
        file,
        is_kept,
        is_of_others: false,
        is_handed_over: false,
        is_given_away: AtomicBool::new(false),
        drops_before: 0,
        socket,
        address,
        backlog,
        waits,
        pauses,
        syn_filter: SynFilter::default(),
        pressure,
    })
}

/// bind(2) makes the file with the permissions that the socket has (and the umask leaves): so there is no moment
/// in which it has others, as there would be with chmod(2) behind it, and no umask of the whole process to change.
fn keep_others_out(socket: &Socket) -> io::Result<()> {
    let file = fs::File::from(socket.as_fd().try_clone_to_owned()?);
    file.set_permissions(fs::Permissions::from_mode(OWNER_ONLY))
}

/// Changes a socket that listens already: its backlog is all there is.
pub(super) fn configure(socket: &Socket, options: &SocketOptions) -> Result<Backlog, Failure> {
    let asked = backlog::asked(options);
    socket.listen(backlog::as_argument(asked)).map_err(during("listen(2)"))?;
    Ok(backlog::assumed(asked))
}

/// All that the kernel tells of it without netlink.
pub(super) fn queue(backlog: Backlog) -> AcceptQueue {
    AcceptQueue { waiting: None, limit: backlog.effective, drops: None }
}

/// Frees the path and lets no client into the queue any more, whoever had found the path before. What
/// is in the queue stays: unlike TCP, unix sockets shut down for reading only refuse.
pub(super) fn refuse(socket: &Socket, file: Option<&SocketFile>) -> io::Result<()> {
    let unlinked = file.map_or(Ok(()), SocketFile::unlink);
    socket.shutdown(Shutdown::Read)?;
    unlinked
}

fn stream_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::STREAM, None)
}

/// socket2 knows one way for a path to be wrong.
fn socket_address(path: &Path) -> Result<SockAddr, Failure> {
    SockAddr::unix(path).map_err(|_| Failure { step: "the path", errno: Errno::ENAMETOOLONG })
}

/// The kernel leaves the file of a socket behind when its process ends, and refuses to bind to it.
fn bind(socket: &Socket, address: &SockAddr, path: &Path) -> Result<(), Failure> {
    match socket.bind(address).map_err(during("bind(2)")) {
        Err(failure) if failure.is_in_use() => {
            remove_stale(address, path)?;
            socket.bind(address).map_err(during("bind(2)"))
        }
        result => result,
    }
}

/// Removes the file if it is a socket that nobody listens on. Asks twice, a step apart: between its
/// bind(2) and its listen(2) a server that is just starting refuses connections too.
fn remove_stale(address: &SockAddr, path: &Path) -> Result<(), Failure> {
    let Some(stale) = socket_at(path)? else { return Ok(()) };
    refuses(address)?;
    thread::sleep(IN_USE_RETRY_STEP);
    refuses(address)?;
    stale.unlink(path).map_err(during("unlink(2)"))
}

/// The file at the path, `None` if it has gone meanwhile.
fn socket_at(path: &Path) -> Result<Option<Identity>, Failure> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(Some(Identity::of(&metadata))),
        Ok(_) => Err(Failure { step: "bind(2)", errno: Errno::ENOTSOCK }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(during("stat(2)")(error)),
    }
}

/// Whether connections are refused, or the file has gone. A socket that takes one, or has a full
/// queue, or is of another type, is alive: the failure then is that the address is in use.
fn refuses(address: &SockAddr) -> Result<(), Failure> {
    let probe = stream_socket().map_err(during("socket(2)"))?;
    probe.set_nonblocking(true).map_err(during("O_NONBLOCK"))?;
    match probe.connect(address).map_err(during("connect(2)")) {
        Err(Failure { errno: Errno::ECONNREFUSED | Errno::ENOENT, .. }) => Ok(()),
        Err(failure) if failure.errno == Errno::EACCES => Err(failure),
        _ => Err(Failure { step: "bind(2)", errno: Errno::EADDRINUSE }),
    }
}
