//! The command line and the configuration file say the same things.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use uring_acceptor::config::Config;
use uring_acceptor::config_file::{self, Loaded};

use super::*;

fn load(text: &str) -> Options {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("acceptor-options-{}-{count}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, text).unwrap();
    let loaded = config_file::load(&path, &|_| None);
    fs::remove_file(&path).unwrap();
    let Loaded { settings, .. } = loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    settings
}

/// Options of services that are no key of the same name, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("to", "the backends of an upstream are its key `backends`"),
    ("route", "routes are a table, `routes`, of names of upstreams"),
    ("backend-max-connections", "of an upstream it is its `max_connections`"),
    ("no-splice", "a file has `splice = false`"),
    ("no-half-close", "a file has `half_close = false`"),
    ("verbose", "a file has `log_level`"),
    ("quiet", "a file has `log_level`"),
    ("print-config", "it writes the file"),
    ("take-over", "it is about how one process is started"),
    ("help", "it is about the command line"),
];

#[test]
fn every_option_has_its_key() {
    let schema: Value = serde_json::from_str(&config_file::schema()).unwrap();
    let keys = |definition: &str| schema["$defs"][definition]["properties"].as_object().unwrap();
    let tables = ["ProcessTable", "FrontendTable", "UpstreamTable"].map(keys);
    let mut seen = BTreeSet::new();
    for service in ["echo", "discard", "http", "proxy"] {
        let mut command = CommandLine::command();
        command.build();
        let command = command.find_subcommand(service).unwrap();
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            seen.insert(option.to_owned());
            if EXCEPTIONS.iter().any(|(exception, _)| *exception == option) {
                continue;
            }
            let key = option.replace('-', "_");
            assert!(tables.iter().any(|table| table.contains_key(&key)), "--{option} has no key");
        }
    }
    assert!(seen.len() > 45, "{seen:?}");
    for (exception, _) in EXCEPTIONS {
        assert!(seen.contains(*exception), "there is no --{exception}");
    }
}

/// What the help offers of a few words, the file takes too.
#[test]
fn words_of_the_command_line_are_words_of_the_file() {
    let schema: Value = serde_json::from_str(&config_file::schema()).unwrap();
    for (option, table) in [
        ("dispatch", "ProcessTable"),
        ("engine", "ProcessTable"),
        ("overload", "FrontendTable"),
        ("log-format", "ProcessTable"),
        ("access-log-format", "FrontendTable"),
    ] {
        let command = CommandLine::command();
        let proxy = command.find_subcommand("proxy").unwrap();
        let argument = proxy.get_arguments().find(|own| own.get_long() == Some(option)).unwrap();
        let words: Vec<_> =
            argument.get_possible_values().iter().map(|word| word.get_name().to_owned()).collect();
        let property = &schema["$defs"][table]["properties"][option.replace('-', "_")];
        assert_eq!(property["anyOf"][0]["enum"], serde_json::json!(words), "{option}");
    }
}

#[test]
fn a_file_with_no_more_than_it_needs_is_the_command_line_with_no_more() {
    for service in ["echo", "discard", "http"] {
        let text =
            format!("[frontend.{service}]\nlisten = '127.0.0.1:7000'\nservice = '{service}'\n");
        assert_eq!(load(&text), parse(&format!("acceptor {service}")).unwrap());
    }
    let text = "[frontend.proxy]\nlisten = '127.0.0.1:7000'\nservice = 'proxy'\nupstream = 'default'\n\
                [upstream.default]\nbackends = ['10.0.0.1:80']\n";
    assert_eq!(load(text), parse("acceptor proxy --to 10.0.0.1:80").unwrap());
}

