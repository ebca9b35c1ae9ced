//! `acceptor doctor` on this machine, on this machine with filters and limits, and on a made-up one.

use std::net::TcpListener;

use serde_json::Value;
use uring_acceptor::config::Config;
use uring_acceptor::doctor::{
    Bytes, Capabilities, ControlGroup, Exercise, Facts, Report, Sysctls, Trial, judge,
};
use uring_acceptor::listener::{Backlog, BindError};
use uring_acceptor::ring::Refusal;
use uring_acceptor::sys::{Errno, NofileLimit};

use crate::cli::expect_golden;
use crate::harness::{Exit, Launch, source};
use crate::process::Refused;

const FILTERS: [(Refused, &str); 3] = [
    (Refused::With(libc::EPERM), "EPERM"),
    (Refused::With(libc::ENOSYS), "ENOSYS"),
    (Refused::Kill, "SIGSYS"),
];

/// The report and its exit code.
#[track_caller]
fn report(launch: Launch) -> (Value, Option<i32>) {
    let Exit { code, stdout, stderr } = launch.run();
    assert_eq!(stderr, "", "something was said on stderr");
    (serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}")), code)
}

#[track_caller]
fn check<'report>(report: &'report Value, name: &str) -> &'report Value {
    let checks = report["checks"].as_array().expect("checks are an array");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[track_caller]
fn expect(report: &Value, name: &str, status: &str, words: &[&str]) {
    let check = check(report, name);
    assert_eq!(check["status"], status, "{check}");
    for word in words {
        assert!(check.to_string().contains(word), "'{word}' is not in {check}");
    }
}

/// Whether a server could use io_uring here; tests of what works skip where it does not.
fn rings_work(report: &Value) -> bool {
    let works = check(report, "io-uring")["status"] == "ok";
    if !works {
        crate::harness::skipped(&format!("io_uring: {}", check(report, "io-uring")));
    }
    works
}

#[test]
fn the_report_has_the_form_that_is_documented() {
    let (report, code) = report(Launch::doctor(&["--json"]));
    assert_eq!(report["schema"], "uring-acceptor/doctor");
    assert_eq!(report["version"], 2);
    assert_eq!(report["program_version"], env!("CARGO_PKG_VERSION"));
    let verdict = report["verdict"].as_str().expect("the verdict is text");
    assert_eq!(code, Some(if verdict == "fail" { 1 } else { 0 }));
    for check in report["checks"].as_array().expect("checks are an array") {
        let fields: Vec<_> = check.as_object().expect("a check is an object").keys().collect();
        assert_eq!(fields, ["name", "status", "value", "reason", "fix"]);
        let status = check["status"].as_str().expect("a status is text");
        assert!(["ok", "warn", "fail", "skipped"].contains(&status), "{check}");
        assert!(check["fix"].is_string() || check["fix"].is_null(), "{check}");
    }
}

/// The document names every check.
#[test]
fn the_schema_document_names_every_check() {
    let path = source("docs/doctor-schema.md");
    let document = std::fs::read_to_string(path).expect("the document can be read");
    let (report, _) = report(Launch::doctor(&["--json"]));
    for check in report["checks"].as_array().expect("checks are an array") {
        let name = check["name"].as_str().expect("a name is text");
        assert!(document.contains(&format!("`{name}`")), "docs/doctor-schema.md lacks {name}");
    }
}

#[test]
fn what_a_server_does_with_a_ring_works_in_the_child() {
    let (report, _) = report(Launch::doctor(&["--json"]));
    if !rings_work(&report) {
        return;
    }
    for step in ["rings", "multishot-accept", "receive", "send", "wake"] {
        expect(&report, step, "ok", &["works"]);
    }
    expect(&report, "engine", "ok", &["io_uring"]);
}

#[test]
fn each_filter_is_told_apart_and_survived() {
    for (how, word) in FILTERS {
        let launch = Launch::doctor(&["--json", "--listen", "127.0.0.1:0"]);
        let (report, code) = report(launch.refusing_io_uring(how));
        expect(&report, "listen 127.0.0.1:0", "ok", &["backlog "]);
        expect(&report, "io-uring", "warn", &[word, "seccomp"]);
        assert!(check(&report, "io-uring")["fix"].is_string(), "{how:?}");
        expect(&report, "engine", "warn", &["epoll"]);
        expect(&report, "rings", "skipped", &[]);
        assert_eq!((code, &report["verdict"]), (Some(0), &"warn".into()), "{how:?}");
    }
}

#[test]
fn people_see_the_cause_and_the_fix_of_each_filter() {
    for (how, word) in FILTERS {
        let exit = Launch::doctor(&[]).refusing_io_uring(how).run();
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{how:?}");
        for expected in [word, "\nwarn io-uring: ", "\n  fix: ", "within the limits above"] {
            assert!(exit.stdout.contains(expected), "'{expected}' is not in: {}", exit.stdout);
        }
    }
}

