//! An access log that nobody reads: what is lost is counted and told, while the program runs and at its end.

mod services;

use std::fs::File;
use std::io::{PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use crate::client::expect_alive;
use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server, eventually, meanwhile};
use crate::process;

/// Far more than a pipe of the least size holds.
const CONNECTIONS: u64 = 60;

/// Bytes of such a pipe.
const LEAST_PIPE: i32 = 4096;

/// The end of the program, with what it was told to write to `log`: to the entry.
#[track_caller]
fn expect_all_accounted_for(exit: &Exit, log: &str) {
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let written = log.matches('\n').count() as u64;
    assert!(written < CONNECTIONS, "all were written: {log}");
    let lost = CONNECTIONS - written;
    let told =
        format!(" is not complete: {lost} entries are lost: {lost} that waited for write(2) when");
    assert_eq!(exit.stderr.matches(&told).count(), 1, "{lost}: {}", exit.stderr);
    assert!(exit.stderr.contains(&format!(" log_dropped={lost} ")), "{lost}: {}", exit.stderr);
}

/// Connects so often and waits for the line that says what becomes of the entries.
#[track_caller]
fn fill(proxy: &Server, address: std::net::SocketAddr, name: &str) {
    (0..CONNECTIONS).for_each(|_| expect_alive(address));
    let told = format!("the access log {name} takes nothing: write(2) has waited for ");
    eventually(SOON, "it is told while the program runs", || proxy.stderr().contains(&told));
    meanwhile(Duration::from_millis(1500), "it is told once", || {
        proxy.stderr().matches("takes nothing").count() == 1
    });
}

fn read_to_the_end(mut reader: PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("it is text");
    text
}

/// A proxy whose access log is a pipe on its stdout that is full, and the other end of the pipe.
fn proxy_with_a_full_pipe(backend: &str) -> (Server, PipeReader) {
    let (reader, writer) = pipe().expect("there are descriptors");
    process::set_pipe_size(&writer, LEAST_PIPE).expect("it may be smaller");
    let arguments = ["proxy", "--to", backend, "--access-log", "-"];
    let launch = Launch::new(&arguments).stdout(Stdio::from(OwnedFd::from(writer)));
    // The `listening` line is on stderr.
    let proxy = launch.listeners(1).start();
    fill(&proxy, proxy.address(), "on stdout");
    (proxy, reader)
}

#[test]
fn a_pipe_that_nobody_reads() {
    let echo = Server::start(&["echo"]);
    let backend = echo.address().to_string();
    let (proxy, reader) = proxy_with_a_full_pipe(&backend);
    proxy.signal(libc::SIGTERM);
    let exit = proxy.wait(SOON);
    expect_all_accounted_for(&exit, &read_to_the_end(reader));
    echo.stop();
}

#[test]
fn a_fifo_that_nobody_reads() {
    let (folder, echo) = (Folder::new(), Server::start(&["echo"]));
    let (path, backend) = (folder.file("fifo"), echo.address().to_string());
    process::make_fifo(&path).expect("it is new");
    let arguments = ["proxy", "--to", &backend, "--access-log", &path];
    // Nobody has it open: the start does not wait for that.
    let exit = Launch::new(&arguments).run();
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let told = format!("the access log {path} cannot be opened: open(2) failed with ENXIO");
    assert!(exit.stderr.contains(&told), "{}", exit.stderr);
    assert!(exit.stderr.contains("nobody reads this FIFO: start its reader first"));
    // Whoever opens it for both does not wait either.
    let both = File::options().read(true).write(true).open(&path).expect("it is there");
    process::set_pipe_size(&both, LEAST_PIPE).expect("it may be smaller");
    let proxy = Launch::new(&arguments).start();
    fill(&proxy, proxy.address(), &path);
    proxy.signal(libc::SIGTERM);
    let exit = proxy.wait(SOON);
    let reader = File::open(&path).expect("it is there");
    drop(both);
    expect_all_accounted_for(&exit, &read_to_the_end(PipeReader::from(OwnedFd::from(reader))));
    echo.stop();
}

/// The file and the call.
#[test]
fn what_cannot_be_opened_is_named() {
    let folder = Folder::new();
    let missing = folder.file("none/log");
    let table = [(missing.as_str(), "ENOENT"), (folder.0.to_str().expect("text"), "EISDIR")];
    for (path, errno) in table {
        let exit = Launch::new(&["proxy", "--to", "127.0.0.1:1", "--access-log", path]).run();
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        let told = format!("the access log {path} cannot be opened: open(2) failed with {errno} (");
        assert!(exit.stderr.contains(&told), "{}", exit.stderr);
    }
}

/// One that is read late is complete.
#[test]
fn a_pipe_that_is_read_again() {
    let echo = Server::start(&["echo"]);
    let backend = echo.address().to_string();
    let (proxy, reader) = proxy_with_a_full_pipe(&backend);
    let reading = std::thread::spawn(move || read_to_the_end(reader));
    let told = "the access log on stdout is written again; no entry is lost";
    eventually(2 * SOON, "that it is well again is told", || proxy.stderr().contains(told));
    let log = proxy.stop();
    assert!(!log.contains("is not complete") && !log.contains("log_dropped"), "{log}");
    assert_eq!(reading.join().expect("it is text").matches('\n').count() as u64, CONNECTIONS);
    echo.stop();
}
