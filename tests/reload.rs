//! A running server is changed to another configuration: no connection notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use uring_acceptor::config::upstream::UpstreamConfig;
use uring_acceptor::config::{
    AccessLogConfig, Config, Engine, Frontend, HttpConfig, ListenAddress, LogFormat, LogTarget,
    Protocol, ProxyConfig,
};
use uring_acceptor::metrics::Counter;
use uring_acceptor::server::{Handle, Server, StartError, Step};

const ENGINES: [Engine; 2] = [Engine::Auto, Engine::Epoll];

/// How long anything may take here.
const SOON: Duration = Duration::from_secs(20);

fn frontend(name: &str, listen: &str, protocol: Protocol) -> Frontend {
    let mut frontend = Frontend::new(name, protocol);
    frontend.listen = vec![listen.parse().expect("it is an address")];
    frontend
}

fn http(name: &str, listen: &str, body: &str) -> Frontend {
    frontend(
        name,
        listen,
        Protocol::Http(HttpConfig { body: body.into(), ..HttpConfig::default() }),
    )
}

fn proxy(name: &str, listen: &str, to: &str) -> Frontend {
    frontend(name, listen, Protocol::Proxy(Box::new(ProxyConfig::new(to))))
}

fn upstream(name: &str, backend: &str) -> UpstreamConfig {
    let mut upstream = UpstreamConfig::new(vec![backend.parse().expect("it is a backend")]);
    upstream.name = name.to_owned();
    upstream
}

fn config(engine: Engine, frontends: impl IntoIterator<Item = Frontend>) -> Config {
    let mut config = Config::default();
    config.process.engine = engine;
    config.process.threads.workers = NonZeroUsize::new(2);
    config.frontends = frontends.into_iter().collect();
    config
}

/// Ports below those that the kernel gives to clients, one of which may be taken at any time.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// An address that nobody listens on, as far as that can be known.
fn free_address() -> String {
    loop {
        let number = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let offset = (std::process::id() as u16).wrapping_mul(7).wrapping_add(number);
        let address = format!("127.0.0.1:{}", PORTS.start + offset % PORTS.len() as u16);
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn address(handle: &Handle, name: &str) -> SocketAddr {
    let frontends = handle.frontends();
    let frontend = frontends.iter().find(|frontend| frontend.name == name).expect("it is there");
    match &frontend.addresses[0] {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(_) => panic!("it is no unix socket"),
    }
}

fn connect(address: impl std::net::ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(SOON)).expect("it can be set");
    stream
}

/// What comes back for these bytes.
fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).expect("it is open");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("it is answered");
    back
}

fn get(stream: &mut TcpStream, body: &str) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is open");
    let mut heard = Vec::new();
    let mut piece = [0; 1024];
    while !heard.ends_with(body.as_bytes()) {
        let len = stream.read(&mut piece).expect("it is answered");
        assert!(len > 0, "it was closed after {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..len]);
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what} within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
}

fn end(server: Server) {
    server.handle().shutdown();
    server.join().expect("it has drained");
}

#[test]
fn frontends_of_every_kind_at_once() {
    for engine in ENGINES {
        let echo_at = free_address();
        let mut config = config(
            engine,
            [
                frontend("echo", &echo_at, Protocol::Echo),
                http("web", "127.0.0.1:0", "web's body"),
                proxy("front", "127.0.0.1:0", "echoes"),
                frontend("sink", "127.0.0.1:0", Protocol::Discard),
            ],
        );
        config.upstreams = vec![upstream("echoes", &echo_at)];
        let server = Server::start(&config).expect("it starts");
        let handle = server.handle();
        let names: Vec<_> =
            handle.frontends().into_iter().map(|it| (it.name, it.service)).collect();
        let expected = [("echo", "echo"), ("web", "http"), ("front", "proxy"), ("sink", "discard")];
        assert_eq!(names, expected.map(|(name, protocol)| (name.into(), protocol.into())));
        let mut echo = connect(address(&handle, "echo"));
        let mut web = connect(address(&handle, "web"));
        let mut front = connect(address(&handle, "front"));
        let mut sink = connect(address(&handle, "sink"));
        for round in 0..3_u8 {
            assert_eq!(echoed(&mut echo, &[round; 100]), [round; 100]);
            assert_eq!(echoed(&mut front, &[round; 70_000]), [round; 70_000]);
            get(&mut web, "web's body");
            sink.write_all(&[round; 10]).expect("it is read");
        }
        let open: Vec<_> = handle.frontends().iter().map(|it| it.open()).collect();
        // The proxy's connection to the echo frontend is one too.
        assert_eq!(open, [2, 1, 1, 1]);
        drop((echo, front, web, sink));
        eventually("all end", || handle.frontends().iter().all(|it| it.open() == 0));
        end(server);
    }
}

