//! `--engine`: what it takes, and what really runs then.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client::expect_alive;
use crate::harness::{Launch, Server, skipped};
use crate::process::{Refused, is_root};

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
        let stderr = uring.stop();
        assert!(!stderr.contains("epoll"), "{stderr}");
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
        let stderr = server.stop();
        assert_eq!(stderr.contains("running on epoll"), warned, "{engine}: {stderr}");
        assert_eq!(stderr.matches("io_uring is refused").count(), usize::from(warned), "{stderr}");
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
    assert!(exit.stdout.contains("ran on epoll"), "{exit:?}");
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

/// A plain user's limit in many containers.
const LITTLE: u64 = 64 * 1024;
const SMALLER: &str = "io_uring runs with smaller queues";

/// Whichever of the two it is: rings of other processes of the same user count too, so that with a
/// plain user's tests the smallest may not fit.
#[track_caller]
fn expect_told_once(text: &str) {
    let told = text.matches(SMALLER).count() + text.matches("on epoll, which takes more").count();
    assert_eq!(told, 1, "{text}");
    assert!(text.contains("ulimit -l"), "{text}");
}

/// Held by tests whose servers share the locked memory of root without CAP_IPC_LOCK.
static MEMORY: Mutex<()> = Mutex::new(());

/// One test at a time.
fn memory() -> MutexGuard<'static, ()> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not every kernel charges rings to the limit; where it does not, nothing is said.
fn is_charged() -> bool {
    let exit = Launch::loadgen(&["crr", "127.0.0.1:9", "-n", "1", "--engine", "uring"]);
    let charged = exit.locked_memory(0).run().code == Some(69);
    if !charged {
        skipped("this kernel does not charge rings to RLIMIT_MEMLOCK");
    }
    charged
}

#[test]
fn with_little_locked_memory_all_threads_end_up_on_one_engine() {
    let _memory = memory();
    if crate::ENGINE == "epoll" || !is_charged() {
        return;
    }
    for bytes in [0, LITTLE / 4, LITTLE, 4 * LITTLE] {
        let arguments = ["echo", "--engine", "auto", "--workers", "2", "--acceptors", "2"];
        let server = Launch::new(&arguments).locked_memory(bytes).start();
        for _ in 0..20 {
            expect_alive(server.address());
        }
        let on_uring = has_descriptor(&server, IO_URING);
        assert_ne!(on_uring, has_descriptor(&server, EPOLL), "{bytes}");
        let stderr = server.stop();
        expect_told_once(&stderr);
        assert_eq!(stderr.contains(SMALLER), on_uring, "{stderr}");
        // Nobody else's rings count for root: those of a process with CAP_IPC_LOCK do not.
        if is_root() {
            assert_eq!(stderr.contains(SMALLER), bytes >= LITTLE, "{bytes}: {stderr}");
        }
    }
}

#[test]
fn uring_alone_is_refused_where_its_rings_do_not_fit() {
    let _memory = memory();
    if crate::ENGINE == "epoll" || !is_charged() {
        return;
    }
    let exit = Launch::new(&["echo", "--engine", "uring"]).locked_memory(LITTLE).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(69), ""), "{exit:?}");
    assert!(exit.stderr.contains("ulimit -l") && exit.stderr.contains("ENOMEM"), "{exit:?}");
}

#[test]
fn the_generator_makes_do_with_little_locked_memory() {
    let _memory = memory();
    if crate::ENGINE == "epoll" || !is_charged() {
        return;
    }
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    for bytes in [0, LITTLE] {
        let arguments = ["crr", &address, "-n", "50", "-t", "2", "--engine", "auto"];
        let exit = Launch::loadgen(&arguments).locked_memory(bytes).run();
        assert!(exit.stdout.contains("verdict:"), "{exit:?}");
        expect_told_once(&exit.stdout);
    }
    server.stop();
}

#[test]
fn more_threads_than_cpus_are_told_and_work() {
    let many = (2 * std::thread::available_parallelism().map_or(1, usize::from)).to_string();
    let server = Server::start(&["echo", "--workers", &many]);
    expect_alive(server.address());
    let address = server.address().to_string();
    let exit = Launch::loadgen(&["crr", &address, "-n", "50", "-t", &many]).run();
    assert!(exit.stdout.contains("verdict:"), "{exit:?}");
    assert!(exit.stdout.contains(&format!("--threads is {many}, but")), "{exit:?}");
    let stderr = server.stop();
    let warning = format!("workers is {many}, but this process may use");
    assert_eq!(stderr.matches(&warning).count(), 1, "{stderr}");
    let exit = Launch::new(&["echo", "--workers", "1025"]).run();
    assert_eq!(exit.code, Some(2), "{exit:?}");
    assert!(exit.stderr.contains("1024"), "{exit:?}");
}
