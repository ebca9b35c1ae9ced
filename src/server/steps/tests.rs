//! Pairs of configurations, and the steps between them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::*;
use crate::config::upstream::UpstreamConfig;
use crate::config::{AccessLogConfig, LogFormat, LogTarget, OverloadAction, ProxyConfig};

fn frontend(name: &str, listen: &str, protocol: Protocol) -> Frontend {
    let mut frontend = Frontend::new(name, protocol);
    frontend.listen = listen.split(',').map(|listen| listen.parse().unwrap()).collect();
    frontend
}

fn echo(name: &str, listen: &str) -> Frontend {
    frontend(name, listen, Protocol::Echo)
}

fn proxy(name: &str, listen: &str) -> Frontend {
    frontend(name, listen, Protocol::Proxy(Box::new(ProxyConfig::new("default"))))
}

fn config(frontends: impl IntoIterator<Item = Frontend>) -> Config {
    let upstream = UpstreamConfig::new(vec!["10.0.0.1:80".parse().unwrap()]);
    let mut config = Config::of(echo("a", "127.0.0.1:1"), vec![upstream]);
    config.frontends = frontends.into_iter().collect();
    config
}

/// The steps, one word and its arguments each.
fn words(old: &Config, new: &Config) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Bind { frontend, listen } => format!("bind {frontend} {listen}"),
        Step::Publish { frontend } => format!("publish {frontend}"),
        Step::Limit { frontend } => format!("limit {frontend}"),
        Step::Move { listen, from, to } => format!("move {listen} {from} {to}"),
        Step::Configure { frontend, listen } => format!("configure {frontend} {listen}"),
        Step::Close { frontend, listen } => format!("close {frontend} {listen}"),
        Step::Retire { frontend } => format!("retire {frontend}"),
    };
    steps(old, new).iter().map(word).collect()
}

fn changed(frontend: Frontend, change: impl FnOnce(&mut Frontend)) -> Frontend {
    let mut frontend = frontend;
    change(&mut frontend);
    frontend
}

