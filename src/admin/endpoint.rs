//! What is answered to whom.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::lists::{bans, connections, sources};
use super::metrics::{self, Format};
use super::page;
use super::request::{PartialHead, Refusal, Request};
use crate::control::{Operator, Status};
use crate::server::{Handle, PauseCause, Phase, Verdict};
use crate::service::{Action, ConnectionInfo, Input, Outbox, Prepared, Responder};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const PATHS: [&str; 8] =
    ["/", "/metrics", "/status", "/connections", "/sources", "/bans", "/healthz", "/readyz"];

/// What there is, for whoever asks for something else.
const INDEX: &str = "\
/             all of it as a page, for a browser
/metrics      what is counted, for Prometheus
/status       the server, its frontends and upstreams, as JSON
/connections  open connections, as JSON; ?sort=bytes|age|idle|wait|stall|client|frontend|backend&limit=N,
              or their clients with ?by=client
/sources      sources with a limit, as JSON; ?frontend=NAME&sort=open|rate|refused&limit=N
/bans         banned sources, as JSON
/healthz      200 while the server runs
/readyz       200 while it accepts connections
";

/// The service behind the admin endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    operator: Arc<OnceLock<Arc<Operator>>>,
}

/// An answer before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    status: &'static str,
    kind: &'static str,
    /// Header fields of this answer alone, each with its end of line.
    fields: &'static str,
    body: Cow<'static, [u8]>,
}

impl Answer {
    fn new(status: &'static str, kind: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self { status, kind, fields: "", body }
    }

    fn metrics(operator: &Arc<Operator>, request: &Request) -> Self {
        let format = Format::for_accept(&request.accept);
        let body = Cow::Owned(metrics::encode(operator, format));
        Self { status: "200 OK", kind: format.media_type(), fields: "", body }
    }

    pub(super) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self::new("200 OK", JSON, text + "\n"),
            Err(error) => Self::new("500 Internal Server Error", TEXT, format!("{error}\n")),
        }
    }

    pub(super) fn unavailable(why: &str) -> Self {
        Self::new("503 Service Unavailable", TEXT, format!("{why}\n"))
    }

    pub(super) fn bad(why: &str) -> Self {
        Self::new("400 Bad Request", TEXT, format!("{why}\n"))
    }

    fn misdirected(request: &Request) -> Self {
        let host = request.host.as_deref().unwrap_or_default();
        let text = format!(
            "Host is '{host}': to programs of this machine the endpoint answers by IP address and as localhost only, \
             so that no web page can read it\n"
        );
        Self::new("421 Misdirected Request", TEXT, text)
    }

    fn head(&self) -> String {
        let Self { status, kind, fields, body } = self;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{fields}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            body.len()
        )
    }

    /// The body is not copied: a list of connections is longer than what a service may write.
    fn send(self, head_only: bool, outbox: &mut Outbox) {
        outbox.write(self.head().as_bytes());
        match self.body {
            _ if head_only => {}
            Cow::Borrowed(body) => outbox.send_static(body),
            Cow::Owned(body) if body.is_empty() => {}
            Cow::Owned(body) => outbox.send_prepared(&Prepared::once(body)),
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadRequest => Self::new("400 Bad Request", TEXT, "malformed HTTP/1 request\n"),
            Refusal::Method => Self {
                status: "405 Method Not Allowed",
                kind: TEXT,
                fields: "Allow: GET, HEAD\r\n",
                body: Cow::Borrowed(
                    b"this endpoint is read-only; use `acceptor ctl` to change the server\n",
                ),
            },
            Refusal::TooLong => Self::new(
                "431 Request Header Fields Too Large",
                TEXT,
                "the request header is too long\n",
            ),
        }
    }
}

impl Endpoint {
    pub(super) fn new(operator: Arc<OnceLock<Arc<Operator>>>) -> Self {
        Self { operator }
    }

    fn answer(&self, request: &Request) -> Answer {
        if !PATHS.contains(&request.path.as_str()) {
            let text = format!("there is no {}; there are:\n\n{INDEX}", request.path);
            return Answer::new("404 Not Found", TEXT, text);
        }
        if request.path == "/" {
            let fields = page::FIELDS;
            return Answer { fields, ..Answer::new("200 OK", page::KIND, page::PAGE) };
        }
        let Some(operator) = self.operator.get() else {
            return match request.path.as_str() {
                "/healthz" => Answer::new("200 OK", TEXT, "starting\n"),
                _ => Answer::unavailable("the server is starting"),
            };
        };
        let handle = operator.handle();
        match request.path.as_str() {
            "/metrics" => Answer::metrics(operator, request),
            "/status" => Answer::json(&Status::of(operator)),
            "/connections" => connections(handle, request).unwrap_or_else(|refused| refused),
            "/sources" => sources(handle, request).unwrap_or_else(|refused| refused),
            "/bans" => bans(operator),
            "/readyz" => readiness(handle),
            _ => Answer::new("200 OK", TEXT, "ok\n"),
        }
    }
}

