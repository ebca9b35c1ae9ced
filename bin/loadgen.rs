//! The `loadgen` program: parse, run, report, exit code.

mod loadgen_compare;
mod loadgen_knee;
mod loadgen_options;
mod outputs;
mod screen;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use loadgen_options::{Options, Outputs, Run, Task};
use screen::Screen;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uring_acceptor::load::observe::UsageSnapshot;
use uring_acceptor::load::place::{Family, Place, answering};
use uring_acceptor::load::report::{self, Card, Counts, Report};
use uring_acceptor::load::{
    Control, Plan, RunError, Target, Verdict, run, safety, sources, stored,
};
use uring_acceptor::log::Outlet;
use uring_acceptor::process::{self, Alarm};

/// Too many operations failed, or something could not be run or written.
const EXIT_FAILURE: u8 = 1;
/// Usage: whatever is found wrong with what was asked for before there is a run.
const EXIT_USAGE: u8 = 2;
/// The figures cannot be trusted.
const EXIT_INVALID: u8 = 4;
/// The machine cannot run it: EX_UNAVAILABLE of sysexits.h.
const EXIT_UNAVAILABLE: u8 = 69;

/// Operations of which one may fail before the run counts as failed.
const OPERATIONS_PER_FAILURE: u64 = 100;

/// Far more than a run of an hour has; it is in memory for a moment.
const RUN_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a rate is divided by at least.
const SHORTEST_SECONDS: f64 = 1e-3;

/// How long it may take to clear the line of progress.
const PROGRESS_LIMIT: Duration = Duration::from_secs(1);

/// What ends the program early: the exit code and the text for people.
struct Failure(u8, String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(EXIT_FAILURE, error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match &error {
            RunError::Refused(_) => EXIT_UNAVAILABLE,
            // Before the run, as when there are too few ports.
            RunError::Descriptors(_) => EXIT_USAGE,
            _ => EXIT_FAILURE,
        };
        Self(code, error.to_string())
    }
}

fn main() -> ExitCode {
    process::prepare();
    let options = loadgen_options::parse();
    // A panic has told itself.
    let done = catch_unwind(AssertUnwindSafe(|| perform(options)));
    done.unwrap_or(Ok(ExitCode::from(EXIT_FAILURE))).unwrap_or_else(|Failure(code, text)| {
        say(&format!("error: {text}"));
        ExitCode::from(code)
    })
}

fn usage(text: String) -> Failure {
    Failure(EXIT_USAGE, text)
}

fn perform(Options { task, outputs }: Options) -> Result<ExitCode, Failure> {
    outputs::check(&outputs).map_err(usage)?;
    match task {
        Task::Run(task) => measure(*task, &outputs),
        Task::Seek(task) => loadgen_knee::seek(*task, &outputs),
        Task::Merge(files) => merge(&files, &outputs),
        Task::Report(files) => show(&files, &outputs),
        Task::Compare(task) => loadgen_compare::run(&task, &outputs),
    }
}

fn write_all(reports: &[(&str, &Report)], outputs: &Outputs) -> Result<(), Failure> {
    outputs::write_all(reports, outputs).map_err(|text| Failure(EXIT_FAILURE, text))
}

fn measure(task: Run, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let Run { place, family, mut plan, allow_remote } = task;
    observable(&plan).map_err(usage)?;
    plan.targets = targets(&place, family, allow_remote, outputs.quiet).map_err(usage)?;
    plan.sources = sources::for_plan(&plan).map_err(usage)?;
    let (control, alarm) = controls()?;
    let card = Card::read();
    let progress = progress(&alarm)?;
    let done = run(plan, &control, |since, control| {
        if !outputs.quiet {
            draw(&progress, since, control);
        }
    });
    progress.close(PROGRESS_LIMIT);
    let done = done?;
    sound(&alarm)?;
    let outcome = &done.outcome;
    let report = Report::from_outcome(outcome, &card);
    write_all(&[("", &report)], outputs)?;
    // The table has them.
    if !outputs.quiet && outputs::table_sink(outputs).is_none() {
        outcome.notes.iter().for_each(|note| say(&format!("note: {note}")));
    }
    let invalid = matches!(outcome.verdict, Verdict::Invalid(_));
    Ok(exit_code(&report.counts, invalid))
}

/// Whether the server can be observed, which must not turn out after the warm-up.
fn observable(plan: &Plan) -> Result<(), String> {
    plan.server_pid.map_or(Ok(()), |pid| UsageSnapshot::take(pid).map(drop))
}