/// Frontends before and after, and the steps between them.
type Table = Vec<(Vec<Frontend>, Vec<Frontend>, Vec<&'static str>)>;

fn a() -> Frontend {
    echo("a", "127.0.0.1:1")
}

fn b() -> Frontend {
    echo("b", "127.0.0.1:2")
}

fn log() -> AccessLogConfig {
    AccessLogConfig { target: LogTarget::Journald, format: LogFormat::Text }
}

fn check(table: Table) {
    for (old, new, expected) in table {
        let (old, new) = (config(old), config(new));
        assert_eq!(words(&old, &new), expected, "{old:#?}\n{new:#?}");
        assert_eq!(words(&new, &new), Vec::<String>::new());
    }
}

#[test]
fn what_follows_for_sockets() {
    check(vec![
        (vec![a(), b()], vec![b(), a()], vec![]),
        (vec![a()], vec![a(), b()], vec!["bind b 127.0.0.1:2", "publish b"]),
        (vec![a(), b()], vec![a()], vec!["close b 127.0.0.1:2", "retire b"]),
        (
            vec![a()],
            vec![echo("a", "127.0.0.1:3")],
            vec!["bind a 127.0.0.1:3", "close a 127.0.0.1:1"],
        ),
        (
            vec![echo("a", "127.0.0.1:1,127.0.0.1:2")],
            vec![echo("a", "127.0.0.1:2,127.0.0.1:3")],
            vec!["bind a 127.0.0.1:3", "close a 127.0.0.1:1"],
        ),
        // Two frontends swap their addresses: no socket is closed.
        (
            vec![a(), b()],
            vec![echo("a", "127.0.0.1:2"), echo("b", "127.0.0.1:1")],
            vec!["move 127.0.0.1:1 a b", "move 127.0.0.1:2 b a"],
        ),
        // One gets another name.
        (
            vec![a()],
            vec![echo("c", "127.0.0.1:1")],
            vec!["publish c", "move 127.0.0.1:1 a c", "retire a"],
        ),
        (
            vec![a()],
            vec![a(), echo("b", "127.0.0.1:0,127.0.0.1:0")],
            vec!["bind b 127.0.0.1:0", "bind b 127.0.0.1:0", "publish b"],
        ),
        // Ports that the kernel chooses are told apart by their number.
        (
            vec![echo("a", "127.0.0.1:0")],
            vec![echo("a", "127.0.0.1:0,127.0.0.1:0")],
            vec!["bind a 127.0.0.1:0"],
        ),
        (
            vec![echo("a", "127.0.0.1:0,127.0.0.1:0")],
            vec![echo("a", "127.0.0.1:0")],
            vec!["close a 127.0.0.1:0"],
        ),
    ]);
}

#[test]
fn what_follows_for_settings() {
    check(vec![
        (vec![a()], vec![frontend("a", "127.0.0.1:1", Protocol::Discard)], vec!["publish a"]),
        (
            vec![a()],
            vec![changed(a(), |a| a.timeouts.idle = Duration::from_secs(1))],
            vec!["publish a"],
        ),
        (vec![a()], vec![changed(a(), |a| a.limits.budget_bytes = 4096)], vec!["publish a"]),
        (
            vec![a()],
            vec![changed(a(), |a| a.trusted = vec!["10.0.0.0/8".parse().unwrap()])],
            vec!["publish a"],
        ),
        (vec![a()], vec![changed(a(), |a| a.access_log = Some(log()))], vec!["publish a"]),
        (
            vec![a()],
            vec![changed(a(), |a| a.limits.max_connections = NonZeroUsize::new(1))],
            vec!["limit a"],
        ),
        (
            vec![a()],
            vec![changed(a(), |a| a.socket.backlog = NonZeroU32::new(7))],
            vec!["configure a 127.0.0.1:1"],
        ),
        (
            vec![a()],
            vec![changed(a(), |a| a.socket.nodelay = false)],
            vec!["publish a", "configure a 127.0.0.1:1"],
        ),
        (vec![a()], vec![changed(a(), |a| a.socket.v6_only = true)], vec![]),
        (
            vec![a()],
            vec![changed(a(), |a| a.overload.action = OverloadAction::Shed)],
            vec!["configure a 127.0.0.1:1"],
        ),
        (
            vec![a()],
            vec![changed(a(), |a| a.overload.patience = Some(Duration::from_secs(1)))],
            vec!["publish a"],
        ),
        // The socket goes by what its new frontend says.
        (
            vec![a()],
            vec![changed(echo("c", "127.0.0.1:1"), |c| c.overload.action = OverloadAction::Lifo)],
            vec!["publish c", "move 127.0.0.1:1 a c", "configure c 127.0.0.1:1", "retire a"],
        ),
    ]);
}

/// Whether the client's address is needed depends on the upstream.
#[test]
fn an_upstream_that_begins_to_balance_by_the_source_changes_its_frontends() {
    let old = config([proxy("p", "127.0.0.1:1"), echo("e", "127.0.0.1:2")]);
    let mut new = old.clone();
    new.upstreams[0].balance = Balance::SourceHash;
    assert_eq!(words(&old, &new), ["publish p"]);
    new.upstreams[0].balance = Balance::Random;
    assert_eq!(words(&old, &new), Vec::<String>::new());
}

#[test]
fn what_takes_a_new_process_is_named() {
    let old = config([echo("a", "[::]:1")]);
    let told = |change: fn(&mut Config)| {
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(words(&old, &new), Vec::<String>::new());
        fixed(&old, &new).iter().map(|fixed| fixed.what).collect::<Vec<_>>()
    };
    assert_eq!(told(|_| {}), Vec::<&str>::new());
    assert_eq!(told(|c| c.process.threads.workers = NonZeroUsize::new(3)), ["threads"]);
    assert_eq!(told(|c| c.process.ring.buffer_bytes = 64), ["sizes of rings and buffers"]);
    assert_eq!(
        told(|c| c.frontends[0].socket.v6_only = true),
        ["IPV6_V6ONLY of an address that stays"]
    );
    assert_eq!(told(|c| c.process.max_connections = NonZeroUsize::new(3)), Vec::<&str>::new());
}
