//! `--find-knee`: runs the steps that the search asks for, shows each, and what was found.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use uring_acceptor::load::knee::{self, Account, Measured, Search, Trial};
use uring_acceptor::load::report::{Card, Report};
use uring_acceptor::load::{Control, Outcome, Pace, Plan, RunError, run, sources};
use uring_acceptor::process::Alarm;

use crate::loadgen_options::{Outputs, Seeking};
use crate::outputs::{Render, table_sink, write_parts};
use crate::{
    EXIT_FAILURE, EXIT_INVALID, Failure, PROGRESS_LIMIT, controls, observable, progress, sound,
    targets, usage,
};

/// Length of the closed loop.
const CLOSED: Duration = Duration::from_secs(1);

/// Steps follow one another on the same addresses. So each must have the ports that it would need if
/// it went on until the first TIME_WAIT ends.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// What runs steps.
struct Steps<'a> {
    /// Its pace has no rate yet.
    plan: Plan,
    control: Arc<Control>,
    alarm: Alarm,
    outputs: &'a Outputs,
}

/// What a step has come to.
enum Done {
    Measured(Box<(Outcome, Report)>),
    /// This machine cannot make that rate.
    Refused(String),
}

pub(crate) fn seek(task: Seeking, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let Seeking { run, connections, limits } = task;
    let mut plan = run.plan;
    observable(&plan).map_err(usage)?;
    plan.targets =
        targets(&run.place, run.family, run.allow_remote, outputs.quiet).map_err(usage)?;
    let (control, alarm) = controls()?;
    let steps = Steps { plan, control, alarm, outputs };
    let closed = steps.closed_loop(connections)?;
    let mut search = Search::new(closed.rate_per_second, limits);
    let mut reports = Vec::new();
    let ended = steps.all(&mut search, &mut reports);
    let text = |error: io::Error| error.to_string();
    let parts: [(_, Render<'_>); 3] = [
        (
            outputs.json.clone(),
            Box::new(|out| Account::new(&search, &closed, &reports).to_json(out).map_err(text)),
        ),
        (outputs.csv.clone(), Box::new(|out| knee::csv(&search, out).map_err(text))),
        (
            table_sink(outputs),
            Box::new(|out| write_lines(&found(&search, &reports), out).map_err(text)),
        ),
    ];
    let written = write_parts(&parts).map_err(|text| Failure(EXIT_FAILURE, text));
    ended.and(written)?;
    exit_code(&search)
}

/// The last lines: what was found, and why steps that it rests on cannot be trusted.
fn found(search: &Search, reports: &[Option<Report>]) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(knee::summary(search));
    let shown = [search.knee()].into_iter().chain(search.parts()).flatten();
    for step in shown {
        let index = search.steps().iter().position(|own| std::ptr::eq(own, step));
        let Some(Some(report)) = index.and_then(|index| reports.get(index)) else { continue };
        let rate = step.trial.rate;
        let reasons = report.verdict.reasons.iter();
        lines.extend(reasons.map(|reason| format!("  - at {rate:.0}/s: {reason}")));
    }
    lines
}

fn exit_code(search: &Search) -> Result<ExitCode, Failure> {
    if search.next().is_some() {
        return Err(Failure(EXIT_FAILURE, "stopped before the search came to its end".into()));
    }
    if search.knee().is_none() {
        return Err(Failure(EXIT_FAILURE, "no rate held".into()));
    }
    Ok(if search.is_trusted() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INVALID) })
}

impl Steps<'_> {
    /// About how much is possible.
    fn closed_loop(&self, connections: usize) -> Result<Report, Failure> {
        let pace = Pace::Closed { connections };
        let plan = Plan { pace, duration: CLOSED, ..self.plan.clone() };
        let report = match self.step(plan)? {
            Done::Measured(done) => done.1,
            Done::Refused(why) => return Err(usage(why)),
        };
        if report.counts.completed == 0 {
            let faults = report.faults.iter().flat_map(|(phase, faults)| {
                faults.iter().map(move |(fault, count)| {
                    let phase = format!("{phase:?}").to_lowercase();
                    format!("{count} failed in {phase}: {fault}")
                })
            });
            let why: Vec<_> = faults.collect();
            let text = format!(
                "no operation succeeded in the closed loop that finds where to begin ({})",
                why.join(", ")
            );
            return Err(Failure(EXIT_FAILURE, text));
        }
        let rate = report.rate_per_second;
        self.show(&[
            format!(
                "a closed loop of {connections} connections made {rate:.0} operations per second"
            ),
            String::new(),
            knee::heading(),
        ])?;
        Ok(report)
    }

    /// Every step, until the search or the user has enough.
    fn all(&self, search: &mut Search, reports: &mut Vec<Option<Report>>) -> Result<(), Failure> {
        while let Some(trial) = search.next().filter(|_| !self.control.is_stopped()) {
            let done = self.step(self.at(trial))?;
            // What was cut short says nothing.
            if self.control.is_stopped() {
                break;
            }
            let step = match done {
                Done::Measured(done) => {
                    let (outcome, report) = *done;
                    let measured = Measured::of(&outcome, &report);
                    reports.push(Some(report));
                    search.note(measured)
                }
                Done::Refused(why) => {
                    reports.push(None);
                    search.refuse(why)
                }
            };
            self.show(&[knee::line(step)])?;
        }
        Ok(())
    }

    /// The plan of one step.
    fn at(&self, trial: Trial) -> Plan {
        let rate = trial.rate;
        let pace = match self.plan.pace {
            Pace::Open { arrival, max_inflight, .. } => Pace::Open { rate, arrival, max_inflight },
            Pace::Fixed { connections, arrival, .. } => Pace::Fixed { connections, rate, arrival },
            closed @ Pace::Closed { .. } => closed,
        };
        Plan { pace, duration: self.plan.duration * trial.lengths, ..self.plan.clone() }
    }

    fn step(&self, mut plan: Plan) -> Result<Done, Failure> {
        let lasting = Plan { duration: plan.duration.max(TIME_WAIT), ..plan.clone() };
        match sources::for_plan(&lasting) {
            Ok(sources) => plan.sources = sources,
            Err(why) => return Ok(Done::Refused(why)),
        }
        let card = Card::read();
        let before = self.control.progress();
        let screen = progress(&self.alarm)?;
        let done = run(plan, &self.control, |since, control| {
            if !self.outputs.quiet {
                let (completed, failed) = control.progress();
                let (completed, failed) = (completed - before.0, failed - before.1);
                let seconds = since.as_secs();
                screen.draw(format!("{seconds} s  {completed} done  {failed} failed"));
            }
        });
        // Before the line of the step, which may go to the same terminal.
        screen.close(PROGRESS_LIMIT);
        sound(&self.alarm)?;
        match done {
            Ok(done) => {
                let report = Report::from_outcome(&done.outcome, &card);
                Ok(Done::Measured(Box::new((done.outcome, report))))
            }
            Err(RunError::Descriptors(why)) => Ok(Done::Refused(why.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Lines while the search goes on. Whoever read stdout may have gone; the files are for others.
    fn show(&self, lines: &[String]) -> Result<(), Failure> {
        if table_sink(self.outputs).is_none() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match write_lines(lines, &mut stdout).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure(EXIT_FAILURE, format!("stdout cannot be written: {error}")))
            }
            _ => Ok(()),
        }
    }
}

fn write_lines(lines: &[String], out: &mut impl Write) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}