/// The addresses that connections take in turn. What a name means is shown.
fn targets(
    place: &Place,
    family: Family,
    allow_remote: bool,
    quiet: bool,
) -> Result<Vec<Target>, String> {
    let resolved = place.resolve(family)?;
    resolved.iter().try_for_each(|target| safety::check(target, allow_remote))?;
    let (targets, left_out) = answering(resolved);
    if let (Place::Named { name, .. }, false) = (place, quiet) {
        let list: Vec<_> = targets.iter().map(ToString::to_string).collect();
        say(&format!("note: {name} is {}", list.join(", ")));
        for (target, error) in left_out {
            say(&format!("note: {name} is also {target}, which is left out: {error}"));
        }
    }
    Ok(targets)
}

fn exit_code(counts: &Counts, invalid: bool) -> ExitCode {
    // A merged file may hold any number.
    if counts.failures().saturating_mul(OPERATIONS_PER_FAILURE) > counts.started {
        ExitCode::from(EXIT_FAILURE)
    } else if invalid {
        ExitCode::from(EXIT_INVALID)
    } else {
        ExitCode::SUCCESS
    }
}

/// What stops a run: a signal, and a thread of this program that panics.
fn controls() -> io::Result<(Arc<Control>, Alarm)> {
    let (control, alarm) = (Arc::new(Control::default()), Alarm::default());
    alarm.connect({
        let control = Arc::clone(&control);
        move |_| control.stop()
    });
    stop_on_signals(&control, &alarm)?;
    Ok((control, alarm))
}

/// Whether no thread of this program has panicked.
fn sound(alarm: &Alarm) -> Result<(), Failure> {
    let Some(thread) = alarm.raised() else { return Ok(()) };
    let text = format!("thread '{thread}' panicked; this is a defect, please report it");
    Err(Failure(EXIT_FAILURE, text))
}

/// The first signal lets what is in flight end, the second does not wait for it; both print what there is.
/// The third ends the program.
fn stop_on_signals(control: &Arc<Control>, alarm: &Alarm) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let control = Arc::clone(control);
    let run = move || {
        for (index, signal) in signals.forever().enumerate() {
            match index {
                0 => {
                    control.stop();
                    tell_what_is_awaited(control.under_way());
                }
                1 => control.cut_off(),
                _ => std::process::exit(128 + signal),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(alarm.watch("signals", run)).map(drop)
}

/// On stderr, which must not hold up the thread that waits for signals.
fn tell_what_is_awaited(operations: u64) {
    if operations == 0 {
        return;
    }
    let plural = if operations == 1 { "operation" } else { "operations" };
    // A terminal may have a live line, or an echo of the key.
    let line_end = if io::stderr().is_terminal() { "\n" } else { "" };
    let text = format!(
        "{line_end}waiting for {operations} {plural}; press Ctrl-C again to stop now (the report is \
         written all the same)"
    );
    let _ = thread::Builder::new().name("awaited".into()).spawn(move || say(&text));
}

/// Progress on stderr, where that is a terminal: from a thread of its own, since one that is stopped must
/// not hold up the run.
fn progress(alarm: &Alarm) -> io::Result<Outlet> {
    let (progress, run) = Outlet::new(Screen::new(), Box::new(|text| format!("{text}\n").into()));
    thread::Builder::new().name("progress".into()).spawn(alarm.watch("progress", run))?;
    Ok(progress)
}

fn draw(progress: &Outlet, since: Duration, control: &Control) {
    let (completed, failed) = control.progress();
    // The first look may come at once.
    let rate = completed as f64 / since.as_secs_f64().max(SHORTEST_SECONDS);
    let seconds = since.as_secs();
    progress.draw(format!("{seconds} s  {completed} done  {failed} failed  {rate:.0}/s"));
}

/// Says something on stderr, if anybody reads there.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn merge(files: &[PathBuf], outputs: &Outputs) -> Result<ExitCode, Failure> {
    let reports = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let merged = report::merge(reports).map_err(|error| usage(error.to_string()))?;
    write_all(&[("", &merged)], outputs)?;
    Ok(exit_code(&merged.counts, !merged.verdict.valid))
}

fn show(files: &[PathBuf], outputs: &Outputs) -> Result<ExitCode, Failure> {
    let reports: Vec<Report> = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(&reports).collect();
    write_all(&named, outputs)?;
    Ok(ExitCode::SUCCESS)
}

/// The run in a file.
fn read(file: &Path) -> Result<Report, Failure> {
    let failed = |text: String| usage(format!("{} {text}", file.display()));
    let cannot = |error: io::Error| failed(format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(cannot)?;
    opened.take(RUN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > RUN_BYTES_MAX {
        return Err(failed(format!("is no run: it has more than {RUN_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| failed("is no run: it is not text".to_owned()))?;
    stored::read(&text).map_err(|error| failed(error.to_string()))
}
