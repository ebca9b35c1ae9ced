//! The files under deploy/ are what they say.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

fn profile() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/seccomp.json");
    let text = std::fs::read_to_string(path).expect("the profile can be read");
    serde_json::from_str(&text).expect("the profile is JSON")
}

fn names(rule: &Value) -> BTreeSet<&str> {
    let names = rule["names"].as_array().expect("a rule has names");
    names.iter().map(|name| name.as_str().expect("a name is text")).collect()
}

fn rules(profile: &Value) -> &Vec<Value> {
    profile["syscalls"].as_array().expect("a profile has rules")
}

/// Allowed to everybody: no arguments, capabilities, architectures or kernels are asked for.
fn allowed(profile: &Value) -> BTreeSet<&str> {
    let free = |rule: &&Value| {
        rule["action"] == "SCMP_ACT_ALLOW"
            && ["args", "includes", "excludes"].iter().all(|field| rule.get(field).is_none())
    };
    rules(profile).iter().filter(free).flat_map(names).collect()
}

#[test]
fn the_profile_allows_io_uring_and_what_else_a_server_calls() {
    let profile = profile();
    let allowed = allowed(&profile);
    let epoll = ["epoll_create1", "epoll_ctl", "epoll_pwait2", "eventfd2"];
    let sockets = ["bind", "listen", "accept4", "recvfrom", "sendto", "setsockopt", "shutdown"];
    for name in IO_URING.iter().chain(&epoll).chain(&sockets) {
        assert!(allowed.contains(name), "{name}");
    }
}

/// What the default of Docker keeps from an unprivileged container: io_uring is the only addition.
#[test]
fn the_profile_refuses_what_the_default_of_docker_refuses() {
    let profile = profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed = allowed(&profile);
    for name in [
        "add_key",
        "bpf",
        "clone3",
        "delete_module",
        "init_module",
        "kexec_load",
        "keyctl",
        "mount",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "reboot",
        "request_key",
        "setns",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
        "socket",
    ] {
        assert!(!allowed.contains(name), "{name}");
    }
    for rule in rules(&profile) {
        let action = rule["action"].as_str().expect("a rule has an action");
        assert!(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"].contains(&action), "{action}");
    }
}

/// runc refuses a profile in which an action stands without names.
#[test]
fn each_rule_names_a_call_and_none_is_named_twice() {
    for rule in rules(&profile()) {
        let count = rule["names"].as_array().expect("a rule has names").len();
        assert!(count > 0 && names(rule).len() == count, "{rule}");
    }
}
