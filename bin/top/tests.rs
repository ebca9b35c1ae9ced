//! From what an endpoint tells to what is drawn, without a terminal.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use uring_acceptor::control::Status;

use super::metrics::Metrics;
use super::model::{List, Model, Sample, Times, Wanted};
use super::screen::{Reaction, Screen};
use super::sources::Choice;
use super::times::WAIT;
use super::{picture, react};
use crate::options::{Order, View};

mod sources;

const SECOND: Duration = Duration::from_secs(1);

/// A server with two listeners, the second of which overflows, and a backend that is down.
fn status(seconds: u64) -> Value {
    let queue = |port: u16, waiting: u32, drops: u64| {
        json!({
            "address": format!("127.0.0.1:{port}"), "waiting": waiting, "limit": 16, "drops": drops,
            "longest": 17, "verdict": "healthy",
        })
    };
    let mut full = queue(8081, 17, 100 + 30 * seconds);
    full["verdict"] = "accept_queue_overflow".into();
    full["verdict_since"] = "2026-11-30T10:00:00Z".into();
    full["advice"] = "clients wait for seconds because the accept queue was full".into();
    let frontend = |name: &str, queue: Value| {
        json!({
            "name": name, "service": "proxy", "state": "listening", "connections": {"open": 7, "max": null},
            "queues": [queue],
        })
    };
    json!({
        "program_version": "0.1.0", "engine": "io_uring", "phase": "serving", "pid": 42,
        "uptime_seconds": 60 + seconds, "connections": {"open": 14, "max": 1000},
        "frontends": [frontend("web", queue(8080, 4, 0)), frontend("api", full)],
        "upstreams": [{"name": "pool", "backends": [
            {"backend": "10.0.0.1:80", "address": "10.0.0.1:80", "state": "up", "weight": 1, "open": 14,
             "counters": {"connects": 10 * seconds, "bytes_to": 2048 * seconds, "bytes_from": 0}},
            {"backend": "b.example:80", "address": "10.0.0.2:80", "state": "down", "weight": 2, "open": 0,
             "counters": {"connects": 0, "connects_refused": 3 * seconds, "connects_reset": 2 * seconds}},
        ]}],
    })
}

fn metrics(seconds: u64) -> String {
    let waits = |port: u16, frontend: &str, short: u64, long: u64| {
        let labels = format!("frontend=\"{frontend}\",address=\"127.0.0.1:{port}\",socket=\"0\"");
        let name = "acceptor_accept_queue_wait_seconds_bucket";
        [("0.001", short), ("0.2", short + long), ("+Inf", short + long)]
            .map(|(bound, below)| format!("{name}{{le=\"{bound}\",{labels}}} {below}\n"))
            .concat()
    };
    format!(
        "acceptor_accepted_total {}\nacceptor_received_bytes_total {}\nacceptor_sent_bytes_total 5\n\
         acceptor_closed_connections_total{{reason=\"peer\"}} {}\n\
         acceptor_closed_connections_total{{reason=\"reset\"}} 0\n\
         acceptor_worker_open_connections{{worker=\"0\"}} 10\n\
         acceptor_worker_open_connections{{worker=\"1\"}} 4\n\
         acceptor_thread_turns_total{{thread=\"worker-0\"}} {}\n\
         acceptor_thread_turns_total{{thread=\"worker-1\"}} 50\n\
         acceptor_thread_turns_total{{thread=\"acceptor-0\"}} {}\n\
         acceptor_thread_completions_total{{thread=\"worker-0\"}} {}\n\
         acceptor_thread_completions_total{{thread=\"worker-1\"}} 50\n\
         acceptor_thread_completions_total{{thread=\"acceptor-0\"}} 0\n\
         acceptor_thread_wakes_sent_total{{thread=\"worker-0\"}} 3\n\
         acceptor_thread_starved_total{{thread=\"worker-0\"}} 7\nprocess_open_fds 30\nprocess_max_fds 20000\n\
         acceptor_listener_drops_total{{frontend=\"api\",address=\"127.0.0.1:8081\",socket=\"0\"}} 9\n\
         acceptor_start_time_seconds 1.5\n{}{}{}# EOF\n",
        1000 + 12 * seconds,
        4096 * seconds,
        900 + 9 * seconds,
        100 * seconds,
        20 * seconds,
        250 * seconds,
        waits(8080, "web", 50 + seconds, 0),
        waits(8081, "api", 1000, 5 * seconds),
        times(seconds),
    )
}

