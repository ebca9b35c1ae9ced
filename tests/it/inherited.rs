//! What whoever starts the programs may have left behind: masks, dispositions, limits, streams.

use std::process::Command;
use std::{fs, io};

use std::os::unix::process::CommandExt;

use crate::client::expect_alive;
use crate::harness::{Launch, SOON, Server, eventually, skipped};
use crate::process::{
    block_signals, close_standard_streams, hide_proc, ignore_signal, limit_file_size,
};

/// What each program is started with.
type Left = fn() -> io::Result<()>;

/// nohup, and shells that start something in the background, ignore some of these.
fn ignore_signals() -> io::Result<()> {
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE, libc::SIGCHLD]
        .into_iter()
        .try_for_each(ignore_signal)
}

const SIGNALS: [Left; 2] = [block_signals, ignore_signals];

#[test]
fn a_server_drains_whatever_was_blocked_or_ignored() {
    for left in SIGNALS {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let server = Launch::new(&["echo"]).prepared(left).start();
            expect_alive(server.address());
            server.signal(signal);
            let exit = server.wait(SOON);
            assert_eq!(exit.code, Some(0), "{}", exit.stderr);
            assert!(exit.stderr.contains("draining"), "{}", exit.stderr);
        }
    }
}

/// A child that is reaped by the kernel cannot be waited for.
#[test]
fn children_can_be_waited_for() {
    let server = Launch::new(&["echo"]).prepared(ignore_signals).start();
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let ignored = u64::from_str_radix(mask.trim(), 16).expect("a mask");
    assert_eq!(ignored & 1 << (libc::SIGCHLD - 1), 0, "{mask}");
    server.stop();
}

#[test]
fn a_report_whatever_was_blocked_or_ignored() {
    for left in SIGNALS {
        let proxy = Launch::new(&["proxy", "--to", "127.0.0.1:1"]).prepared(left).start();
        proxy.signal(libc::SIGUSR1);
        eventually(SOON, "it reports", || proxy.stderr().contains("backend 127.0.0.1:1: "));
        proxy.stop();
    }
}

#[test]
fn a_run_is_ended_early_whatever_was_blocked_or_ignored() {
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    for left in SIGNALS {
        let run = ["crr", &address, "-c", "1", "-d", "30s", "--warm-up", "0s"];
        let running = Launch::loadgen(&run).prepared(left).start();
        let busy = std::time::Duration::from_millis(50);
        eventually(SOON, "it has begun", || running.cpu_time() > busy);
        running.signal(libc::SIGINT);
        let exit = running.wait(SOON);
        assert!(exit.stdout.contains("verdict:"), "{exit:?}");
    }
    server.stop();
}

#[test]
fn the_doctor_finds_the_same_whatever_was_blocked_or_ignored() {
    let report = |launch: Launch| {
        let exit = launch.run();
        let json: serde_json::Value = serde_json::from_str(&exit.stdout).expect("it is JSON");
        let checks = json["checks"].as_array().expect("they are a list").clone();
        let of = |check: serde_json::Value| (check["name"].clone(), check["status"].clone());
        checks.into_iter().map(of).collect::<Vec<_>>()
    };
    let expected = report(Launch::doctor(&["--json"]));
    for left in SIGNALS {
        assert_eq!(report(Launch::doctor(&["--json"]).prepared(left)), expected);
    }
}

#[test]
fn no_standard_streams() {
    let name = format!("streams-{}-{}", crate::ENGINE, std::process::id());
    let path = std::env::temp_dir().join(name).to_str().expect("a path in text").to_owned();
    let launch = Launch::new(&["echo", "--listen", &format!("unix:{path}")]);
    let null = fs::File::open("/dev/null").expect("it is there");
    let server = launch.stdout(null).prepared(close_standard_streams).start();
    eventually(SOON, "it listens", || std::os::unix::net::UnixStream::connect(&path).is_ok());
    server.stop();
    let target = Server::start(&["echo"]);
    let address = target.address().to_string();
    let run = ["crr", &address, "-n", "10", "--warm-up", "0s", "--json", &path];
    let exit = Launch::loadgen(&run).prepared(close_standard_streams).run();
    assert!(exit.code.is_some_and(|code| code != 101), "{exit:?}");
    assert!(fs::read_to_string(&path).expect("it was written").contains("\"completed\": 10"));
    fs::remove_file(path).expect("it is there");
    target.stop();
}

#[test]
fn a_limit_on_files_is_an_error_of_the_output() {
    let name = format!("limit-{}-{}.json", crate::ENGINE, std::process::id());
    let path = std::env::temp_dir().join(name).to_str().expect("a path in text").to_owned();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let run = ["crr", &address, "-n", "10", "--warm-up", "0s", "--json", &path];
    let exit = Launch::loadgen(&run).prepared(|| limit_file_size(100)).run();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let words = format!("{path} cannot be written: File too large");
    assert!(exit.stderr.contains(&words), "{exit:?}");
    assert!(exit.stdout.contains("verdict:"), "the table is not lost with it: {exit:?}");
    fs::remove_file(path).expect("it is there");
    server.stop();
}

/// A chroot may have no /proc.
#[test]
fn no_proc() {
    let mut tried = Command::new("true");
    // SAFETY: unshare(2) and mount(2) are system calls, and the closure allocates nothing.
    if let Err(error) = unsafe { tried.pre_exec(hide_proc) }.status() {
        return skipped(&format!("/proc cannot be hidden: {error}"));
    }
    let server = Launch::new(&["echo"]).prepared(hide_proc).start();
    let address = server.address().to_string();
    let run = ["crr", &address, "-n", "100", "--warm-up", "0s", "--json", "-"];
    let exit = Launch::loadgen(&run).prepared(hide_proc).run();
    let json: serde_json::Value = serde_json::from_str(&exit.stdout).expect("it is JSON");
    assert_eq!(json["counts"]["completed"], 100, "{exit:?}");
    assert_eq!(json["kernel"], serde_json::json!([]), "{exit:?}");
    assert!(json["generator"]["cpu_ns"].as_u64() > Some(0), "{exit:?}");
    assert!(exit.stderr.contains("/proc/self/net/snmp cannot be read"), "{exit:?}");
    let steps = Launch::doctor(&[]).prepared(hide_proc).run();
    assert!(!steps.stdout.contains("not tried"), "{}", steps.stdout);
    server.stop();
}
