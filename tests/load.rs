//! The load generator against servers of this crate and against servers that misbehave.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uring_acceptor::config::{Engine, ListenAddress};
use uring_acceptor::load::outcome::Fault;
use uring_acceptor::load::request::{Order, Template};
use uring_acceptor::load::status::StatusSet;
use uring_acceptor::load::{
    Arrival, CloseStyle, Control, ExpectBody, HttpPlan, Mode, Outcome, Pace, Phase, Plan, Sources,
    Target, Timeouts, run,
};
use uring_acceptor::ring::engine::choose;
use uring_acceptor::server::Server;
use uring_acceptor::service::http::Http;
use uring_acceptor::service::{Echo, Service};

fn plan(mode: Mode, target: SocketAddr) -> Plan {
    Plan {
        targets: vec![Target::Tcp(target)],
        mode,
        pace: Pace::Closed { connections: 8 },
        close: CloseStyle::Fin,
        request_bytes: 64,
        response_bytes: None,
        http: matches!(mode, Mode::Http { .. }).then(http),
        think: Duration::ZERO,
        duration: Duration::from_millis(400),
        warm_up: Duration::ZERO,
        count: None,
        threads: 1,
        engine: ENGINE.get(),
        timeouts: Timeouts { connect: Duration::from_secs(8), response: Duration::from_secs(5) },
        sources: Sources::Kernel,
        seed: 1,
        server_pid: None,
    }
}

/// `GET /`; any body, any status below 400.
fn http() -> HttpPlan {
    HttpPlan {
        requests: vec![Template::get("/").render("localhost", true)],
        order: Order::InTurn,
        pipeline: 1,
        expect_status: StatusSet::default(),
        expect_body: ExpectBody::Any,
    }
}

fn measure(plan: Plan) -> Outcome {
    let run = run(plan, &Arc::new(Control::default()), |_, _| ()).expect("it runs");
    eprintln!("{:?} {:?}", run.outcome.verdict, run.outcome.notes);
    run.outcome
}

thread_local! {
    /// What the plans of this test run on now.
    static ENGINE: Cell<Engine> = const { Cell::new(Engine::Auto) };
}

/// Runs `test` on each engine; says which of them are refused.
fn on_each_engine(test: impl Fn(Engine)) {
    for engine in [Engine::Uring, Engine::Epoll] {
        if let Err(refusal) = choose(engine) {
            eprintln!("SKIPPED: {refusal}");
            continue;
        }
        eprintln!("{engine:?}");
        ENGINE.set(engine);
        test(engine);
    }
}

/// Runs `test` against a server, both on each engine.
fn with_server<S: Service>(service: fn() -> S, test: impl Fn(SocketAddr, &Server)) {
    let any = ListenAddress::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    on_each_engine(|engine| {
        let builder = Server::builder(service()).listen(any.clone().into());
        let server = builder.process(|process| process.engine = engine).start();
        let server = server.expect("it starts");
        let ListenAddress::Tcp(address) = server.addresses()[0] else { unreachable!() };
        test(address, &server);
        server.handle().shutdown();
        server.join().expect("it ends well");
    });
}

#[track_caller]
fn all_well(outcome: &Outcome) {
    assert_eq!(outcome.faults, [].into(), "of {} operations", outcome.started);
    assert!(outcome.completed > 0);
    assert_eq!(outcome.started, outcome.completed);
    assert_eq!(outcome.latencies.total.len(), outcome.completed);
}

#[test]
fn every_mode_and_close_style_against_echo() {
    with_server(
        || Echo,
        |address, _| {
            let styles = [CloseStyle::Fin, CloseStyle::Rst, CloseStyle::Half];
            for mode in [Mode::Crr, Mode::Rr, Mode::Hold, Mode::Stream { echo: true }, Mode::Storm]
            {
                for close in styles {
                    eprintln!("{mode:?} {close:?}");
                    let outcome = measure(Plan { close, ..plan(mode, address) });
                    all_well(&outcome);
                    assert_eq!(outcome.sent_bytes, outcome.received_bytes);
                }
            }
            all_well(&measure(plan(Mode::Accept, address)));
        },
    );
}