/// Of a service: it connects to no backend.
fn times(seconds: u64) -> String {
    let buckets = |name: &str| {
        let bounds = [("5e-05", 8), ("0.001", 10), ("+Inf", 10)];
        let line = |(bound, each): (&str, u64)| {
            let labels = format!("le=\"{bound}\",frontend=\"web\"");
            format!(
                "acceptor_frontend_{name}_seconds_bucket{{{labels}}} {}\n",
                700 + each * seconds
            )
        };
        bounds.map(line).concat()
    };
    ["dispatch", "first_byte", "lifetime"].map(buckets).concat()
}

fn list(wanted: Wanted) -> List {
    if let Wanted::Sources(choice) = wanted {
        return List::Sources(choice, None);
    }
    let Wanted::Connections(order) = wanted else {
        let clients = json!({"total": 300, "clients_total": 3, "clients": [
            {"client": "192.0.2.1", "connections": 298, "bytes_in": 2048, "bytes_out": 10, "oldest_ms": 61_000},
            {"client": "2001:db8::/64", "connections": 1, "bytes_in": 0, "bytes_out": 0, "oldest_ms": 50},
        ]});
        return List::Clients(serde_json::from_value(clients).unwrap());
    };
    let connections = json!({"total": 300, "accept_queue_waits_since": "2026-11-30T10:00:00Z", "connections": [
        {"id": "0.17.0", "frontend": "web", "client": "192.0.2.1:5000", "backend": "10.0.0.1:80",
         "age_ms": 61_000, "idle_ms": 1500, "bytes_in": 2048, "bytes_out": 10, "stage": "forwarding",
         "accept_queue_wait_ms": 203, "stalled_ms": 1200},
        {"id": "1.18.3", "frontend": "api", "client": null, "backend": null, "age_ms": 50, "idle_ms": 0,
         "bytes_in": 0, "bytes_out": 0, "stage": "connecting"},
    ]});
    List::Connections(order, serde_json::from_value(connections).unwrap())
}

fn sample(start: Instant, seconds: u64, wanted: Option<Wanted>) -> Sample {
    Sample {
        at: start + SECOND * u32::try_from(seconds).unwrap(),
        status: serde_json::from_value(status(seconds)).unwrap(),
        metrics: Metrics::parse(&metrics(seconds)),
        list: wanted.map(list),
    }
}

fn model(times: Times, wanted: Option<Wanted>) -> Model {
    let (mut model, start) = (Model::new(times, SECOND), Instant::now());
    for seconds in [0, 1] {
        model.take(sample(start, seconds, wanted));
    }
    model
}

fn screen(view: View) -> Screen {
    screen_with(view, Wanted::Connections(Order::Idle))
}

fn screen_with(view: View, wanted: Wanted) -> Screen {
    let model = model(Times::Recent, Some(wanted));
    Screen::new(model, "127.0.0.1:9100".to_owned(), view, Order::Bytes)
}

/// What is drawn on a terminal of this size.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let cell = |row, column| buffer.cell((column, row)).unwrap().symbol();
    let line = |row| (0..width).map(|column| cell(row, column)).collect::<String>();
    (0..height).map(|row| line(row).trim_end().to_owned()).collect()
}

const HEAD: [&str; 4] = [
    "acceptor 0.1.0, pid 42, io_uring: serving, up 1m01s, at 127.0.0.1:9100",
    "open 14 of 1000, accepted 12/s, closed 9/s, in 4.0KiB/s, out 0/s",
    "2 listeners: accept_queue_overflow 1",
    " 1 Listeners 2 Workers 3 Upstreams 4 Connections 5 Clients 6 Times 7 Sources",
];

const FOOT: &str =
    "1-7 Tab view  sort: a age i idle b bytes w wait s stall  up down scroll  q quit";

