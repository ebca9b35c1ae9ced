//! Where the figures of `loadgen` go: files, and stdout. What can be written is, whatever else cannot.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use uring_acceptor::load::report::{self, Report};

use crate::loadgen_options::{Outputs, Sink};

/// Makes one of the outputs, in memory.
pub(crate) type Render<'a> = Box<dyn Fn(&mut Vec<u8>) -> Result<(), String> + 'a>;

/// Sees to it that each file can be written, before there are figures to lose. What is in it stays, and
/// what had to be made for that is taken away again.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn check(outputs: &Outputs) -> Result<(), String> {
    for path in files(outputs) {
        check_file(path).map_err(|error| cannot_write(path, &error))?;
    }
    Ok(())
}

fn files(outputs: &Outputs) -> impl Iterator<Item = &Path> {
    let sinks = [&outputs.json, &outputs.csv].into_iter().filter_map(|sink| match sink {
        Some(Sink::File(path)) => Some(path.as_path()),
        Some(Sink::Stdout) | None => None,
    });
    let paths = [&outputs.hdr, &outputs.svg, &outputs.html];
    sinks.chain(paths.into_iter().filter_map(Option::as_deref))
}

fn check_file(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if file.is_file() => File::options().append(true).open(path).map(drop),
        Ok(folder) if folder.is_dir() => Err(ErrorKind::IsADirectory.into()),
        // To open a pipe may wait for its reader, and to close it may end him.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            File::options().append(true).create(true).open(path)?;
            // Not a link to it.
            fs::canonicalize(path).and_then(fs::remove_file)
        }
        Err(error) => Err(error),
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {error}", path.display())
}

/// Writes everything that is asked for; the table unless stdout is taken or it shall be quiet.
///
/// # Errors
/// As [`write_parts`].
pub(crate) fn write_all(reports: &[(&str, &Report)], outputs: &Outputs) -> Result<(), String> {
    let first = reports[0].1;
    let file = |path: &Option<PathBuf>| path.clone().map(Sink::File);
    let text = |error: io::Error| error.to_string();
    let page = |page: Result<String, report::ReportError>, out: &mut Vec<u8>| {
        page.map(|page| out.extend_from_slice(page.as_bytes())).map_err(|error| error.to_string())
    };
    let parts: [(Option<Sink>, Render<'_>); 6] = [
        (outputs.json.clone(), Box::new(|out| first.to_json(out).map_err(text))),
        (outputs.csv.clone(), Box::new(|out| report::csv(first, out).map_err(text))),
        (file(&outputs.hdr), Box::new(|out| report::hdr_log(first, out).map_err(text))),
        (file(&outputs.svg), Box::new(|out| page(report::svg(reports), out))),
        (file(&outputs.html), Box::new(|out| page(report::html(reports), out))),
        (table_sink(outputs), Box::new(|out| tables(reports, out).map_err(text))),
    ];
    write_parts(&parts)
}

/// Writes each part that has a place to go. Files come first: whoever reads stdout may take his time.
///
/// # Errors
/// What could not be written, and why. That a reader of stdout has seen enough is none.
pub(crate) fn write_parts(parts: &[(Option<Sink>, Render<'_>)]) -> Result<(), String> {
    let wanted = parts.iter().filter_map(|(sink, render)| Some((sink.as_ref()?, render)));
    let (to_stdout, to_files): (Vec<_>, Vec<_>) =
        wanted.partition(|(sink, _)| matches!(sink, Sink::Stdout));
    let all = to_files.into_iter().chain(to_stdout);
    let failures: Vec<_> = all.filter_map(|(sink, render)| write(sink, render).err()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// Where the table goes, if anywhere.
pub(crate) fn table_sink(outputs: &Outputs) -> Option<Sink> {
    let stdout_taken = [&outputs.json, &outputs.csv].contains(&&Some(Sink::Stdout));
    (!stdout_taken && !outputs.quiet).then_some(Sink::Stdout)
}

fn tables(reports: &[(&str, &Report)], out: &mut Vec<u8>) -> io::Result<()> {
    for (name, report) in reports {
        if !name.is_empty() {
            writeln!(out, "{name}")?;
        }
        report::table(report, out)?;
    }
    Ok(())
}

fn write(sink: &Sink, render: &Render<'_>) -> Result<(), String> {
    let mut content = Vec::new();
    render(&mut content)?;
    match sink {
        Sink::File(path) => fs::write(path, content).map_err(|error| cannot_write(path, &error)),
        Sink::Stdout => {
            let mut stdout = io::stdout().lock();
            match stdout.write_all(&content).and_then(|()| stdout.flush()) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    Err(format!("stdout cannot be written: {error}"))
                }
                _ => Ok(()),
            }
        }
    }
}
