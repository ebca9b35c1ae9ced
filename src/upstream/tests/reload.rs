//! A new configuration changes an upstream in place.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;

const BOTH: [&str; 2] = ["10.0.0.1:1", "10.0.0.2:1"];
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(10);

/// An upstream of these backends, and its registry.
fn running(texts: &[&str]) -> Running {
    Running::start(config(texts), Box::new(no_names))
}

impl Running {
    /// Applies what it is told now, with a change.
    #[track_caller]
    fn change(&self, change: impl FnOnce(&mut UpstreamConfig)) -> String {
        let mut config = (*self.upstream.config()).clone();
        change(&mut config);
        apply(&self.registry, &[config])
    }
}

#[test]
fn endpoints_whose_address_stays_keep_what_they_have() {
    let running = running(&BOTH);
    let upstream = &running.upstream;
    let mut view = upstream.view();
    let mut lease = pick(&mut view);
    lease.connected();
    let (id, kept) = (lease.endpoint().id(), address(&lease));
    let now = Instant::now();
    pick(&mut view).connect_failed_at(now, Errno::ECONNREFUSED);
    let failing = states(upstream, now);
    assert!(failing.contains(&EndpointState::Failing), "{failing:?}");
    let told = running.change(|config| {
        config.backends.insert(0, "10.0.0.3:1".parse().unwrap());
        config.balance = Balance::Random;
        config.slow_start = HOUR;
        config.passive.ejection_base = HOUR;
        config.passive.ejection_max = HOUR;
    });
    assert_eq!(told.lines().count(), 5, "{told}");
    let endpoints = upstream.endpoints();
    let same = endpoints.iter().find(|endpoint| endpoint.address().to_string() == kept).unwrap();
    assert_eq!((same.id(), same.open()), (id, 1));
    assert_eq!(same.counters().get(EndpointCounter::Connects), 1);
    assert_eq!(&states(upstream, now)[1..], failing);
    drop(lease);
    assert_eq!(same.open(), 0);
}

#[test]
fn the_same_configuration_changes_nothing() {
    let running = running(&BOTH);
    let generation = running.upstream.generation();
    assert_eq!(running.change(|_| ()), "");
    assert_eq!(running.upstream.generation(), generation);
}

#[test]
fn another_policy_reaches_the_next_pick_of_every_view() {
    let running = running(&BOTH);
    running.change(|config| config.balance = Balance::SourceHash);
    let source = Some([10, 9, 9, 9].into());
    let mut views = [running.upstream.view(), running.upstream.view()];
    let two = |view: &mut View| [(); 2].map(|()| address(&view.pick(source, &[]).unwrap()));
    for view in &mut views {
        let [first, second] = two(view);
        assert_eq!(first, second);
    }
    running.change(|config| config.balance = Balance::RoundRobin);
    let firsts = views.each_mut().map(|view| {
        let [first, second] = two(view);
        assert_ne!(first, second);
        first
    });
    assert_ne!(firsts[0], firsts[1], "views begin at different endpoints again");
}

#[test]
fn a_limit_that_falls_closes_nobody_and_one_that_rises_makes_room() {
    let running = running(&BOTH[..1]);
    let mut view = running.upstream.view();
    let _leases = [pick(&mut view), pick(&mut view)];
    running.change(|config| config.max_connections = NonZeroUsize::new(1));
    assert_eq!(view.pick(None, &[]).unwrap_err(), NoBackend::AllFull);
    assert_eq!(running.upstream.endpoints()[0].open(), 2);
    running.change(|config| config.max_connections = NonZeroUsize::new(3));
    let _third = pick(&mut view);
    assert_eq!(view.pick(None, &[]).unwrap_err(), NoBackend::AllFull);
}

#[test]
fn the_rules_of_ejections_and_of_an_outage_change() {
    let running = running(&BOTH[..1]);
    let (mut view, now) = (running.upstream.view(), Instant::now());
    running.change(|config| {
        config.passive.failures = NonZeroU32::new(1);
        config.passive.ejected_percent_max = 100;
    });
    fail(&mut view, now, 1);
    assert_eq!(states(&running.upstream, now), [EndpointState::Ejected]);
    let _tried = view.pick_at(now, None, &[]).unwrap();
    running.change(|config| config.when_all_out = WhenAllOut::Refuse);
    assert_eq!(view.pick_at(now, None, &[]).unwrap_err(), NoBackend::AllOut);
    assert_eq!(states(&running.upstream, now), [EndpointState::Ejected], "it stays ejected");
}

#[test]
fn a_slow_start_counts_for_those_that_have_come_up_already() {
    let running = running(&BOTH);
    let second: Target = BOTH[1].parse().unwrap();
    running.upstream.set_draining(&second, true).unwrap();
    running.upstream.set_draining(&second, false).unwrap();
    running.change(|config| config.slow_start = HOUR);
    let mut view = running.upstream.view();
    let _leases: Vec<_> = (0..50).map(|_| pick(&mut view)).collect();
    let open: Vec<_> = running.upstream.endpoints().iter().map(|one| one.open()).collect();
    assert_eq!(open, [50, 0]);
    running.change(|config| config.slow_start = Duration::ZERO);
    assert_eq!(address(&pick(&mut view)), BOTH[1]);
}

