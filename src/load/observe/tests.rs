//! Parsers by table, snapshots by this very process.

use std::process::{Command, Stdio};
use std::thread;

use super::*;

const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 2 64
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab \
InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 11 22 3 4 5 6 7 33 0 9 0
Udp: InDatagrams NoPorts
Udp: 119 0
";

const NETSTAT: &str = "\
TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeWaitOverflow
TcpExt: 0 44 55 66
IpExt: InNoRoutes InTruncatedPkts
IpExt: 0 1
";

#[test]
fn counters_are_found_by_name() {
    let expected = KernelCounters {
        active_opens: 11,
        passive_opens: 22,
        retransmitted: 33,
        listen_overflows: 44,
        listen_drops: 55,
        time_wait_overflow: 66,
    };
    assert_eq!(counters(SNMP, NETSTAT), Ok(expected));
}

#[test]
fn a_counter_that_is_missing_is_named() {
    let table = [
        ("", NETSTAT.to_owned(), "Tcp:PassiveOpens"),
        ("Tcp: PassiveOpens\n", NETSTAT.to_owned(), "Tcp:PassiveOpens"),
        ("Tcp: PassiveOpens\nTcp: x\n", NETSTAT.to_owned(), "Tcp:PassiveOpens"),
        (SNMP, NETSTAT.replace("ListenDrops", "Other"), "TcpExt:ListenDrops"),
        (SNMP, String::new(), "TcpExt:ListenOverflows"),
    ];
    for (snmp, netstat, name) in table {
        let text = counters(snmp, &netstat).unwrap_err();
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn growth_is_now_less_before() {
    let before = KernelCounters { passive_opens: 20, listen_drops: 7, ..KernelCounters::default() };
    let now = counters(SNMP, NETSTAT).unwrap();
    let grown = growth(&now, &before);
    assert_eq!((grown.passive_opens, grown.listen_drops, grown.active_opens), (2, 48, 11));
    assert_eq!(growth(&before, &now).active_opens, 0);
    assert!(kernel_counters().is_ok());
}

#[test]
fn figures_of_a_process() {
    assert_eq!(run_time_ns("123456789 42 7\n").unwrap(), 123_456_789);
    assert!(run_time_ns("").is_err() && run_time_ns("x 1 2").is_err());
    let status = "Name:\tx\nVmRSS:\t    2048 kB\nvoluntary_ctxt_switches:\t5\n\
                  nonvoluntary_ctxt_switches:\t3\n";
    assert_eq!(resident_bytes(status), 2 * 1024 * 1024);
    assert_eq!(switches(status), 8);
    assert_eq!((resident_bytes("Name:\tkthreadd\n"), switches("")), (0, 0));
    for (stat, expected) in [
        ("12 (nginx) S 7 12 12 0", Some(7)),
        ("12 (a) b) S 1 (c) R 9 12", Some(9)),
        ("12 (x", None),
        ("", None),
    ] {
        assert_eq!(parent(stat), expected, "{stat}");
    }
}

#[test]
fn descendants_are_found_however_deep() {
    let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 10), (13, 12), (20, 1)]);
    assert_eq!(descendants(10, &parents), BTreeSet::from([11, 12, 13]));
    assert_eq!(descendants(13, &parents), BTreeSet::new());
    assert_eq!(descendants(1, &parents).len(), 5);
}

fn snapshot(threads: &[(u32, u64, u64)], rss_bytes: u64) -> UsageSnapshot {
    let usage = |&(thread, cpu_ns, switches): &(u32, u64, u64)| {
        (ThreadId { process: 1, thread }, ThreadUsage { cpu_ns, switches })
    };
    UsageSnapshot { threads: threads.iter().map(usage).collect(), rss_bytes }
}

#[test]
fn threads_that_appear_count_whole_and_those_that_end_not() {
    let before = snapshot(&[(1, 100, 10), (2, 50, 5)], 7);
    let after = snapshot(&[(1, 130, 11), (3, 500, 2)], 9);
    let expected =
        ServerUsage { cpu_ns: 530, busiest_ns: 500, threads: 2, rss_bytes: 9, switches: 3 };
    assert_eq!(after.since(&before), expected);
}

#[test]
fn work_of_a_new_thread_shows() {
    let before = UsageSnapshot::take(std::process::id()).unwrap();
    let (worked, done) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    let worker = thread::spawn(move || {
        let start = thread_cpu_ns().unwrap();
        while thread_cpu_ns().unwrap() < start + 2_000_000 {}
        worked.0.send(()).unwrap();
        let _ = done.1.recv();
    });
    worked.1.recv().unwrap();
    let usage = UsageSnapshot::take(std::process::id()).unwrap().since(&before);
    drop(done.0);
    worker.join().unwrap();
    assert!(usage.cpu_ns >= 2_000_000, "{usage:?}");
    assert!(usage.threads >= 2 && usage.rss_bytes > 0, "{usage:?}");
}

#[test]
fn a_child_belongs_to_its_parent() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let taken = UsageSnapshot::take(std::process::id());
    let id = ThreadId { process: child.id(), thread: child.id() };
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(taken.unwrap().threads.contains_key(&id));
}

#[test]
fn a_process_that_is_not_there_is_named() {
    // Above PID_MAX_LIMIT.
    let text = UsageSnapshot::take(4_194_305).unwrap_err();
    assert_eq!(text, "--server-pid 4194305: there is no such process");
}
