//! Rules of a frontend and of its process together.

use std::num::NonZeroU32;

use super::*;
use crate::config::{RuleMode, SourceRules, SourceSizes};

const PERIOD: Duration = Duration::from_secs(1);

fn one_a_second(mode: RuleMode) -> SourceRules {
    let rate = Some(Rate { count: NonZeroU32::MIN, period: PERIOD, burst: NonZeroU32::MIN });
    SourceRules { mode, rate_per_source: rate, refuse: Refusal::Delay, ..SourceRules::default() }
}

fn admission(frontend: &SourceRules, process: &SourceRules) -> Admission {
    let gate = |rules| {
        let rules = Rules::new(rules, SourceSizes::default()).map(Arc::new);
        Gate::new(rules, Arc::default())
    };
    Admission::new([gate(frontend), gate(process)], &[], None)
}

fn counted(admission: &Admission, action: Action) -> [u64; TIERS] {
    admission.gates.each_ref().map(|gate| gate.sources.counted(Rule::RatePerSource, action))
}

#[test]
fn nobody_waits_for_a_rule_that_is_only_watched() {
    let rules = admission(&one_a_second(RuleMode::Observe), &SourceRules::default());
    let (address, now) = ([192, 0, 2, 1].into(), Instant::now());
    assert!(matches!(rules.ask(address, now), Verdict::In(_)));
    assert!(matches!(rules.ask(address, now), Verdict::Observed(_, Rule::RatePerSource)));
    assert_eq!(counted(&rules, Action::Observed), [1, 0]);
    assert_eq!(counted(&rules, Action::Delayed), [0, 0]);
}

#[test]
fn a_rule_that_is_only_watched_spares_nobody_the_wait_for_another() {
    let (watched, enforced) = (one_a_second(RuleMode::Observe), one_a_second(RuleMode::Enforce));
    let rules = admission(&watched, &enforced);
    let (address, now) = ([192, 0, 2, 1].into(), Instant::now());
    assert!(matches!(rules.ask(address, now), Verdict::In(_)));
    assert!(matches!(rules.ask(address, now), Verdict::Later(_, PERIOD)));
    assert_eq!(counted(&rules, Action::Observed), [1, 0]);
    assert_eq!(counted(&rules, Action::Delayed), [0, 1]);
}

/// A rule that was too strict holds nobody for longer than the one that takes its place.
#[test]
fn a_rate_that_is_raised_frees_those_that_the_old_one_held() {
    let (sources, now): (Arc<Sources>, _) = (Arc::default(), Instant::now());
    let with = |rate: &str| {
        let rate: Rate = rate.parse().unwrap();
        let config = SourceRules { rate_per_source: Some(rate), ..SourceRules::default() };
        let rules = Rules::new(&config, SourceSizes::default()).map(Arc::new);
        let gates = [Gate::new(rules, Arc::clone(&sources)), Gate::new(None, Arc::default())];
        Admission::new(gates, &[], Some(rate))
    };
    for address in [[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()] {
        let slow = with("10/h burst 3");
        for _ in 0..3 {
            assert!(matches!(slow.ask(address, now), Verdict::In(_)));
            slow.count(now);
        }
        assert_eq!(slow.ask(address, now), Verdict::Refused(Rule::RatePerSource));
        assert!(slow.room(now) == 0 && slow.room_at(now) > Some(now + 300 * PERIOD));
        let fast = with("100/s");
        let soon = now + PERIOD / 50;
        assert!(matches!(fast.ask(address, soon), Verdict::In(_)), "{address}");
        assert_eq!(fast.room_at(now), Some(now + PERIOD / 100));
        assert_eq!(fast.room(now + PERIOD), 100);
    }
}

/// Whoever has a whole IPv6 /48 can have each connection come from another source.
#[test]
fn a_site_that_stays_over_its_limit_is_banned() {
    let config = SourceRules {
        max_per_source: NonZeroU32::new(1),
        site_factor: 2,
        ban_after: NonZeroU32::new(5),
        ..SourceRules::default()
    };
    let rules = admission(&config, &SourceRules::default());
    let banned = || {
        let noted = rules.gates[0].sources.take_offenders();
        noted.iter().map(|(network, _)| network.to_string()).collect::<Vec<_>>()
    };
    for source in 0..7 {
        assert_eq!(banned(), [""; 0]);
        let _ = rules.ask(format!("2001:db8:7:{source}::1").parse().unwrap(), Instant::now());
    }
    assert_eq!(banned(), ["2001:db8:7::/48"]);
}
