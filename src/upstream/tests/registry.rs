//! All upstreams of a process: what comes, what goes, and what stays as it is when a configuration is wrong.

use std::net::TcpListener;

use super::*;

fn named(name: &str, texts: &[&str]) -> UpstreamConfig {
    UpstreamConfig { name: name.to_owned(), ..config(texts) }
}

fn names(upstreams: &[Arc<Upstream>]) -> Vec<String> {
    upstreams.iter().map(|upstream| upstream.name().to_owned()).collect()
}

fn registry() -> UpstreamRegistry {
    UpstreamRegistry::with_resolver(Box::new(no_names))
}

#[test]
fn upstreams_come_stay_and_go() {
    let registry = registry();
    let (a, b) = (named("a", &["10.0.0.1:1"]), named("b", &["10.0.0.2:1"]));
    let prepared = registry.prepare(&[a.clone(), b.clone()]).unwrap();
    assert!(registry.all().is_empty(), "nothing has changed yet");
    let expected = "upstream a: added, with 1 backend\nupstream b: added, with 1 backend";
    assert_eq!(prepared.changes().to_string(), expected);
    assert_eq!(registry.apply(prepared).to_string(), expected);
    assert_eq!(names(&registry.all()), ["a", "b"]);
    let kept = registry.get("b").unwrap();
    let c = named("c", &["10.0.0.3:1"]);
    let told = apply(&registry, &[c, b]);
    assert_eq!(told, "upstream c: added, with 1 backend\nupstream a: removed");
    assert_eq!(names(&registry.all()), ["b", "c"]);
    assert!(Arc::ptr_eq(&registry.get("b").unwrap(), &kept) && registry.get("a").is_none());
    // The thread that tells may hold it for a moment.
    eventually(DEADLINE, || registry.retired().is_empty());
}

#[test]
fn some_are_changed_and_the_others_stay_as_they_are() {
    let registry = registry();
    let (a, b) = (named("a", &["10.0.0.1:1"]), named("b", &["10.0.0.2:1"]));
    let _ = apply(&registry, &[a, b]);
    let other = registry.get("b").unwrap();
    other.set_draining(&"10.0.0.2:1".parse().unwrap(), true).unwrap();
    let differences = other.differences();
    let prepared = registry.prepare_some(&[named("a", &["10.0.0.1:1", "10.0.0.3:1"])]).unwrap();
    let expected = "upstream a: backend 10.0.0.3:1 added";
    assert_eq!(prepared.changes().to_string(), expected);
    assert_eq!(registry.apply(prepared).to_string(), expected);
    assert_eq!(names(&registry.all()), ["a", "b"]);
    assert_eq!(registry.get("a").unwrap().endpoints().len(), 2);
    assert_eq!(other.differences(), differences, "by hand, and as it was");
    assert!(registry.prepare_some(&[named("a", &[])]).is_err());
}

#[test]
fn one_that_is_removed_goes_on_for_those_who_have_it_and_may_come_back() {
    let registry = registry();
    let mut a = named("a", &["10.0.0.1:1"]);
    a.max_connections = NonZeroUsize::new(2);
    let _ = apply(&registry, &[a.clone()]);
    let mut view = registry.get("a").unwrap().view();
    let old = pick(&mut view);
    let _ = apply(&registry, &[]);
    let young = pick(&mut view);
    drop(view);
    let retired = registry.retired();
    assert_eq!(retired[0].endpoints()[0].open(), 2, "what still has connections is visible");
    drop(retired);
    let _ = apply(&registry, &[a]);
    assert!(registry.retired().is_empty());
    let mut view = registry.get("a").unwrap().view();
    assert_eq!(view.pick(None, &[]).unwrap_err(), NoBackend::AllFull, "the limit holds for both");
    drop((old, young, view));
    let _ = apply(&registry, &[]);
    eventually(DEADLINE, || registry.retired().is_empty());
}