#[test]
fn what_is_printed_does_the_same() {
    for line in [
        "echo",
        "discard --listen :7 --listen unix:@a$b --listen name.example:9 --backlog 7 --defer-accept",
        "echo --fast-open 9 --nagle --keepalive 90s --user-timeout 1500ms --v6-only -q",
        "echo --workers 3 --acceptors 0 --cpus 0-2,9 --dispatch incoming-cpu --max-connections 9",
        "echo --buffers 3 --buffer-size 64 --engine epoll --cq-entries 64 --log-format json -vv",
        "echo --first-byte-timeout 1ms --idle-timeout 7d --write-stall-timeout 1h --drain-timeout 0s",
        "echo --allow 10.0.0.0/8 --allow ::1 --deny 10.0.0.7 --max-per-source 3 --refuse close",
        "echo --rate-per-source 100/10s --refuse delay",
        "http --stats-interval 0s --body $${HOME}",
        "http --body-size 0",
        "http --body-size 63",
        "http --body-size 64",
        "http --body xx",
        "proxy --to a:1 --to b:2,weight=256 --to unix:/x --to [::1]:1",
        "proxy --to a:1 --route a.example=b:1 --route *.A.example=c:1,weight=2 --route a.example=d:1",
        "proxy --to a:1 --balance random --retries 0 --backend-max-connections 7 --queue 1",
        "proxy --to a:1 --resolve-interval 1h --check-interval 10ms --rise 100 --fall 1",
        "proxy --to a:1 --check-interval 1s --check-send \\x00\\\\a'\" --check-expect $\\n|",
        "proxy --to a:1 --check-interval 1s --check-expect x --check-timeout 59s --eject-after 0",
        "proxy --to a:1 --slow-start 1d --when-all-out refuse --no-splice --lifetime 1s",
        "proxy --to a:1 --proxy-protocol-in 10.0.0.0/8 --proxy-protocol-in ::/0",
        "proxy --to a:1 --proxy-protocol-out v1 --connect-timeout 1s --queue-timeout 2s",
        "proxy --to a:1 --half-closed-timeout 3s --access-log - --access-log-format json",
        "proxy --to a:1 --access-log /a/$b.log --buffer-size 16384",
    ] {
        let options = parse(&format!("acceptor {line}")).unwrap();
        let text = config_file::print(&options).unwrap();
        assert_eq!(load(&text), options, "{line}\n{text}");
        match parse_task(&format!("acceptor {line} --print-config")).unwrap() {
            Task::Print(printed) => assert_eq!(*printed, options),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_program_brings_cannot_be_printed() {
    let options = Options { config: Config::default(), ..Options::default() };
    let told = config_file::print(&options).unwrap_err().to_string();
    assert!(told.contains("a service that a program brings"), "{told}");
}

#[test]
fn the_command_line_of_a_run_goes_before_its_file() {
    let text = "[process]\nlog_level = 'warn'\nlog_format = 'json'\nstats_interval = '5s'\n\
                [frontend.e]\nlisten = ':1'\nservice = 'echo'\n";
    let run = |line: &str| {
        let mut options = load(text);
        match parse_task(&format!("acceptor run --config a.toml {line}")).unwrap() {
            Task::Run(run) => {
                assert_eq!(run.path, Path::new("a.toml"));
                run.override_in(&mut options);
            }
            other => panic!("{other:?}"),
        }
        (options.logging.level, options.logging.format, options.stats_interval)
    };
    let interval = Some(Duration::from_secs(5));
    assert_eq!(run(""), (LevelFilter::WARN, LogFormat::Json, interval));
    assert_eq!(run("-v"), (LevelFilter::DEBUG, LogFormat::Json, interval));
    assert_eq!(run("-q --log-format text"), (LevelFilter::ERROR, LogFormat::Text, interval));
    assert_eq!(run("--stats-interval 0s").2, None);
    for line in ["run", "check", "run --config", "check --config a.toml extra", "completions tcsh"]
    {
        assert_eq!(parse_task(&format!("acceptor {line}")).unwrap_err().exit_code(), 2, "{line}");
    }
}
