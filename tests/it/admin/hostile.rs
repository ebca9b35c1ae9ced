//! Clients of the endpoint that mean harm: the data path goes on, and so does the endpoint.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use std::time::Instant;

use super::*;

/// A server with its endpoint on TCP.
fn start(arguments: &[&str]) -> (Server, SocketAddr) {
    let server = Launch::new(&[arguments, &["--admin", "0"]].concat()).start();
    let mut address = None;
    eventually(SOON, "it is told", || {
        let log = server.stderr();
        let behind = log.split("the admin endpoint is on ").nth(1);
        address = behind.and_then(|it| it.split_whitespace().next()?.parse().ok());
        address.is_some()
    });
    (server, address.expect("it was waited for"))
}

fn is_answered(admin: SocketAddr) -> bool {
    let answer = TcpStream::connect(admin).and_then(|mut stream| {
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    answer.is_ok_and(|it| it.starts_with("HTTP/1.1 200 ") && it.ends_with("# EOF\n"))
}

/// A third each: says nothing, sends garbage, asks for much and does not read it.
fn harm(admin: SocketAddr, count: usize) -> Vec<Socket> {
    let sockets = connect_many(admin, count);
    let requests: [&[u8]; 3] =
        [b"", b"\x16\x03\x01\x02\x00\x01\r\n\r\n\xff", b"GET /metrics HTTP/1.1\r\n\r\n"];
    for (number, mut socket) in sockets.iter().enumerate() {
        // One that is not connected yet cannot send; its handshake may even be dropped.
        let _ = socket.write(requests[number % requests.len()]);
    }
    sockets
}

#[test]
fn a_thousand_clients_of_the_endpoint_leave_the_data_path_alone() {
    let (server, admin) = start(&["echo"]);
    let clients: Vec<_> = (0..4).map(|_| connect(server.address())).collect();
    let (is_over, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in &clients {
            let (is_over, exchanges) = (&is_over, &exchanges);
            scope.spawn(move || {
                let begun = Instant::now();
                while !is_over.load(Ordering::Relaxed) && begun.elapsed() < 3 * SOON {
                    expect_echo(client, b"hello");
                    exchanges.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let harm: Vec<_> = (0..5).map(|_| harm(admin, 200)).collect();
        let before = exchanges.load(Ordering::Relaxed);
        eventually(SOON, "the exchanges go on", || {
            exchanges.load(Ordering::Relaxed) > before + 1000
        });
        (0..20).for_each(|_| expect_alive(server.address()));
        is_over.store(true, Ordering::Relaxed);
        drop(harm);
    });
    eventually(SOON, "the endpoint answers", || is_answered(admin));
    drop(clients);
    server.stop();
}
