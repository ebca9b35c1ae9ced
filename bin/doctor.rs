//! `acceptor doctor`: read, judge, write, exit code.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use uring_acceptor::doctor::{Facts, Report, Status, exercise, judge};

use crate::EXIT_FAILURE;
use crate::options::Examination;

/// Looks at the machine and tells.
pub(crate) fn examine(examination: Examination) -> ExitCode {
    let Examination { config, listen, json } = examination;
    let facts = match Facts::read(config, &listen, &mut child()) {
        Ok(facts) => facts,
        Err(error) => return fail(&format!("the limits of this process cannot be read: {error}")),
    };
    let report = Report::new(judge(&facts));
    let mut out = io::stdout().lock();
    let written = if json { report.to_json(&mut out) } else { report.to_text(&mut out) };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            fail(&format!("stdout cannot be written: {error}"))
        }
        _ if report.verdict == Status::Fail => ExitCode::from(EXIT_FAILURE),
        _ => ExitCode::SUCCESS,
    }
}

/// What the child process of [`examine`] does.
pub(crate) fn probe() -> ExitCode {
    match exercise::perform(&mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout cannot be written: {error}")),
    }
}

/// This program again; by the name of the kernel for it, so that a file replaced meanwhile is no
/// matter. Without /proc, as in a chroot, by the name that it was started with.
fn child() -> Command {
    let by_kernel = PathBuf::from("/proc/self/exe");
    let by_name = || std::env::args_os().next().map_or_else(|| by_kernel.clone(), PathBuf::from);
    let mut child = Command::new(if by_kernel.exists() { by_kernel } else { by_name() });
    child.args(["doctor", "--probe"]);
    child
}

/// Says on stderr why it failed, if anybody reads there.
pub(crate) fn fail(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {text}");
    ExitCode::from(EXIT_FAILURE)
}