#[track_caller]
fn expect(screen: &mut Screen, body: &[&str]) {
    let lines = drawn(screen, 80, 24);
    assert_eq!(lines[..4], HEAD);
    assert_eq!(lines[23], FOOT);
    let mut expected: Vec<&str> = body.to_vec();
    expected.resize(19, "");
    assert_eq!(lines[4..23], expected, "{}", lines.join("\n"));
}

#[test]
fn the_worst_verdict_comes_first_with_what_helps() {
    let mut screen = screen(View::Listeners);
    expect(
        &mut screen,
        &[
            "api on 127.0.0.1:8081: accept_queue_overflow since 2026-11-30T10:00:00Z, longest",
            "  queue 17, drops 130: clients wait for seconds because the accept queue was",
            "  full",
            "",
            "VERDICT                FRONTEND  ADDRESS         ACCEPT QUEUE    OPEN  WAIT P99",
            "accept_queue_overflow  api       127.0.0.1:8081  [||||||] 17/16     7   <=200ms",
            "healthy                web       127.0.0.1:8080  [|     ] 4/16      7     <=1ms",
        ],
    );
    let lines = drawn(&mut screen, 120, 24);
    assert!(lines[8].ends_with("7   <=200ms       30       17       0"), "{}", lines.join("\n"));
}

#[test]
fn workers_are_compared_and_counters_have_rates() {
    expect(
        &mut screen(View::Workers),
        &[
            "THREAD      BALANCE                 OPEN  LOOPS/s  EVENTS/LOOP  WAKES/s  STARVED",
            "worker-0    [||||||||||||||||||||]    10      100          2.5        0        7",
            "worker-1    [||||||||            ]     4        0            -        -        -",
            "acceptor-0  -                          -       20            0        -        -",
            "skew: the fullest worker has 1.43 times the mean",
            "descriptors: 30 of 20.0k",
            "",
            "COUNTER                  PER SECOND   TOTAL",
            "accepted                         12    1012",
            "closed_connections peer           9     909",
            "received_bytes               4.0KiB  4.0KiB",
            "sent_bytes                        0       5",
        ],
    );
}

#[test]
fn backends_have_rates_of_their_own() {
    expect(
        &mut screen(View::Upstreams),
        &[
            "UPSTREAM  BACKEND                   STATE  OPEN  CONN/s  FAIL/s    TO/s  FROM/s",
            "pool      10.0.0.1:80               up       14      10       0  2.0KiB       0",
            "pool      b.example:80 10.0.0.2:80  down      0       0       5       0       0",
        ],
    );
}

#[test]
fn connections_are_listed_as_they_came() {
    expect(
        &mut screen(View::Connections),
        &[
            "2 of 300 connections, the longest idle first",
            "ID      FRONTEND  CLIENT          STAGE         AGE  IDLE  BYTES IN  OUT",
            "0.17.0  web       192.0.2.1:5000  forwarding  1m01s  1.5s    2.0KiB   10",
            "1.18.3  api       -               connecting   0.1s  0.0s         0    0",
        ],
    );
    let sorted = |order| screen_with(View::Connections, Wanted::Connections(order));
    expect(
        &mut sorted(Order::Wait),
        &[
            "2 of 300 connections, the longest in the accept queue first; WAIT recorded since",
            "  2026-11-30T10:00:00Z",
            "ID      FRONTEND  CLIENT          BACKEND      STAGE         AGE  IDLE   WAIT",
            "0.17.0  web       192.0.2.1:5000  10.0.0.1:80  forwarding  1m01s  1.5s  203ms",
            "1.18.3  api       -               -            connecting   0.1s  0.0s      -",
        ],
    );
    let lines = drawn(&mut sorted(Order::Stall), 60, 24);
    let shown = "0.17.0  web       192.0.2.1:5000  forwarding  1m01s   1.2s";
    assert!(lines.iter().any(|line| line == shown), "{}", lines.join("\n"));
}

#[test]
fn clients_are_listed_with_their_connections() {
    expect(
        &mut screen_with(View::Clients, Wanted::Clients),
        &[
            "2 of 3 clients with 300 connections, those with most connections first",
            "CLIENT         CONNECTIONS  OLDEST  BYTES IN  BYTES OUT",
            "192.0.2.1              298   1m01s    2.0KiB         10",
            "2001:db8::/64            1    0.1s         0          0",
        ],
    );
}

