//! What `http` sends: options and files become requests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::ValueEnum;
use uring_acceptor::load::request::{Field, Order, Request, Template, parse_file};
use uring_acceptor::load::{CloseStyle, ExpectBody, HttpPlan};

use super::address::HttpAddress;
use super::typed::{AnswerOptions, HttpOptions};
use super::values::Ordering;

/// A body is in memory once.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// So is a file of requests.
const REQUESTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is sent to `address`, or what is wrong with an option or a file.
pub(super) fn plan(
    address: &HttpAddress,
    typed: &HttpOptions,
    answers: &AnswerOptions,
    close: CloseStyle,
) -> Result<HttpPlan, String> {
    let asks_to_close = close == CloseStyle::Server && typed.requests_per_connection.is_some();
    let render = |template: &Template| template.render(&address.host, asks_to_close);
    needs_requests(typed)?;
    let base = template(address, typed)?;
    let requests: Vec<Request> = match &typed.requests {
        None => vec![render(&base)],
        Some(path) => {
            let bytes = read("--requests", path, REQUESTS_BYTES_MAX)?;
            let failed = |error| format!("--requests {}: {error}", path.display());
            let templates = parse_file(&bytes, &base).map_err(failed)?;
            uses_path_of_url(&address.path, &templates).map_err(failed)?;
            templates.iter().map(render).collect()
        }
    };
    let expect_body = match (answers.expect_body_size, answers.verify) {
        (Some(bytes), _) => ExpectBody::Bytes(bytes as u64),
        (None, true) => ExpectBody::LikeTheFirst,
        (None, false) => ExpectBody::Any,
    };
    Ok(HttpPlan {
        requests,
        order: typed.order.map_or(Order::InTurn, |Ordering(order)| order),
        pipeline: typed.pipeline,
        expect_status: answers.expect_status.clone().unwrap_or_default(),
        expect_body,
    })
}

fn needs_requests(typed: &HttpOptions) -> Result<(), String> {
    let (Some(order), None) = (typed.order, &typed.requests) else { return Ok(()) };
    let name = order.to_possible_value().expect("each has a name");
    let name = name.get_name();
    Err(format!("--order {name} needs --requests FILE: without it there is one request to send"))
}

/// A path in the URL is that of the lines that leave theirs out. Nobody means one that is never sent.
fn uses_path_of_url(path: &str, requests: &[Template]) -> Result<(), String> {
    if path == "/" || requests.iter().any(|request| request.target() == path) {
        return Ok(());
    }
    Err(format!(
        "each line has a path of its own, so {path} of the URL would never be requested; leave it out \
         of the URL, or give it a line"
    ))
}

/// The request that the options describe.
fn template(address: &HttpAddress, typed: &HttpOptions) -> Result<Template, String> {
    let body = match (&typed.body, &typed.body_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(path)) => Some(read("--body-file", path, BODY_BYTES_MAX)?),
        (None, None) => None,
    };
    let method = typed.method.as_deref().unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let mut fields = typed.header.clone();
    if let Some(agent) = &typed.user_agent {
        fields.push(
            Field::new("User-Agent", agent).map_err(|error| format!("--user-agent: {error}"))?,
        );
    }
    let template = Template::get("/").path(&address.path)?.method(method);
    Ok(template
        .map_err(|error| format!("--method: {error}"))?
        .fields(fields)
        .body(body.unwrap_or_default()))
}

fn read(option: &str, path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{option} {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("{option} {}: it has more than {most} bytes", path.display()));
    }
    Ok(bytes)
}
