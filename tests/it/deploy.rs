//! The files under deploy/ are what they say.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::folder::Folder;
use crate::harness::{acceptor, skipped, source};

const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// The profile for Docker and Podman, and the flat one for Kubernetes.
const PROFILES: [&str; 2] = ["seccomp.json", "seccomp-kubernetes.json"];

fn profile(file: &str) -> Value {
    let path = crate::harness::source("deploy").join(file);
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
fn the_profiles_allow_io_uring_and_what_else_a_server_calls() {
    let epoll = ["epoll_create1", "epoll_ctl", "epoll_pwait2", "eventfd2"];
    let sockets = ["bind", "listen", "accept4", "recvfrom", "sendto", "setsockopt", "shutdown"];
    for file in PROFILES {
        let profile = profile(file);
        let allowed = allowed(&profile);
        for name in IO_URING.iter().chain(&epoll).chain(&sockets) {
            assert!(allowed.contains(name), "{file}: {name}");
        }
    }
}

/// What the default of Docker keeps from a container without capabilities.
#[test]
fn the_profiles_refuse_what_the_default_of_docker_refuses() {
    let refused = "add_key bpf clone3 delete_module init_module kexec_load keyctl mount \
                   open_by_handle_at perf_event_open pivot_root reboot request_key setns socket \
                   swapon umount2 unshare userfaultfd";
    for file in PROFILES {
        let profile = profile(file);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed = allowed(&profile);
        for name in refused.split_whitespace() {
            assert!(!allowed.contains(name), "{file}: {name}");
        }
        for rule in rules(&profile) {
            let action = rule["action"].as_str().expect("a rule has an action");
            assert!(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"].contains(&action), "{file}: {action}");
        }
    }
}

/// The format of the OCI runtime specification has no conditions: containerd would ignore them and
/// open to everybody what they guard.
#[test]
fn the_flat_profile_has_no_conditions_and_allows_no_more() {
    let (full, flat) = (profile("seccomp.json"), profile("seccomp-kubernetes.json"));
    assert!(flat.get("archMap").is_none() && flat["architectures"].is_array());
    for rule in rules(&flat) {
        assert!(rule.get("includes").is_none() && rule.get("excludes").is_none(), "{rule}");
    }
    let guarded = |rule: &&Value| !rule["includes"]["caps"].is_null();
    let unguarded = |rule: &&Value| rule["includes"]["caps"].is_null();
    let open: BTreeSet<&str> = rules(&full).iter().filter(unguarded).flat_map(names).collect();
    let behind_capabilities = rules(&full).iter().filter(guarded).flat_map(names);
    let named: BTreeSet<&str> = rules(&flat).iter().flat_map(names).collect();
    assert!(named.is_subset(&open), "{:?}", named.difference(&open));
    for name in behind_capabilities.filter(|name| !open.contains(name)) {
        assert!(!named.contains(name), "{name} takes a capability");
    }
}

/// runc refuses a rule without names.
#[test]
fn each_rule_names_a_call_and_none_is_named_twice() {
    for rule in PROFILES.iter().flat_map(|file| rules(&profile(file)).clone()) {
        let count = rule["names"].as_array().expect("a rule has names").len();
        assert!(count > 0 && names(&rule).len() == count, "{rule}");
    }
}

/// By systemd's own parser; the program stands where it was built.
#[test]
fn systemd_understands_the_units() {
    let folder = Folder::new();
    for unit in ["acceptor.service", "acceptor.socket"] {
        let text = fs::read_to_string(source("deploy").join(unit)).expect("it is there");
        let program = acceptor();
        let program = program.to_str().expect("a path in text");
        folder.write(unit, &text.replace("/usr/local/bin/acceptor", program));
    }
    let units = [folder.file("acceptor.service"), folder.file("acceptor.socket")];
    let verify = Command::new("systemd-analyze").arg("verify").args(units).output();
    let Ok(verify) = verify else {
        return skipped("systemd-analyze is not installed, so the units were not verified");
    };
    let told = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success(), "{told}");
    // What it does not know is a warning only.
    assert!(!told.contains("acceptor."), "{told}");
}
