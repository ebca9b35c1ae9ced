//! `loadgen compare`: read two files, compare, write.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use uring_acceptor::load::compare::{compare, table};

use crate::loadgen_options::{Comparing, Outputs};
use crate::outputs::{Render, table_sink, write_parts};
use crate::{EXIT_FAILURE, EXIT_INVALID, EXIT_USAGE, Failure, read};

/// Compares; the exit code says whether both runs can be trusted, not which one is faster.
pub(crate) fn run(task: &Comparing, outputs: &Outputs) -> Result<ExitCode, Failure> {
    let name = |file: &Path| file.display().to_string();
    let [a, b] = [read(&task.a)?, read(&task.b)?];
    let [name_a, name_b] = [name(&task.a), name(&task.b)];
    let comparison = compare((&name_a, &a), (&name_b, &b), task.seed)
        .map_err(|error| Failure(EXIT_USAGE, error.to_string()))?;
    let text = |error: io::Error| error.to_string();
    let json: Render<'_> = Box::new(|out| comparison.to_json(out).map_err(text));
    let shown: Render<'_> = Box::new(|out| table(&comparison, out).map_err(text));
    write_parts(&[(outputs.json.clone(), json), (table_sink(outputs), shown)])
        .map_err(|text| Failure(EXIT_FAILURE, text))?;
    Ok(if comparison.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INVALID) })
}