#[test]
fn times_are_those_of_the_last_minute() {
    expect(
        &mut screen(View::Times),
        &[
            "how long connections took in the last 1s",
            "FRONTEND  TIME        COUNT     P50    P99",
            "web       dispatch       10  <=50us  <=1ms",
            "web       first byte     10  <=50us  <=1ms",
            "web       lifetime       10  <=50us  <=1ms",
        ],
    );
}

#[test]
fn no_size_is_too_small_or_too_large() {
    for view in View::ALL {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (40, 10), (80, 24), (300, 100)] {
            let lines = drawn(&mut screen(view), width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
    }
}

#[test]
fn one_picture_has_all_that_costs_nothing() {
    let model = model(Times::All, None);
    let text = picture(&model, "127.0.0.1:9100", None, 80);
    for title in
        ["\nListeners\n", "\nWorkers\n", "\nUpstreams\n", "\nTimes\n", "<=1ms", "since the start"]
    {
        assert!(text.contains(title), "{title}: {text}");
    }
    // Since the start, those of the last second are few.
    let unwanted = ["<=200ms", "Connections", "Clients", "Sources"];
    assert!(!unwanted.iter().any(|it| text.contains(it)), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = picture(&model, "127.0.0.1:9100", Some(View::Upstreams), 80);
    assert!(text.contains("\nUpstreams\n") && !text.contains("Listeners"), "{text}");
}

#[test]
fn keys_choose_what_is_shown_and_asked_for() {
    let mut screen = screen(View::Listeners);
    let mut press = |code, modifiers| {
        let reaction = react(&mut screen, &Event::Key(KeyEvent::new(code, modifiers)));
        (reaction, screen.view, screen.list())
    };
    let none = KeyModifiers::NONE;
    let listed = |order| (Reaction::Ask, View::Connections, Some(Wanted::Connections(order)));
    assert_eq!(press(KeyCode::Char('2'), none), (Reaction::Draw, View::Workers, None));
    assert_eq!(press(KeyCode::Tab, none), (Reaction::Draw, View::Upstreams, None));
    assert_eq!(press(KeyCode::Right, none), listed(Order::Bytes));
    assert_eq!(press(KeyCode::Char('a'), none), listed(Order::Age));
    assert_eq!(press(KeyCode::Char('w'), none), listed(Order::Wait));
    assert_eq!(press(KeyCode::Char('s'), none), listed(Order::Stall));
    let clients = (Reaction::Ask, View::Clients, Some(Wanted::Clients));
    assert_eq!(press(KeyCode::Tab, none), clients);
    assert_eq!(press(KeyCode::Char('6'), none), (Reaction::Draw, View::Times, None));
    let sources = (Reaction::Ask, View::Sources, Some(Wanted::Sources(Choice::default())));
    assert_eq!(press(KeyCode::Tab, none), sources);
    assert_eq!(press(KeyCode::Tab, none), (Reaction::Draw, View::Listeners, None));
    assert_eq!(press(KeyCode::Left, none), sources);
    assert_eq!(press(KeyCode::Left, none), (Reaction::Draw, View::Times, None));
    assert_eq!(press(KeyCode::Left, none), clients);
    assert_eq!(press(KeyCode::Left, none), listed(Order::Stall));
    assert_eq!(press(KeyCode::Char('1'), none), (Reaction::Draw, View::Listeners, None));
    assert_eq!(press(KeyCode::Char('i'), none), listed(Order::Idle));
    assert_eq!(press(KeyCode::Char('c'), none).0, Reaction::Draw);
    for (key, modifiers) in [
        (KeyCode::Char('c'), KeyModifiers::CONTROL),
        (KeyCode::Char('q'), none),
        (KeyCode::Esc, none),
    ] {
        assert_eq!(press(key, modifiers).0, Reaction::Quit);
    }
}

#[test]
fn one_scrolls_no_further_than_to_the_end() {
    let mut screen = screen(View::Workers);
    let press = |screen: &mut Screen, code| {
        react(screen, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        drawn(screen, 80, 10)[4].clone()
    };
    assert!(press(&mut screen, KeyCode::Up).starts_with("THREAD "));
    assert!(press(&mut screen, KeyCode::Down).starts_with("worker-0 "));
    assert_eq!(press(&mut screen, KeyCode::PageDown), "");
    assert!(press(&mut screen, KeyCode::PageDown).starts_with("COUNTER "));
    assert!(press(&mut screen, KeyCode::PageDown).starts_with("COUNTER "));
    assert!(press(&mut screen, KeyCode::PageUp).starts_with("worker-1 "));
    press(&mut screen, KeyCode::PageDown);
    assert!(press(&mut screen, KeyCode::Home).starts_with("THREAD "));
}

#[test]
fn a_failure_is_shown_below_what_was_known() {
    let mut screen = screen(View::Listeners);
    screen.failure = Some("no server can be reached".to_owned());
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!((lines[0].as_str(), lines[23].as_str()), (HEAD[0], "no server can be reached"));
}

#[test]
fn a_server_that_was_started_again_has_no_rates_yet() {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    for seconds in [5, 6] {
        model.take(sample(start, seconds, None));
    }
    let rate = |model: &Model| model.counter_rate("acceptor_accepted_total");
    assert_eq!(rate(&model), Some(12.0));
    let mut again = sample(start, 0, None);
    again.at = start + SECOND * 7;
    model.take(again);
    assert_eq!(rate(&model), None);
}

/// As in a container, where the pid is always the same.
#[test]
fn a_server_with_the_same_pid_is_told_by_its_start() {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    for seconds in [5, 6] {
        model.take(sample(start, seconds, None));
    }
    let mut again = sample(start, 7, None);
    let text = metrics(7).replace("start_time_seconds 1.5", "start_time_seconds 2.5");
    again.metrics = Metrics::parse(&text);
    model.take(again);
    assert_eq!(model.counter_rate("acceptor_accepted_total"), None);
}

#[test]
fn drops_of_a_listener_that_has_moved_are_no_rate() {
    let mut screen = screen(View::Listeners);
    let drops = |screen: &mut Screen| {
        let lines = drawn(screen, 120, 24);
        let line = lines.iter().find(|line| line.contains("17/16")).expect("its row").clone();
        line.split_whitespace().nth_back(2).expect("DROPS/s").to_owned()
    };
    assert_eq!(drops(&mut screen), "30");
    let mut moved = sample(screen.model.now().unwrap().at - 2 * SECOND, 3, None);
    moved.status.frontends[1].queues[0].address = "127.0.0.1:8082".to_owned();
    screen.model.take(moved);
    assert_eq!(drops(&mut screen), "-");
}

#[test]
fn a_look_between_two_samples_does_not_make_rates_of_an_instant() {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    for seconds in [0, 1] {
        model.take(sample(start, seconds, None));
    }
    let mut soon = sample(start, 1, None);
    soon.at += Duration::from_millis(10);
    model.take(soon);
    let rate = model.counter_rate("acceptor_accepted_total").unwrap();
    assert!((rate - 12.0 / 1.01).abs() < 1e-9, "{rate}");
}

#[test]
fn waits_of_more_than_a_minute_ago_are_forgotten() {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    let api = ("api".to_owned(), "127.0.0.1:8081".to_owned(), 0);
    let p99 = |model: &Model| model.times(WAIT, &api).and_then(|waits| waits.quantile(0.99));
    for seconds in [0, 1] {
        model.take(sample(start, seconds, None));
    }
    assert_eq!(p99(&model).as_deref(), Some("<=200ms"));
    for seconds in 2..=61 {
        let mut quiet = sample(start, seconds, None);
        quiet.metrics = Metrics::parse(&metrics(1));
        model.take(quiet);
        let expected = (seconds < 61).then_some("<=200ms");
        assert_eq!(p99(&model).as_deref(), expected, "{seconds}");
    }
}

/// Not that of this version: what is missing is left out.
#[test]
fn a_status_with_less_in_it_is_shown() {
    let mut model = Model::new(Times::All, SECOND);
    let status: Status = serde_json::from_value(json!({"frontends": [{"name": "a"}]})).unwrap();
    let metrics = Metrics::default();
    model.take(Sample { at: Instant::now(), status, metrics, list: None });
    for view in View::ALL {
        assert!(!picture(&model, "a", Some(view), 80).is_empty());
    }
}
