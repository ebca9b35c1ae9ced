//! `--engine`: what it takes, and what really runs then.

use std::path::Path;

use crate::client::expect_alive;
use crate::harness::{Launch, Server};
use crate::process::Refused;

/// What the descriptors of a process are, as /proc names them.
fn has_descriptor(server: &Server, name: &str) -> bool {
    let folder = format!("/proc/{}/fd", server.pid());
    let links = std::fs::read_dir(folder).expect("the process is alive");
    links
        .flatten()
        .filter_map(|link| link.path().read_link().ok())
        .any(|what| what == Path::new(name))
}

const IO_URING: &str = "anon_inode:[io_uring]";
const EPOLL: &str = "anon_inode:[eventpoll]";

#[test]
fn what_is_asked_for_runs() {
    let epoll = Server::start(&["echo", "--engine", "epoll"]);
    expect_alive(epoll.address());
    assert!(has_descriptor(&epoll, EPOLL) && !has_descriptor(&epoll, IO_URING));
    epoll.stop();
    if crate::ENGINE == "epoll" {
        return;
    }
    for engine in ["uring", "auto"] {
        let uring = Server::start(&["echo", "--engine", engine]);
        expect_alive(uring.address());
        assert!(has_descriptor(&uring, IO_URING) && !has_descriptor(&uring, EPOLL), "{engine}");
        assert!(!uring.stderr().contains("epoll"), "{}", uring.stderr());
        uring.stop();
    }
}

#[test]
fn a_refusal_is_no_reason_not_to_run_on_epoll_unless_uring_was_asked_for() {
    let refused = |engine| {
        let arguments = ["echo", "--engine", engine];
        Launch::new(&arguments).refusing_io_uring(Refused::With(libc::EPERM))
    };
    for (engine, warned) in [("auto", true), ("epoll", false)] {
        let server = refused(engine).start();
        expect_alive(server.address());
        let stderr = server.stderr();
        assert_eq!(stderr.contains("running on epoll"), warned, "{engine}: {stderr}");
        assert_eq!(stderr.matches("io_uring is refused").count(), usize::from(warned), "{stderr}");
        server.stop();
    }
}

#[test]
fn the_generator_takes_it_too() {
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let run = |engine| Launch::loadgen(&["crr", &address, "-n", "20", "--engine", engine]);
    let exit = run("epoll").run();
    assert!(exit.stdout.contains("verdict:"), "{exit:?}");
    let exit = run("auto").refusing_io_uring(Refused::With(libc::EPERM)).run();
    assert!(exit.stdout.contains("verdict:"), "{exit:?}");
    assert!(exit.stderr.contains("ran on epoll"), "{exit:?}");
    let exit = run("uring").refusing_io_uring(Refused::With(libc::EPERM)).run();
    assert_eq!(exit.code, Some(69), "{exit:?}");
    assert!(exit.stderr.contains("io_uring is refused"), "{exit:?}");
    server.stop();
}

#[test]
fn another_name_is_refused() {
    for exit in [
        Launch::new(&["echo", "--engine", "kqueue"]).run(),
        Launch::loadgen(&["crr", "127.0.0.1:1", "--engine", "kqueue"]).run(),
    ] {
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(exit.stderr.contains("kqueue") && exit.stderr.contains("epoll"), "{exit:?}");
    }
}
