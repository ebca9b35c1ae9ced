//! A whole run: threads with rings, the window, what is observed meanwhile, and all put together.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::client::{Client, Turn};
use super::control::{Control, Progress};
use super::descriptors::{self, TooFewDescriptors};
use super::observe::{UsageSnapshot, growth, kernel_counters, thread_cpu_ns};
use super::outcome::{KernelCounters, Outcome, Verdict};
use super::plan::Plan;
use super::protocol::Protocol;
use super::recorder::Recorder;
use super::safety;
use super::syn::SynTimes;
use super::verdict::{Evidence, judge};
use crate::ring::engine::{self, Chosen, Making, Notice, Settled};
use crate::ring::epoll::Epoll;
use crate::ring::{Completion, Operations, Refusal, Ring, Sizes, Wait};
use crate::sys;

/// Buffers of one thread and their size. Answers are looked at and given back at once.
const BUFFERS: usize = 2048;
const BUFFER_BYTES: usize = 16 * 1024;

/// How late the kernel may wake a thread that waits for a planned start.
const TIMER_SLACK: Duration = Duration::from_nanos(1);

/// Time for all threads to be ready before the first planned start.
const HEAD_START: Duration = Duration::from_millis(20);

/// The length of a tick.
const TICK: Duration = Duration::from_secs(1);

/// How often the end of all threads is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Why a run does not happen.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine has no ring for us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A ring has become unusable, or no thread could be made.
    #[error("{0}")]
    System(#[from] io::Error),
    /// More connections than this process may have open.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// Something that is to be observed cannot be.
    #[error("{0}")]
    Observe(String),
    /// A thread was told to end before it began: another one has no ring.
    #[error("the run did not begin")]
    Dismissed,
    /// A thread panicked: a defect of this program.
    #[error("a thread of the generator panicked; this is a defect, please report it")]
    Panicked,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What it has shown.
    pub outcome: Outcome,
    /// What it ran on.
    pub engine: Chosen,
}

/// Runs a plan. `tick` is called once a second of the window with the time since its start.
///
/// # Errors
/// Why it does not happen.
pub fn run(
    plan: Plan,
    control: &Arc<Control>,
    mut tick: impl FnMut(Duration, &Control),
) -> Result<Run, RunError> {
    let plan = Arc::new(plan);
    descriptors::check(&plan)?;
    // Without a warm-up the window begins with the first connect, which the kernel must not have
    // counted by then.
    let early = plan.warm_up.is_zero().then(|| Observation::take(plan.server_pid)).transpose()?;
    let Settled { made: threads, engine, notice } = start(&plan, control)?;
    let from = threads.start + plan.warm_up;
    while Instant::now() < from && !threads.are_finished() {
        wait_until(from.min(Instant::now() + LOOK));
    }
    let started_at = SystemTime::now() - from.elapsed();
    let begins_observed = early.is_some();
    let before = early.map_or_else(|| Observation::take(plan.server_pid), Ok)?;
    let unobserved = if begins_observed { Duration::ZERO } else { from.elapsed() };
    let end = from + plan.duration;
    while Instant::now() < end && !threads.are_finished() {
        let second = from + TICK * (from.elapsed().as_secs() as u32 + 1);
        while Instant::now() < second.min(end) && !threads.are_finished() {
            wait_until(second.min(end).min(Instant::now() + LOOK));
        }
        tick(from.elapsed(), control);
    }
    let after = Observation::take(plan.server_pid)?;
    let Seen { recorder, ended, cpu_ns, busy } = threads.join()?;
    // A run with a count ends with its last operation, not when somebody looks.
    let elapsed = ended.saturating_duration_since(from).min(plan.duration);
    let mut outcome = outcome(&plan, recorder, (started_at, elapsed), (&before, &after));
    outcome.own_cpu_ns = cpu_ns;
    // What the kernel counts is complete only when the last connection has ended.
    outcome.kernel = grown(&kernel_counters(), &before.kernel);
    let target_is_here = plan.targets.iter().all(safety::is_local);
    let judgement = judge(
        &outcome,
        Evidence {
            busiest_thread_share: busy,
            unobserved_share: unobserved.as_secs_f64()
                / elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            target_is_here,
        },
    );
    outcome.verdict = judgement.verdict;
    let notes = &mut outcome.notes;
    notes.extend(judgement.notes);
    notes.extend(crowded(plan.threads));
    notes.extend(notice.map(|notice| match notice {
        Notice::Epoll(refusal) => {
            format!("the generator ran on {engine}, which takes more CPU time: {refusal}")
        }
        Notice::Smaller { .. } => format!("of the generator: {notice}"),
    }));
    notes.extend(
        before
            .kernel
            .err()
            .map(|why| format!("what the kernel dropped and sent again is not known: {why}")),
    );
    Ok(Run { outcome, engine })
}

