//! The `loadgen` program: parse, run, report, exit code.

mod loadgen_options;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use loadgen_options::{Options, Outputs, Run, Sink, Task};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uring_acceptor::load::place::{Family, Place, answering};
use uring_acceptor::load::report::{self, Card, Report, ReportError};
use uring_acceptor::load::{Control, RunError, Target, Verdict, run, safety, sources};

/// Too many operations failed, or something could not be read, run or written.
const EXIT_FAILURE: u8 = 1;
/// Usage.
const EXIT_USAGE: u8 = 2;
/// The figures cannot be trusted.
const EXIT_INVALID: u8 = 4;
/// The machine cannot run it: EX_UNAVAILABLE of sysexits.h.
const EXIT_UNAVAILABLE: u8 = 69;

/// Operations of which one may fail before the run counts as failed.
const OPERATIONS_PER_FAILURE: u64 = 100;

/// What ends the program early: the exit code and the text for people.
struct Failure(u8, String);

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(EXIT_FAILURE, error.to_string())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self(EXIT_FAILURE, error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let refused = matches!(error, RunError::Refused(_));
        Self(if refused { EXIT_UNAVAILABLE } else { EXIT_FAILURE }, error.to_string())
    }
}

fn main() -> ExitCode {
    let Options { task, outputs } = loadgen_options::parse();
    let done = match task {
        Task::Run(task) => measure(*task, &outputs),
        Task::Merge(files) => merge(&files, &outputs),
        Task::Report(files) => show(&files, &outputs),
    };
    done.unwrap_or_else(|Failure(code, text)| {
        eprintln!("error: {text}");
        ExitCode::from(code)
    })
}

fn measure(task: Run, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let Run { place, family, mut plan, allow_remote } = task;
    let usage = |text| Failure(EXIT_USAGE, text);
    plan.targets = targets(&place, family, allow_remote, outputs.quiet).map_err(usage)?;
    plan.sources = sources::for_plan(&plan).map_err(usage)?;
    let control = Arc::new(Control::default());
    stop_on_signals(&control)?;
    let card = Card::read();
    let progress = progress(outputs.quiet);
    let done = run(plan, &control, |since, control| draw(&progress, since, control));
    progress.finish_and_clear();
    let done = done?;
    let outcome = &done.outcome;
    let report = Report::from_outcome(outcome, &card);
    write_all(&[("", &report)], outputs)?;
    if !outputs.quiet {
        done.notes.iter().for_each(|note| eprintln!("note: {note}"));
    }
    let invalid = matches!(outcome.verdict, Verdict::Invalid(_));
    Ok(exit_code(outcome.started, outcome.failed, invalid))
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
        eprintln!("note: {name} is {}", list.join(", "));
        for (target, error) in left_out {
            eprintln!("note: {name} is also {target}, which is left out: {error}");
        }
    }
    Ok(targets)
}

fn exit_code(started: u64, failed: u64, invalid: bool) -> ExitCode {
    // A merged file may hold any number.
    if failed.saturating_mul(OPERATIONS_PER_FAILURE) > started {
        ExitCode::from(EXIT_FAILURE)
    } else if invalid {
        ExitCode::from(EXIT_INVALID)
    } else {
        ExitCode::SUCCESS
    }
}

/// The first signal lets what is in flight end and prints what there is; the second ends the program.
fn stop_on_signals(control: &Arc<Control>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let control = Arc::clone(control);
    std::thread::spawn(move || {
        for (index, signal) in signals.forever().enumerate() {
            if index > 0 {
                std::process::exit(128 + signal);
            }
            control.stop();
        }
    });
    Ok(())
}

fn progress(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(ProgressStyle::with_template("{wide_msg}").expect("a constant template"));
    bar
}

fn draw(bar: &ProgressBar, since: Duration, control: &Control) {
    let (completed, failed) = control.progress();
    let rate = completed as f64 / since.as_secs_f64();
    let seconds = since.as_secs();
    bar.set_message(format!("{seconds} s  {completed} done  {failed} failed  {rate:.0}/s"));
    bar.tick();
}

fn merge(files: &[PathBuf], outputs: &Outputs) -> Result<ExitCode, Failure> {
    let reports = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let merged = report::merge(reports)?;
    write_all(&[("", &merged)], outputs)?;
    Ok(exit_code(merged.counts.started, merged.counts.failed, !merged.verdict.valid))
}

fn show(files: &[PathBuf], outputs: &Outputs) -> Result<ExitCode, Failure> {
    let reports: Vec<Report> = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(&reports).collect();
    write_all(&named, outputs)?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Report, Failure> {
    let failed = |text: String| Failure(EXIT_FAILURE, format!("{}: {text}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    Report::from_json(&text).map_err(|error| failed(error.to_string()))
}

/// Writes everything that is asked for; the table unless stdout is taken or it shall be quiet.
fn write_all(reports: &[(&str, &Report)], outputs: &Outputs) -> Result<(), Failure> {
    let stdout_taken = [&outputs.json, &outputs.csv].contains(&&Some(Sink::Stdout));
    for (name, report) in reports {
        if !stdout_taken && !outputs.quiet {
            let mut stdout = io::stdout().lock();
            if !name.is_empty() {
                writeln!(stdout, "{name}")?;
            }
            report::table(report, &mut stdout)?;
        }
    }
    let first = reports[0].1;
    write(&outputs.json, |out| first.to_json(out))?;
    write(&outputs.csv, |out| report::csv(first, out))?;
    let file = |path: &Option<PathBuf>| path.clone().map(Sink::File);
    write(&file(&outputs.hdr), |out| report::hdr_log(first, out))?;
    if outputs.svg.is_some() {
        let text = report::svg(reports)?;
        write(&file(&outputs.svg), |out| out.write_all(text.as_bytes()))?;
    }
    if outputs.html.is_some() {
        let text = report::html(reports)?;
        write(&file(&outputs.html), |out| out.write_all(text.as_bytes()))?;
    }
    Ok(())
}

fn write(
    sink: &Option<Sink>,
    content: impl FnOnce(&mut Box<dyn Write>) -> io::Result<()>,
) -> Result<(), Failure> {
    let Some(sink) = sink else { return Ok(()) };
    let mut out: Box<dyn Write> = match sink {
        Sink::Stdout => Box::new(io::stdout().lock()),
        Sink::File(path) => {
            let failed = |error| Failure(EXIT_FAILURE, format!("{}: {error}", path.display()));
            Box::new(BufWriter::new(File::create(path).map_err(failed)?))
        }
    };
    content(&mut out)?;
    out.flush()?;
    Ok(())
}
