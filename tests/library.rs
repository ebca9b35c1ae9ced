//! What a program that brings its service gets besides: the admin endpoint, with metrics of the service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uring_acceptor::admin::Admin;
use uring_acceptor::config::ListenAddress;
use uring_acceptor::control::Operator;
use uring_acceptor::server::{Inherited, Server};
use uring_acceptor::service::{Action, ConnectionInfo, Input, Outbox, Responder, ServiceMetrics};

#[derive(Default)]
struct Upper {
    calls: AtomicU64,
}

impl Responder for Upper {
    type Session = ();

    fn name(&self) -> &str {
        "upper-case"
    }

    fn metrics(&self, metrics: &mut ServiceMetrics) {
        metrics.counter("calls", "Calls so far.", self.calls.load(Ordering::Relaxed));
        metrics.gauge("mood", "How it feels.", 0.5);
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        self.calls.fetch_add(1, Ordering::Relaxed);
        outbox.write(&input.bytes().to_ascii_uppercase());
        Action::Close
    }
}

/// What is answered until the connection closes.
fn ask(address: &ListenAddress, text: &str) -> String {
    let ListenAddress::Tcp(address) = address else { panic!("{address} is no TCP address") };
    let mut client = TcpStream::connect::<SocketAddr>(*address).unwrap();
    client.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_service_tells_metrics_of_its_own() {
    let server = Server::builder(Upper::default())
        .listen("127.0.0.1:0".parse().unwrap())
        .process(|process| process.threads.workers = NonZeroUsize::new(1))
        .start()
        .unwrap();
    let ready = Admin::prepare(&"127.0.0.1:0".parse().unwrap(), &Inherited::default()).unwrap();
    let admin = ready.serve().unwrap();
    admin.tell_of(&Arc::new(Operator::of_server(server.handle())));
    for _ in 0..3 {
        assert_eq!(ask(&server.addresses()[0], "abc"), "ABC");
    }
    let get = |path: &str| {
        ask(&admin.addresses()[0], &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    };
    let metrics = get("/metrics");
    for line in [
        "# TYPE upper_case_calls counter",
        "# HELP upper_case_calls Calls so far.",
        "upper_case_calls_total 3",
        "upper_case_mood 0.5",
        "acceptor_opened_total 3",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in\n{metrics}");
    }
    assert!(get("/readyz").starts_with("HTTP/1.1 200 "));
    assert!(get("/status").contains("\"upper-case\""));
    server.handle().shutdown();
    server.join().unwrap();
}
