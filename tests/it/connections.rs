//! The list of connections: waits in the accept queue, stalls, clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::admin::Watched;
use crate::client::{Pattern, connect, connect_with_small_buffers, expect_echo};
use crate::harness::{SOON, eventually};

const STALL: Duration = Duration::from_millis(200);

/// A tick of the kernel.
const TICK_MS: u64 = 10;

fn list(watched: &Watched, query: &str) -> Value {
    serde_json::from_str(&watched.ok(&format!("/connections?{query}"))).expect("JSON")
}

fn address(stream: &TcpStream) -> String {
    stream.local_addr().expect("it is connected").to_string()
}

#[track_caller]
fn expect_waits(watched: &Watched, served: impl Fn(&TcpStream)) {
    let early = connect(watched.server.address());
    served(&early);
    let plain = list(watched, "sort=age");
    assert_eq!(plain["accept_queue_waits_since"], Value::Null, "nobody looks");
    assert_eq!(plain["connections"][0]["accept_queue_wait_ms"], Value::Null);
    let first = list(watched, "sort=wait");
    let since = first["accept_queue_waits_since"].as_str().expect("somebody looks");
    assert_eq!(first["connections"][0]["accept_queue_wait_ms"], Value::Null, "it came before");
    watched.server.pause();
    let late = connect(watched.server.address());
    thread::sleep(STALL);
    watched.server.signal(libc::SIGCONT);
    served(&late);
    let all = list(watched, "sort=wait");
    assert_eq!(all["connections"][0]["client"], json!(address(&late)), "{all}");
    let wait = all["connections"][0]["accept_queue_wait_ms"].as_u64().expect("it is known");
    assert!(wait >= STALL.as_millis() as u64 - TICK_MS, "{all}");
    assert_eq!(all["connections"][1]["accept_queue_wait_ms"], Value::Null, "{all}");
    // The same look goes on: it is not begun anew by each list, and others tell of it too.
    for query in ["sort=wait", "sort=age"] {
        let told = list(watched, query)["accept_queue_waits_since"].clone();
        let [told, since] = [told.as_str().expect("a time"), since].map(|text| {
            let time = humantime::parse_rfc3339(text).expect("a time");
            time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
        });
        // Both are made from a clock that may be set meanwhile, and cut to seconds.
        assert!(told.abs_diff(since) <= 1, "{told} {since}");
    }
}

#[test]
fn waits_in_the_accept_queue_are_listed_while_somebody_looks() {
    let watched = Watched::start(&["echo"]);
    expect_waits(&watched, |client| expect_echo(client, b"x"));
    watched.server.stop();
}

#[test]
fn waits_of_proxied_connections_are_listed_too() {
    let backend = Watched::start(&["echo"]);
    let to = backend.server.address().to_string();
    let watched = Watched::start(&["proxy", "--to", &to]);
    expect_waits(&watched, |client| expect_echo(client, b"x"));
    watched.server.stop();
}

/// Who stalls, in the list sorted by that.
#[track_caller]
fn expect_stalled(watched: &Watched, stalled: &TcpStream) {
    eventually(SOON, "the stall is listed", || {
        let first = &list(watched, "sort=stall")["connections"][0];
        first["client"] == json!(address(stalled)) && first["stalled_ms"].as_u64() >= Some(100)
    });
    let all = list(watched, "sort=stall");
    assert_eq!(all["connections"][1]["stalled_ms"], Value::Null, "nothing is sent there: {all}");
}

#[test]
fn a_client_that_takes_nothing_stalls() {
    let watched = Watched::start(&["echo"]);
    let idle = connect(watched.server.address());
    expect_echo(&idle, b"x");
    let deaf = connect_with_small_buffers(watched.server.address());
    Pattern { seed: 1 }.send_until_blocked(&deaf, STALL, 64 << 20);
    expect_stalled(&watched, &deaf);
    drop((idle, deaf));
    watched.server.stop();
}

#[test]
fn a_backend_that_takes_nothing_stalls() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let to = backend.local_addr().expect("it is bound").to_string();
    let watched = Watched::start(&["proxy", "--to", &to]);
    let idle = connect(watched.server.address());
    let client = connect(watched.server.address());
    let held = [(); 2].map(|()| backend.accept().expect("it connects").0);
    Pattern { seed: 1 }.send_until_blocked(&client, STALL, 64 << 20);
    expect_stalled(&watched, &client);
    drop((idle, client, held));
    watched.server.stop();
}

fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source: SocketAddr = source.parse().expect("an address");
    socket.bind(&source.into()).expect("it is of this machine");
    socket.connect(&to.into()).expect("it connects");
    socket.into()
}

#[test]
fn clients_are_listed_with_most_connections_first() {
    let watched = Watched::start(&["echo"]);
    let sources = ["127.0.0.1:0", "127.0.0.3:0", "127.0.0.2:0", "127.0.0.3:0"];
    let open = sources.map(|source| connect_from(source, watched.server.address()));
    open.iter().for_each(|client| expect_echo(client, b"here"));
    let all = list(&watched, "by=client&limit=2");
    assert_eq!((&all["total"], &all["clients_total"]), (&json!(4), &json!(3)), "{all}");
    let clients = all["clients"].as_array().expect("a list");
    assert_eq!(clients.len(), 2);
    let first = &clients[0];
    assert_eq!((&first["client"], &first["connections"]), (&json!("127.0.0.3"), &json!(2)));
    assert_eq!(first["bytes_in"], json!(8), "{all}");
    let refused = [("by=client&sort=age", "of its own"), ("by=port", "expected `client`")];
    for (query, told) in refused {
        let (status, text) = watched.get(&format!("/connections?{query}"));
        assert!(status == 400 && text.contains(told), "{query}: {status} {text}");
    }
    drop(open);
    watched.server.stop();
}