/// Whether new connections are accepted, and why not.
fn readiness(handle: &Handle) -> Answer {
    match handle.phase() {
        Phase::Serving => {}
        Phase::Draining => return Answer::unavailable("the server is draining"),
        Phase::Stopping => return Answer::unavailable("the server is stopping"),
    }
    let paused = |verdict: Verdict| verdict.pause().map(PauseCause::name);
    let listeners = handle.watch_queues();
    if listeners.is_empty() {
        return Answer::unavailable("no frontend listens");
    }
    let found = listeners.iter().find_map(|it| Some((it, paused(it.verdict)?)));
    match found {
        None => Answer::new("200 OK", TEXT, "ready\n"),
        Some((listener, cause)) => {
            let (name, address) = (&listener.frontend, &listener.address);
            Answer::unavailable(&format!(
                "frontend '{name}' on {address}: accepting is paused ({cause})"
            ))
        }
    }
}

/// A request that is read.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    head: PartialHead,
    /// Whether the client is a program of this machine over TCP, such as a browser with somebody's page in it.
    is_local: bool,
}

impl Responder for Endpoint {
    type Session = Exchange;

    fn name(&self) -> &str {
        "admin"
    }

    fn open(&self, info: &ConnectionInfo<'_>) -> Exchange {
        let is_local = info.peer().is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        Exchange { head: PartialHead::default(), is_local }
    }

    fn data(&self, exchange: &mut Exchange, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let (answer, head_only) = match exchange.head.read(input.bytes()) {
            Ok(None) => return Action::Await,
            Ok(Some(request)) if exchange.is_local && !request.names_an_address() => {
                (Answer::misdirected(&request), request.head_only)
            }
            Ok(Some(request)) => (self.answer(&request), request.head_only),
            Err(refusal) => (refusal.into(), false),
        };
        answer.send(head_only, outbox);
        // There may be a body on its way.
        Action::Linger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &str) -> String {
        answered_to(Exchange::default(), request)
    }

    fn answered_to(mut exchange: Exchange, request: &str) -> String {
        let (endpoint, mut outbox) = (Endpoint::new(Arc::default()), Outbox::default());
        let action = endpoint.data(&mut exchange, &Input::new(request.as_bytes()), &mut outbox);
        assert_eq!(action, Action::Linger, "{request}");
        String::from_utf8(outbox.render(request.as_bytes())).unwrap()
    }

    #[test]
    fn a_server_that_is_starting_is_healthy_and_not_ready() {
        let status = |path| answered(&format!("GET {path} HTTP/1.1\r\n\r\n"))[9..12].to_owned();
        assert_eq!(status("/healthz"), "200");
        assert_eq!(status("/"), "200");
        for path in ["/readyz", "/metrics", "/status", "/connections", "/sources", "/bans"] {
            assert_eq!(status(path), "503", "{path}");
        }
        assert_eq!(status("/metric"), "404");
    }

    #[test]
    fn nothing_can_be_changed() {
        let answer = answered("POST /status HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nAllow: GET, HEAD\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn a_page_of_somebody_elses_cannot_read_it() {
        let local = || Exchange { is_local: true, ..Exchange::default() };
        let request = |host: &str| format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let rebound = answered_to(local(), &request("evil.example:9100"));
        assert!(
            rebound.starts_with("HTTP/1.1 421 ") && rebound.contains("evil.example"),
            "{rebound}"
        );
        assert!(answered_to(local(), &request("localhost:9100")).starts_with("HTTP/1.1 200 "));
        assert!(answered(&request("web1.example")).starts_with("HTTP/1.1 200 "), "from elsewhere");
    }

    #[test]
    fn a_head_has_the_length_and_no_body() {
        let [get, head] =
            ["GET", "HEAD"].map(|method| answered(&format!("{method} / HTTP/1.1\r\n\r\n")));
        assert!(get.ends_with(page::PAGE));
        assert_eq!(head, get[..get.len() - page::PAGE.len()]);
        assert!(head.contains(&format!("Content-Length: {}\r\n", page::PAGE.len())));
    }
}
