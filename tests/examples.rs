//! Each example, started by its one command, does what it says; `resp` with clients that others have made.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use uring_acceptor::sys;

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(30);

/// An example that runs; it ends with this.
struct Example {
    child: Child,
    address: SocketAddr,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of an example: `cargo test` has built it, whoever runs less builds it here.
fn program(name: &str) -> PathBuf {
    let acceptor = PathBuf::from(env!("CARGO_BIN_EXE_acceptor"));
    let path = acceptor.with_file_name("examples").join(name);
    if !path.exists() {
        let build = ["build", "--locked", "--example", name];
        let built = Command::new(env!("CARGO")).args(build).status().expect("cargo runs");
        assert!(built.success(), "cargo {build:?}");
    }
    path
}

fn start(name: &str, arguments: &[&str]) -> Example {
    let mut child = Command::new(program(name))
        .arg("127.0.0.1:0")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split(' ').nth(1).and_then(|text| text.parse().ok());
    let address = address.unwrap_or_else(|| panic!("{name} says {line:?}"));
    Example { child, address }
}

impl Example {
    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("it accepts");
        client.set_read_timeout(Some(SOON)).unwrap();
        client
    }

    /// What it answers until it closes, behind the client's FIN.
    fn ask(&self, text: &str) -> String {
        let mut client = self.connect();
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }
}

#[track_caller]
fn expect(client: &mut TcpStream, text: &str) {
    let mut came = vec![0; text.len()];
    client.read_exact(&mut came).unwrap();
    assert_eq!(String::from_utf8_lossy(&came), text);
}

#[test]
fn custom_service_keeps_what_it_is_given() {
    let store = start("custom_service", &[]);
    assert_eq!(store.ask("SET a 1\nGET a\nGET b\nQUIT\n"), "OK\n1\nNONE\nBYE\n");
}

#[test]
fn gateway_answers_in_order_from_a_runtime() {
    let gateway = start("gateway", &[]);
    let mut client = gateway.connect();
    client.write_all(b"one\ntwo\nthr").unwrap();
    expect(&mut client, "ONE\nTWO\n");
    // Others are not held up: a hundred at once take hardly longer than one.
    let mut others: Vec<_> = (0..100).map(|_| gateway.connect()).collect();
    others.iter_mut().for_each(|other| other.write_all(b"x\n").unwrap());
    others.iter_mut().for_each(|other| expect(other, "X\n"));
    client.write_all(b"ee\n").unwrap();
    expect(&mut client, "THREE\n");
}

/// A folder of its own with files in it.
fn folder(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("file-server-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}

fn head_of(client: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).unwrap() > 0, "it closes after {head:?}");
    }
    head
}

