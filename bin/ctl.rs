//! `acceptor ctl` and `acceptor reload`: ask a running server, and write what it answers.

pub(crate) mod tables;

use std::io::{self, Write};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde_json::Value;
use uring_acceptor::config::UnixAddress;
use uring_acceptor::config_file;
use uring_acceptor::control::{
    self, BanList, ClientList, ConnectionList, Failure, Listing, ReloadReport, Request, SetReport,
    SourceList, Status, UpgradeReport,
};

use crate::configuration::{environment, write};
use crate::doctor::fail;
use crate::options::{Call, Whom, control_address};
use crate::{EXIT_FAILURE, EXIT_USAGE};

/// Names the control socket where nothing else does.
const VARIABLE: &str = "ACCEPTOR_CONTROL";

/// Asks, and tells.
pub(crate) fn call(call: &Call) -> ExitCode {
    let address = match address(&call.to) {
        Ok(address) => address,
        Err(text) => return usage(&text),
    };
    match call.request {
        Request::Reload { dry_run: false } if !call.json => reload(&address, &call.to),
        _ => ask((&address, &call.to), &call.request, |result| match call.json {
            true => serde_json::to_string_pretty(&result).map(|text| text + "\n").ok(),
            false => in_words(&call.request, result),
        }),
    }
}

/// Where the server is.
fn address(to: &Whom) -> Result<UnixAddress, String> {
    if let Some(address) = &to.control {
        return Ok(address.clone());
    }
    if let Some(file) = &to.config {
        let loaded = config_file::load(file, &environment).map_err(|errors| errors.to_string())?;
        return loaded.settings.config.process.control.ok_or_else(|| {
            let file = file.display();
            format!("{file} names no control socket; add to [process]: control = \"unix:PATH\"")
        });
    }
    match environment(VARIABLE) {
        Some(text) => control_address(&text).map_err(|error| format!("{VARIABLE}: {error}")),
        None => Err(format!(
            "which server? give --control unix:PATH, or --config FILE with `control` in it, or set {VARIABLE}"
        )),
    }
}

/// Says what is wrong with the command line.
pub(crate) fn usage(text: &str) -> ExitCode {
    for line in text.lines() {
        let _ = writeln!(io::stderr(), "error: {line}");
    }
    ExitCode::from(EXIT_USAGE)
}

/// Tells what would be done, does it, and tells what was done. A file that is wrong is told by the reload itself, so
/// that the server notes how it has ended.
fn reload(address: &UnixAddress, to: &Whom) -> ExitCode {
    if let Ok(Ok(result)) = control::call(address, &Request::Reload { dry_run: true }) {
        let report = parsed(result).map(|report: ReloadReport| tables::before(&report));
        let _ = write(&printable(&report.unwrap_or_default()));
    }
    ask((address, to), &Request::Reload { dry_run: false }, |result| {
        parsed(result).map(|report: ReloadReport| tables::after(&report))
    })
}

fn ask(
    (address, to): (&UnixAddress, &Whom),
    request: &Request,
    shown: impl FnOnce(Value) -> Option<String>,
) -> ExitCode {
    match control::call(address, request) {
        Err(error) => fail(&format!("{error}{}", of_before(to))),
        Ok(Err(failure)) => refused(&failure),
        Ok(Ok(result)) => match shown(result).map(|text| write(&printable(&text))) {
            Some(Ok(())) => ExitCode::SUCCESS,
            // A failure would say that the old process goes on.
            Some(Err(error)) if matches!(request, Request::Upgrade { .. }) => {
                let _ =
                    fail(&format!("the upgrade is done, but stdout cannot be written: {error}"));
                ExitCode::SUCCESS
            }
            Some(Err(error)) => fail(&format!("stdout cannot be written: {error}")),
            None => fail("the answer is not one to this request; is the server of this version?"),
        },
    }
}

/// The file may say since the start where the server is to be after the next one.
fn of_before(to: &Whom) -> &'static str {
    match (&to.control, &to.config) {
        (None, Some(_)) => {
            "; if the file has had another `control` since the server was started, give that: --control unix:PATH"
        }
        _ => "",
    }
}

/// All that is wrong, one line each.
fn refused(failure: &Failure) -> ExitCode {
    let mut out = io::stderr().lock();
    match &failure.details[..] {
        [] => drop(writeln!(out, "error: {}", printable(&failure.to_string()))),
        details => {
            details.iter().for_each(|line| drop(writeln!(out, "error: {}", printable(line))));
        }
    }
    ExitCode::from(EXIT_FAILURE)
}

/// Names may have characters that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => printable.push('\n'),
            it if it.is_control() => printable.extend(it.escape_default()),
            it => printable.push(it),
        }
    }
    printable
}

fn parsed<T: DeserializeOwned>(result: Value) -> Option<T> {
    serde_json::from_value(result).ok()
}

fn in_words(request: &Request, result: Value) -> Option<String> {
    match request {
        Request::Status => parsed(result).map(|status: Status| tables::status(&status)),
        Request::Reload { .. } => {
            parsed(result).map(|report: ReloadReport| tables::before(&report))
        }
        Request::Connections { listing: Listing::ByClient, .. } => {
            parsed(result).map(|list: ClientList| tables::clients(&list))
        }
        Request::Connections { .. } => {
            parsed(result).map(|list: ConnectionList| tables::connections(&list))
        }
        Request::Sources { .. } => {
            parsed(result).map(|list: SourceList| tables::limited_sources(&list))
        }
        Request::Bans => parsed(result).map(|list: BanList| tables::bans(&list)),
        Request::Shutdown => Some("the server drains and ends\n".to_owned()),
        Request::Upgrade { .. } => {
            parsed(result).map(|report: UpgradeReport| report.summary() + "\n")
        }
        // No command asks for it.
        Request::TakeOver => None,
        Request::Drain { .. }
        | Request::Backend { .. }
        | Request::Set(_)
        | Request::Ban { .. }
        | Request::Unban { .. }
        | Request::Close { .. } => parsed(result).map(|report: SetReport| tables::set(&report)),
    }
}
