//! Pairs of files, and the sentences of a reload from one to the other.

use super::*;
use crate::config_file::{Loaded, load_text};
use crate::server::steps;
use crate::upstream::UpstreamChanges;

fn load(text: &str, variable: &str) -> Loaded {
    let environment = |name: &str| (name == "V").then(|| variable.to_owned());
    load_text(text, &environment).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

fn side(loaded: &Loaded) -> Side<'_> {
    Side { settings: &loaded.settings, places: &loaded.places }
}

fn between(before: &Loaded, after: &Loaded, backlogs: &Backlogs) -> Words {
    let (old, new) = (&before.settings.config, &after.settings.config);
    let reloaded = Reloaded {
        steps: steps(old, new),
        upstreams: UpstreamChanges::between(&old.upstreams, &new.upstreams),
        ..Reloaded::default()
    };
    words((side(before), side(after)), &reloaded, backlogs)
}

const A: &str = "[frontend.a]\nlisten = '127.0.0.1:1'\nservice = 'echo'\n";
const B: &str = "[frontend.b]\nlisten = ['127.0.0.1:2', '127.0.0.1:3']\nservice = 'discard'\n";
const P: &str = "[frontend.p]\nlisten = '127.0.0.1:4'\nservice = 'proxy'\nupstream = 'u'\n";
const U: &str = "[upstream.u]\nbackends = ['10.0.0.1:80', '10.0.0.2:80']\n";

/// Before, after, and what changes.
#[track_caller]
fn check(table: &[(&str, &str, &[&str])]) {
    for (before, after, expected) in table {
        let words = between(&load(before, ""), &load(after, ""), &Backlogs::new());
        assert_eq!(words.changes, *expected, "{before}\nto\n{after}");
        assert_eq!(words.restart, Vec::<String>::new());
    }
}

#[test]
fn frontends_and_their_addresses() {
    let moved = B.replace("'127.0.0.1:2', ", "");
    check(&[
        (A, A, &[]),
        (
            A,
            &format!("{A}{B}"),
            &[
                "frontend b: added, service discard",
                "frontend b: listens on 127.0.0.1:2",
                "frontend b: listens on 127.0.0.1:3",
            ],
        ),
        (
            &format!("{A}{B}"),
            A,
            &[
                "frontend b: no longer listens on 127.0.0.1:2; what waits there is served",
                "frontend b: no longer listens on 127.0.0.1:3; what waits there is served",
                "frontend b: removed; open connections live on",
            ],
        ),
        (
            A,
            &A.replace(":1", ":7"),
            &[
                "frontend a: listens on 127.0.0.1:7",
                "frontend a: no longer listens on 127.0.0.1:1; what waits there is served",
            ],
        ),
        (
            &format!("{A}{B}"),
            &format!("{}{moved}", A.replace("'127.0.0.1:1'", "['127.0.0.1:1', '127.0.0.1:2']")),
            &["frontend a: takes 127.0.0.1:2 over from frontend b"],
        ),
        (
            A,
            &A.replace("frontend.a", "frontend.c"),
            &[
                "frontend c: added, service echo",
                "frontend c: takes 127.0.0.1:1 over from frontend a",
                "frontend a: removed; open connections live on",
            ],
        ),
    ]);
}

#[test]
fn keys_have_the_value_before_and_behind() {
    let a = |lines: &str| format!("{A}{lines}\n");
    let process = |lines: &str| format!("[process]\n{lines}\n{A}");
    check(&[
        (
            A,
            &a("idle_timeout = '30s'\nmax_connections = 5\nbacklog = 7"),
            &[
                "frontend a: max_connections unset -> 5, at once",
                "frontend a: backlog unset -> 7, at once",
                "frontend a: idle_timeout 60s -> 30s, for new connections",
            ],
        ),
        (
            &a("max_connections = 5"),
            &a("max_connections = 4"),
            &["frontend a: max_connections 5 -> 4, at once"],
        ),
        (
            A,
            &A.replace("echo", "http").replace(":1", ":9"),
            &[
                "frontend a: service echo -> http, for new connections",
                "frontend a: header_timeout unset -> 10s, for new connections",
                "frontend a: min_rate unset -> 500, for new connections",
                "frontend a: min_rate_grace unset -> 20s, for new connections",
                "frontend a: body unset -> \"hello\\n\", for new connections",
                "frontend a: listens on 127.0.0.1:9",
                "frontend a: no longer listens on 127.0.0.1:1; what waits there is served",
            ],
        ),
        (
            &process("max_connections = 50\nlog_level = 'debug'"),
            &process("drain_timeout = '1m'"),
            &[
                "process: drain_timeout 10s -> 60s",
                "process: log_level debug -> info",
                "process: max_connections 50 -> unset",
            ],
        ),
        (
            &a("v6_only = false"),
            &a("v6_only = true").replace(":1", ":9"),
            &[
                "frontend a: v6_only false -> true, for new sockets",
                "frontend a: listens on 127.0.0.1:9",
                "frontend a: no longer listens on 127.0.0.1:1; what waits there is served",
            ],
        ),
        (
            &format!("{P}{U}"),
            &format!("{P}[frontend.p.routes]\n'*.a.example' = 'u'\n{U}"),
            &["frontend p: routes.\"*.a.example\" unset -> u, for new connections"],
        ),
    ]);
}

