//! A log that cannot be written holds up nothing, and what is lost is told when it can be again.

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::client::{IO_TIMEOUT, expect_alive, expect_echo};
use crate::harness::{Launch, SOON, Server, eventually, meanwhile};
use crate::process;

/// Levels and forms of the log.
const LOGGINGS: [&[&str]; 4] = [&[], &["-vv"], &["-q"], &["--log-format", "json"]];

/// A pipe without a reader.
fn broken() -> PipeWriter {
    let (reader, writer) = pipe().expect("there are descriptors");
    drop(reader);
    writer
}

/// Sets O_NONBLOCK of everybody who has this open, or clears it.
fn set_nonblocking(file: &impl AsFd, nonblocking: bool) {
    let fd = file.as_fd().try_clone_to_owned().expect("there are descriptors");
    // The same call as for sockets.
    UnixStream::from(fd).set_nonblocking(nonblocking).expect("it is open");
}

/// A pipe that is full, and how many bytes that took.
fn full(nonblocking: bool) -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = pipe().expect("there are descriptors");
    let bytes = fill(&mut writer);
    set_nonblocking(&writer, nonblocking);
    (reader, writer, bytes)
}

/// Writes until nothing goes any more, and says how many bytes that took. It does not block afterwards.
fn fill(writer: &mut (impl AsFd + Write)) -> usize {
    set_nonblocking(writer, true);
    let mut bytes = 0;
    loop {
        match writer.write(&[b'.'; 4096]) {
            Ok(count) => bytes += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

fn folder(name: &str) -> PathBuf {
    let name = format!("log-{}-{}-{name}", crate::ENGINE, std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir(&folder).expect("the folder is new");
    folder
}

/// Holds that it serves and that it drains.
#[track_caller]
fn expect_served_and_stopped(server: Server) {
    expect_alive(server.address());
    server.stop();
}

#[test]
fn nobody_reads_stderr_any_more() {
    for logging in LOGGINGS {
        let echo = Launch::new(&[&["echo"], logging].concat()).stderr(broken()).start();
        expect_served_and_stopped(echo);
    }
    let echo = Server::start(&["echo"]);
    let backend = echo.address().to_string();
    let proxy = Launch::new(&["proxy", "--to", &backend]).stderr(broken()).start();
    proxy.signal(libc::SIGUSR1);
    expect_served_and_stopped(proxy);
    echo.stop();
}

/// More lines than the queue has room for are on their way, whether a write waits or says EAGAIN.
#[test]
fn stderr_is_full() {
    let refusing = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let backend = refusing.local_addr().expect("it is bound").to_string();
    for nonblocking in [false, true] {
        let (_reader, writer, _) = full(nonblocking);
        let launch = Launch::new(&["proxy", "--to", &backend, "--drain-timeout", "0s"]);
        let proxy = launch.stderr(writer).start();
        for _ in 0..1000 {
            proxy.signal(libc::SIGUSR1);
        }
        proxy.stop();
    }
}

/// Two of each signal: a stop at once is no different.
#[test]
fn a_second_signal_stops_although_stderr_is_full() {
    let (_reader, writer, _) = full(false);
    let mut server = Launch::new(&["echo"]).stderr(writer).start();
    let _held = crate::client::connect(server.address());
    eventually(SOON, "it has ended", || {
        server.signal(libc::SIGTERM);
        server.has_ended()
    });
    assert_eq!(server.wait(SOON).code, Some(0));
}

#[test]
fn whoever_reads_again_finds_every_line() {
    for nonblocking in [false, true] {
        let (mut reader, writer, filling) = full(nonblocking);
        let server = Launch::new(&["echo"]).stderr(writer).start();
        server.signal(libc::SIGTERM);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("it is text");
        assert!(text[filling..].contains("draining"), "{}", &text[filling..]);
        assert_eq!(server.wait(SOON).code, Some(0));
    }
}

#[test]
fn a_full_disk_for_everything() {
    let full = || File::options().write(true).open("/dev/full").expect("it is there");
    let echo = Server::start(&["echo"]);
    let backend = echo.address().to_string();
    let arguments = ["proxy", "--to", &backend, "--access-log", "/dev/full"];
    let proxy = Launch::new(&arguments).stderr(full()).start();
    expect_served_and_stopped(proxy);
    let proxy = Launch::new(&arguments).start();
    expect_alive(proxy.address());
    let told = "the access log /dev/full cannot be written: write(2) failed with ENOSPC (No space";
    eventually(SOON, "it says so", || proxy.stderr().contains(told));
    proxy.signal(libc::SIGTERM);
    let exit = proxy.wait(SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains("log_dropped=1"), "{}", exit.stderr);
    let told = "the access log /dev/full is not complete: 1 entry is lost: 1 that write(2) refused with ENOSPC";
    assert_eq!(exit.stderr.matches(told).count(), 1, "{}", exit.stderr);
    echo.stop();
}

/// A file that may not grow takes a line again once it is cut.
#[test]
fn lost_lines_are_told_when_there_is_room_again() {
    let folder = folder("limit");
    let path = folder.join("log");
    let log = File::options().append(true).create(true).open(&path).expect("it is new");
    let limited = || process::limit_file_size(300);
    let launch = Launch::new(&["proxy", "--to", "127.0.0.1:1"]).prepared(limited);
    let proxy = launch.stderr(log.try_clone().expect("there are descriptors")).start();
    let text = || fs::read_to_string(&path).expect("it is there");
    // A line that has begun is not lost: so one of these is.
    eventually(SOON, "it is full", || {
        proxy.signal(libc::SIGUSR1);
        text().len() >= 300
    });
    for _ in 0..10 {
        proxy.signal(libc::SIGUSR1);
        // Its backend refuses, so a reset may come before this is connected.
        let _ = TcpStream::connect(proxy.address()).map(|mut client| client.read(&mut [0; 1]));
    }
    log.set_len(0).expect("it is a file");
    eventually(SOON, "it tells", || text().contains("of the log lost: File too large"));
    // The first may be the rest of the line that had begun, and the last may have begun only.
    let text = text();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    assert!(whole.lines().skip(1).all(|line| line.contains("Z ")), "{text}");
    proxy.stop();
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn an_access_log_that_may_not_grow() {
    let folder = folder("access");
    let path = folder.join("access.log").to_str().expect("a path in text").to_owned();
    let echo = Server::start(&["echo"]);
    let backend = echo.address().to_string();
    let arguments = ["--access-log", &path, "--access-log-format", "json"];
    let launch = Launch::new(&[&["proxy", "--to", &backend], &arguments[..]].concat());
    let proxy = launch.prepared(|| process::limit_file_size(4000)).start();
    let full = format!("the access log {path} cannot be written: write(2) failed with EFBIG");
    eventually(SOON, "it is told", || {
        expect_alive(proxy.address());
        proxy.stderr().contains(&full)
    });
    File::options().write(true).open(&path).and_then(|log| log.set_len(0)).expect("it is there");
    expect_alive(proxy.address());
    // That it is well again is told after five seconds in which it was.
    let well = format!("the access log {path} is written again; ");
    eventually(2 * SOON, "it is told", || proxy.stderr().contains(&well));
    proxy.signal(libc::SIGTERM);
    let exit = proxy.wait(SOON);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stderr.contains(" log_dropped="), "{}", exit.stderr);
    let text = fs::read_to_string(&path).expect("it is there");
    // But for the rest of the line that the limit cut.
    for line in text.lines().skip(1) {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    echo.stop();
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn stdout_that_nobody_reads() {
    let folder = folder("stdout");
    let path = folder.join("socket").to_str().expect("a path in text").to_owned();
    let listen = format!("unix:{path}");
    let (_reader, writer, _) = full(false);
    let full_disk = File::options().write(true).open("/dev/full").expect("it is there");
    let outs: [(OwnedFd, &str); 3] = [
        (broken().into(), "stdout cannot be written: Broken pipe"),
        (full_disk.into(), "stdout cannot be written: No space left on device"),
        (writer.into(), "draining"),
    ];
    for (out, words) in outs {
        let server = Launch::new(&["echo", "--listen", &listen]).stdout(Stdio::from(out)).start();
        let mut client = None;
        eventually(SOON, "it listens", || {
            client = UnixStream::connect(&path).ok();
            client.is_some()
        });
        let client = client.expect("it is there");
        client.set_read_timeout(Some(IO_TIMEOUT)).expect("it is open");
        expect_echo(&client, b"hello");
        drop(client);
        server.signal(libc::SIGTERM);
        let exit = server.wait(SOON);
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert!(exit.stderr.contains(words), "'{words}' is missing in: {}", exit.stderr);
    }
    fs::remove_dir_all(folder).expect("it is there");
}

/// Somebody sits before it, and has pressed Control-S long ago.
#[test]
fn a_terminal_that_takes_nothing() {
    let (_seat, program) = process::terminal();
    let mut program = File::from(program);
    fill(&mut program);
    set_nonblocking(&program, false);
    let server = Launch::new(&["echo", "--stats-interval", "100ms"]).stderr(program).start();
    // Longer than it takes to draw for the first time.
    meanwhile(Duration::from_millis(300), "it serves", || {
        expect_alive(server.address());
        true
    });
    server.stop();
}

#[test]
fn a_terminal_shows_the_log_above_a_live_line() {
    let (seat, program) = process::terminal();
    let server = Launch::new(&["echo", "--stats-interval", "100ms"]).stderr(program).start();
    let mut seat = File::from(seat);
    set_nonblocking(&seat, true);
    let mut text = Vec::new();
    let mut until = |words: &str| {
        eventually(SOON, &format!("'{words}' is shown"), || {
            let mut bytes = [0; 4096];
            match seat.read(&mut bytes) {
                Ok(count) => text.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // EIO: the program has ended.
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&text)),
            }
            String::from_utf8_lossy(&text).contains(words)
        });
    };
    until("accept queue 0/");
    server.signal(libc::SIGTERM);
    until("a second signal stops at once");
    assert_eq!(server.wait(SOON).code, Some(0));
}

/// Help and complaints of the command line are no different.
#[test]
fn a_command_line_that_nobody_reads() {
    for launch in [Launch::new(&["echo", "--no-such-option"]), Launch::loadgen(&["--no-such"])] {
        let exit = launch.stderr(broken()).run();
        assert_eq!(exit.code, Some(2), "{exit:?}");
    }
    for launch in [Launch::new(&["echo", "--help"]), Launch::loadgen(&["--help"])] {
        let exit = launch.stdout(broken()).run();
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{exit:?}");
    }
}