#[test]
fn file_server_answers_in_order() {
    let folder = folder("order", &[("a b.txt", b"0123456789"), ("index.html", b"<p>"), ("e", b"")]);
    let server = start("file-server", &[folder.to_str().unwrap()]);
    let get = |path: &str, rest: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{rest}\r\n");
    let ok = |bytes: &str| {
        let length = bytes.len();
        format!(
            "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n\r\n{bytes}"
        )
    };
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let part = |range: &str, bytes: &str| {
        let length = bytes.len();
        format!(
            "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n\
             Content-Range: bytes {range}/10\r\n\r\n{bytes}"
        )
    };
    let questions = [
        (get("/a%20b.txt", ""), ok("0123456789")),
        (get("/", ""), ok("<p>")),
        (get("/none", ""), missing.to_owned()),
        (get("/e", ""), ok("")),
        (get("/../etc/passwd", ""), missing.to_owned()),
        (get("/%2e%2e/etc/passwd", ""), missing.to_owned()),
        (get("//etc/passwd", ""), missing.to_owned()),
        (get("/a%20b.txt", "Range: bytes=2-4\r\n"), part("2-4", "234")),
        (get("/a%20b.txt", "Range: bytes=-3\r\n"), part("7-9", "789")),
        (get("/a%20b.txt", "Range: bytes=8-100\r\n"), part("8-9", "89")),
        (get("/a%20b.txt?x=1", ""), ok("0123456789")),
    ];
    // Each alone, and all at once.
    let mut client = server.connect();
    for (question, answer) in &questions {
        client.write_all(question.as_bytes()).unwrap();
        expect(&mut client, answer);
    }
    let (all, answers): (Vec<_>, Vec<_>) = questions.into_iter().unzip();
    client.write_all(all.concat().as_bytes()).unwrap();
    expect(&mut client, &answers.concat());
    client.write_all(get("/a%20b.txt", "Range: bytes=10-\r\n").as_bytes()).unwrap();
    let mut client = BufReader::new(client);
    assert!(head_of(&mut client).starts_with("HTTP/1.1 416 "), "no byte of it is there");
    client.get_mut().write_all(get("/", "Connection: close\r\n").as_bytes()).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("Connection: close\r\n\r\n<p>"), "{rest:?}");
    let head = server.ask("HEAD /a%20b.txt HTTP/1.0\r\n\r\n");
    assert!(head.contains("Content-Length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head:?}");
    for (wrong, status) in [("POST / HTTP/1.1\r\n\r\n", "405"), ("what\r\n\r\n", "400")] {
        assert!(server.ask(wrong).starts_with(&format!("HTTP/1.1 {status} ")), "{wrong:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Larger than what sockets hold, to one that reads late while others are served; it takes no memory.
#[test]
fn file_server_sends_large_files_without_memory_for_them() {
    const BYTES: usize = 512 << 20;
    let folder = folder("large", &[("small", b"small")]);
    let large = std::fs::File::create(folder.join("large")).unwrap();
    large.set_len(BYTES as u64).unwrap();
    let server = start("file-server", &[folder.to_str().unwrap()]);
    let mut late: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut late {
        client.write_all(b"GET /large HTTP/1.1\r\n\r\nGET /small HTTP/1.1\r\n\r\n").unwrap();
    }
    assert!(server.ask("GET /small HTTP/1.0\r\n\r\n").ends_with("small"));
    let resident = format!("/proc/{}/status", server.child.id());
    let resident = std::fs::read_to_string(resident).unwrap();
    let line = resident.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 128 * 1024, "{line}");
    for client in late {
        let mut client = BufReader::with_capacity(1 << 20, client);
        assert!(head_of(&mut client).contains(&format!("Content-Length: {BYTES}\r\n")));
        let sent = std::io::copy(&mut (&mut client).take(BYTES as u64), &mut std::io::sink());
        assert_eq!(sent.unwrap(), BYTES as u64);
        head_of(&mut client);
        let mut small = [0; 5];
        client.read_exact(&mut small).unwrap();
        assert_eq!(&small, b"small");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// It is cut: an end would say that this was all.
#[test]
fn file_server_resets_when_a_file_becomes_too_short() {
    const BYTES: u64 = 256 << 20;
    let folder = folder("short", &[]);
    let file = std::fs::File::create(folder.join("file")).unwrap();
    file.set_len(BYTES).unwrap();
    let server = start("file-server", &[folder.to_str().unwrap()]);
    let mut client = server.connect();
    client.write_all(b"GET /file HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut client = BufReader::new(client);
    head_of(&mut client);
    file.set_len(1 << 20).unwrap();
    let error = std::io::copy(&mut client, &mut std::io::sink()).expect_err("no end of file");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    std::fs::remove_dir_all(folder).unwrap();
}

/// So many as there may be descriptors for, 5,000 at most.
fn guests() -> usize {
    let most = sys::nofile().map_or(1024, |limit| limit.hard);
    let _ = sys::set_nofile_soft(most);
    5_000.min(usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(500))
}

#[test]
fn chat_is_heard_by_all() {
    let chat = start("chat", &[]);
    let mut all: Vec<_> = (0..guests()).map(|_| chat.connect()).collect();
    let last = all.len() - 1;
    for line in ["hello", "all"] {
        all[last].write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    let mut heard = Vec::new();
    for guest in &mut all {
        let mut lines = BufReader::new(guest);
        let mut both = String::new();
        for _ in 0..2 {
            lines.read_line(&mut both).unwrap();
        }
        heard.push(both);
    }
    let mut lines = heard[0].lines().map(|line| line.split_once(": ").unwrap());
    let ((first, hello), (second, everybody)) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!((hello, everybody, first), ("hello", "all", second));
    assert!(heard.iter().all(|one| *one == heard[0]));
}

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    if output.is_err() {
        eprintln!("SKIPPED: {program} is not installed");
    }
    output.ok()
}

#[test]
fn resp_speaks_with_redis_cli() {
    let resp = start("resp", &["2"]);
    let port = resp.port();
    let cli = |words: &[&str]| {
        let arguments = [&["-p", &port][..], words].concat();
        run("redis-cli", &arguments).map(|it| String::from_utf8(it.stdout).unwrap())
    };
    for (words, answer) in [
        (&["PING"][..], "PONG\n"),
        (&["SET", "a", "one two"], "OK\n"),
        (&["GET", "a"], "one two\n"),
        (&["EXPIRE", "a", "1"], "1\n"),
        (&["TTL", "a"], "1\n"),
        (&["DEL", "b"], "0\n"),
    ] {
        let Some(said) = cli(words) else { return };
        assert_eq!(said, answer, "{words:?}");
    }
    let deadline = Instant::now() + SOON;
    while cli(&["GET", "a"]).unwrap() != "\n" {
        assert!(Instant::now() < deadline, "the key does not end");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn resp_speaks_with_redis_benchmark() {
    let resp = start("resp", &["2"]);
    let port = resp.port();
    for pipeline in ["1", "16"] {
        let arguments =
            ["-p", &port, "-n", "20000", "-c", "20", "-r", "1000", "-P", pipeline, "-t"];
        let arguments = [&arguments[..], &["ping,set,get", "-q"]].concat();
        let Some(output) = run("redis-benchmark", &arguments) else { return };
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET"] {
            let done = format!("{test}: ");
            assert!(said.contains(&done) && said.contains("requests per second"), "{said}");
        }
        assert!(!said.contains("rror"), "{said}");
    }
}

#[test]
fn resp_speaks_with_redis_py() {
    let resp = start("resp", &["2"]);
    let script = source("tests/redis_client.py");
    let Some(output) = run("python3", &[&script, &resp.port()]) else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => {}
        Some(77) => eprintln!("SKIPPED: {}", said.trim()),
        _ => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn source(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// A pipeline of 10,000, all of it before an answer is read.
#[test]
fn resp_answers_a_long_pipeline() {
    let resp = start("resp", &["2"]);
    let commands: String =
        (0..10_000).map(|number| format!("SET k{number} {number}\r\n")).collect();
    assert_eq!(resp.ask(&commands), "+OK\r\n".repeat(10_000));
    let commands: String = (0..10_000).map(|number| format!("GET k{number}\r\n")).collect();
    let value = |number: usize| format!("${}\r\n{number}\r\n", number.to_string().len());
    assert_eq!(resp.ask(&commands), (0..10_000).map(value).collect::<String>());
}

#[test]
fn resp_tells_subscribers_of_both_workers() {
    let resp = start("resp", &["2"]);
    let mut subscribers: Vec<_> = (0..200).map(|_| resp.connect()).collect();
    for subscriber in &mut subscribers {
        subscriber.write_all(b"SUBSCRIBE news\r\n").unwrap();
        expect(subscriber, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    let mut publisher = resp.connect();
    publisher.write_all("PUBLISH news hi\r\n".repeat(50).as_bytes()).unwrap();
    expect(&mut publisher, &":200\r\n".repeat(50));
    let frame = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n";
    for subscriber in &mut subscribers {
        expect(subscriber, &frame.repeat(50));
    }
}