#[test]
fn http_with_every_number_of_requests_per_connection() {
    with_server(
        || Http::new(b"hello\n"),
        |address, _| {
            for (requests_per_connection, close) in [
                (Some(1), CloseStyle::Server),
                (Some(1), CloseStyle::Fin),
                (Some(3), CloseStyle::Server),
                (Some(3), CloseStyle::Fin),
                (None, CloseStyle::Fin),
            ] {
                let mode = Mode::Http { requests_per_connection };
                let outcome = measure(Plan { close, ..plan(mode, address) });
                all_well(&outcome);
                if let Some(requests) = requests_per_connection {
                    let least = outcome.completed.div_ceil(u64::from(requests));
                    assert!(outcome.connections >= least, "{} connections", outcome.connections);
                }
            }
        },
    );
}

#[test]
fn client_and_server_count_the_same() {
    with_server(
        || Echo,
        |address, server| {
            let outcome = measure(Plan { count: Some(500), ..plan(Mode::Crr, address) });
            all_well(&outcome);
            assert_eq!((outcome.completed, outcome.connections), (500, 500));
            assert_eq!(server.handle().statistics().accepted, 500);
        },
    );
}

#[test]
fn an_open_loop_starts_as_planned_and_two_threads_share_it() {
    with_server(
        || Echo,
        |address, _| {
            for arrival in [Arrival::Uniform, Arrival::Poisson] {
                let pace = Pace::Open { rate: 1000.0, arrival, max_inflight: 500 };
                let outcome = measure(Plan { pace, threads: 2, ..plan(Mode::Crr, address) });
                all_well(&outcome);
                let planned = outcome.started + outcome.not_started;
                assert!((300..=500).contains(&planned), "{planned} of about 400");
            }
        },
    );
}

/// A server that echoes, but stops for a while in the middle.
fn stalling_server(stall: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        let start = Instant::now();
        let mut stalled = false;
        for stream in listener.incoming().take(5_000) {
            let Ok(mut stream) = stream else { continue };
            if !stalled && start.elapsed() > Duration::from_millis(200) {
                stalled = true;
                std::thread::sleep(stall);
            }
            let mut bytes = [0; 64];
            let _ = stream.read_exact(&mut bytes).and_then(|()| stream.write_all(&bytes));
        }
    });
    address
}

#[test]
fn a_stall_of_the_server_shows_in_the_percentiles() {
    on_each_engine(|_| {
        let stall = Duration::from_millis(300);
        let address = stalling_server(stall);
        let pace = Pace::Open { rate: 200.0, arrival: Arrival::Uniform, max_inflight: 1000 };
        let duration = Duration::from_millis(1500);
        let outcome = measure(Plan { pace, duration, ..plan(Mode::Crr, address) });
        all_well(&outcome);
        let total =
            |quantile| Duration::from_nanos(outcome.latencies.total.value_at_quantile(quantile));
        // A stall of 300 ms in 1.5 s hits a fifth of the planned starts; a closed loop would show one.
        assert!(total(0.99) > stall / 2, "p99 {:?}", total(0.99));
        assert!(total(0.85) > Duration::from_millis(20), "p85 {:?}", total(0.85));
        assert!(total(0.5) < stall / 2, "p50 {:?}", total(0.5));
    });
}

#[test]
fn a_server_that_answers_wrong_bytes_is_caught() {
    on_each_engine(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().take(20).enumerate() {
                let Ok(mut stream) = stream else { continue };
                let mut bytes = [0; 64];
                let _ = stream.read_exact(&mut bytes);
                bytes[63] ^= u8::from(index == 7);
                let _ = stream.write_all(&bytes);
            }
        });
        let pace = Pace::Closed { connections: 1 };
        let outcome = measure(Plan { pace, count: Some(20), ..plan(Mode::Crr, address) });
        assert_eq!(outcome.faults, [((Phase::Verify, Fault::WrongBytes), 1)].into());
        assert_eq!(outcome.completed, 19);
    });
}

#[test]
fn nobody_there_is_an_error_of_the_connect_phase() {
    on_each_engine(|_| {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
        let outcome =
            measure(Plan { count: Some(10), ..plan(Mode::Crr, address.expect("it was bound")) });
        assert_eq!((outcome.completed, outcome.failed), (0, 10));
        let phases: Vec<_> = outcome.faults.keys().map(|(phase, _)| *phase).collect();
        assert_eq!(phases, [Phase::Connect]);
    });
}

#[test]
fn a_silent_server_times_out() {
    on_each_engine(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let timeouts =
            Timeouts { connect: Duration::from_secs(1), response: Duration::from_millis(100) };
        let address = listener.local_addr().expect("it is bound");
        let outcome = measure(Plan { count: Some(8), timeouts, ..plan(Mode::Crr, address) });
        assert_eq!(outcome.faults, [((Phase::Receive, Fault::TimedOut), 8)].into());
    });
}
