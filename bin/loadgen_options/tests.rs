//! Tables of what is taken and what is refused.

use std::time::Duration;

use clap::CommandFactory;
use uring_acceptor::load::request::Order;
use uring_acceptor::load::{
    Arrival, CloseStyle, ExpectBody, HttpPlan, Mode, Pace, Sources, Target,
};

use super::*;

mod addresses;
mod wrong;

fn parse(line: &str) -> Result<Options, clap::Error> {
    try_parse_from(std::iter::once("loadgen").chain(line.split_whitespace()))
}

fn run(line: &str) -> Run {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).task {
        Task::Run(run) => *run,
        other => panic!("{line}: {other:?}"),
    }
}

fn plan(line: &str) -> Plan {
    run(line).plan
}

#[test]
fn the_commands_are_well_formed() {
    CommandLine::command().debug_assert();
}

#[test]
fn defaults() {
    let Run { place, family, plan, allow_remote } = run("crr 127.0.0.1:7");
    assert_eq!(place, Place::Known(Target::Tcp("127.0.0.1:7".parse().unwrap())));
    assert_eq!((family, plan.targets, plan.http), (Family::Any, vec![], None));
    assert_eq!((plan.mode, plan.close), (Mode::Crr, CloseStyle::Fin));
    assert_eq!(plan.pace, Pace::Closed { connections: 64 });
    assert_eq!((plan.request_bytes, plan.response_bytes), (64, Some(64)));
    assert_eq!(plan.duration, Duration::from_secs(5));
    assert_eq!(plan.warm_up, Duration::from_millis(500));
    assert_eq!((plan.count, plan.threads, plan.seed), (None, 1, 1));
    assert_eq!((plan.sources, plan.server_pid), (Sources::Kernel, None));
    let ten = Duration::from_secs(10);
    assert_eq!((plan.timeouts.connect, plan.timeouts.response), (ten, ten));
    assert!(!allow_remote);
}

#[test]
fn each_command_is_its_mode() {
    let http = |requests_per_connection| Mode::Http { requests_per_connection };
    let table = [
        ("accept 127.0.0.1:7", Mode::Accept, 0, None, 500),
        ("crr 127.0.0.1:7 --response-size 9", Mode::Crr, 64, Some(9), 500),
        ("rr 127.0.0.1:7 --request-size 3", Mode::Rr, 3, Some(3), 500),
        ("http 127.0.0.1:7", http(None), 0, None, 500),
        ("http 127.0.0.1:7 --requests-per-connection 1", http(Some(1)), 0, None, 500),
        ("hold 127.0.0.1:7", Mode::Hold, 64, Some(64), 0),
        ("stream 127.0.0.1:7", Mode::Stream { echo: false }, 65_536, None, 500),
        ("stream 127.0.0.1:7 --echo", Mode::Stream { echo: true }, 65_536, None, 500),
        ("storm 127.0.0.1:7", Mode::Storm, 64, Some(64), 0),
    ];
    for (line, mode, request_bytes, response_bytes, warm_up_millis) in table {
        let plan = plan(line);
        let seen = (plan.mode, plan.request_bytes, plan.response_bytes);
        assert_eq!(seen, (mode, request_bytes, response_bytes), "{line}");
        assert_eq!(plan.warm_up, Duration::from_millis(warm_up_millis), "{line}");
    }
}

#[test]
fn each_option_sets_its_value() {
    type Seen = fn(&Plan) -> bool;
    let table: &[(&str, Seen)] = &[
        ("-c 7", |p| p.pace == Pace::Closed { connections: 7 }),
        ("--rate 0.5", |p| {
            p.pace == Pace::Open { rate: 0.5, arrival: Arrival::Poisson, max_inflight: 4096 }
        }),
        ("--rate 9 --arrival uniform --max-inflight 3", |p| {
            p.pace == Pace::Open { rate: 9.0, arrival: Arrival::Uniform, max_inflight: 3 }
        }),
        ("-d 1h", |p| p.duration == Duration::from_secs(3600)),
        ("-n 12", |p| p.count == Some(12)),
        ("--warm-up 0s", |p| p.warm_up == Duration::ZERO),
        ("-t 2", |p| p.threads == 2),
        ("--close rst", |p| p.close == CloseStyle::Rst),
        ("--close server", |p| p.close == CloseStyle::Server),
        ("--close half", |p| p.close == CloseStyle::Half),
        ("--connect-timeout 1s", |p| p.timeouts.connect == Duration::from_secs(1)),
        ("--response-timeout 2s", |p| p.timeouts.response == Duration::from_secs(2)),
        ("--source 127.0.0.2 --source 127.0.0.3", |p| {
            p.sources
                == Sources::Rotate(["127.0.0.2", "127.0.0.3"].map(|ip| ip.parse().unwrap()).into())
        }),
        ("--server-pid 77", |p| p.server_pid == Some(77)),
        ("--seed 5", |p| p.seed == 5),
    ];
    for (options, seen) in table {
        assert!(seen(&plan(&format!("crr 127.0.0.1:7 {options}"))), "{options}");
    }
    assert!(run("crr 10.0.0.1:7 --allow-remote").allow_remote);
}