/// More threads than CPUs take turns, and what waits for its turn measures late.
fn crowded(threads: usize) -> Option<String> {
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (threads > cpus).then(|| {
        format!(
            "--threads is {threads}, but this process may use {cpus} CPUs: threads take turns, and \
             latencies include their waits"
        )
    })
}

/// What is observed at one end of the window.
struct Observation {
    /// Or why not: a chroot may have no /proc.
    kernel: Result<KernelCounters, String>,
    server: Option<UsageSnapshot>,
}

impl Observation {
    fn take(server_pid: Option<u32>) -> Result<Self, RunError> {
        let server = server_pid.map(UsageSnapshot::take).transpose();
        Ok(Self { kernel: kernel_counters(), server: server.map_err(RunError::Observe)? })
    }
}

fn grown(
    now: &Result<KernelCounters, String>,
    before: &Result<KernelCounters, String>,
) -> Option<KernelCounters> {
    now.as_ref().ok().zip(before.as_ref().ok()).map(|(now, before)| growth(now, before))
}

fn outcome(
    plan: &Plan,
    recorder: Recorder,
    (started_at, elapsed): (SystemTime, Duration),
    (before, after): (&Observation, &Observation),
) -> Outcome {
    let mut dropped_syns = Default::default();
    let times = SynTimes::of_this_kernel();
    recorder.slow_connects.iter().for_each(|connect| times.count(*connect, &mut dropped_syns));
    let server = after.server.as_ref().zip(before.server.as_ref());
    Outcome {
        plan: plan.clone(),
        started_at,
        elapsed,
        started: recorder.started,
        completed: recorder.completed,
        failed: recorder.failed,
        not_started: recorder.not_started,
        queued: recorder.queued,
        connections: recorder.connections,
        closed_by_server: recorder.closed_by_server,
        closed_by_client: recorder.closed_by_client,
        unasked: recorder.unasked,
        resent: recorder.resent,
        not_resent: recorder.not_resent,
        body_bytes: recorder.body_bytes,
        sent_bytes: recorder.sent_bytes,
        received_bytes: recorder.received_bytes,
        absence: recorder.absence(),
        statuses: recorder.statuses,
        latencies: recorder.latencies,
        faults: recorder.faults,
        dropped_syns,
        intervals: recorder.intervals,
        kernel: grown(&after.kernel, &before.kernel),
        server: server.map(|(after, before)| after.since(before)),
        own_cpu_ns: 0,
        verdict: Verdict::Valid,
        notes: Vec::new(),
    }
}

/// What the threads of a run have seen together.
struct Seen {
    recorder: Recorder,
    /// When the last operation was over.
    ended: Instant,
    /// CPU time of all threads over the window, nanoseconds.
    cpu_ns: u64,
    /// CPU time of the busiest thread over the window, as a share of it: 0 to 1.
    busy: f64,
}

