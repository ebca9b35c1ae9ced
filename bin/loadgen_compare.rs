//! `loadgen compare`: read two files, compare, write.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use uring_acceptor::load::compare::{compare, table};
use uring_acceptor::load::report::Report;

use crate::loadgen_options::{Comparing, Outputs};
use crate::outputs::{Render, table_sink, write_parts};
use crate::{EXIT_FAILURE, EXIT_INVALID, Failure, read, usage};

/// Compares; the exit code says whether both runs can be trusted, not which one is faster.
pub(crate) fn run(task: &Comparing, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let name = |file: &Path| file.display().to_string();
    let (a, b) = both(task)?;
    let [name_a, name_b] = [name(&task.a), name(&task.b)];
    let comparison = compare((&name_a, &a), (&name_b, &b), task.seed)
        .map_err(|error| usage(format!("{error} (A is {name_a}, B is {name_b})")))?;
    let text = |error: io::Error| error.to_string();
    let json: Render<'_> = Box::new(|out| comparison.to_json(out).map_err(text));
    let shown: Render<'_> = Box::new(|out| table(&comparison, out).map_err(text));
    write_parts(&[(outputs.json.clone(), json), (table_sink(outputs), shown)])
        .map_err(|text| Failure(EXIT_FAILURE, text))?;
    Ok(if comparison.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INVALID) })
}

/// Both runs, or all that is wrong with the files.
fn both(task: &Comparing) -> Result<(Report, Report), Failure> {
    let wrong = match (read(&task.a), read(&task.b)) {
        (Ok(a), Ok(b)) => return Ok((a, b)),
        (a, b) => [("A", a.err()), ("B", b.err())],
    };
    let texts = wrong.into_iter().filter_map(|(side, failure)| {
        let Failure(_, text) = failure?;
        Some(format!("{side}: {text}"))
    });
    let texts: Vec<_> = texts.collect();
    Err(usage(format!("compare wants two runs, as --json writes them. {}", texts.join(". "))))
}
