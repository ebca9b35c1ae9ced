//! Unix sockets and the files they leave behind.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{env, process};

use super::*;

/// A directory of its own for one test, removed with what is in it.
pub(super) struct Directory(PathBuf);

pub(super) fn directory(test: &str) -> Directory {
    let path = env::temp_dir().join(format!("listener-{}-{test}", process::id()));
    fs::create_dir(&path).unwrap();
    Directory(path)
}

impl Directory {
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// std does not remove the file when it closes a socket.
fn leave_stale(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(exists(path));
}

#[test]
fn connections_are_accepted_and_the_file_is_removed() {
    let directory = directory("accept");
    let path = directory.join("listener.sock");
    let listener = listen_plainly(&address(&path));
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(sys::peer_address(accept(&listener).as_fd()).unwrap(), None);
    assert_eq!(listener.address(), &ListenAddress::Unix(path.clone().into()));
    let limit = listener.backlog().effective;
    assert_eq!(listener.queue().unwrap(), AcceptQueue { waiting: None, limit, drops: None });
    drop(listener);
    assert!(!exists(&path));
}

#[test]
fn a_stale_file_is_replaced() {
    let directory = directory("stale");
    let path = directory.join("listener.sock");
    leave_stale(&path);
    let listener = listen_plainly(&address(&path));
    UnixStream::connect(&path).unwrap();
    accept(&listener);
}

#[test]
fn a_live_socket_is_in_use_and_stays() {
    let directory = directory("live");
    let path = directory.join("listener.sock");
    let holder = UnixListener::bind(&path).unwrap();
    let error = refused(&address(&path));
    assert_eq!(error, BindError::InUse { address: ListenAddress::Unix(path.clone().into()) });
    drop(UnixStream::connect(&path).unwrap());
    drop(holder);
}

/// Nothing accepts, so that the probes themselves fill the queue: connect(2) would block.
#[test]
fn a_live_socket_with_a_full_queue_is_in_use() {
    let directory = directory("full");
    let path = directory.join("listener.sock");
    let options = SocketOptions { backlog: std::num::NonZeroU32::new(1), ..Default::default() };
    let _holder = listen(&address(&path), &options);
    let _clients = [UnixStream::connect(&path).unwrap(), UnixStream::connect(&path).unwrap()];
    assert!(matches!(refused(&address(&path)), BindError::InUse { .. }));
    assert!(exists(&path));
}

#[test]
fn a_socket_of_another_type_is_in_use() {
    let directory = directory("datagram");
    let path = directory.join("listener.sock");
    let _holder = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert!(matches!(refused(&address(&path)), BindError::InUse { .. }));
    assert!(exists(&path));
}

#[test]
fn a_socket_that_is_closed_within_the_retries_is_replaced() {
    let directory = directory("freed");
    let path = directory.join("listener.sock");
    let holder = UnixListener::bind(&path).unwrap();
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(holder);
    });
    listen_plainly(&address(&path));
    release.join().unwrap();
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let directory = directory("others");
    let [file, folder, link] = ["file", "folder", "link"].map(|name| directory.join(name));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(directory.join("nowhere"), &link).unwrap();
    for path in [file, folder, link] {
        let error = refused(&address(&path));
        assert!(exists(&path), "{error}");
        assert_eq!(error, BindError::NotASocket { path });
    }
}

#[test]
fn a_file_that_took_the_place_of_ours_stays() {
    let directory = directory("replaced");
    let path = directory.join("listener.sock");
    let listener = listen_plainly(&address(&path));
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    listener.stop_admitting().unwrap();
    drop(listener);
    assert!(exists(&path));
}

#[test]
fn stopping_frees_the_path_and_the_queue_is_served() {
    let directory = directory("stop");
    let path = directory.join("listener.sock");
    let old = listen_plainly(&address(&path));
    let _client = UnixStream::connect(&path).unwrap();
    old.stop_admitting().unwrap();
    assert!(!exists(&path));
    let new = listen_plainly(&address(&path));
    accept(&old);
    drop(old);
    UnixStream::connect(&path).unwrap();
    accept(&new);
}