/// The threads of a run under way.
struct Threads {
    threads: Vec<JoinHandle<Result<Seen, RunError>>>,
    /// When the first operation may start; the window begins after the warm-up.
    start: Instant,
}

/// A thread that has a ring, and how it is told when to start. Untold it ends.
struct Ready {
    thread: JoinHandle<Result<Seen, RunError>>,
    go: mpsc::Sender<Instant>,
}

fn start(plan: &Arc<Plan>, control: &Arc<Control>) -> Result<Settled<Threads>, RunError> {
    let wanted = vec![sizes(plan); plan.threads];
    let choice = engine::choose(plan.engine)?;
    let Settled { made, engine, notice } =
        engine::settle(plan.engine, choice, &wanted, |making| spawn_all(plan, making, control))?;
    let start = Instant::now() + HEAD_START;
    let tell = |Ready { thread, go }| {
        // One that has ended meanwhile tells why when it is joined.
        let _ = go.send(start);
        thread
    };
    Ok(Settled {
        made: Threads { threads: made.into_iter().map(tell).collect(), start },
        engine,
        notice,
    })
}

/// Spawns all threads and waits until each has a ring. None is left if one of them has none.
fn spawn_all(
    plan: &Arc<Plan>,
    making: Making,
    control: &Arc<Control>,
) -> Result<Result<Vec<Ready>, Refusal>, RunError> {
    let protocol = Protocol::new(plan);
    let mut all = Vec::new();
    for index in 0..plan.threads {
        let (plan, control) = (Arc::clone(plan), Arc::clone(control));
        let (go, told) = mpsc::channel();
        let (report, reported) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("load-{index}")).spawn(move || {
            run_thread(&plan, making, (protocol, index, told), (&control, report))
        })?;
        if let Ok(Err(refusal)) = reported.recv() {
            let dismissed = all.into_iter().map(|Ready { thread, .. }| thread).chain([thread]);
            dismissed.for_each(|thread| drop(thread.join()));
            return Ok(Err(refusal));
        }
        all.push(Ready { thread, go });
    }
    Ok(Ok(all))
}

/// Stops the run when a thread ends by an error or a panic: what the others would still measure is
/// not the run that was asked for.
struct StopsOthers<'a>(&'a Control);

impl Drop for StopsOthers<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Threads {
    /// Whether all have ended.
    fn are_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for all and puts together what they have seen.
    fn join(self) -> Result<Seen, RunError> {
        let mut all: Option<Seen> = None;
        for thread in self.threads {
            let seen = thread.join().map_err(|_| RunError::Panicked)??;
            match &mut all {
                None => all = Some(seen),
                Some(all) => {
                    all.recorder.merge(seen.recorder);
                    all.ended = all.ended.max(seen.ended);
                    all.cpu_ns += seen.cpu_ns;
                    all.busy = all.busy.max(seen.busy);
                }
            }
        }
        all.ok_or(RunError::Panicked)
    }
}

/// The one place of the generator that knows more than one engine.
fn run_thread(
    plan: &Arc<Plan>,
    making: Making,
    (protocol, index, told): (Protocol, usize, mpsc::Receiver<Instant>),
    (control, report): (&Control, mpsc::Sender<Result<(), Refusal>>),
) -> Result<Seen, RunError> {
    // Else the kernel lets each planned start be 50 us late, to gather timers.
    sys::set_timer_slack(TIMER_SLACK)?;
    let go = || {
        let _ = report.send(Ok(()));
        told.recv().map(|start| (protocol, (index, start))).map_err(|_| RunError::Dismissed)
    };
    match making.engine {
        Chosen::Uring => match making.uring(&sizes(plan)) {
            Ok(ring) => run_on(ring, plan, go()?, control),
            Err(refusal) => {
                let _ = report.send(Err(refusal));
                Err(refusal.into())
            }
        },
        Chosen::Epoll => run_on(Epoll::new(&sizes(plan))?, plan, go()?, control),
    }
}

