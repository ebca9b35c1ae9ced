//! A table of configurations before and after, with what changes.

use std::num::NonZeroU32;

use super::*;

fn named(name: &str, texts: &[&str]) -> UpstreamConfig {
    UpstreamConfig { name: name.to_owned(), ..config(texts) }
}

#[track_caller]
fn expect(old: &[UpstreamConfig], new: &[UpstreamConfig], lines: &[&str]) {
    let changes = UpstreamChanges::between(old, new);
    assert_eq!(changes.to_string().lines().collect::<Vec<_>>(), lines);
    assert_eq!(changes.are_none(), lines.is_empty());
}

#[test]
fn upstreams_come_and_go_by_name() {
    let (a, b) = (named("a", &["10.0.0.1:1"]), named("b", &["10.0.0.1:1", "api.example:80"]));
    expect(&[], &[], &[]);
    expect(&[a.clone(), b.clone()], &[b.clone(), a.clone()], &[]);
    expect(
        &[],
        &[b.clone(), a.clone()],
        &["upstream b: added, with 2 backends", "upstream a: added, with 1 backend"],
    );
    expect(&[a, b.clone()], &[b], &["upstream a: removed"]);
}

#[test]
fn backends_are_told_apart_by_their_target() {
    let table: [(&[&str], &[&str], &[&str]); 5] = [
        (&["a:1", "b:1"], &["b:1", "a:1"], &[]),
        (&["a:1"], &["a:1,weight=1"], &[]),
        (
            &["a:1", "b:1"],
            &["b:1", "c:1,weight=2"],
            &["backend c:1,weight=2 added", "backend a:1 removed"],
        ),
        (&["a:1,weight=3"], &["a:1"], &["backend a:1 weight 3 -> 1"]),
        (&["a:1"], &["a:2"], &["backend a:2 added", "backend a:1 removed"]),
    ];
    for (old, new, lines) in table {
        let lines: Vec<_> = lines.iter().map(|line| format!("upstream default: {line}")).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        expect(&[config(old)], &[config(new)], &lines);
    }
}

#[test]
fn every_setting_has_its_line() {
    type Change = fn(&mut UpstreamConfig);
    const ONE: NonZeroU32 = NonZeroU32::MIN;
    const S: Duration = Duration::from_secs(1);
    let table: [(&str, Change); 14] = [
        ("balance least-connections -> random", |c| c.balance = Balance::Random),
        ("max_connections unset -> 5", |c| c.max_connections = NonZeroUsize::new(5)),
        (r"check none -> send-expect:PING\r\n|+PONG", |c| {
            c.active.check = r"send-expect:PING\r\n|+PONG".parse().unwrap();
        }),
        ("check_interval 2s -> 1s", |c| c.active.interval = S),
        ("check_timeout 1s -> 500ms", |c| c.active.timeout = S / 2),
        ("rise 2 -> 1", |c| c.active.rise = ONE),
        ("fall 3 -> 1", |c| c.active.fall = ONE),
        ("eject_after 3 -> 0", |c| c.passive.failures = None),
        ("eject_time 1s -> 2s", |c| c.passive.ejection_base = 2 * S),
        ("eject_time_max 1m -> 1s", |c| c.passive.ejection_max = S),
        ("eject_percent_max 50 -> 100", |c| c.passive.ejected_percent_max = 100),
        ("slow_start 0s -> 1s", |c| c.slow_start = S),
        ("when_all_out try-all -> refuse", |c| c.when_all_out = WhenAllOut::Refuse),
        ("resolve_interval 30s -> 1s", |c| c.resolve_interval = S),
    ];
    let old = config(&["a:1"]);
    for (line, change) in table {
        let mut new = old.clone();
        change(&mut new);
        expect(std::slice::from_ref(&old), &[new], &[&format!("upstream default: {line}")]);
    }
}