#[test]
fn a_reload_touches_no_connection() {
    for engine in ENGINES {
        let (first, second) = (free_address(), free_address());
        let before = config(
            engine,
            [frontend("a", &first, Protocol::Echo), frontend("b", &second, Protocol::Echo)],
        );
        let server = Server::start(&before).expect("it starts");
        let handle = server.handle();
        let [mut old_a, mut old_b] = [&first, &second].map(|address| connect(address.as_str()));
        assert_eq!(echoed(&mut old_a, b"1"), b"1");
        assert_eq!(echoed(&mut old_b, b"1"), b"1");
        // a becomes a web server, b's address is c's, and there is one more.
        let third = free_address();
        let after = config(
            engine,
            [http("a", &first, "new"), http("c", &second, "moved"), http("d", &third, "fresh")],
        );
        let reloaded = handle.reload(after.clone()).expect("nothing is in the way");
        assert!(reloaded.warnings.is_empty() && reloaded.fixed.is_empty(), "{reloaded:?}");
        assert!(reloaded.steps.iter().any(|step| matches!(step, Step::Move { .. })));
        // Connections that were open are what they were.
        assert_eq!(echoed(&mut old_a, b"still an echo"), b"still an echo");
        assert_eq!(echoed(&mut old_b, b"still an echo"), b"still an echo");
        for (address, body) in [(&first, "new"), (&second, "moved"), (&third, "fresh")] {
            get(&mut connect(address.as_str()), body);
        }
        // The same again changes nothing.
        assert_eq!(handle.reload(after).expect("it is fine").steps, []);
        // And back: d is gone, its connections live on.
        let mut old_d = connect(third.as_str());
        get(&mut old_d, "fresh");
        handle.reload(before).expect("nothing is in the way");
        get(&mut old_d, "fresh");
        eventually("d is refused", || is_refused(third.parse().expect("it is an address")));
        assert_eq!(echoed(&mut connect(first.as_str()), b"x"), b"x");
        assert_eq!(echoed(&mut old_a, b"y"), b"y");
        get(&mut old_d, "fresh");
        drop((old_a, old_b, old_d));
        end(server);
    }
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken =
        taken.local_addr().map(|address| (taken, address.to_string())).expect("it is bound");
    for engine in ENGINES {
        let first = free_address();
        let before = config(engine, [frontend("a", &first, Protocol::Echo)]);
        let server = Server::start(&before).expect("it starts");
        let handle = server.handle();
        let mut open = connect(first.as_str());
        let error = |config: Config| handle.reload(config).expect_err("it is wrong").to_string();
        let with = |frontend: Frontend| {
            let mut config = before.clone();
            // Were it applied, the body would be seen.
            config.frontends[0].protocol =
                Protocol::Http(HttpConfig { body: b"no".to_vec(), ..HttpConfig::default() });
            config.frontends.push(frontend);
            config
        };
        let in_use = error(with(http("b", &taken.1, "")));
        assert!(in_use.contains("in use") && in_use.contains(&taken.1), "{in_use}");
        let unknown = error(with(proxy("b", "127.0.0.1:0", "nowhere")));
        assert!(unknown.contains("there is no upstream 'nowhere'"), "{unknown}");
        let mut unresolved = with(proxy("b", "127.0.0.1:0", "x"));
        unresolved.upstreams = vec![upstream("x", "name.invalid:80")];
        let unresolved = error(unresolved);
        assert!(unresolved.contains("name.invalid:80"), "{unresolved}");
        let mut no_log = with(proxy("b", "127.0.0.1:0", "x"));
        no_log.upstreams = vec![upstream("x", "127.0.0.1:80")];
        let target = LogTarget::File("/nonexistent/access.log".into());
        no_log.frontends[1].access_log = Some(AccessLogConfig { target, format: LogFormat::Text });
        let no_log = error(no_log);
        assert!(no_log.contains("/nonexistent/access.log"), "{no_log}");
        assert_eq!(handle.config(), before);
        assert_eq!(echoed(&mut open, b"x"), b"x");
        assert_eq!(echoed(&mut connect(first.as_str()), b"y"), b"y");
        drop(open);
        end(server);
    }
}

/// Threads and rings stay; all else of the same configuration is in place.
#[test]
fn what_takes_a_new_process_is_told_and_the_rest_is_done() {
    let first = free_address();
    let before = config(Engine::Auto, [http("a", &first, "old")]);
    let server = Server::start(&before).expect("it starts");
    let mut after = config(Engine::Auto, [http("a", &first, "new")]);
    after.process.threads.workers = NonZeroUsize::new(1);
    after.process.drain_timeout = Duration::from_secs(1);
    for _ in 0..2 {
        let reloaded = server.handle().reload(after.clone()).expect("it is fine");
        assert_eq!(reloaded.fixed.iter().map(|it| it.what).collect::<Vec<_>>(), ["threads"]);
    }
    get(&mut connect(first.as_str()), "new");
    assert_eq!(server.handle().drain_timeout(), Duration::from_secs(1));
    assert_eq!(server.handle().config().process.threads, before.process.threads);
    end(server);
}