/// The first request.
fn text_of(http: &HttpPlan) -> String {
    String::from_utf8(http.requests[0].bytes(false).to_vec()).expect("it is text")
}

/// As the shell would give it: `'...'` is one argument.
fn http(line: &str) -> HttpPlan {
    let pieces = line.split('\'').enumerate();
    let arguments = pieces.flat_map(|(index, piece)| match index % 2 {
        0 => piece.split_whitespace().collect::<Vec<_>>(),
        _ => vec![piece],
    });
    let options = try_parse_from(["loadgen", "http", "h:1"].into_iter().chain(arguments));
    match options.unwrap_or_else(|error| panic!("{line}: {error}")).task {
        Task::Run(run) => run.plan.http.expect("it is HTTP"),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn requests_as_they_are_described() {
    let agent = format!("User-Agent: {}\r\n", uring_acceptor::load::request::USER_AGENT);
    let table = [
        ("-m HEAD", format!("HEAD / HTTP/1.1\r\nHost: h:1\r\n{agent}\r\n")),
        (
            "--body abc",
            format!("POST / HTTP/1.1\r\nHost: h:1\r\n{agent}Content-Length: 3\r\n\r\nabc"),
        ),
        (
            "--body abc -m PUT",
            format!("PUT / HTTP/1.1\r\nHost: h:1\r\n{agent}Content-Length: 3\r\n\r\nabc"),
        ),
        ("--user-agent me", "GET / HTTP/1.1\r\nHost: h:1\r\nUser-Agent: me\r\n\r\n".into()),
        (
            "-H 'Host: x' -H 'A: 1' -H 'A: 2' -H 'User-Agent:'",
            "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nA: 2\r\n\r\n".into(),
        ),
    ];
    for (options, expected) in table {
        assert_eq!(text_of(&http(options)), expected, "{options}");
    }
}

#[test]
fn what_answers_must_be() {
    let expect = |line: &str| (http(line).expect_status.to_string(), http(line).expect_body);
    assert_eq!(expect(""), ("below 400".into(), ExpectBody::Any));
    assert_eq!(
        expect("--expect-status 2xx,304 --verify"),
        ("2xx,304".into(), ExpectBody::LikeTheFirst)
    );
    assert_eq!(expect("--expect-body-size 7").1, ExpectBody::Bytes(7));
    assert_eq!((http("-c 2 --pipeline 9").pipeline, http("").pipeline), (9, 1));
}

#[test]
fn a_rate_on_a_fixed_number_of_connections() {
    let fixed = Pace::Fixed { connections: 8, rate: 9.0, arrival: Arrival::Poisson };
    for line in ["rr h:1", "http h:1", "http h:1 --requests-per-connection 2"] {
        assert_eq!(plan(&format!("{line} -c 8 --rate 9")).pace, fixed, "{line}");
    }
    assert_eq!(plan("rr h:1 --think 5ms").think, Duration::from_millis(5));
}

#[test]
fn files_of_requests_and_bodies() {
    let folder = std::env::temp_dir().join(format!("loadgen-options-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("the folder is new");
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("requests"), "/a\n{\"method\":\"POST\",\"body\":\"x\"}\n").unwrap();
    std::fs::write(path("bad"), "/a\nb\n").unwrap();
    std::fs::write(path("body"), [0, 255]).unwrap();
    let plan = http(&format!("--requests {} --order random", path("requests")));
    let requests: Vec<_> = plan.requests.iter().map(|one| (one.method(), one.path())).collect();
    assert_eq!((requests, plan.order), (vec![("GET", "/a"), ("POST", "/")], Order::Random));
    let url = |url: &str, file: &str| parse(&format!("http {url} --requests {}", path(file)));
    let Task::Run(run) = url("http://h:1/base?q", "requests").unwrap().task else { panic!() };
    let paths: Vec<_> = run.plan.http.unwrap().requests.iter().map(|one| one.path()).collect();
    assert_eq!(paths, ["/a", "/base?q"], "a line without a path has that of the URL");
    std::fs::write(path("paths"), "/a\n/b\n").unwrap();
    assert!(url("http://h:1/", "paths").is_ok() && url("http://h:1/b", "paths").is_ok());
    let error = url("http://h:1/base?q", "paths").unwrap_err().to_string();
    assert!(error.contains("so /base?q of the URL would never be requested"), "{error}");
    let body = http(&format!("--body-file {}", path("body")));
    assert!(body.requests[0].bytes(false).ends_with(b"Content-Length: 2\r\n\r\n\0\xff"));
    for (option, why) in [
        ("--requests bad", "line 2: 'b'"),
        ("--requests none", "No such file"),
        ("--body-file none", "No such file"),
        ("--requests body", "line 1: it is not UTF-8"),
    ] {
        let (option, file) = option.split_once(' ').unwrap();
        let text =
            parse(&format!("http h:1 {option} {}", path(file))).expect_err(option).to_string();
        assert!(
            text.contains(why) && text.contains(option) && text.contains(&path(file)),
            "{text}"
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn http_that_ends_its_connections_lets_the_server_close() {
    let close = |options: &str| plan(&format!("http 127.0.0.1:80 {options}")).close;
    assert_eq!(close(""), CloseStyle::Fin);
    assert_eq!(close("--requests-per-connection 1"), CloseStyle::Server);
    assert_eq!(close("--requests-per-connection 1 --close fin"), CloseStyle::Fin);
}

#[test]
fn files_and_outputs() {
    let Options { task, outputs } = parse("merge a.json b.json --json - --csv c --hdr h").unwrap();
    assert_eq!(task, Task::Merge(vec!["a.json".into(), "b.json".into()]));
    assert_eq!((outputs.json, outputs.csv), (Some(Sink::Stdout), Some(Sink::File("c".into()))));
    assert_eq!((outputs.hdr, outputs.svg, outputs.html), (Some("h".into()), None, None));
    let Options { task, outputs } = parse("report a.json --svg s --html x -q").unwrap();
    assert_eq!(task, Task::Report(vec!["a.json".into()]));
    assert!(outputs.quiet);
}

#[test]
fn two_files_are_compared() {
    let Options { task, outputs } = parse("compare a.json b.json --seed 7 --json - -q").unwrap();
    assert_eq!(task, Task::Compare(Comparing { a: "a.json".into(), b: "b.json".into(), seed: 7 }));
    assert_eq!((outputs.json, outputs.quiet), (Some(Sink::Stdout), true));
}

fn seeking(line: &str) -> Seeking {
    match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).task {
        Task::Seek(task) => *task,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_search_for_the_knee() {
    let Seeking { run, connections, limits } = seeking("crr h:1 --find-knee");
    assert_eq!((connections, limits.p99_us, limits.failure_share), (64, None, 0.02));
    assert_eq!(run.plan.duration, Duration::from_secs(5));
    let limits = seeking("crr h:1 --find-knee --p99-limit 5ms --failure-limit 0.5%").limits;
    assert_eq!((limits.p99_us, limits.failure_share), (Some(5000.0), 0.005));
    let (rate, arrival) = (1.0, Arrival::Uniform);
    let open = |max_inflight| Pace::Open { rate, arrival, max_inflight };
    let fixed = |connections| Pace::Fixed { connections, rate, arrival };
    for (line, pace, connections) in [
        ("accept h:1", open(4096), 64),
        ("crr h:1 -c 8", open(4096), 8),
        ("http h:1 -c 8 --requests-per-connection 1", open(4096), 8),
        ("rr h:1", fixed(64), 64),
        ("rr h:1 -c 8", fixed(8), 8),
        ("http h:1 -c 8 --pipeline 2", fixed(8), 8),
        ("http h:1 -c 8 --max-inflight 9", open(9), 8),
    ] {
        let task = seeking(&format!("{line} --find-knee --arrival uniform"));
        assert_eq!((task.run.plan.pace, task.connections), (pace, connections), "{line}");
        assert_eq!(task.limits.arrival, arrival);
    }
}

#[test]
fn engines_by_their_names() {
    use uring_acceptor::config::Engine;
    let table = [("auto", Engine::Auto), ("uring", Engine::Uring), ("epoll", Engine::Epoll)];
    for (name, engine) in table {
        assert_eq!(plan(&format!("crr 127.0.0.1:7 --engine {name}")).engine, engine);
    }
    assert_eq!(plan("crr 127.0.0.1:7").engine, Engine::Auto);
}