/// Whoever had found the path before it went must not come into a queue that nobody looks at again.
#[test]
fn a_listener_that_stops_lets_nobody_into_its_queue() {
    let directory = directory("late");
    let [path, hard_link] = ["listener.sock", "link"].map(|name| directory.join(name));
    let listener = listen_plainly(&address(&path));
    fs::hard_link(&path, &hard_link).unwrap();
    let _early = UnixStream::connect(&hard_link).unwrap();
    listener.stop_admitting().unwrap();
    let late = UnixStream::connect(&hard_link).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    accept(&listener);
    let error = try_accept(&listener).unwrap_err();
    assert_eq!(sys::Errno::of(&error), sys::Errno::EINVAL, "the queue is empty");
}

/// An abstract name that no other test run has.
fn abstract_name(test: &str) -> String {
    format!("unix:@listener-{}-{test}", process::id())
}

fn connect_abstract(address: &str) -> io::Result<Socket> {
    let ListenAddress::Unix(name) = address.parse().unwrap() else { panic!("{address}") };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.connect(&SockAddr::unix(name.as_sun_path())?).map(|()| socket)
}

#[test]
fn an_abstract_name_has_no_file_and_is_free_when_its_listener_is_gone() {
    let address = abstract_name("serves");
    let listener = listen_plainly(&address);
    assert_eq!(listener.address().to_string(), address);
    assert!(!exists(Path::new(address.trim_start_matches("unix:"))));
    let _client = connect_abstract(&address).unwrap();
    listener.stop_admitting().unwrap();
    assert_eq!(connect_abstract(&address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    accept(&listener);
    let error = refused(&address);
    assert!(error.to_string().contains("is in use; to see by whom: ss -lxp src '@"), "{error}");
    drop(listener);
    listen_plainly(&address);
}

#[test]
fn an_abstract_name_may_have_every_byte_of_the_address() {
    let most = format!("unix:@{}{:0>9}", "x".repeat(98), process::id());
    let listener = listen_plainly(&most);
    connect_abstract(&most).unwrap();
    accept(&listener);
    let error = format!("{most}y").parse::<ListenAddress>().unwrap_err().to_string();
    assert!(error.contains("abstract name") && error.contains("has 108 bytes"), "{error}");
    let error = "unix:@".parse::<ListenAddress>().unwrap_err().to_string();
    assert!(error.contains("no abstract name"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_told_with_what_makes_it() {
    let directory = directory("missing");
    let error = refused(&address(&directory.join("no").join("listener.sock")));
    let told = format!("does not exist; make it: mkdir -p {}", directory.join("no").display());
    assert!(error.to_string().ends_with(&told), "{error}");
}

#[test]
fn a_directory_that_takes_no_files_is_a_lack_of_permission() {
    let error = refused("unix:/sys/listener.sock");
    assert!(matches!(error, BindError::Permission { .. }), "{error}");
}

#[test]
fn a_path_that_is_too_long_is_named_so() {
    let address = ListenAddress::Unix("x".repeat(108).as_str().into());
    let options = SocketOptions::default();
    let error = Listener::bind(&address, &options, Sharing::Exclusive).unwrap_err();
    assert!(error.to_string().contains("ENAMETOOLONG"), "{error}");
}

/// With whatever umask: the mode is the socket's own before the file has a name.
#[test]
fn a_private_socket_is_for_its_owner_alone() {
    let directory = directory("private");
    let path = directory.join("private.sock");
    let name = UnixAddress::from(path.clone());
    let listener = Listener::bind_private(&name, &SocketOptions::default()).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    let taken = Listener::bind_private(&name, &SocketOptions::default()).unwrap_err();
    assert!(taken.to_string().contains("is in use"), "{taken}");
    drop(listener);
    assert!(!exists(&path));
    leave_stale(&path);
    Listener::bind_private(&name, &SocketOptions::default()).unwrap();
}
