//! The state machine on a clock of its own, with waits that are made up.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const LIMITS: Limits =
    Limits { target: Duration::from_millis(5), interval: Duration::from_millis(100), sheds: false };
const SHEDS: Limits = Limits { sheds: true, ..LIMITS };

/// A queue with its clock.
struct Bench {
    overload: Overload,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { overload: Overload::new(), start: Instant::now() }
    }

    fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    /// A connection has waited so long; what has changed.
    fn seen(&mut self, at: u64, wait: u64) -> Vec<Change> {
        let at = self.at(at);
        let changes = self.overload.seen(Duration::from_millis(wait), (at, LIMITS));
        changes.into_iter().flatten().collect()
    }

    fn pass(&mut self, at: u64) -> Option<Change> {
        let at = self.at(at);
        self.overload.pass(at, LIMITS)
    }

    /// Overloaded at 100 ms, with waits that stay too long.
    fn overloaded() -> Self {
        let mut bench = Self::new();
        assert_eq!([bench.seen(0, 20), bench.seen(50, 20)], [vec![], vec![]]);
        assert_eq!(bench.seen(100, 20), [Change::Begins]);
        bench
    }
}

#[test]
fn it_begins_when_no_wait_was_short_for_an_interval_and_ends_with_the_first_that_is() {
    let mut bench = Bench::new();
    let table = [
        (0, 4, None),
        (10, 5, None),
        (60, 30, None),
        (109, 90, None),
        (110, 5, Some(Change::Begins)),
        (200, 50, None),
        (210, 4, Some(Change::Ends)),
        (220, 50, None),
        (319, 50, None),
        (320, 50, Some(Change::Begins)),
    ];
    for (at, wait, change) in table {
        assert_eq!(bench.seen(at, wait), Vec::from_iter(change), "at {at}");
    }
}

#[test]
fn one_short_wait_is_enough_whatever_the_others_were() {
    let mut bench = Bench::new();
    for at in (0..2_000).step_by(10) {
        let wait = if at % 90 == 0 { 4 } else { 80 };
        assert_eq!(bench.seen(at, wait), [], "at {at}");
    }
}

/// Slow ones that come one at a time do not stand in a queue: each finds it empty.
#[test]
fn a_time_in_which_nobody_waited_begins_anew() {
    let mut bench = Bench::new();
    for at in (0..10_000).step_by(250) {
        assert_eq!(bench.seen(at, 60), [], "at {at}");
    }
    // The same with a queue that is never empty for so long.
    let mut bench = Bench::new();
    assert_eq!([bench.seen(250, 240), bench.seen(500, 240)], [vec![], vec![Change::Begins]]);
}

#[test]
fn it_ends_by_itself_when_nobody_comes() {
    let mut bench = Bench::overloaded();
    assert_eq!(bench.overload.ends_at(LIMITS), Some(bench.at(200)));
    assert_eq!(bench.pass(200), None);
    assert_eq!(bench.pass(201), Some(Change::Ends));
    assert_eq!((bench.pass(500), bench.overload.ends_at(LIMITS)), (None, None));
    // Who comes much later has ended it, if nobody has looked meanwhile.
    let mut bench = Bench::overloaded();
    assert_eq!(bench.seen(900, 20), [Change::Ends]);
    assert!(!bench.overload.is_calm(), "it is above");
}

#[test]
fn a_calm_queue_is_looked_at_four_times_an_interval() {
    let (mut bench, mut looks) = (Bench::new(), 0);
    for at in 0..1_000 {
        if bench.overload.wants_look(bench.at(at)) {
            looks += 1;
            bench.seen(at, 0);
        }
    }
    assert_eq!(looks, 40);
    bench.seen(1_000, 9);
    assert!(bench.overload.wants_look(bench.at(1_000)), "above its target with each batch");
}

/// RFC 8289, 3.3: the next moment is `interval / sqrt(count)` after the last.
#[test]
fn the_moments_follow_the_law_of_the_square_root() {
    let mut bench = Bench::overloaded();
    let begin = bench.at(100);
    let mut moments = vec![0];
    for tenths in 1..10_000_u32 {
        let now = begin + tenths * MS / 10;
        moments.extend((0..bench.overload.catch_up_for_test(now)).map(|_| tenths));
    }
    let gaps: Vec<u32> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // In tenths of a millisecond: 100, 100 / sqrt(2), 100 / sqrt(3) ...
    for (place, gap) in gaps.iter().enumerate() {
        let law = 1000.0 / ((place + 1) as f64).sqrt();
        assert!((f64::from(*gap) - law).abs() <= 1.0, "gap {place}: {gap}, by the law {law}");
    }
    assert!(gaps.len() >= 20, "{}", gaps.len());
}

/// Where who waits too long is shed, short waits say nothing.
#[test]
fn with_shedding_it_ends_when_no_wait_was_too_long_for_an_interval() {
    let mut bench = Bench::overloaded();
    let mut seen = |at: u64, wait: u64| {
        let at = bench.at(at);
        let changes = bench.overload.seen(Duration::from_millis(wait), (at, SHEDS));
        changes.into_iter().flatten().collect::<Vec<_>>()
    };
    for (at, wait) in [(110, 1), (150, 0), (190, 5), (200, 4), (290, 4)] {
        assert_eq!(seen(at, wait), [], "at {at}");
    }
    assert_eq!(seen(291, 4), [Change::Ends], "more than 100 ms after the one at 190");
    assert_eq!(seen(300, 4), []);
}