#[test]
fn few_descriptors_are_a_warning_and_too_few_a_failure() {
    let (few, code) = report(Launch::doctor(&["--json", "--workers", "1"]).descriptors(100));
    expect(&few, "connections", "warn", &["hard 100", "LimitNOFILE"]);
    assert_eq!(code, Some(0));
    let (none, code) = report(Launch::doctor(&["--json", "--workers", "1"]).descriptors(16));
    expect(&none, "connections", "fail", &["RLIMIT_NOFILE) is 16"]);
    assert_eq!((code, &none["verdict"]), (Some(1), &"fail".into()));
}

#[test]
fn an_address_is_tried() {
    let (report, code) = report(Launch::doctor(&["--json", "--listen", "127.0.0.1:0"]));
    expect(&report, "listen 127.0.0.1:0", "ok", &["backlog "]);
    assert_eq!(code, Some(0));
}

#[test]
fn a_backlog_that_the_kernel_cuts_is_a_warning() {
    let arguments = ["--json", "--listen", "127.0.0.1:0", "--backlog", "2147483647"];
    let (report, code) = report(Launch::doctor(&arguments));
    let words = ["2147483647 was asked for", "net.core.somaxconn=2147483647"];
    expect(&report, "listen 127.0.0.1:0", "warn", &words);
    assert_eq!(code, Some(0));
}

#[test]
fn an_address_that_is_taken_is_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let (report, code) = report(Launch::doctor(&["--json", "--listen", &address]));
    expect(&report, &format!("listen {address}"), "fail", &["in use", "ss -tanp"]);
    assert_eq!(code, Some(1));
}

#[test]
fn bad_usage_exits_with_2() {
    for arguments in [&["--listen", "127.0.0.1"][..], &["--frobnicate"], &["--probe", "--json"]] {
        let exit = Launch::doctor(arguments).run();
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

/// A container with everything against it.
fn bad_machine() -> Facts {
    let sysctl = |name: &str| {
        Some(match name {
            "fs.file-max" => "2466170",
            "fs.file-nr" => "1664\t0\t2466170",
            "fs.nr_open" => "1048576",
            "fs.pipe-user-pages-soft" => "16384",
            "kernel.io_uring_disabled" => "0",
            "net.core.somaxconn" => "128",
            "net.ipv4.ip_local_port_range" => "50000\t51999",
            "net.ipv4.ip_unprivileged_port_start" => "1024",
            "net.ipv4.tcp_abort_on_overflow" => "1",
            "net.ipv4.tcp_max_syn_backlog" => "128",
            "net.ipv4.tcp_migrate_req" | "net.ipv4.tcp_syncookies" => "0",
            "net.ipv4.tcp_tw_reuse" => "0",
            "net.netfilter.nf_conntrack_count" => "65000",
            "net.netfilter.nf_conntrack_max" => "65536",
            _ => return None,
        })
    };
    let address = "127.0.0.1:80".parse().expect("it is an address");
    let cut = Backlog { asked: 4096, effective: 128 };
    Facts {
        config: Config::default(),
        kernel: "6.6.8-1-generic".to_owned(),
        ring: Err(Refusal::Seccomp),
        exercise: Exercise::not_done("io_uring is refused"),
        rehearsal: None,
        epoll: Ok(()),
        seccomp: Some(true),
        capabilities: Some(Capabilities(0)),
        packet_filter: Err(Errno::EPERM),
        cpus: (0..8).collect(),
        nofile: NofileLimit { soft: 1024, hard: 1024 },
        locked_memory: Some(Bytes(64 << 10)),
        sysctls: Sysctls::collect(|name| sysctl(name).map(str::to_owned)),
        control_group: ControlGroup { memory: Some(Bytes(64 << 20)), cpu_millis: Some(500) },
        trials: vec![
            Trial {
                address: "127.0.0.1:7000".parse().expect("an address"),
                outcome: Ok(cut),
                notice: None,
            },
            Trial {
                address: "127.0.0.1:80".parse().expect("an address"),
                outcome: Err(BindError::InUse { address }),
                notice: None,
            },
        ],
    }
}

#[test]
fn a_made_up_machine_reads_as_written_down() {
    let report = Report::new(judge(&bad_machine()));
    let (mut text, mut json) = (Vec::new(), Vec::new());
    report.to_text(&mut text).expect("a vector takes all");
    report.to_json(&mut json).expect("a vector takes all");
    expect_golden("doctor.txt", &String::from_utf8(text).expect("it is text"));
    let json = String::from_utf8(json).expect("it is text");
    let version = env!("CARGO_PKG_VERSION");
    expect_golden("doctor.json", &json.replace(version, "VERSION"));
}
