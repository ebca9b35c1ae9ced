//! hyper's example, which says hello: it runs in this process, and counts for itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderValue, TRAILER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;

use super::{Measured, OPERATIONS, alone, ended, run, same_counts};
use crate::folder::Folder;

/// Longer than what hyper drains of a body that nobody reads.
const BODY_BYTES: usize = 2 << 20;

/// A body that is there piece by piece. Without its length the answer is chunked.
struct Pieces {
    left: VecDeque<&'static str>,
    trailers: Option<HeaderMap>,
    says_length: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece =
            self.left.pop_front().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        Poll::Ready(piece.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        let bytes: usize = self.left.iter().map(|piece| piece.len()).sum();
        if self.says_length { SizeHint::with_exact(bytes as u64) } else { SizeHint::default() }
    }
}

fn answer(path: &str) -> Response<Pieces> {
    let body = |pieces: &[&'static str], says_length| Pieces {
        left: pieces.iter().copied().collect(),
        trailers: None,
        says_length,
    };
    let mut response = Response::new(match path {
        "/streamed" | "/trailers" => body(&["Hello, ", "World", "!"], false),
        "/none" => body(&[], true),
        _ => body(&["Hello, World!"], true),
    });
    match path {
        "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/unread" => *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
        "/trailers" => {
            let sum = HeaderValue::from_static("1");
            response.headers_mut().insert(TRAILER, HeaderValue::from_static("sum"));
            response.body_mut().trailers =
                Some([("sum".parse().expect("a name"), sum)].into_iter().collect());
        }
        _ => {}
    }
    response
}

/// What a server has done: connections accepted, requests by status.
#[derive(Debug, Default)]
struct Counted {
    connections: u64,
    statuses: Vec<String>,
}

/// Its thread and its listener are left to the process.
struct Hyper {
    address: SocketAddr,
    counted: Arc<Mutex<Counted>>,
}

impl Hyper {
    fn start(keep_alive: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it is a socket");
        let address = listener.local_addr().expect("it is bound");
        let counted = Arc::<Mutex<Counted>>::default();
        let counts = Arc::clone(&counted);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_io().build();
            runtime.expect("it has an epoll instance").block_on(async move {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                while let Ok((socket, _)) = listener.accept().await {
                    counts.lock().expect("nobody panics with it").connections += 1;
                    tokio::spawn(serve(socket, Arc::clone(&counts), keep_alive));
                }
            });
        });
        Self { address, counted }
    }

    #[track_caller]
    fn run(&self, path: &str, options: &[&str]) -> Measured {
        run(&format!("http://{}{path}", self.address), options)
    }
}

async fn serve(socket: TcpStream, counted: Arc<Mutex<Counted>>, keep_alive: bool) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.uri().path());
        let status = response.status().as_str().to_owned();
        counted.lock().expect("nobody panics with it").statuses.push(status);
        async { Ok::<_, Infallible>(response) }
    });
    // A connection that ends with an error is the client's affair.
    let _ = http1::Builder::new()
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// Path, options, bytes of each body.
const CASES: &[(&str, &[&str], u64)] = &[
    ("/hello", &[], 13),
    ("/hello", &["--pipeline", "8"], 13),
    ("/hello", &["-m", "HEAD"], 0),
    ("/hello", &["--body", "abc"], 13),
    ("/none", &[], 0),
    ("/streamed", &["--verify"], 13),
    ("/trailers", &["-H", "TE: trailers"], 13),
];

#[test]
fn what_hyper_answers_is_counted_as_it_counts() {
    let _alone = alone();
    for keep_alive in [true, false] {
        for (path, options, body_bytes) in CASES {
            let hyper = Hyper::start(keep_alive);
            let run = hyper.run(path, options);
            let what = format!("{path} {options:?}, keep-alive {keep_alive}");
            assert_eq!(run.json["faults"], json!({}), "{what}: {}", run.exit.stdout);
            let counted = hyper.counted.lock().expect("nobody panics with it");
            same_counts(&what, &run, counted.statuses.iter().map(String::as_str));
            assert_eq!(run.count("connections"), counted.connections, "{what}");
            assert_eq!(run.json["answers"]["body_bytes"], body_bytes * OPERATIONS, "{what}");
            let closed = if keep_alive { (4, 0) } else { (OPERATIONS, OPERATIONS) };
            let made = (run.count("connections"), ended(&run));
            assert_eq!(made, closed, "{what}");
        }
    }
}

/// hyper answers at once, then ends the connection, which it has not announced.
#[test]
fn a_body_that_hyper_does_not_read_ends_with_its_answer() {
    let _alone = alone();
    let (folder, hyper) = (Folder::new(), Hyper::start(true));
    let body = folder.write("body", &"b".repeat(BODY_BYTES));
    let run = hyper.run("/unread", &["-m", "PUT", "--body-file", &body, "--expect-status", "413"]);
    assert_eq!(run.json["faults"], json!({}), "{}", run.exit.stdout);
    let counted = hyper.counted.lock().expect("nobody panics with it");
    same_counts("/unread", &run, counted.statuses.iter().map(String::as_str));
    assert_eq!(run.count("connections"), counted.connections);
}