fn run_on<R: Ring>(
    mut ring: R,
    plan: &Arc<Plan>,
    (protocol, place): (Protocol, (usize, Instant)),
    control: &Control,
) -> Result<Seen, RunError> {
    let others = StopsOthers(control);
    let credit = ring.capabilities().receive_credit;
    let mut client = Client::new(Arc::clone(plan), protocol, place, credit);
    let (mut operations, mut completions) = (Operations::default(), Vec::new());
    let mut usage = ThreadUsage::new(place.1 + plan.warm_up, plan.duration);
    wait_until(place.1);
    let mut reported = Progress::default();
    while !client.is_done() {
        let until = step(&mut ring, &mut client, &mut operations, &mut completions);
        if control.is_stopped() {
            client.stop();
        }
        if control.is_cut_off() {
            client.cut_off(&mut Turn { operations: &mut operations, now: ring.now() });
        }
        control.report(&client, &mut reported);
        let now = ring.now();
        usage.look(now);
        let wait = until.saturating_duration_since(now);
        ring.enter(&mut operations, &mut completions, Wait::For(wait))?;
    }
    let ended = ring.now();
    ring.enter(&mut operations, &mut completions, Wait::No)?;
    std::mem::forget(others);
    let (cpu_ns, busy) = usage.over();
    Ok(Seen { recorder: client.recorder, ended, cpu_ns, busy })
}

/// CPU time of the calling thread over the window, or as much of it as the thread lives.
struct ThreadUsage {
    from: Instant,
    until: Instant,
    /// Moments and CPU times of the first and the last look within the window.
    seen: Option<[(Instant, u64); 2]>,
    next: Instant,
}

impl ThreadUsage {
    fn new(from: Instant, length: Duration) -> Self {
        Self { from, until: from + length, seen: None, next: from }
    }

    fn look(&mut self, now: Instant) {
        if now < self.next || now > self.until {
            return;
        }
        self.next = now + LOOK;
        self.take(now);
    }

    fn take(&mut self, now: Instant) {
        let last = (now, thread_cpu_ns().unwrap_or(0));
        let [first, _] = self.seen.unwrap_or([last, last]);
        self.seen = Some([first, last]);
    }

    /// CPU time in nanoseconds, and its share of the time.
    fn over(mut self) -> (u64, f64) {
        let now = Instant::now();
        if (self.from..self.until).contains(&now) {
            self.take(now);
        }
        let Some([(from, before), (until, after)]) = self.seen else { return (0, 0.0) };
        let (cpu_ns, length) = (after - before, until - from);
        (cpu_ns, cpu_ns as f64 / length.as_nanos().max(1) as f64)
    }
}

/// Handles what has completed and starts what is due.
fn step(
    ring: &mut impl Ring,
    client: &mut Client,
    operations: &mut Operations,
    completions: &mut Vec<Completion>,
) -> Instant {
    let now = ring.now();
    let buffers = ring.buffers();
    let mut turn = Turn { operations, now };
    for completion in completions.drain(..) {
        client.complete(completion, buffers, &mut turn);
    }
    client.turn(buffers, &mut turn)
}

fn wait_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn sizes(plan: &Plan) -> Sizes {
    // Up to three operations of a connection complete in one turn.
    let entries = (4_usize * plan.pace.at_once().div_ceil(plan.threads)).next_power_of_two();
    Sizes {
        submission_entries: entries.clamp(256, 4096) as u32,
        completion_entries: entries.clamp(4096, 65_536) as u32,
        buffers: BUFFERS,
        buffer_bytes: BUFFER_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_stops_the_run() {
        let control = Arc::new(Control::default());
        let panics = Arc::clone(&control);
        let thread = thread::spawn(move || {
            let _others = StopsOthers(&panics);
            panic!("as the test wants it");
        });
        assert!(thread.join().is_err() && control.is_stopped());
    }
}
