//! The pacer by a clock of its own.

use super::super::plan::Arrival;
use super::super::plan::testing::plan;
use super::*;

const MS: Duration = Duration::from_millis(1);

/// 1,000 a second, evenly, for 10 ms.
fn pacer(pace: Pace, start: Instant) -> Pacer {
    Pacer::new(&Plan { pace, duration: 10 * MS, ..plan(Mode::Rr) }, 0, start)
}

const FIXED: Pace = Pace::Fixed { connections: 2, rate: 1000.0, arrival: Arrival::Uniform };
const OPEN: Pace = Pace::Open { rate: 1000.0, arrival: Arrival::Uniform, max_inflight: 2 };

fn start(planned: Instant, queued: bool) -> Next {
    Next::Start(Start { planned, queued })
}

#[test]
fn what_finds_no_connection_free_waits_and_counts_from_its_plan() {
    let zero = Instant::now();
    let mut pacer = pacer(FIXED, zero);
    assert_eq!(pacer.next(zero, true), start(zero, false));
    assert_eq!(pacer.next(zero, true), Next::At(zero + MS));
    assert_eq!(pacer.next(zero + MS, false), Next::Later);
    assert_eq!(pacer.next(zero + 3 * MS, false), Next::Later);
    // Three were due while all were busy; the one that becomes due later was not held up.
    for n in 1..=3 {
        assert_eq!(pacer.next(zero + 4 * MS, true), start(zero + n * MS, true));
    }
    assert_eq!(pacer.next(zero + 4 * MS, true), start(zero + 4 * MS, false));
    assert_eq!(pacer.next(zero + 4 * MS, true), Next::At(zero + 5 * MS));
}

#[test]
fn what_still_waits_at_the_end_is_told() {
    let zero = Instant::now();
    let mut pacer = pacer(FIXED, zero);
    for n in 0..8 {
        assert_eq!(pacer.next(zero + n * MS, true), start(zero + n * MS, false));
    }
    assert_eq!(pacer.next(zero + 9 * MS, false), Next::Later);
    assert_eq!(pacer.next(zero + 10 * MS, true), Next::Skip(zero + 8 * MS));
    assert_eq!(pacer.next(zero + 10 * MS, true), Next::Skip(zero + 9 * MS));
    assert_eq!(pacer.next(zero + 10 * MS, true), Next::Over);
}

#[test]
fn an_open_loop_skips_what_finds_no_room() {
    let zero = Instant::now();
    let mut pacer = pacer(OPEN, zero);
    assert_eq!(pacer.next(zero + MS, false), Next::Skip(zero));
    assert_eq!(pacer.next(zero + MS, true), start(zero + MS, false));
    assert_eq!(pacer.next(zero + 10 * MS, true), Next::Over);
}

#[test]
fn a_closed_loop_starts_whenever_there_is_room() {
    let zero = Instant::now();
    let mut pacer = pacer(Pace::Closed { connections: 1 }, zero);
    assert_eq!(pacer.next(zero, true), start(zero, false));
    assert_eq!(pacer.next(zero + MS, false), Next::Later);
    assert_eq!(pacer.next(zero + 2 * MS, true), start(zero + 2 * MS, false));
    assert_eq!(pacer.next(zero + 10 * MS, true), Next::Over);
}
