//! Accepting that stands still: for how long, and why; and what each thread costs.

use super::*;

/// For each cause, added up over the sockets of a frontend.
fn paused(watched: &Watched, frontend: &str) -> [f64; 4] {
    let frontend = format!("frontend=\"{frontend}\"");
    ["workers", "descriptors", "frontend_max_connections", "max_connections"].map(|cause| {
        let cause = format!("cause=\"{cause}\"");
        let all = watched.metrics("acceptor_accept_paused_seconds_total", &[&frontend, &cause]);
        assert!(!all.is_empty(), "{frontend} {cause}");
        all.iter().sum()
    })
}

#[test]
fn the_time_at_a_limit_is_counted_while_it_lasts() {
    let watched = Watched::start(&["echo", "--max-connections", "1"]);
    assert_eq!(paused(&watched, "echo"), [0.0; 4]);
    let first = connect(watched.server.address());
    expect_echo(&first, b"x");
    let at_limit = || {
        let [others @ .., of_process] = paused(&watched, "echo");
        assert_eq!(others, [0.0; 3]);
        of_process
    };
    eventually(SOON, "it begins", || at_limit() > 0.0);
    let before = at_limit();
    eventually(SOON, "it goes on, though no thread is awake", || at_limit() > before + 0.2);
    drop(first);
    expect_alive_and_closed(&watched);
    let after = at_limit();
    std::thread::sleep(Duration::from_millis(300));
    // Whoever was there for a moment has filled the server for that moment.
    assert!(at_limit() < after + 0.2, "it is over");
    watched.server.stop();
}

/// One more connection comes and goes.
fn expect_alive_and_closed(watched: &Watched) {
    expect_alive(watched.server.address());
    eventually(SOON, "nobody is there", || watched.metric("acceptor_open_connections", &[]) == 0.0);
    // The thread that accepts has taken its turn since.
    expect_alive(watched.server.address());
}

#[test]
fn a_unix_listener_at_its_limit_is_not_ready_when_somebody_waits() {
    let folder = Folder::new();
    let socket = folder.file("socket");
    let listen =
        ["--listen", &format!("unix:{socket}"), "--max-connections", "1"].map(str::to_owned);
    let listen = listen.each_ref().map(String::as_str);
    let watched = Watched::start(&[&["echo"][..], &listen].concat());
    let mut first = UnixStream::connect(&socket).expect("it listens");
    first.write_all(b"x").expect("it is taken");
    first.read_exact(&mut [0]).expect("it is answered");
    assert_eq!(watched.ok("/readyz"), "ready\n");
    let mut waiting = UnixStream::connect(&socket).expect("there is room in the queue");
    eventually(SOON, "it is seen", || watched.get("/readyz").0 == 503);
    assert!(watched.get("/readyz").1.contains("accepting is paused (max_connections)"));
    drop(first);
    waiting.write_all(b"x").expect("it is taken");
    waiting.read_exact(&mut [0]).expect("it is answered");
    drop(waiting);
    watched.server.stop();
}

#[test]
fn what_each_thread_costs_is_told() {
    let watched = Watched::start(&["echo", "--workers", "2"]);
    for name in ["acceptor_thread_system_calls_total", "acceptor_thread_buffers_free"] {
        // Each thread has taken a turn by then.
        eventually(SOON, name, || {
            let found = watched.metrics(name, &["thread=\""]);
            found.len() == 2 && found.iter().all(|value| *value > 0.0)
        });
    }
    let calls = || {
        let all = watched.metrics("acceptor_thread_system_calls_total", &[]);
        all.iter().sum::<f64>()
    };
    let before = calls();
    let client = connect(watched.server.address());
    (0..100).for_each(|_| expect_echo(&client, b"hello"));
    // An echo is a turn at least; on epoll it is a recv and a send. The last turn may not be over.
    eventually(SOON, "they are counted", || calls() >= before + 100.0);
    assert_eq!(watched.metrics("acceptor_thread_cq_overflows_total", &[]), [0.0, 0.0]);
    drop(client);
    watched.server.stop();
}
