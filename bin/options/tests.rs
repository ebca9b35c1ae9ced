//! Tables of what is taken and what is refused.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::CommandFactory;
use clap::error::ErrorKind;
use tracing::level_filters::LevelFilter;
use uring_acceptor::config::{DispatchPolicy, OverloadAction, Refusal, RequestLimits};

use super::*;

mod files;

fn parse_task(line: &str) -> Result<Task, clap::Error> {
    try_parse_from(line.split_whitespace())
}

#[track_caller]
fn parse(line: &str) -> Result<Options, clap::Error> {
    match parse_task(line)? {
        Task::Serve(options, _) => Ok(*options),
        other => panic!("'{line}' runs no service, but is {other:?}"),
    }
}

fn config(options: &str) -> Config {
    parse(&format!("acceptor echo {options}")).unwrap().config
}

/// The default of a service on the command line.
fn default(protocol: Protocol) -> Config {
    let listen = Frontend::default().listen;
    let mut frontend = Frontend::new(protocol.name(), protocol);
    frontend.listen = listen;
    Config::of(frontend, Vec::new())
}

fn frontend(config: &Config) -> &Frontend {
    &config.frontends[0]
}

fn protocol(line: &str) -> Protocol {
    parse(line).unwrap().config.frontends.remove(0).protocol
}

fn help(line: &str) -> String {
    let error = parse(line).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    error.to_string()
}

#[test]
fn the_commands_are_well_formed() {
    CommandLine::command().debug_assert();
}

#[test]
fn without_options_the_configuration_is_the_default() {
    for protocol in [Protocol::Echo, Protocol::Discard, Protocol::Http(HttpConfig::default())] {
        let service = protocol.name();
        let options = parse(&format!("acceptor {service}")).unwrap();
        assert_eq!(options.config, default(protocol), "{service}");
        assert_eq!(options.stats_interval, Some(Duration::from_secs(1)));
        assert_eq!(options.logging, Logging { format: LogFormat::Text, level: LevelFilter::INFO });
    }
}

/// Each default as the help shows it, given back as a value: nothing may change.
#[test]
fn every_default_in_the_help_is_the_default_of_the_configuration() {
    let mut command = CommandLine::command();
    let echo = command.find_subcommand_mut("echo").unwrap();
    let shown: Vec<(String, String)> = echo
        .get_arguments()
        .filter_map(|argument| {
            let default = argument.get_default_values().first()?.to_str()?.to_owned();
            Some((argument.get_long()?.to_owned(), default))
        })
        .collect();
    assert!(shown.len() >= 9, "{shown:?}");
    // A line may end anywhere in it.
    let help = help("acceptor echo --help").split_whitespace().collect::<Vec<_>>().join(" ");
    for (option, default) in shown {
        let typed = config(&format!("--{option} {default}"));
        assert_eq!(typed, config(""), "--{option} {default}");
        assert!(help.contains(&format!("[default: {default}]")), "--{option} {default}: {help}");
    }
}

/// Options without a clap default say theirs in words; the configuration then says `None`.
#[test]
fn options_without_a_value_by_default_are_none_in_the_configuration() {
    let Frontend { socket, .. } = Frontend::default();
    let Process { threads, max_connections, ring, .. } = Process::default();
    assert_eq!(socket.backlog, None);
    assert_eq!((socket.fast_open, socket.keepalive_idle, socket.user_timeout), (None, None, None));
    assert_eq!((threads.workers, threads.cpus), (None, None));
    assert_eq!(max_connections, None);
    assert_eq!((ring.buffers, ring.completion_entries), (None, None));
    assert!(socket.nodelay && !socket.defer_accept && !socket.v6_only);
}

/// A proxy bears a peer that takes nothing as long as one that says nothing.
#[test]
fn the_write_stall_timeout_has_a_default_for_servers_and_none_for_a_proxy() {
    let stall = |options: &str| {
        let line = format!("acceptor proxy --to 127.0.0.1:1 {options}");
        frontend(&parse(&line).unwrap().config).timeouts.write_stall
    };
    assert_eq!(Timeouts::default().sessions().write_stall, Duration::from_secs(30));
    // A line may end anywhere in it.
    let help = help("acceptor echo --help").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("[default: 30s; proxy: same as --idle-timeout]"), "{help}");
    assert_eq!(stall("--idle-timeout 5m"), None);
    assert_eq!(stall("--write-stall-timeout 5s"), Some(Duration::from_secs(5)));
}