#[test]
fn upstreams_and_their_backends() {
    check(&[
        (
            &format!("{P}{U}"),
            &format!("{P}{U}check_interval = '1s'\n[upstream.v]\nbackends = ['10.0.0.3:80']\n"),
            &["upstream v: added, with 1 backend", "upstream u: check_interval unset -> 1s"],
        ),
        (
            &format!("{P}{U}[upstream.v]\nbackends = ['10.0.0.3:80']\n"),
            &format!("{P}{U}"),
            &["upstream v: removed; open connections live on"],
        ),
        (
            &format!("{P}{U}"),
            &format!("{P}{}", U.replace("2:80", "1:81,weight=3").replace("1:80", "1:80,weight=2")),
            &[
                "upstream u: backend 10.0.0.1:80 weight 1 -> 2",
                "upstream u: backend 10.0.0.1:81 added, weight 3",
                "upstream u: backend 10.0.0.2:80 removed; open connections live on",
            ],
        ),
    ]);
}

#[test]
fn what_is_in_force_is_told_behind_a_reload() {
    let (before, after) = (load(A, ""), load(&format!("{A}backlog = 99999\n"), ""));
    let backlogs = Backlogs::from([("a".to_owned(), 4096)]);
    let changes = between(&before, &after, &backlogs).changes;
    assert_eq!(changes, ["frontend a: backlog unset -> 99999, in force: 4096"]);
}

#[test]
fn what_takes_a_restart_is_told_with_its_values() {
    let before = format!("[process]\ncontrol = 'unix:/a'\n{A}");
    let after = format!(
        "[process]\ncontrol = 'unix:/b'\nworkers = 3\nengine = 'epoll'\ncq_entries = 64\n\
         log_format = 'json'\n{A}v6_only = true\n"
    );
    let words = between(&load(&before, ""), &load(&after, ""), &Backlogs::new());
    assert_eq!(words.changes, Vec::<String>::new());
    assert_eq!(
        words.restart,
        [
            "process: workers unset -> 3",
            "process: engine auto -> epoll",
            "process: cq_entries unset -> 64",
            "process: log_format text -> json",
            "process: control unix:/a -> unix:/b; until then it stays where it is",
            "frontend a: v6_only false -> true; a socket that stays keeps it, another port would not",
        ]
    );
}

/// A value that came from the environment is told as it is written, or only as changed.
#[test]
fn secrets_are_not_told() {
    let text = "[process]\ndrain_timeout = '${V}s'\nworkers = '${V}'\n[defaults]\nretries = '${V}'\n\
        [frontend.p]\nlisten = ['127.0.0.1:${V}', '127.0.0.1:1']\nservice = 'proxy'\nupstream = 'u'\n\
        access_log = '/tmp/${V}'\n[frontend.h]\nlisten = '127.0.0.1:2'\nservice = 'http'\nbody = '${V}'\n\
        [upstream.u]\nbackends = ['10.0.0.1:${V}', { address = 'a${V}:1', weight = '${V}' }]\n";
    let words = between(&load(text, "71"), &load(text, "82"), &Backlogs::new());
    let all = [words.changes.clone(), words.restart.clone()].concat().join("\n");
    assert!(!all.contains("71") && !all.contains("82"), "{all}");
    assert_eq!(
        words.changes,
        [
            "process: drain_timeout changed",
            "frontend p: retries changed, for new connections",
            "frontend p: access_log changed, for new connections",
            "frontend p: listens on 127.0.0.1:${V}",
            "frontend p: no longer listens on 127.0.0.1:${V}; what waits there is served",
            "frontend h: body changed, for new connections",
            "upstream u: backend 10.0.0.1:${V} added",
            "upstream u: backend a${V}:1 added",
            "upstream u: backend 10.0.0.1:${V} removed; open connections live on",
            "upstream u: backend a${V}:1 removed; open connections live on",
        ]
    );
    assert_eq!(words.restart, ["process: workers changed"]);
}
