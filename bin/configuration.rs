//! What the program does with a configuration file besides running it: load, check, print, describe.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use clap_complete::Shell;
use serde::Serialize;
use uring_acceptor::config::Frontend;
use uring_acceptor::config::upstream::UpstreamConfig;
use uring_acceptor::config_file::{self, Errors, Loaded, Problem};
use uring_acceptor::upstream::{
    no_source, resolve_by_system, resolve_service_by_system, try_source,
};

use crate::EXIT_USAGE;
use crate::doctor::fail;
use crate::options::{self, FileToCheck, FromFile, Options};
use crate::running::Source;

/// What `acceptor check --json` writes: docs/check-schema.md.
const SCHEMA: &str = "uring-acceptor/check";
const VERSION: u32 = 1;

/// A variable of the environment. One that is no text cannot be put into one.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).and_then(|value| value.into_string().ok())
}

/// Reads a file to run it. The exit code if that cannot be done.
pub(crate) fn load(from: FromFile) -> Result<(Options, Source), ExitCode> {
    match config_file::load(&from.path, &environment) {
        Ok(Loaded { mut settings, mut places, warnings, .. }) => {
            from.override_in(&mut settings);
            if from.overrides_control() {
                places.forget_control();
            }
            if from.overrides_admin() {
                places.forget_admin();
            }
            Ok((settings, Source { from, places, warnings }))
        }
        Err(errors) => {
            let mut out = io::stderr().lock();
            errors.problems().iter().for_each(|problem| drop(writeln!(out, "error: {problem}")));
            let _ = tell_left_out(&mut out, errors.left_out);
            let problems: Vec<String> = errors.problems().iter().map(ToString::to_string).collect();
            crate::upgrade::tell_failure(&problems.join("; "));
            Err(ExitCode::from(EXIT_USAGE))
        }
    }
}

/// Whether a file can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Fail,
}

/// What a check has found.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    version: u32,
    program_version: &'static str,
    verdict: Verdict,
    files: Vec<String>,
    frontends: Vec<FrontendFound>,
    upstreams: Vec<UpstreamFound>,
    errors: Vec<Problem>,
    errors_left_out: usize,
    warnings: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct FrontendFound {
    name: String,
    service: &'static str,
    listen: Vec<String>,
}

#[derive(Debug, Serialize)]
struct UpstreamFound {
    name: String,
    backends: usize,
}

impl Report {
    /// Without what was found.
    fn new(errors: Vec<Problem>) -> Self {
        Self {
            schema: SCHEMA,
            version: VERSION,
            program_version: env!("CARGO_PKG_VERSION"),
            verdict: if errors.is_empty() { Verdict::Ok } else { Verdict::Fail },
            files: Vec::new(),
            frontends: Vec::new(),
            upstreams: Vec::new(),
            errors,
            errors_left_out: 0,
            warnings: Vec::new(),
        }
    }

    fn of_errors(errors: &Errors) -> Self {
        let report = Self::new(errors.problems().to_vec());
        Self { errors_left_out: errors.left_out, ..report }
    }

    fn of(loaded: &Loaded) -> Self {
        let config = &loaded.settings.config;
        let found = |frontend: &Frontend| FrontendFound {
            name: frontend.name.clone(),
            service: frontend.protocol.name(),
            listen: frontend.listen.iter().map(ToString::to_string).collect(),
        };
        let counted = |upstream: &UpstreamConfig| UpstreamFound {
            name: upstream.name.clone(),
            backends: upstream.backends.len(),
        };
        let names = Names::look_up(loaded);
        Self {
            files: loaded.files.iter().map(|file| file.display().to_string()).collect(),
            frontends: config.frontends.iter().map(found).collect(),
            upstreams: config.upstreams.iter().map(counted).collect(),
            warnings: [loaded.warnings.clone(), names.warnings].concat(),
            ..Self::new([names.errors, not_here(loaded)].concat())
        }
    }

    fn to_text(&self, out: &mut impl Write) -> io::Result<()> {
        for problem in &self.errors {
            writeln!(out, "error: {problem}")?;
        }
        tell_left_out(out, self.errors_left_out)?;
        for problem in &self.warnings {
            writeln!(out, "warning: {problem}")?;
        }
        if self.verdict == Verdict::Ok {
            let counts = [
                counted(self.frontends.len(), "frontend"),
                counted(self.upstreams.len(), "upstream"),
                counted(self.files.len(), "file"),
            ];
            writeln!(out, "ok: {} and {} in {}", counts[0], counts[1], counts[2])?;
        }
        Ok(())
    }
}

/// What is wrong with names, here and now: those that do not resolve, and those that no source is for.
#[derive(Default)]
struct Names {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Names {
    fn look_up(loaded: &Loaded) -> Self {
        let mut names = Self::default();
        for lookup in &loaded.lookups {
            let found = match lookup.is_service {
                true => resolve_service_by_system(&lookup.name),
                false => resolve_by_system(&lookup.name, lookup.port),
            };
            match found {
                Ok(found) if found.is_empty() => {
                    names.errors.push(lookup.failed("it has no address"));
                }
                Ok(found) => names.warnings.extend(lookup.unreached(&found)),
                Err(error) => names.errors.push(lookup.failed(&error.to_string())),
            }
        }
        names
    }
}

/// The source addresses that this machine does not have.
fn not_here(loaded: &Loaded) -> Vec<Problem> {
    let failed = |source: &config_file::Source| {
        let cause = try_source(source.address).err()?;
        Some(source.failed(&no_source(None, &cause)))
    };
    loaded.sources.iter().filter_map(failed).collect()
}

fn tell_left_out(out: &mut impl Write, count: usize) -> io::Result<()> {
    match count {
        0 => Ok(()),
        _ => writeln!(out, "error: and {count} more"),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `acceptor check`.
pub(crate) fn check(asked: &FileToCheck) -> ExitCode {
    let report = match config_file::load(&asked.path, &environment) {
        Ok(loaded) => Report::of(&loaded),
        Err(errors) => Report::of_errors(&errors),
    };
    let text = if asked.json {
        serde_json::to_string_pretty(&report).map(|json| format!("{json}\n")).unwrap_or_default()
    } else {
        let mut text = Vec::new();
        let _ = report.to_text(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let written = match asked.json || report.verdict == Verdict::Ok {
        true => write(&text),
        false => io::stderr().write_all(text.as_bytes()),
    };
    match written {
        Err(error) => fail(&format!("it cannot be written: {error}")),
        Ok(()) if report.verdict == Verdict::Ok => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(EXIT_USAGE),
    }
}

/// `acceptor SERVICE ... --print-config`.
pub(crate) fn print(options: &Options) -> ExitCode {
    match config_file::print(options) {
        Ok(text) => written(&text),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// `acceptor schema`.
pub(crate) fn schema() -> ExitCode {
    written(&config_file::schema())
}

/// `acceptor completions SHELL`.
pub(crate) fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut options::command(), "acceptor", &mut script);
    written(&String::from_utf8_lossy(&script))
}

/// `acceptor man DIR`: a page for the program and one for each command.
pub(crate) fn manual(folder: &Path) -> ExitCode {
    match clap_mangen::generate_to(options::command(), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let folder = folder.display();
            fail(&format!("the manual pages cannot be written to {folder}: {error}"))
        }
    }
}

fn written(text: &str) -> ExitCode {
    match write(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout cannot be written: {error}")),
    }
}

/// Writes to stdout. Whoever reads there may have seen enough.
pub(crate) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
