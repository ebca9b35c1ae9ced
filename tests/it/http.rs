//! HTTP/1.1 as clients speak it: a scripted one byte by byte, and the well-known ones.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::client::{connect, expect_end, read_to_the_end};
use crate::harness::{Server, skipped};

/// A connection that sends text and reads whole responses.
struct Client {
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: Vec<String>,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    #[track_caller]
    fn new(server: &Server) -> Self {
        Self { reader: BufReader::new(connect(server.address())) }
    }

    #[track_caller]
    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).expect("the connection is open");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line comes");
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("'{line}' has no CRLF")).to_owned()
    }

    #[track_caller]
    fn head(&mut self) -> Response {
        let line = self.line();
        let mut words = line.split(' ');
        assert!(words.next().is_some_and(|word| word.starts_with("HTTP/1.")), "{line}");
        let status = words.next().and_then(|word| word.parse().ok());
        let mut head = Vec::new();
        loop {
            match self.line() {
                end if end.is_empty() => break,
                header => head.push(header),
            }
        }
        Response { status: status.expect("a status"), head, body: Vec::new() }
    }

    #[track_caller]
    fn response(&mut self) -> Response {
        let mut response = self.head();
        let length = response.header("content-length").expect("a content-length");
        let mut body = vec![0; length.parse().expect("a number")];
        self.reader.read_exact(&mut body).expect("the whole body");
        response.body = body;
        response
    }

    #[track_caller]
    fn expect_hello(&mut self) {
        let response = self.response();
        assert_eq!((response.status, response.body.as_slice()), (200, &b"hello\n"[..]));
    }

    #[track_caller]
    fn expect_end(mut self) {
        expect_end(&mut self.reader);
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::start(&["http"]);
    assert_eq!(server.listening()[0].service, "http");
    let mut client = Client::new(&server);
    for _ in 0..50 {
        client.send(GET);
        client.expect_hello();
    }
    drop(client);
    server.stop();
}

#[test]
fn a_hundred_requests_in_one_piece() {
    let server = Server::start(&["http"]);
    let mut client = Client::new(&server);
    client.send(&GET.repeat(100));
    for _ in 0..100 {
        client.expect_hello();
    }
    client.send(GET);
    client.expect_hello();
    drop(client);
    server.stop();
}

#[test]
fn a_request_cut_at_every_byte() {
    let server = Server::start(&["http"]);
    let mut client = Client::new(&server);
    for cut in 1..GET.len() {
        let (first, second) = GET.split_at(cut);
        client.send(first);
        std::thread::sleep(std::time::Duration::from_millis(2));
        client.send(second);
        client.expect_hello();
    }
    drop(client);
    server.stop();
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = Server::start(&["http"]);
    let mut client = Client::new(&server);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.head();
    assert_eq!((response.status, response.header("content-length")), (200, Some("6")));
    client.send(GET);
    client.expect_hello();
    drop(client);
    server.stop();
}

#[test]
fn bodies_of_requests_are_not_taken_for_requests() {
    let server = Server::start(&["http"]);
    let mut client = Client::new(&server);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nGET /\r\n");
    client.send("3;extension=1\r\n\r\n\r\r\n0\r\nTrailer: x\r\n\r\n");
    client.expect_hello();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n");
    client.expect_hello();
    client.send(GET);
    client.expect_hello();
    drop(client);
    server.stop();
}

#[test]
fn the_connection_closes_when_it_was_asked_to() {
    let server = Server::start(&["http"]);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nconnection: Close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::new(&server);
        client.send(request);
        client.expect_hello();
        client.expect_end();
    }
    server.stop();
}

#[test]
fn garbage_gets_400_and_the_end() {
    let server = Server::start(&["http"]);
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
    ] {
        let mut client = Client::new(&server);
        client.send(garbage);
        let response = client.response();
        assert_eq!(response.status, 400, "{garbage:?}");
        client.expect_end();
    }
    server.stop();
}

/// A client that goes on sending must still be able to read why it was refused.
#[test]
fn a_refusal_arrives_although_the_client_keeps_sending() {
    let server = Server::start(&["http"]);
    for _ in 0..20 {
        let mut client = Client::new(&server);
        client.send("NONSENSE\r\n\r\n");
        for _ in 0..20 {
            let sent = client.reader.get_mut().write_all(&[b'x'; 1000]);
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(sent.is_ok() || gone.contains(&sent.unwrap_err().kind()));
        }
        assert_eq!(client.head().status, 400);
    }
    server.stop();
}

#[test]
fn bodies_of_every_size() {
    for size in [0, 1, 65_536, 1_000_000] {
        let server = Server::start(&["http", "--body-size", &size.to_string()]);
        let mut client = Client::new(&server);
        client.send(&GET.repeat(3));
        for _ in 0..3 {
            assert_eq!(client.response().body.len(), size);
        }
        drop(client);
        server.stop();
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let server = Server::start(&["http", "--first-byte-timeout", "60s"]);
    let mut client = Client::new(&server);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1_000_000));
    let _ = client.reader.get_mut().write_all(long.as_bytes());
    let received = read_to_the_end(&mut client.reader).expect("the server ends the connection");
    assert!(received < 10_000, "{received} bytes came");
    // The client is still there: the server lingers for it, but not for long.
    server.stop();
    drop(client);
}

/// Runs a tool; `None`, said loudly, when it is not installed.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {text}{errors}");
            Some(text)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped(&format!("{program} is not installed"));
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn curl() {
    let server = Server::start(&["http", "--body", "from the acceptor"]);
    let url = format!("http://{}/", server.address());
    let fetch = ["-sS", "--noproxy", "*", "--max-time", "10", &url, &url];
    if let Some(text) = tool("curl", &fetch) {
        assert_eq!(text, "from the acceptor".repeat(2));
    }
    let post = ["-sS", "--noproxy", "*", "--max-time", "10", "--data", "a=b", &url];
    if let Some(text) = tool("curl", &post) {
        assert_eq!(text, "from the acceptor");
    }
    server.stop();
}

#[test]
fn wrk() {
    let server = Server::start(&["http"]);
    let url = format!("http://{}/", server.address());
    if let Some(text) = tool("wrk", &["-t1", "-c16", "-d1s", &url]) {
        assert!(text.contains("requests in"), "{text}");
        for complaint in ["Socket errors", "Non-2xx"] {
            assert!(!text.contains(complaint), "{text}");
        }
    }
    server.stop();
}

#[test]
fn ab() {
    let server = Server::start(&["http"]);
    let url = format!("http://{}/", server.address());
    for arguments in [&["-q", "-k"][..], &["-q"]] {
        let mut all = arguments.to_vec();
        all.extend(["-n", "2000", "-c", "16", &url]);
        let Some(text) = tool("ab", &all) else { break };
        let number = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().last()?.parse::<u32>().ok())
        };
        assert_eq!(number("Complete requests:"), Some(2000), "{text}");
        assert_eq!(number("Failed requests:"), Some(0), "{text}");
        assert!(!text.contains("Non-2xx"), "{text}");
    }
    server.stop();
}