#[test]
fn each_option_sets_its_value() {
    type Seen = fn(&Config) -> bool;
    let table: &[(&str, Seen)] = &[
        ("--listen [::1]:1 --listen unix:/x", |c| {
            frontend(c).listen == ["[::1]:1".parse().unwrap(), "unix:/x".parse().unwrap()]
        }),
        ("--listen 127.0.0.1:0 --listen 127.0.0.1:0", |c| frontend(c).listen.len() == 2),
        ("--backlog 7", |c| frontend(c).socket.backlog == NonZeroU32::new(7)),
        ("--defer-accept", |c| frontend(c).socket.defer_accept),
        ("--fast-open 9", |c| frontend(c).socket.fast_open == NonZeroU32::new(9)),
        ("--nagle", |c| !frontend(c).socket.nodelay),
        ("--queue-wait-sample 3", |c| frontend(c).socket.queue_wait_sample == 3),
        ("--overload shed", |c| frontend(c).overload.action == OverloadAction::Shed),
        ("--overload-target 7ms", |c| frontend(c).overload.target == Duration::from_millis(7)),
        ("--overload-interval 1s", |c| frontend(c).overload.interval == Duration::from_secs(1)),
        ("--patience 2s", |c| frontend(c).overload.patience == Some(Duration::from_secs(2))),
        ("--no-half-close", |c| !frontend(c).overload.half_close),
        ("--allow 10.0.0.0/8 --allow 192.0.2.7", |c| {
            let networks = ["10.0.0.0/8", "192.0.2.7/32"].map(|text| text.parse().unwrap());
            frontend(c).sources.allow.own == networks
        }),
        ("--deny 2001:db8::/32", |c| {
            frontend(c).sources.deny.own == ["2001:db8::/32".parse().unwrap()]
        }),
        ("--max-per-source 4", |c| frontend(c).sources.max_per_source == NonZeroU32::new(4)),
        ("--rate-per-source 20/s", |c| {
            frontend(c).sources.rate_per_source == Some("20/s burst 20".parse().unwrap())
        }),
        ("--refuse close", |c| frontend(c).sources.refuse == Refusal::Close),
        ("--refuse delay", |c| frontend(c).sources.refuse == Refusal::Delay),
        ("--admin 9100", |c| {
            c.process.admin.as_ref().is_some_and(|it| it.to_string() == "127.0.0.1:9100")
        }),
        ("--keepalive 90s", |c| frontend(c).socket.keepalive_idle == Some(Duration::from_secs(90))),
        ("--user-timeout 1500ms", |c| {
            frontend(c).socket.user_timeout == Some(Duration::from_millis(1500))
        }),
        ("--v6-only", |c| frontend(c).socket.v6_only),
        ("--workers 3", |c| c.process.threads.workers == NonZeroUsize::new(3)),
        ("--acceptors 0", |c| c.process.threads.acceptors == Acceptors::Inline),
        ("--acceptors auto", |c| c.process.threads.acceptors == Acceptors::Auto),
        ("--acceptors 2", |c| {
            c.process.threads.acceptors == Acceptors::Dedicated(2.try_into().unwrap())
        }),
        ("--dispatch round-robin", |c| c.process.dispatch == DispatchPolicy::RoundRobin),
        ("--dispatch source-hash", |c| c.process.dispatch == DispatchPolicy::SourceHash),
        ("--dispatch incoming-cpu", |c| c.process.dispatch == DispatchPolicy::IncomingCpu),
        ("--max-connections 5", |c| c.process.max_connections == NonZeroUsize::new(5)),
        ("--cpus 1,0", |c| c.process.threads.cpus.as_ref().unwrap().cpus() == [1, 0]),
        ("--buffers 12", |c| c.process.ring.buffers == NonZeroU32::new(12)),
        ("--buffer-size 4096", |c| c.process.ring.buffer_bytes == 4096),
        ("--cq-entries 8", |c| c.process.ring.completion_entries == NonZeroU32::new(8)),
        ("--first-byte-timeout 1s", |c| frontend(c).timeouts.first_byte == Duration::from_secs(1)),
        ("--idle-timeout 5m", |c| frontend(c).timeouts.idle == Duration::from_secs(300)),
        ("--write-stall-timeout 2s", |c| {
            frontend(c).timeouts.write_stall == Some(Duration::from_secs(2))
        }),
        ("--drain-timeout 0s", |c| c.process.drain_timeout == Duration::ZERO),
    ];
    for (options, seen) in table {
        assert!(seen(&config(options)), "{options}");
    }
}

