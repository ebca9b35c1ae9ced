//! `acceptor status`, and how an admin endpoint is asked.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use uring_acceptor::admin::{GetError, Response, get};
use uring_acceptor::config::AdminAddress;
use uring_acceptor::control::Status;

use crate::configuration::{environment, write};
use crate::ctl::{printable, tables, usage};
use crate::doctor::fail;
use crate::options;

/// Names the endpoint where nothing else does.
const VARIABLE: &str = "ACCEPTOR_ADMIN";

/// The port on 127.0.0.1 where nothing names the endpoint; documents use it.
const DEFAULT_PORT: u16 = 9100;

/// The status of HTTP for a server that is starting.
const UNAVAILABLE: u16 = 503;

/// The longest word of somebody else that is repeated.
const REPEATED_MAX: usize = 200;

/// Where the endpoint is.
///
/// # Errors
/// Why the variable is of no use.
pub(crate) fn address(endpoint: &options::Endpoint) -> Result<AdminAddress, String> {
    match (&endpoint.address, environment(VARIABLE)) {
        (Some(address), _) => Ok(address.clone()),
        (None, Some(text)) => text.parse().map_err(|error| format!("{VARIABLE}: {error}")),
        (None, None) => {
            Ok(AdminAddress(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)).into()))
        }
    }
}

/// Asks, once, and tells.
pub(crate) fn status(asked: &options::StatusAsked) -> ExitCode {
    let address = match address(&asked.endpoint) {
        Ok(address) => address,
        Err(text) => return usage(&text),
    };
    let text = match fetch_status(&address) {
        Ok((_, body)) if asked.json => body,
        Ok((status, _)) => printable(&tables::status(&status)),
        Err(text) => return fail(&text),
    };
    match write(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("stdout cannot be written: {error}")),
    }
}

/// The status, and the same as it came.
///
/// # Errors
/// What is wrong and what helps.
pub(crate) fn fetch_status(address: &AdminAddress) -> Result<(Status, String), String> {
    let body = fetch(address, "/status")?;
    let status: Status = parsed(address, &body)?;
    match status.program_version.is_empty() {
        true => Err(not_an_endpoint(address, "its status is not one of this program")),
        false => Ok((status, body)),
    }
}

/// The value in the JSON of an answer.
///
/// # Errors
/// It is none.
pub(crate) fn parsed<T: DeserializeOwned>(address: &AdminAddress, body: &str) -> Result<T, String> {
    serde_json::from_str(body).map_err(|error| {
        not_an_endpoint(address, &format!("what it answers is not what was asked for ({error})"))
    })
}

/// The body of what is there.
///
/// # Errors
/// What is wrong and what helps.
pub(crate) fn fetch(address: &AdminAddress, target: &str) -> Result<String, String> {
    let Response { status, body } = get(address, target).map_err(|error| told(&error))?;
    let body = String::from_utf8_lossy(&body);
    match status {
        200 => Ok(body.into_owned()),
        UNAVAILABLE => {
            let line = body.lines().next().unwrap_or_default();
            let line: String = printable(line).chars().take(REPEATED_MAX).collect();
            Err(format!("the server at {address} cannot tell yet: {line}"))
        }
        _ => Err(not_an_endpoint(address, &format!("it answers {status} to {target}"))),
    }
}

fn not_an_endpoint(address: &AdminAddress, why: &str) -> String {
    format!("what listens at {address} is not the admin endpoint of an acceptor: {why}")
}

fn told(error: &GetError) -> String {
    let GetError::Connect { error: reason, .. } = error else {
        return error.to_string();
    };
    let hint = match reason.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
            "; is it running, and with an admin endpoint there? Start it with --admin 9100 (admin = \"9100\" in \
             [process] of a file), or give the address of its endpoint"
        }
        ErrorKind::PermissionDenied => "; the socket may be for another user",
        _ => "",
    };
    format!("{error}{hint}")
}
