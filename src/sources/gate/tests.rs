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
