//! Tables of what is taken and what is refused.

use std::time::Duration;

use uring_acceptor::load::{Arrival, CloseStyle, Mode, Pace, Sources, Target};

use super::*;

const CPUS: usize = 2;

fn parse(line: &str) -> Result<Options, clap::Error> {
    try_parse_from(std::iter::once("loadgen").chain(line.split_whitespace()), CPUS)
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
    let Run { plan, allow_remote } = run("crr 127.0.0.1:7");
    assert_eq!(plan.target, Target::Tcp("127.0.0.1:7".parse().unwrap()));
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
        ("http 127.0.0.1:7 --response-size 0", http(None), 0, Some(0), 500),
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

#[test]
fn addresses() {
    let tcp = |text: &str| Target::Tcp(text.parse().unwrap());
    let table = [
        ("rr [::1]:9", tcp("[::1]:9"), ""),
        ("rr unix:/run/x", Target::Unix("/run/x".into()), ""),
        ("http 127.0.0.1:80", tcp("127.0.0.1:80"), "/"),
        ("http unix:/run/x", Target::Unix("/run/x".into()), "/"),
        ("http http://127.0.0.1:8080", tcp("127.0.0.1:8080"), "/"),
        ("http http://127.0.0.1/a/b?c=d", tcp("127.0.0.1:80"), "/a/b?c=d"),
        ("http http://[::1]/", tcp("[::1]:80"), "/"),
        ("http http://[::1]:8080/x", tcp("[::1]:8080"), "/x"),
    ];
    for (line, target, path) in table {
        let plan = plan(line);
        assert_eq!((plan.target, plan.http_path.as_str()), (target, path), "{line}");
    }
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
fn a_refusal_names_the_option_the_value_and_what_would_be_right() {
    let table = [
        ("crr 127.0.0.1:7", "--connections 0", "1 to 1000000"),
        ("crr 127.0.0.1:7", "--rate 0", "0.1 to"),
        ("crr 127.0.0.1:7", "--rate NaN", "0.1 to"),
        ("crr 127.0.0.1:7", "--rate inf", "0.1 to"),
        ("crr 127.0.0.1:7", "--duration 2h", "to 1h"),
        ("crr 127.0.0.1:7", "--duration 5", "500ms"),
        ("crr 127.0.0.1:7", "--duration 0s", "1ms to"),
        ("crr 127.0.0.1:7", "--warm-up 11m", "to 10m"),
        ("crr 127.0.0.1:7", "--count 0", "1 to"),
        ("crr 127.0.0.1:7", "--threads 3", "may use 2 CPUs"),
        ("crr 127.0.0.1:7 -c 1", "--threads 2", "--connections 1"),
        ("crr 127.0.0.1:7", "--request-size 0", "1 to 16777216"),
        ("crr 127.0.0.1:7", "--close none", "half"),
        ("crr unix:/x", "--close rst", "no reset"),
        ("crr 127.0.0.1:7", "--source localhost", "IP"),
        ("crr 127.0.0.1:7", "--server-pid 0", "1 to 4194304"),
        ("crr 127.0.0.1:7", "--svg -", "path of a file"),
        ("crr 127.0.0.1:7 --csv -", "--json -", "same place"),
        ("crr 127.0.0.1:7 --hdr x", "--html x", "same place"),
        ("rr 127.0.0.1:7", "--close server", "fin or rst"),
        ("accept 127.0.0.1:7", "--close half", "use fin"),
        ("http 127.0.0.1:7", "--close server", "--requests-per-connection"),
        ("http 127.0.0.1:7", "--requests-per-connection 0", "1 to"),
        ("stream 127.0.0.1:7", "--close server", "fin or half"),
    ];
    for (line, option, remedy) in table {
        let error = parse(&format!("{line} {option}")).expect_err(option);
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        for part in option.split(' ').chain([remedy]) {
            assert!(text.contains(part), "{line} {option} does not say '{part}': {text}");
        }
    }
}

#[test]
fn addresses_that_are_none_are_refused_with_an_example() {
    for (line, remedy) in [
        ("crr localhost:7", "names are not resolved"),
        ("crr 127.0.0.1", "no port"),
        ("crr 127.0.0.1:0", "1 to 65535"),
        ("crr unix:", "unix:/run"),
        ("crr http://127.0.0.1:7/", "http command"),
        ("http http://localhost/", "names are not resolved"),
        ("http https://127.0.0.1/", "http://IP:PORT/PATH"),
        ("http http://127.0.0.1/a#b", "percent-encoded"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(remedy), "{line} does not say '{remedy}': {text}");
    }
}

#[test]
fn what_does_not_exist_or_fit_is_refused() {
    for line in [
        "",
        "crr",
        "run 127.0.0.1:7",
        "crr 127.0.0.1:7 extra",
        "crr 127.0.0.1:7 -c 8 --rate 9",
        "crr 127.0.0.1:7 --arrival uniform",
        "crr 127.0.0.1:7 --max-inflight 8",
        "crr 127.0.0.1:7 --requests-per-connection 2",
        "crr 127.0.0.1:7 --echo",
        "accept 127.0.0.1:7 --request-size 8",
        "http 127.0.0.1:7 --request-size 8",
        "storm 127.0.0.1:7 --rate 8",
        "storm 127.0.0.1:7 --warm-up 1s",
        "stream 127.0.0.1:7 --rate 8",
        "merge",
        "merge a.json",
        "report",
        "report a.json -c 8",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
        assert!(error.use_stderr(), "{line}");
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