#[test]
fn a_configuration_that_cannot_be_prepared_changes_nothing() {
    let registry = registry();
    let good = [named("a", &["10.0.0.1:1"]), named("b", &["10.0.0.2:1"])];
    let _ = apply(&registry, &good);
    let generations = || registry.all().iter().map(|one| one.generation()).collect::<Vec<_>>();
    let (before, threads) = (generations(), registry.background().threads());
    let changed = named("a", &["10.0.0.1:1", "10.0.0.9:1,weight=2"]);
    let long = Backend {
        target: Target::Unix("x".repeat(200).as_str().into()),
        weight: Default::default(),
    };
    let mut table = [
        (named("a", &["10.0.0.3:1"]), "two upstreams of the name 'a'"),
        (named("b", &[]), "upstream 'b': no backend"),
        (named("b", &["10.0.0.3:1", "10.0.0.3:1"]), "given twice"),
        (named("b", &["10.0.0.2:1", "api.example:1"]), "api.example:1 cannot be resolved"),
        (UpstreamConfig { backends: vec![long], ..named("b", &[]) }, "too long for a unix socket"),
        (named("b", &["10.0.0.4:1"]), "the slow start is"),
    ];
    table[5].0.slow_start = 2 * UpstreamConfig::SLOW_START_MAX;
    for (wrong, expected) in table {
        let error = registry.prepare(&[changed.clone(), wrong]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(
            (names(&registry.all()), generations()),
            (vec!["a".into(), "b".into()], before.clone())
        );
        assert_eq!(registry.get("a").unwrap().endpoints().len(), 1);
        assert_eq!(registry.background().threads(), threads);
    }
}

#[test]
fn names_are_resolved_several_at_a_time_and_each_once() {
    // All of them wait for each other, so one at a time would never end.
    let (barrier, asked) = (std::sync::Barrier::new(8), AtomicU64::new(0));
    let state = Arc::new((barrier, asked));
    let resolve = {
        let state = Arc::clone(&state);
        move |name: &str, port: u16| {
            state.1.fetch_add(1, Ordering::Relaxed);
            state.0.wait();
            let host = name.trim_start_matches("host").parse().unwrap();
            Ok(vec![SocketAddr::from(([10, 0, 0, host], port))])
        }
    };
    let registry = UpstreamRegistry::with_resolver(Box::new(resolve));
    let texts: Vec<_> = (0..8).map(|host| format!("host{host}:1")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let _ = apply(&registry, &[named("a", &texts), named("b", &texts)]);
    assert_eq!(state.1.load(Ordering::Relaxed), 8);
    let addresses = |name: &str| registry.get(name).unwrap().endpoints().len();
    assert_eq!((addresses("a"), addresses("b")), (8, 8));
    // What is known is not asked for again.
    let _ = apply(&registry, &[named("a", &texts[..3])]);
    assert_eq!(state.1.load(Ordering::Relaxed), 8);
}

/// With one thread for each check the silent ones would hold all of them for a minute.
#[test]
fn endpoints_that_do_not_answer_leave_the_checks_of_others_alone() {
    let listen = |host: u8| TcpListener::bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let text = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let registry = registry();
    let good = listen(1);
    let mut well = named("well", &[&text(&good)]);
    well.active.check = ActiveCheck::Connect;
    well.active.interval = Duration::from_millis(10);
    let _ = apply(&registry, std::slice::from_ref(&well));
    let endpoint = Arc::clone(&registry.get("well").unwrap().endpoints()[0]);
    let passed = || endpoint.counters().get(EndpointCounter::ChecksPassed);
    eventually(DEADLINE, || passed() > 0);
    let silent: Vec<_> = (2..42).map(listen).collect();
    let texts: Vec<_> = silent.iter().map(text).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let mut ill = named("ill", &texts);
    ill.active.check = "send-expect:PING|PONG".parse().unwrap();
    ill.active.timeout = Duration::from_secs(60);
    let _ = apply(&registry, &[well, ill]);
    eventually(DEADLINE, || registry.background().checks_under_way() >= 12);
    let before = passed();
    eventually(DEADLINE, || passed() > before + 20);
}

#[test]
fn nothing_is_checked_or_looked_up_of_one_that_is_removed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let resolve = move |_: &str, _: u16| Ok(vec![listener.local_addr().unwrap()]);
    let registry = UpstreamRegistry::with_resolver(Box::new(resolve));
    let mut a = named("a", &["api.example:80"]);
    a.active.check = ActiveCheck::Connect;
    let _ = apply(&registry, &[a]);
    let view = registry.get("a").unwrap().view();
    assert_eq!(registry.checks_at_once(), 1);
    let _ = apply(&registry, &[]);
    let needs = registry.background().needs();
    assert_eq!((needs.checked, needs.has_names), (0, false));
    let upstream = Arc::clone(&registry.retired()[0]);
    upstream.set_draining(&"api.example:80".parse().unwrap(), true).unwrap();
    upstream.set_draining(&"api.example:80".parse().unwrap(), false).unwrap();
    assert_eq!(registry.background().needs().checked, 0, "a change does not begin it again");
    drop(view);
}

#[test]
fn threads_are_started_when_there_is_something_for_them() {
    let registry = registry();
    assert_eq!(registry.background().threads(), 0);
    let plain = named("a", &["10.0.0.1:1"]);
    let _ = apply(&registry, std::slice::from_ref(&plain));
    assert_eq!(registry.background().threads(), 1, "the one that tells");
    let mut checked = named("b", &["127.0.0.1:1", "127.0.0.2:1"]);
    checked.active.check = ActiveCheck::Connect;
    let _ = apply(&registry, &[plain, checked]);
    assert_eq!(registry.background().threads(), 3);
}

/// What a slip would look like; one that has worked before may have gone for a while.
#[test]
fn a_source_that_is_none_of_this_machine_is_refused_when_it_is_new() {
    let with = |sources: &[&str]| {
        let mut config = config(&["127.0.0.1:1"]);
        config.sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        [config]
    };
    let registry = UpstreamRegistry::with_resolver(Box::new(no_names));
    let error = registry.prepare(&with(&["127.0.0.2", "192.0.2.1"])).unwrap_err().to_string();
    let expected =
        "upstream default: the source 192.0.2.1 is not an address of this machine; see: ip addr";
    assert_eq!(error, expected);
    apply(&registry, &with(&["127.0.0.2"]));
    let changes = apply(&registry, &with(&["127.0.0.2", "127.0.0.3"]));
    assert_eq!(changes, "upstream default: source 127.0.0.2 -> [127.0.0.2, 127.0.0.3]");
    assert!(registry.prepare(&with(&["192.0.2.1"])).is_err());
}

#[test]
fn a_source_on_an_interface_that_is_not_there_is_told_with_its_number() {
    let mut config = config(&["[fe80::9]:1"]);
    config.sources = vec!["fe80::5%2147483647".parse().unwrap()];
    let registry = UpstreamRegistry::with_resolver(Box::new(no_names));
    let error = registry.prepare(&[config]).unwrap_err().to_string();
    let expected = "upstream default: the source fe80::5%2147483647 is on interface 2147483647, which this machine \
                    does not have; see: ip link";
    assert_eq!(error, expected);
}

/// It may come back, so the reload is not refused.
#[test]
fn a_source_that_has_gone_is_a_warning() {
    let sources = |source: &str| {
        let mut config = config(&["127.0.0.1:1"]);
        config.sources = vec![source.parse().unwrap()];
        config
    };
    let registry = UpstreamRegistry::with_resolver(Box::new(no_names));
    apply(&registry, &[sources("127.0.0.2")]);
    let gone = sources("192.0.2.1");
    registry.get("default").unwrap().common.set_config(Arc::new(gone.clone()));
    let prepared = registry.prepare(&[gone]).unwrap();
    let expected =
        ["upstream default: the source 192.0.2.1 is not an address of this machine; see: ip addr"];
    assert_eq!(prepared.warnings(), expected);
}

/// Also when nothing changes and the name is not looked up again.
#[test]
fn a_name_that_no_source_can_reach_is_a_warning() {
    let with = |sources: &[&str]| {
        let mut config = config(&["v4.example:80", "both.example:80", "127.0.0.1:1"]);
        config.sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        [config]
    };
    let resolve = |name: &str, port| {
        let texts: &[&str] =
            if name.starts_with("v4") { &["10.0.0.9"] } else { &["10.0.0.9", "::1"] };
        Ok(texts.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    };
    let registry = UpstreamRegistry::with_resolver(Box::new(resolve));
    let mut six = with(&["::1"]);
    six[0].backends.pop();
    for _ in 0..2 {
        let prepared = registry.prepare(&six).unwrap();
        let [warning] = prepared.warnings() else { panic!("{:?}", prepared.warnings()) };
        let told = "upstream default: no source for the backend v4.example:80: it resolves to 10.0.0.9:80, and";
        assert!(warning.starts_with(told), "{warning}");
        let _ = registry.apply(prepared);
    }
    assert_eq!(registry.prepare(&with(&["127.0.0.2"])).unwrap().warnings(), [""; 0]);
}
