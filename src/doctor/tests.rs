//! Made-up machines, good and bad, and what is said about them.

use super::*;
use crate::config::Config;
use crate::listener::{Backlog, BindError};
use crate::ring::Refusal;
use crate::ring::engine::Notice;
use crate::sys::{Errno, KernelRelease, NofileLimit, SIGSYS};

fn sysctl(name: &str) -> Option<&'static str> {
    Some(match name {
        "fs.file-max" => "9223372036854775807",
        "fs.file-nr" => "1024\t0\t9223372036854775807",
        "fs.nr_open" => "1048576",
        "fs.pipe-user-pages-soft" => "16384",
        "kernel.io_uring_disabled" => "0",
        "kernel.io_uring_group" => "-1",
        "net.core.somaxconn" => "4096",
        "net.ipv4.ip_local_port_range" => "32768\t60999",
        "net.ipv4.ip_unprivileged_port_start" => "1024",
        "net.ipv4.tcp_abort_on_overflow" | "net.ipv4.tcp_migrate_req" => "0",
        "net.ipv4.tcp_max_syn_backlog" => "2048",
        "net.ipv4.tcp_syncookies" => "1",
        "net.ipv4.tcp_tw_reuse" => "2",
        _ => return None,
    })
}

/// The usual sysctls, but for these; `""` takes one away.
fn sysctls(changes: &[(&str, &str)]) -> Sysctls {
    Sysctls::collect(|name| {
        let changed = changes.iter().find(|(own, _)| *own == name).map(|(_, text)| *text);
        changed.or_else(|| sysctl(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    })
}

/// A machine on which all is well.
fn good() -> Facts {
    let works = |step| (step, Found::Works);
    Facts {
        config: Config::default(),
        kernel: "6.18.4-1-generic".to_owned(),
        ring: Ok(()),
        exercise: Exercise { found: Step::ALL.map(works).to_vec(), end: End::Complete },
        rehearsal: Some(Rehearsal { wanted: Bytes(492 << 10), notice: None }),
        epoll: Ok(()),
        seccomp: Some(false),
        capabilities: Some(Capabilities(0)),
        packet_filter: Err(Errno::EPERM),
        cpus: vec![0, 1, 2, 3],
        nofile: NofileLimit { soft: 1024, hard: 1_048_576 },
        locked_memory: Some(Bytes(8 << 20)),
        sysctls: sysctls(&[]),
        control_group: ControlGroup::default(),
        trials: Vec::new(),
    }
}

#[track_caller]
fn check(facts: &Facts, name: &str) -> Check {
    let checks = judge(facts);
    let found = checks.iter().find(|check| check.name == name);
    found.unwrap_or_else(|| panic!("no check {name}")).clone()
}

/// Holds that the check of this name has this status and says all these words.
#[track_caller]
fn expect(facts: &Facts, name: &str, status: Status, words: &[&str]) {
    let check = check(facts, name);
    let text = format!("{}\n{}\n{}", check.value, check.reason, check.fix.as_deref().unwrap_or(""));
    assert_eq!(check.status, status, "{check:?}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {check:?}");
    }
    assert!(status < Status::Warn || !check.reason.is_empty(), "{check:?} gives no reason");
}

fn with_sysctl(name: &str, text: &str) -> Facts {
    Facts { sysctls: sysctls(&[(name, text)]), ..good() }
}

#[test]
fn a_good_machine_needs_nothing() {
    let report = Report::new(judge(&good()));
    assert_eq!(report.verdict, Status::Ok);
    for check in &report.checks {
        assert!(check.fix.is_none(), "{check:?}");
        assert!(check.status == Status::Ok || check.name == "conntrack", "{check:?}");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = judge(&good()).into_iter().map(|check| check.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn kernels() {
    let table = [
        ("6.1.0-28-amd64", Status::Ok, ""),
        ("5.15.0-100-generic", Status::Warn, "6.1"),
        ("6.5.13", Status::Ok, ""),
        ("6.6.8", Status::Warn, "--cq-entries"),
        ("6.7.2-arch1", Status::Warn, "multishot accept"),
        ("6.8.0-rc4", Status::Warn, "multishot accept"),
        ("6.8.0-rc5", Status::Ok, ""),
        ("6.8.0-45-generic", Status::Ok, "idle timeout"),
        ("6.18.4", Status::Ok, "March 2026"),
        ("unknown", Status::Warn, "which release"),
    ];
    for (kernel, status, word) in table {
        expect(&Facts { kernel: kernel.to_owned(), ..good() }, "kernel", status, &[kernel, word]);
    }
}

/// A machine without a ring; `seccomp` as /proc/self/status tells it.
fn refused(refusal: Refusal, seccomp: Option<bool>) -> Facts {
    Facts { ring: Err(refusal), exercise: Exercise::not_done("refused"), seccomp, ..good() }
}

#[test]
fn each_refusal_has_its_cause_and_its_fix() {
    let profile = "deploy/seccomp.json";
    let table: [(Refusal, Option<bool>, &[&str]); 10] = [
        (Refusal::Sysctl(2), Some(false), &["io_uring_disabled is 2", "io_uring_disabled=0"]),
        (Refusal::Sysctl(1), Some(false), &["io_uring_group names no group"]),
        (Refusal::Seccomp, Some(true), &["EPERM", "Docker", profile]),
        (Refusal::Seccomp, None, &["EPERM", profile]),
        (Refusal::Seccomp, Some(false), &["EPERM", "SELinux"]),
        (Refusal::Missing, Some(true), &["ENOSYS", "the kernel has io_uring", profile]),
        (Refusal::Missing, Some(false), &["ENOSYS", "gVisor", "CONFIG_IO_URING"]),
        (Refusal::Killed(SIGSYS), Some(true), &["SIGSYS", "kills", "SystemCallFilter"]),
        (Refusal::Memory, Some(false), &["ENOMEM", "ulimit -l"]),
        (Refusal::KernelTooOld(KernelRelease { major: 5, minor: 15 }), None, &["5.15", "6.1"]),
    ];
    for (refusal, seccomp, words) in table {
        let facts = refused(refusal, seccomp);
        expect(&facts, "io-uring", Status::Warn, words);
        expect(&facts, "engine", Status::Warn, &["epoll", "--engine auto"]);
        for step in Step::ALL {
            expect(&facts, step.name(), Status::Skipped, &["not tried"]);
        }
        assert_eq!(Report::new(judge(&facts)).verdict, Status::Warn, "{refusal}");
    }
}

#[test]
fn an_unheard_of_refusal_is_given_as_it_came() {
    let refusal = Refusal::Step { step: "io_uring_setup", errno: Errno::EINVAL };
    expect(&refused(refusal, None), "io-uring", Status::Warn, &["io_uring_setup", "EINVAL"]);
}

#[test]
fn a_group_that_is_let_in_is_named() {
    let mut facts = refused(Refusal::Sysctl(1), None);
    facts.sysctls = sysctls(&[("kernel.io_uring_group", "998")]);
    expect(&facts, "io-uring", Status::Warn, &["only the group 998"]);
}

/// Without the switch (before 6.6) nothing says that the kernel has io_uring.
#[test]
fn a_missing_ring_is_not_blamed_on_a_filter_without_a_sign_of_it() {
    let mut facts = refused(Refusal::Missing, Some(true));
    facts.sysctls = sysctls(&[("kernel.io_uring_disabled", "")]);
    expect(&facts, "io-uring", Status::Warn, &["CONFIG_IO_URING"]);
}

#[test]
fn neither_engine_is_a_failure() {
    let facts = Facts { epoll: Err(Errno::ENOSYS), ..refused(Refusal::Missing, None) };
    expect(&facts, "engine", Status::Fail, &["neither", "ENOSYS"]);
    assert_eq!(Report::new(judge(&facts)).verdict, Status::Fail);
    let without_epoll = Facts { epoll: Err(Errno::ENOSYS), ..good() };
    expect(&without_epoll, "engine", Status::Ok, &["io_uring"]);
}

fn exercised(changed: Step, found: Found) -> Facts {
    let mut facts = good();
    facts.exercise.found.iter_mut().filter(|(step, _)| *step == changed).for_each(|(_, own)| {
        own.clone_from(&found);
    });
    facts
}

#[test]
fn a_kernel_without_receive_credit_costs_something() {
    let facts = exercised(Step::ReceiveCredit, Found::Absent);
    expect(&facts, "receive-credit", Status::Warn, &["6.17", "CPU time"]);
}

#[test]
fn a_ring_that_can_be_made_and_not_used_is_a_failure() {
    for step in Step::ALL {
        let facts = exercised(step, Found::Failed("EACCES at the door".to_owned()));
        expect(&facts, step.name(), Status::Fail, &["EACCES at the door", "--engine epoll"]);
    }
}

#[test]
fn a_child_that_ended_early_fails_its_step_and_leaves_the_others_open() {
    let mut facts = good();
    facts.exercise.found.truncate(2);
    facts.exercise.end = End::Early("signal: 31 (SIGSYS)".to_owned());
    expect(&facts, "multishot-accept", Status::Ok, &[]);
    expect(&facts, "receive", Status::Fail, &["SIGSYS"]);
    expect(&facts, "wake", Status::Skipped, &["before it"]);
}

#[test]
fn a_child_that_could_not_be_made_says_nothing_about_rings() {
    let facts = Facts { exercise: Exercise::not_done("no /proc"), ..good() };
    for step in Step::ALL {
        expect(&facts, step.name(), Status::Skipped, &["no /proc"]);
    }
    assert_eq!(Report::new(judge(&facts)).verdict, Status::Ok);
}

#[test]
fn descriptors() {
    let nofile = |soft, hard| Facts { nofile: NofileLimit { soft, hard }, ..good() };
    expect(&nofile(1024, 1_048_576), "connections", Status::Ok, &["soft 1024", "hard 1048576"]);
    expect(&nofile(u64::MAX, u64::MAX), "connections", Status::Ok, &["unlimited"]);
    expect(&nofile(1024, 1024), "connections", Status::Warn, &["983", "LimitNOFILE"]);
    expect(&nofile(20, 20), "connections", Status::Fail, &["RLIMIT_NOFILE) is 20", "ulimit"]);
    let mut wanting = nofile(1024, 4096);
    wanting.config.process.max_connections = std::num::NonZeroUsize::new(5000);
    expect(
        &wanting,
        "connections",
        Status::Warn,
        &["max-connections is lowered from 5000", "4096"],
    );
}

#[test]
fn the_descriptors_of_the_whole_machine() {
    let full = with_sysctl("fs.file-max", "100000");
    expect(&full, "open-files", Status::Warn, &["1024 of 100000", "sysctl -w fs.file-max="]);
    let hidden = with_sysctl("fs.file-max", "");
    expect(&hidden, "open-files", Status::Skipped, &["fs.file-max cannot be read"]);
}

#[test]
fn cpu_quotas() {
    let quota = |millis| {
        let control_group = ControlGroup { cpu_millis: Some(millis), ..Default::default() };
        Facts { control_group, ..good() }
    };
    expect(&quota(500), "cpu-quota", Status::Warn, &["0.5 CPUs for 4 workers", "--workers 1,"]);
    expect(&quota(1250), "cpu-quota", Status::Warn, &["1.25 CPUs", "--workers 2,"]);
    expect(&quota(1000), "cpu-quota", Status::Warn, &["1 CPU for", "--workers 1,"]);
    expect(&quota(3100), "cpu-quota", Status::Ok, &["3.1 CPUs"]);
    expect(&quota(4000), "cpu-quota", Status::Ok, &["4 CPUs"]);
    let mut one = quota(500);
    one.config.process.threads.workers = std::num::NonZeroUsize::new(1);
    expect(&one, "cpu-quota", Status::Ok, &["0.5 CPUs for 1 worker"]);
}

#[test]
fn memory_limits() {
    let memory = |bytes| {
        let control_group = ControlGroup { memory: Some(Bytes(bytes)), ..Default::default() };
        Facts { control_group, ..good() }
    };
    // Four workers with 65,535 buffers of 16 KiB each.
    expect(&memory(8 << 30), "memory-limit", Status::Ok, &["8.0 GiB", "3.9 GiB"]);
    expect(&memory(256 << 20), "memory-limit", Status::Warn, &["256 MiB", "--buffers 2048"]);
}

fn able(capability: Capability) -> Facts {
    Facts { capabilities: Some(Capabilities(1 << capability as u32)), ..good() }
}

fn with_little_memory(notice: Notice) -> Facts {
    let rehearsal = Some(Rehearsal { wanted: Bytes(492 << 10), notice: Some(notice) });
    Facts { rehearsal, locked_memory: Some(Bytes(64 << 10)), ..good() }
}

#[test]
fn little_locked_memory_makes_rings_small_or_none() {
    let notice = Notice::Smaller { rings: 3, wanted_kib: 492, limit_kib: 64 };
    let small = with_little_memory(notice);
    let words = ["64 KiB", "want 492 KiB", "smaller ones", "ulimit -l", "CAP_IPC_LOCK"];
    expect(&small, "locked-memory", Status::Warn, &words);
    expect(&small, "engine", Status::Warn, &["io_uring, smaller queues", "locked-memory"]);
    let none = with_little_memory(Notice::Epoll(Refusal::Memory));
    expect(&none, "locked-memory", Status::Warn, &["64 KiB", "takes epoll", "ulimit -l"]);
    expect(&none, "engine", Status::Warn, &["epoll", "locked-memory"]);
    let not_one = Facts { ring: Err(Refusal::Memory), rehearsal: None, ..none };
    expect(&not_one, "locked-memory", Status::Warn, &["not even one", "ulimit -l"]);
}

/// A server of this user runs already, most likely.
#[test]
fn locked_memory_that_others_have_is_told_apart() {
    let smaller = Notice::Smaller { rings: 3, wanted_kib: 492, limit_kib: 512 };
    for (notice, then) in [(smaller, "smaller rings"), (Notice::Epoll(Refusal::Memory), "epoll")] {
        let facts = Facts { locked_memory: Some(Bytes(512 << 10)), ..with_little_memory(notice) };
        let words =
            ["512 KiB", "would fit, but other processes of this user", then, "one beside it"];
        expect(&facts, "locked-memory", Status::Warn, &words);
        expect(&facts, "locked-memory", Status::Warn, &["nothing for one server", "ulimit -l"]);
    }
}

#[test]
fn enough_locked_memory_is_well() {
    expect(&good(), "locked-memory", Status::Ok, &["8 MiB", "492 KiB"]);
    let unlimited = Facts { locked_memory: None, ..good() };
    expect(&unlimited, "locked-memory", Status::Ok, &["unlimited"]);
    expect(&able(Capability::IpcLock), "locked-memory", Status::Ok, &["CAP_IPC_LOCK"]);
}

#[test]
fn what_a_missing_capability_costs() {
    expect(&good(), "drain", Status::Ok, &["refused (no CAP_NET_ADMIN)", "reset"]);
    let filter = Facts { packet_filter: Ok(()), ..good() };
    expect(&filter, "drain", Status::Ok, &["silence"]);
    expect(&good(), "bans", Status::Ok, &["at accept (no CAP_NET_ADMIN)", "reset"]);
    expect(&filter, "bans", Status::Ok, &["in the kernel"]);
    expect(&good(), "low-ports", Status::Ok, &["from 1024", "no CAP_NET_BIND_SERVICE"]);
    let bind = able(Capability::NetBindService);
    expect(&bind, "low-ports", Status::Ok, &["all"]);
    let low = Facts { trials: tried(Ok(Backlog { asked: 1, effective: 1 })).trials, ..good() };
    expect(&low, "low-ports", Status::Warn, &["port 80", "port_start=80", "setcap"]);
    let unknown = with_sysctl("net.ipv4.ip_unprivileged_port_start", "");
    expect(&unknown, "low-ports", Status::Skipped, &["cannot be read"]);
    expect(&good(), "pipes", Status::Ok, &["1024 (", "no CAP_SYS_RESOURCE"]);
    expect(&able(Capability::SysResource), "pipes", Status::Ok, &["unlimited"]);
}

#[test]
fn more_workers_than_cpus_are_a_warning() {
    expect(&good(), "threads", Status::Ok, &["4 workers"]);
    let mut many = good();
    many.config.process.threads.workers = std::num::NonZeroUsize::new(8);
    expect(&many, "threads", Status::Warn, &["8 workers", "may use 4 CPUs", "--workers"]);
}

#[test]
fn a_name_that_stands_for_ipv4_alone_says_so() {
    let address = "*:7000".parse().unwrap();
    let notice = Some("this machine has no IPv6".to_owned());
    let outcome = Ok(Backlog { asked: 1, effective: 1 });
    let trials = vec![Trial { address, outcome, notice }];
    let words = ["backlog 1, IPv4 only", "no IPv6"];
    expect(&Facts { trials, ..good() }, "listen *:7000", Status::Ok, &words);
    let trials = vec![Trial {
        address: "*:7000".parse().unwrap(),
        outcome: Ok(Backlog { asked: 2, effective: 1 }),
        notice: Some("this machine has no IPv6".to_owned()),
    }];
    expect(&Facts { trials, ..good() }, "listen *:7000", Status::Warn, &words);
    let address = "no.example:7000".parse().unwrap();
    let (name, why) = ("no.example".to_owned(), "unknown".to_owned());
    let outcome = Err(BindError::Unresolved { name, port: 7000, why });
    let trials = vec![Trial { address, outcome, notice: None }];
    let facts = Facts { trials, ..good() };
    let words = ["does not resolve", "getent ahosts no.example"];
    expect(&facts, "listen no.example:7000", Status::Fail, &words);
}

#[test]
fn tcp_sysctls() {
    let table: [(&str, &str, &str, Status, &[&str]); 13] = [
        ("accept-queue", "net.core.somaxconn", "128", Status::Warn, &["128", "=4096", "--sysctl"]),
        ("accept-queue", "net.core.somaxconn", "1024", Status::Ok, &["1024"]),
        ("accept-queue", "net.core.somaxconn", "", Status::Skipped, &["cannot be read"]),
        ("syn-cookies", "net.ipv4.tcp_syncookies", "0", Status::Warn, &["tcp_syncookies=1"]),
        ("syn-cookies", "net.ipv4.tcp_syncookies", "2", Status::Warn, &["for tests"]),
        ("syn-queue", "net.ipv4.tcp_max_syn_backlog", "128", Status::Ok, &["cookies"]),
        ("overflow", "net.ipv4.tcp_abort_on_overflow", "1", Status::Warn, &["resets"]),
        ("migration", "net.ipv4.tcp_migrate_req", "0", Status::Ok, &["--acceptors 0"]),
        ("migration", "net.ipv4.tcp_migrate_req", "1", Status::Ok, &["goes to"]),
        ("local-ports", "net.ipv4.ip_local_port_range", "50000 51999", Status::Warn, &["2000 ("]),
        ("local-ports", "net.ipv4.ip_local_port_range", "many", Status::Skipped, &["be read"]),
        ("time-wait", "net.ipv4.tcp_tw_reuse", "0", Status::Warn, &["a minute", "=2"]),
        ("time-wait", "net.ipv4.tcp_tw_reuse", "1", Status::Ok, &["a second"]),
    ];
    for (check, name, text, status, words) in table {
        expect(&with_sysctl(name, text), check, status, words);
    }
}

#[test]
fn the_syn_queue_counts_where_there_are_no_cookies() {
    let backlog = |text| {
        let changes = [("net.ipv4.tcp_syncookies", "0"), ("net.ipv4.tcp_max_syn_backlog", text)];
        Facts { sysctls: sysctls(&changes), ..good() }
    };
    expect(&backlog("128"), "syn-queue", Status::Warn, &["128", "tcp_max_syn_backlog=4096"]);
    expect(&backlog("4096"), "syn-queue", Status::Ok, &["4096"]);
}

#[test]
fn connection_tracking() {
    let table = |used, most| Facts {
        sysctls: sysctls(&[
            ("net.netfilter.nf_conntrack_count", used),
            ("net.netfilter.nf_conntrack_max", most),
        ]),
        ..good()
    };
    expect(&good(), "conntrack", Status::Skipped, &["not loaded"]);
    expect(&table("100", "262144"), "conntrack", Status::Ok, &["100 of 262144"]);
    expect(&table("799", "1000"), "conntrack", Status::Ok, &[]);
    expect(&table("800", "1000"), "conntrack", Status::Warn, &["nf_conntrack_max=4000"]);
    expect(&table("5", "0"), "conntrack", Status::Ok, &[]);
}

fn tried(outcome: Result<Backlog, BindError>) -> Facts {
    let address = "127.0.0.1:80".parse().unwrap();
    Facts { trials: vec![Trial { address, outcome, notice: None }], ..good() }
}

#[test]
fn addresses() {
    let name = "listen 127.0.0.1:80";
    let address = "127.0.0.1:80".parse().unwrap();
    let given = Backlog { asked: 4096, effective: 4096 };
    expect(&tried(Ok(given)), name, Status::Ok, &["backlog 4096"]);
    let cut = Backlog { asked: 65_535, effective: 4096 };
    expect(&tried(Ok(cut)), name, Status::Warn, &["backlog 4096", "somaxconn=65535"]);
    let in_use = tried(Err(BindError::InUse { address }));
    expect(&in_use, name, Status::Fail, &["it is in use", "ss -tanp"]);
    assert!(check(&in_use, name).fix.unwrap().contains("ss -tanp 'sport = :80'"));
    let address = "127.0.0.1:80".parse().unwrap();
    let forbidden = tried(Err(BindError::Permission { address }));
    expect(&forbidden, name, Status::Fail, &["permission denied", "CAP_NET_BIND_SERVICE"]);
}

#[test]
fn a_machine_of_which_nothing_can_be_read_is_not_blamed() {
    let facts = Facts {
        kernel: "6.18".to_owned(),
        seccomp: None,
        locked_memory: None,
        sysctls: Sysctls::default(),
        exercise: Exercise::not_done("/proc is not mounted"),
        ..good()
    };
    assert_eq!(Report::new(judge(&facts)).verdict, Status::Ok);
}

#[test]
fn bytes_are_written_as_people_read_them() {
    let table = [(0, "0 B"), (1023, "1023 B"), (65_536, "64 KiB"), (8 << 20, "8 MiB")];
    for (bytes, text) in table {
        assert_eq!(Bytes(bytes).to_string(), text);
    }
    assert_eq!(Bytes(3 << 29).to_string(), "1.5 GiB");
}

#[test]
fn the_verdict_is_the_worst_of_the_checks() {
    let of = |statuses: &[Status]| {
        let checks = statuses.iter().map(|status| Check::new("x", *status, "y"));
        Report::new(checks.collect()).verdict
    };
    use Status::{Fail, Ok, Skipped, Warn};
    let table: [(&[Status], Status); 5] = [
        (&[], Ok),
        (&[Skipped], Ok),
        (&[Ok, Skipped], Ok),
        (&[Ok, Warn, Skipped], Warn),
        (&[Fail, Warn, Ok], Fail),
    ];
    for (statuses, verdict) in table {
        assert_eq!(of(statuses), verdict, "{statuses:?}");
    }
}

/// The real one: whatever this machine is, it can be read, and each check has its words.
#[test]
fn this_machine_can_be_examined() {
    let mut nobody = std::process::Command::new("/nonexistent/acceptor");
    let config = Config::default();
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let facts = Facts::read(config, &listen, &mut nobody).unwrap();
    assert!(!facts.cpus.is_empty() && facts.trials[0].outcome.is_ok());
    for check in judge(&facts) {
        assert!(!check.name.is_empty() && !check.value.is_empty(), "{check:?}");
    }
}