#[test]
fn an_overload_that_begins_again_soon_goes_on_from_where_it_was() {
    for (pause, resumed) in [(500, true), (5_000, false)] {
        let mut bench = Bench::overloaded();
        for at in (100..2_000).step_by(50) {
            bench.seen(at, 50);
            let now = bench.at(at);
            bench.overload.makes_room(now, LIMITS);
        }
        let before = bench.overload.count_for_test();
        assert_eq!(bench.seen(2_000, 1), [Change::Ends]);
        let again = 2_000 + pause;
        bench.seen(again, 50);
        assert_eq!(bench.seen(again + 100, 50), [Change::Begins]);
        let expected = if resumed { before - FORGOTTEN } else { 1 };
        assert_eq!(bench.overload.count_for_test(), expected, "after {pause} ms");
    }
}

#[test]
fn room_is_made_once_at_each_moment() {
    let mut bench = Bench::overloaded();
    let mut made = |at: u64| {
        let now = bench.at(at);
        bench.overload.makes_room(now, LIMITS)
    };
    assert_eq!([made(100), made(101), made(199), made(200), made(200)], [1, 0, 0, 1, 0]);
    assert_eq!(made(350), 2, "at 270.7 and at 328.4");
}

impl Overload {
    fn catch_up_for_test(&mut self, now: Instant) -> u32 {
        let before = self.unspent;
        self.catch_up(now, LIMITS);
        self.unspent - before
    }

    fn count_for_test(&self) -> u32 {
        let Stage::Overloaded { law } = self.stage else { return 0 };
        law.count
    }
}

/// A server that handles what has come in turns, one after another, each in `service`, with `load` times what it can do.
/// Returns the share of its capacity that it has served within 250 ms, and the share that was shed, from the fifth second on.
fn serve(load: f64, service: Duration, limits: Limits) -> (f64, f64) {
    let start = Instant::now();
    let gap = service.div_f64(load);
    let mut overload = Overload::new();
    let (mut now, mut next) = (start, start);
    let (mut good, mut served, mut shed) = (0, 0, 0);
    let measured = start + Duration::from_secs(5);
    while now < start + Duration::from_secs(30) {
        let mut batch = Vec::new();
        while next <= now {
            batch.push(next);
            next += gap;
        }
        let sheds = limits.sheds && overload.is_overloaded();
        if let Some(first) = batch.first() {
            overload.seen(now - *first, (now, limits));
        }
        overload.pass(now, limits);
        let Some(last) = batch.last().copied() else {
            now = next;
            continue;
        };
        let turn = now;
        for came in batch {
            if sheds && turn - came >= limits.target && came != last {
                shed += u32::from(turn >= measured);
                continue;
            }
            now += service;
            served += u32::from(turn >= measured);
            good += u32::from(turn >= measured && now - came <= 250 * MS);
        }
    }
    let capacity = (now - measured).div_duration_f64(service);
    (f64::from(good) / capacity, f64::from(shed) / f64::from(shed + served))
}

/// What shedding is for: a queue that stands serves nobody in time, one whose oldest are shed serves nearly all that it can.
#[test]
fn what_is_shed_is_about_what_is_too_much() {
    // Also where one request takes longer than the target.
    for service in [MS / 20, MS / 2, 3 * MS, 50 * MS] {
        let (good, _) = serve(1.5, service, LIMITS);
        assert!(good < 0.1, "without it {good} is served in time");
        for load in [1.2, 1.5, 2.0, 4.0] {
            let (good, shed) = serve(load, service, SHEDS);
            let excess = 1.0 - 1.0 / load;
            assert!(good >= 0.9, "{service:?}, {load} times capacity: {good} is served in time");
            assert!((shed - excess).abs() < 0.1, "at {load}: {shed} shed, {excess} too much");
        }
        let (good, shed) = serve(0.9, service, SHEDS);
        assert!(shed < 0.02 && good > 0.85, "{service:?}: {good} in time, {shed} shed");
    }
}

proptest! {
    /// Against the definition, from all that was seen: overloaded is what has seen a wait too long an interval ago or
    /// more, and neither a short one nor an interval without anybody since.
    #[test]
    fn it_is_overloaded_by_the_definition(
        steps in proptest::collection::vec((1_u64..60, 0_u64..40), 1..200)
    ) {
        let mut bench = Bench::new();
        let (mut at, mut above): (u64, Vec<u64>) = (0, Vec::new());
        let mut overloaded = false;
        for (gap, wait) in steps {
            at += gap;
            let changes = bench.seen(at, wait);
            let came = at.saturating_sub(wait);
            if wait < 5 || above.last().is_some_and(|last| came > last + 100) {
                above.clear();
            }
            if wait >= 5 {
                above.push(at);
            }
            let expected = above.first().is_some_and(|first| at - first >= 100);
            prop_assert_eq!(bench.overload.is_overloaded(), expected, "at {}", at);
            let told = changes.iter().fold(overloaded, |_, change| *change == Change::Begins);
            prop_assert_eq!(told, expected);
            overloaded = expected;
        }
    }
}