/// An access log that was rotated: what is written after a reload goes to the new file.
#[test]
fn a_reload_follows_a_rotated_access_log() {
    let folder = std::env::temp_dir().join(format!("reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("it can be made");
    let (log, rotated) = (folder.join("access.log"), folder.join("access.log.1"));
    let echo_at = free_address();
    let front = Protocol::Proxy(Box::new(ProxyConfig::new("x")));
    let mut front = frontend("front", "127.0.0.1:0", front);
    let target = LogTarget::File(log.clone());
    front.access_log = Some(AccessLogConfig { target, format: LogFormat::Json });
    let mut config = config(Engine::Auto, [frontend("echo", &echo_at, Protocol::Echo), front]);
    config.upstreams = vec![upstream("x", &echo_at)];
    let server = Server::start(&config).expect("it starts");
    let handle = server.handle();
    let lines = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    let exchange = || assert_eq!(echoed(&mut connect(address(&handle, "front")), b"x"), b"x");
    exchange();
    eventually("a line is there", || lines(&log) == 1);
    std::fs::rename(&log, &rotated).expect("it is there");
    exchange();
    eventually("it goes where the file is", || lines(&rotated) == 2);
    handle.reload(config.clone()).expect("nothing is in the way");
    exchange();
    eventually("it goes where the name is", || lines(&log) == 1);
    std::fs::rename(&log, &rotated).expect("it is there");
    assert_eq!(handle.reopen_logs().0, 1);
    exchange();
    eventually("it goes where the name is", || lines(&log) == 1);
    assert_eq!(lines(&rotated), 1);
    // Without one it is closed, and with it opened again.
    let mut without = config.clone();
    without.frontends[1].access_log = None;
    handle.reload(without).expect("nothing is in the way");
    exchange();
    handle.reload(config).expect("nothing is in the way");
    exchange();
    eventually("a line is there", || lines(&log) == 2);
    end(server);
    handle.finish_logs(SOON);
    std::fs::remove_dir_all(&folder).expect("it is there");
}

/// A full frontend holds its own connections only.
#[test]
fn the_limit_of_a_frontend_is_its_own_and_can_be_raised() {
    for engine in ENGINES {
        let [narrow, wide] = [free_address(), free_address()];
        let mut limited = frontend("narrow", &narrow, Protocol::Echo);
        limited.limits.max_connections = NonZeroUsize::new(2);
        let mut config = config(engine, [limited, frontend("wide", &wide, Protocol::Echo)]);
        let server = Server::start(&config).expect("it starts");
        let handle = server.handle();
        let mut in_narrow: Vec<_> = (0..4).map(|_| connect(narrow.as_str())).collect();
        in_narrow[..2].iter_mut().for_each(|it| assert_eq!(echoed(it, b"x"), b"x"));
        in_narrow[2..].iter_mut().for_each(|it| it.write_all(b"y").expect("it waits"));
        let mut in_wide: Vec<_> = (0..5).map(|_| connect(wide.as_str())).collect();
        in_wide.iter_mut().for_each(|it| assert_eq!(echoed(it, b"z"), b"z"));
        let open = || handle.frontends().iter().map(|it| it.open()).collect::<Vec<_>>();
        assert_eq!(open(), [2, 5]);
        // One ends, one comes in.
        drop(in_narrow.remove(0));
        let mut heard = [0];
        in_narrow[1].read_exact(&mut heard).expect("it is let in");
        assert_eq!((heard, open()), (*b"y", vec![2, 5]));
        config.frontends[0].limits.max_connections = None;
        handle.reload(config).expect("it is fine");
        in_narrow[2].read_exact(&mut heard).expect("it is let in");
        assert_eq!(heard, *b"y");
        drop((in_narrow, in_wide));
        end(server);
    }
}

/// Full as it is, who waits in its queue is served, and its address is free for it to come back.
#[test]
fn a_full_frontend_can_be_removed_and_come_back() {
    for engine in ENGINES {
        for drained in [false, true] {
            let [full, other] = [free_address(), free_address()];
            let mut limited = frontend("full", &full, Protocol::Echo);
            limited.limits.max_connections = NonZeroUsize::new(1);
            let both = config(engine, [limited, frontend("other", &other, Protocol::Echo)]);
            let server = Server::start(&both).expect("it starts");
            let handle = server.handle();
            let [mut inside, mut waits] = [connect(full.as_str()), connect(full.as_str())];
            assert_eq!(echoed(&mut inside, b"x"), b"x");
            waits.write_all(b"y").expect("it waits");
            if drained {
                handle.drain_frontend("full").expect("it is there");
            } else {
                let mut one = both.clone();
                one.frontends.remove(0);
                handle.reload(one).expect("nothing is in the way");
            }
            let mut heard = [0];
            waits.read_exact(&mut heard).expect("it is let in");
            assert_eq!(heard, *b"y");
            handle.reload(both.clone()).expect("its address is free");
            assert_eq!(handle.frontends()[0].max_connections(), Some(1));
            let mut again = connect(full.as_str());
            if !drained {
                assert_eq!(echoed(&mut again, b"z"), b"z");
            }
            assert_eq!(echoed(&mut inside, b"x"), b"x");
            drop((inside, waits, again));
            end(server);
        }
    }
}

#[test]
fn one_frontend_drains_and_the_others_go_on() {
    let [first, second] = [free_address(), free_address()];
    let config = config(Engine::Auto, [http("a", &first, "one"), http("b", &second, "two")]);
    let server = Server::start(&config).expect("it starts");
    let [mut one, mut two] = [connect(first.as_str()), connect(second.as_str())];
    get(&mut one, "one");
    get(&mut two, "two");
    server.handle().drain_frontend("a").expect("it is there");
    assert!(server.handle().drain_frontend("c").is_err());
    // Between two requests: it is closed.
    assert_eq!(one.read(&mut [0]).expect("a FIN comes"), 0);
    get(&mut two, "two");
    eventually("a is refused", || is_refused(first.parse().expect("it is an address")));
    get(&mut connect(second.as_str()), "two");
    end(server);
}

#[test]
fn connections_are_listed_and_closed() {
    for engine in ENGINES {
        let echo_at = free_address();
        let mut config = config(
            engine,
            [frontend("echo", &echo_at, Protocol::Echo), proxy("front", "127.0.0.1:0", "x")],
        );
        config.upstreams = vec![upstream("x", &echo_at)];
        let server = Server::start(&config).expect("it starts");
        let handle = server.handle();
        let mut direct = connect(echo_at.as_str());
        let mut proxied = connect(address(&handle, "front"));
        echoed(&mut direct, &[1; 1000]);
        echoed(&mut proxied, &[1; 300]);
        let mut many: Vec<_> = (0..1500).map(|_| connect(echo_at.as_str())).collect();
        many.iter_mut().for_each(|it| assert_eq!(echoed(it, b"x"), b"x"));
        let listed = handle.connections(SOON).unwrap();
        assert_eq!(listed.len(), 1 + 2 + 1500);
        // The proxy's own connection to the echo may have the port that a client has.
        let of = |frontend: &str, stream: &TcpStream| {
            let own = stream.local_addr().ok();
            let mut found = listed.iter().filter(|it| it.frontend == frontend);
            found.find(|it| it.listed.client == own).expect("it is listed").clone()
        };
        let (one, other) = (of("echo", &direct), of("front", &proxied));
        assert_eq!((one.listed.from_client, other.listed.from_client), (1000, 300));
        assert_eq!(other.listed.to_client, 300);
        assert_eq!(other.listed.backend.as_deref(), Some(echo_at.as_str()));
        assert_eq!((one.listed.stage, other.listed.stage), ("open", "forwarding"));
        assert!(other.listed.backend.is_some() && one.listed.backend.is_none());
        for (id, stream) in [(one.id, &mut direct), (other.id, &mut proxied)] {
            let id = id.to_string().parse().expect("it is one");
            assert!(handle.close(id, SOON));
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
            assert!(!handle.close(id, SOON), "it has gone");
        }
        eventually("both are counted", || handle.counter(Counter::ClosedByOperator) == 2);
        assert_eq!(handle.counter(Counter::ClosedByStop), 0);
        assert_eq!(echoed(&mut many[0], b"y"), b"y");
        drop(many);
        end(server);
    }
}

#[test]
fn a_server_that_drains_is_not_changed() {
    let config = config(Engine::Auto, [http("a", "127.0.0.1:0", "one")]);
    let server = Server::start(&config).expect("it starts");
    let handle = server.handle();
    let mut open = connect(address(&handle, "a"));
    open.write_all(b"GET").expect("it is open");
    handle.shutdown();
    let error = handle.reload(config.clone()).expect_err("it drains").to_string();
    assert!(error.contains("drains"), "{error}");
    drop(open);
    server.join().expect("it has drained");
    assert!(matches!(
        Server::start(&Config::of(http("a b", "127.0.0.1:0", ""), Vec::new())),
        Err(StartError::Config(_))
    ));
}