/// A listener, and what is told about its checks.
struct Checked {
    running: Running,
    _listener: TcpListener,
}

impl Checked {
    fn start(active: ActiveHealth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(&[&listener.local_addr().unwrap().to_string()]);
        config.active = active;
        Self { running: Running::start(config, Box::new(no_names)), _listener: listener }
    }

    fn count(&self, counter: EndpointCounter) -> u64 {
        self.running.upstream.endpoints()[0].counters().get(counter)
    }

    fn state(&self) -> EndpointState {
        states(&self.running.upstream, Instant::now())[0]
    }
}

fn active(check: &str, interval: Duration) -> ActiveHealth {
    let check = check.parse().unwrap();
    ActiveHealth { check, interval, timeout: SOON, ..ActiveHealth::default() }
}

const SILENT: &str = "send-expect:PING|PONG";

#[test]
fn checks_are_switched_on_and_off_in_place() {
    let checked = Checked::start(ActiveHealth::default());
    checked.running.change(|config| config.active = active(SILENT, SOON));
    eventually(DEADLINE, || checked.state() == EndpointState::Down);
    checked.running.change(|config| config.active = ActiveHealth::default());
    assert_eq!(checked.state(), EndpointState::Unknown, "nothing would bring it up again");
    let failed = checked.count(EndpointCounter::ChecksFailed);
    assert_eq!(checked.running.registry.checks_at_once(), 0);
    // What was under way at that moment ends, and is counted no more.
    eventually(DEADLINE, || checked.running.registry.background().checks_under_way() == 0);
    assert_eq!(checked.count(EndpointCounter::ChecksFailed), failed);
    assert_eq!(checked.state(), EndpointState::Unknown);
    checked.running.change(|config| config.active = active("connect", HOUR));
    eventually(DEADLINE, || checked.state() == EndpointState::Up);
}

#[test]
fn checks_are_timed_anew_and_of_another_kind_in_place() {
    let checked = Checked::start(active("connect", HOUR));
    eventually(DEADLINE, || checked.count(EndpointCounter::ChecksPassed) == 1);
    checked.running.change(|config| config.active.interval = SOON);
    eventually(DEADLINE, || checked.count(EndpointCounter::ChecksPassed) > 5);
    checked.running.change(|config| config.active.check = SILENT.parse().unwrap());
    eventually(DEADLINE, || checked.state() == EndpointState::Down);
    assert_eq!(checked.count(EndpointCounter::WentDown), 1, "it was up before");
}

#[test]
fn names_are_looked_up_anew_at_another_interval() {
    let mut config = config(&["api.example:80"]);
    config.resolve_interval = HOUR;
    let resolve = |_: &str, _: u16| Ok(vec![SocketAddr::from(([10, 0, 0, 1], 80))]);
    let running = Running::start(config, Box::new(resolve));
    assert_eq!(running.upstream.lookups(), 0);
    running.change(|config| config.resolve_interval = *UpstreamConfig::RESOLVE_INTERVAL.start());
    eventually(DEADLINE, || running.upstream.lookups() > 1);
}

/// No place is lost, whatever changes between a pick and the end of its connection.
#[test]
fn places_are_counted_while_everything_changes() {
    let running = running(&BOTH);
    let (over, start) = (AtomicBool::new(false), Barrier::new(4));
    let picked: Vec<Vec<Arc<Endpoint>>> = thread::scope(|scope| {
        let hammer = || {
            let mut view = running.upstream.view();
            let (mut leases, mut seen) = (std::collections::VecDeque::new(), Vec::new());
            start.wait();
            while !over.load(Ordering::Relaxed) {
                if let Ok(mut lease) = view.pick(Some([10, 9, 9, 9].into()), &[]) {
                    match fastrand::u8(0..4) {
                        0 => lease.connect_failed(Errno::ECONNREFUSED),
                        _ => lease.connected(),
                    }
                    seen.push(Arc::clone(lease.endpoint()));
                    leases.push_back(lease);
                }
                leases.drain(..leases.len().saturating_sub(20));
                seen.truncate(10_000);
            }
            seen
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(hammer)).collect();
        start.wait();
        (0..300).for_each(|round| disturb(&running, round));
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(picked.iter().all(|seen| !seen.is_empty()), "all have picked");
    let now = running.upstream.endpoints();
    let open = picked.iter().flatten().chain(&now).map(|endpoint| endpoint.open());
    assert_eq!(open.max(), Some(0));
}

fn disturb(running: &Running, round: usize) {
    let kept: Target = BOTH[0].parse().unwrap();
    let _ = match round % 4 {
        0 => running.upstream.set_draining(&kept, true),
        1 => running.upstream.force_state(&kept, Forced::Down),
        _ => Ok(()),
    };
    running.change(|config| {
        config.backends = backends(&[BOTH[0], &format!("10.0.0.{}:1,weight=3", 2 + round % 5)]);
        config.balance = [Balance::SourceHash, Balance::RoundRobin, Balance::Random][round % 3];
        config.max_connections = NonZeroUsize::new(10 + round % 40);
        config.passive.failures = NonZeroU32::new(1 + (round % 3) as u32);
        config.slow_start = HOUR * (round % 2) as u32;
    });
}