#[test]
fn slow_clients_of_http_have_limits_that_can_be_turned_off() {
    let limits = |options: &str| {
        let config = parse(&format!("acceptor http {options}")).unwrap().config;
        let Protocol::Http(http) = &frontend(&config).protocol else { panic!("{config:?}") };
        http.limits
    };
    let defaults = limits("");
    assert_eq!(defaults, RequestLimits::default());
    let off = limits("--header-timeout off --min-rate off --min-rate-grace 3s");
    assert_eq!(off, RequestLimits { grace: Duration::from_secs(3), ..RequestLimits::OFF });
    let other = limits("--header-timeout 1500ms --min-rate 7");
    assert_eq!(other.header_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(other.min_rate, NonZeroU32::new(7));
    for (options, remedy) in [
        ("--header-timeout 0s", "1ms to 7days, or off"),
        ("--min-rate 0", "1 to 1000000000, or off"),
        ("--min-rate-grace off", "500ms"),
    ] {
        let text = parse(&format!("acceptor http {options}")).unwrap_err().to_string();
        assert!(text.contains(remedy), "{text}");
    }
    assert!(parse("acceptor echo --min-rate 7").is_err());
}

#[test]
fn a_refusal_names_the_option_the_value_and_what_would_be_right() {
    let table = [
        ("--workers 0", "1 to 1024"),
        ("--workers 9999", "1 to 1024"),
        ("--workers many", "1 to 1024"),
        ("--acceptors some", "auto"),
        ("--acceptors 1025", "0 to 1024"),
        ("--backlog 0", "1 to 2147483647"),
        ("--backlog 2147483648", "1 to 2147483647"),
        ("--fast-open 0", "1 to"),
        ("--max-connections 0", "1 to"),
        ("--dispatch random", "least-connections"),
        ("--allow 10.0.0.0/33", "192.0.2.7"),
        ("--deny localhost", "192.0.2.7"),
        ("--max-per-source 0", "1 to 1000000"),
        ("--max-per-source 1000001", "1 to 1000000"),
        ("--rate-per-source 20", "20/s burst 50"),
        ("--rate-per-source 11/ms", "more than 10000 a second"),
        ("--refuse reply", "reset, close, delay"),
        ("--idle-timeout 0s", "1ms to 7days"),
        ("--idle-timeout 8d", "1ms to 7days"),
        ("--idle-timeout 60", "60s"),
        ("--first-byte-timeout 0ms", "1ms to"),
        ("--write-stall-timeout x", "500ms"),
        ("--drain-timeout 1y", "to 7days"),
        ("--keepalive 500ms", "1s to"),
        ("--keepalive 1500ms", "whole seconds"),
        ("--user-timeout 0s", "1ms to"),
        ("--stats-interval 1ms", "0s for none"),
        ("--buffers 0", "1 to 65535"),
        ("--buffers 65536", "1 to 65535"),
        ("--buffer-size 63", "64 to 32768"),
        ("--cq-entries 1", "2 to 65536"),
        ("--cpus 1-0", "0-3,8"),
        ("--log-format xml", "json"),
        ("--listen localhost:http", "its port is not 0 to 65535"),
        ("--listen 7000", "for all addresses write :7000"),
        ("--listen 127.0.0.1", "no port"),
    ];
    for (options, remedy) in table {
        let error = parse(&format!("acceptor echo {options}")).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 2, "{text}");
        let (option, value) = options.split_once(' ').unwrap();
        assert!(text.contains(option), "{options}: {text}");
        assert!(text.contains(value), "{options}: {text}");
        assert!(text.contains(remedy), "{options} does not say '{remedy}': {text}");
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    for line in [
        "acceptor",
        "acceptor proxy",
        "acceptor proxy --to 127.0.0.1",
        "acceptor proxy --to 127.0.0.1:1 --to 127.0.0.1:1",
        "acceptor proxy --to 127.0.0.1:1 --check-send x",
        "acceptor run",
        "acceptor echo --metrics 127.0.0.1:1",
        "acceptor status --once",
        "acceptor status localhost",
        "acceptor top 9100 9101",
        "acceptor top --interval 0s",
        "acceptor top --interval 2m",
        "acceptor top --sort client",
        "acceptor top --view all",
        "acceptor echo --body x",
        "acceptor echo -q -v",
        "acceptor http --body x --body-size 1",
        "acceptor http --body-size 67108865",
        "acceptor echo --listen 127.0.0.1:7 --listen 127.0.0.1:7",
        "acceptor echo extra",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
        assert!(error.use_stderr(), "{line}");
    }
}

#[test]
fn bodies_of_http() {
    let body = |options: &str| match protocol(&format!("acceptor http {options}")) {
        Protocol::Http(http) => http.body,
        other => panic!("{other:?}"),
    };
    assert_eq!(body(""), b"hello\n");
    assert_eq!(body("--body hi"), b"hi");
    assert_eq!(body("--body-size 3"), b"xxx");
    assert_eq!(body("--body-size 0"), b"");
    assert_eq!(protocol("acceptor echo"), Protocol::Echo);
    assert_eq!(protocol("acceptor discard"), Protocol::Discard);
}

#[test]
fn verbosity() {
    let level = |options: &str| parse(&format!("acceptor echo {options}")).unwrap().logging.level;
    assert_eq!(level("-q"), LevelFilter::ERROR);
    assert_eq!(level("-v"), LevelFilter::DEBUG);
    assert_eq!(level("-vv"), LevelFilter::TRACE);
    assert_eq!(level("-vvv"), LevelFilter::TRACE);
    let json = parse("acceptor echo --log-format json").unwrap().logging.format;
    assert_eq!(json, LogFormat::Json);
    let off = parse("acceptor echo --stats-interval 0s").unwrap().stats_interval;
    assert_eq!(off, None);
}

#[test]
fn engines_by_their_names() {
    use uring_acceptor::config::Engine;
    let table = [("auto", Engine::Auto), ("uring", Engine::Uring), ("epoll", Engine::Epoll)];
    for (name, engine) in table {
        assert_eq!(config(&format!("--engine {name}")).process.engine, engine);
    }
    assert_eq!(config("").process.engine, Engine::Auto);
}

#[test]
fn the_doctor_judges_the_server_that_it_is_told_of() {
    let examination = |line: &str| match parse_task(&format!("acceptor doctor {line}")) {
        Ok(Task::Examine(examination)) => *examination,
        other => panic!("'{line}' is {other:?}"),
    };
    let plain = examination("");
    assert_eq!((plain.config, plain.listen, plain.json), (Config::default(), Vec::new(), false));
    let told = examination(
        "--json --listen [::1]:1 --listen unix:/x --backlog 7 --workers 3 --max-connections 9",
    );
    assert!(told.json);
    assert_eq!(told.listen, ["[::1]:1".parse().unwrap(), "unix:/x".parse().unwrap()]);
    assert_eq!(frontend(&told.config).listen, told.listen);
    assert_eq!(frontend(&told.config).socket.backlog, NonZeroU32::new(7));
    assert_eq!(told.config.process.threads.workers, NonZeroUsize::new(3));
    assert_eq!(told.config.process.max_connections, NonZeroUsize::new(9));
}

#[test]
fn the_probe_of_the_doctor_stands_alone_and_is_not_shown() {
    assert_eq!(parse_task("acceptor doctor --probe").unwrap(), Task::Probe);
    let error = parse_task("acceptor doctor --probe --json").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ArgumentConflict);
    let help = parse_task("acceptor doctor --help").unwrap_err().to_string();
    assert!(!help.contains("probe"), "{help}");
}

#[test]
fn the_doctor_refuses_what_a_server_refuses() {
    for options in
        ["--listen 127.0.0.1", "--listen 127.0.0.1:7 --listen 127.0.0.1:7", "--backlog 0"]
    {
        let error = parse_task(&format!("acceptor doctor {options}")).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{options}");
    }
}

#[test]
fn a_refusal_ends_with_the_usage_of_its_command_and_knows_the_others() {
    for (line, words) in [
        ("acceptor", "Usage: acceptor <COMMAND>"),
        ("acceptor echo --listen :7 --listen :7", "Usage: acceptor echo [OPTIONS]"),
        ("acceptor doctor --listen :7 --listen :7", "Usage: acceptor doctor [OPTIONS]"),
        ("acceptor echo --to a:1", "echo has no --to, which is an option of proxy"),
        ("acceptor echo --to a:1", "Usage: acceptor echo [OPTIONS]"),
        ("acceptor echo --probe", "unexpected argument '--probe'"),
        ("acceptor http --body -5", "write --body=-5"),
        ("acceptor echo --workers -1", "'-1' for '--workers <N>': it must be a number from 1"),
        ("acceptor echo --acceptors -1", "it must be auto, or a number from 0"),
        ("acceptor echo --idle-timeout -1s", "'-1s' for '--idle-timeout <TIME>': it must be 1ms"),
        ("acceptor echo --buffer-size -1", "it must be a number from 64"),
        (
            "acceptor echo --overload-target 0s",
            "'0s' for '--overload-target <TIME>': it must be 1ms to 60s",
        ),
        (
            "acceptor echo --overload-target 2m",
            "'2m' for '--overload-target <TIME>': it must be 1ms to 60s",
        ),
        (
            "acceptor echo --overload-interval 9ms",
            "'9ms' for '--overload-interval <TIME>': it must be 10ms to 60s",
        ),
        (
            "acceptor echo --overload-target 150ms",
            "the overload target is 150ms; it must be below the overload",
        ),
        (
            "acceptor echo --overload-target 150ms",
            "interval, 100ms: lower it, or raise the interval",
        ),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(words), "{line} does not say '{words}': {text}");
    }
}
