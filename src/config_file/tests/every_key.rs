//! Each key of each table: it sets something, and what it sets is written again.

use proptest::prelude::*;

use super::*;

/// A line for each key that can stand beside the others, with something else than the default.
const PROCESS: &[&str] = &[
    "workers = 3",
    "acceptors = 2",
    "cpus = \"0,2,3\"",
    "dispatch = \"source-hash\"",
    "max_connections = 77",
    "max_per_source = 70",
    "rate_per_source = \"5/10s burst 7\"",
    "sources = 5000",
    "ipv4_prefix = 24",
    "ipv6_prefix = 56",
    "drain_timeout = \"1h\"",
    "drain_spread = \"3s\"",
    "engine = \"epoll\"",
    "buffers = 12",
    "buffer_size = 4096",
    "cq_entries = 4096",
    "sq_entries = 64",
    "log_level = \"debug\"",
    "log_format = \"json\"",
    "stats_interval = \"0s\"",
    "control = \"unix:/run/a$$b.sock\"",
    "admin = \"127.0.0.1:9100\"",
];

const FRONTEND: &[&str] = &[
    "max_connections = 5",
    "rate = \"100/s\"",
    "source_rules = \"observe\"",
    "allow = [\"10.0.0.0/8\", \"192.0.2.7\"]",
    "allow_file = \"networks\"",
    "deny = [\"10.1.0.0/16\", \"2001:db8::/32\"]",
    "deny_file = \"networks\"",
    "exempt = \"127.0.0.1\"",
    "max_per_source = 9",
    "rate_per_source = \"5/s\"",
    "site_factor = 3",
    "ban_after = 50",
    "ban_time = \"1h\"",
    "backlog = 7",
    "defer_accept = true",
    "fast_open = 9",
    "nagle = true",
    "keepalive = \"1m 30s\"",
    "user_timeout = \"1s 500ms\"",
    "v6_only = true",
    "queue_wait_sample = 3",
    "overload = \"shed\"",
    "overload_target = \"7ms\"",
    "overload_interval = \"200ms\"",
    "patience = \"3s\"",
    "half_close = false",
    "first_byte_timeout = \"1ms\"",
    "idle_timeout = \"5m\"",
    "write_stall_timeout = \"2s\"",
    "linger_timeout = \"3s\"",
    "send_queue = 4096",
    "access_log = \"-\"",
    "access_log_format = \"json\"",
];

/// One of them at a time.
const REFUSAL: &[&str] = &["refuse = \"close\"", "reply = \"busy\\n\"", "reply_file = \"body\""];

const HTTP: &[&str] = &[
    "body = \"$$\\u0000é\\n\"",
    "body_size = 100",
    "body_file = \"body\"",
    "header_timeout = \"off\"",
    "min_rate = \"off\"",
    "min_rate_grace = \"1s\"",
];

const PROXY: &[&str] = &[
    "retries = 0",
    "queue = 3",
    "queue_timeout = \"1s\"",
    "connect_timeout = \"1s\"",
    "half_closed_timeout = \"1s\"",
    "lifetime = \"1day\"",
    "proxy_protocol_in = [\"10.0.0.0/8\", \"::/0\"]",
    "proxy_protocol_out = \"v2\"",
    "splice = false",
    "routes = { \"*.a.example\" = \"u\", \"b.example\" = \"other\" }",
];

/// In place of `backends`.
const BACKENDS_FILE: &str = "backends_file = \"list\"";

const UPSTREAM: &[&str] = &[
    "source = [\"10.0.0.5\", \"fe80::5%2\"]",
    "balance = \"random\"",
    "max_connections = 3",
    "resolve_interval = \"1s\"",
    "check_interval = \"1s\"",
    "check_send = \"\\\\x00\\\\\\\\\"",
    "check_expect = \"$$+PONG\\\\r\\\\n\"",
    "check_timeout = \"2s\"",
    "rise = 5",
    "fall = 6",
    "eject_after = 0",
    "eject_time = \"2s\"",
    "eject_time_max = \"2m\"",
    "eject_percent_max = 10",
    "slow_start = \"3s\"",
    "when_all_out = \"refuse\"",
];

fn key(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

/// A file with these lines in its tables.
fn file(process: &[&str], frontend: &[&str], (service, upstream): (&str, &[&str])) -> String {
    let own = if service == "proxy" { "upstream = \"u\"\n" } else { "" };
    let lines = |lines: &[&str]| lines.iter().fold(String::new(), |text, line| text + line + "\n");
    format!(
        "[process]\n{}[frontend.f]\nlisten = [\"127.0.0.1:0\", \"unix:@a\"]\nservice = \"{service}\"\n{own}{}\
         [upstream.other]\nbackends = [\"a:1\"]\n\
         [upstream.u]\nbackends = [\"10.0.0.1:80\", {{ address = \"unix:/x\", weight = 2 }}]\n{}",
        lines(process),
        lines(frontend),
        lines(upstream)
    )
}

/// Reads, writes and reads again.
#[track_caller]
fn round_trip(text: &str) -> (RunSettings, String) {
    let folder = Folder::new();
    folder.write("body", "of a file");
    folder.write("networks", "10.9.0.0/16 # of a file\n");
    folder.write("list", "[\"10.0.0.9:80\"]");
    folder.write("main.toml", text);
    let settings = folder.load(&empty).unwrap_or_else(|e| panic!("{text}\n{e}")).settings;
    let written = print(&settings).unwrap();
    assert_eq!(
        loaded(&written).unwrap_or_else(|e| panic!("{written}\n{e}")),
        settings,
        "{written}"
    );
    (settings, written)
}

/// What a line needs beside it.
fn beside(line: &str) -> Vec<&'static str> {
    match key(line) {
        "check_send" => vec!["check_interval = \"7s\"", "check_expect = \"x\""],
        "check_expect" => vec!["check_interval = \"7s\""],
        "access_log_format" => vec!["access_log = \"x\""],
        _ => Vec::new(),
    }
}

#[test]
fn every_key_sets_something_that_is_written_again() {
    let check = |of: &dyn Fn(&[&str]) -> String, line: &str| {
        let without = round_trip(&of(&beside(line))).0;
        let (with, written) = round_trip(&of(&[beside(line), vec![line]].concat()));
        assert_ne!(with, without, "{line} changes nothing");
        let again = match key(line) {
            "body_file" => "body",
            "reply_file" => "reply",
            "routes" => "[frontend.f.routes]",
            other => other,
        };
        assert!(written.contains(again), "{line} is not in\n{written}");
    };
    PROCESS.iter().for_each(|line| check(&|lines| file(lines, &[], ("echo", &[])), line));
    FRONTEND.iter().for_each(|line| check(&|lines| file(&[], lines, ("echo", &[])), line));
    REFUSAL.iter().for_each(|line| check(&|lines| file(&[], lines, ("echo", &[])), line));
    HTTP.iter().for_each(|line| check(&|lines| file(&[], lines, ("http", &[])), line));
    PROXY.iter().for_each(|line| check(&|lines| file(&[], lines, ("proxy", &[])), line));
    UPSTREAM.iter().for_each(|line| check(&|lines| file(&[], &[], ("proxy", lines)), line));
    let in_place = |lines: &[&str]| {
        let text = file(&[], &[], ("proxy", &[]));
        match lines {
            [line] => text.replace("backends = [\"a:1\"]", line),
            _ => text,
        }
    };
    check(&in_place, BACKENDS_FILE);
}

/// The values of a file with these lines, and where they stand.
#[track_caller]
fn read(text: &str, environment: &Environment<'_>) -> Loaded {
    let folder = Folder::new();
    folder.write("body", "of a file");
    folder.write("networks", "10.9.0.0/16 # of a file\n");
    folder.write("main.toml", text);
    folder.load(environment).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn side(loaded: &Loaded) -> Side<'_> {
    Side { settings: &loaded.settings, places: &loaded.places }
}

/// The line with its value in a variable, and the value; `None` for a list or a table.
fn with_variable(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once(" = ")?;
    if value.starts_with(['[', '{']) {
        return None;
    }
    // As it is behind the escapes of TOML and of variables.
    let text = value.trim_matches('"').replace("$$", "$").replace("\\\\", "\\");
    (!text.contains("\\u")).then(|| (format!("{key} = \"${{V}}\""), text))
}

/// With the value before and behind; without both if it came from the environment.
#[test]
fn every_key_is_told_when_it_changes() {
    let mut hidden = 0;
    let mut check = |of: &dyn Fn(&[&str]) -> String, line: &str| {
        let without = read(&of(&beside(line)), &empty);
        let with = read(&of(&[beside(line), vec![line]].concat()), &empty);
        for (before, after) in [(&without, &with), (&with, &without)] {
            let changes = differences(side(before), side(after));
            let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
            let expected = match key(line) {
                "body_size" | "body_file" => "body",
                "reply_file" => "reply",
                // The buffers are as large as those of a proxy.
                "access_log" => "access_log",
                other => other,
            };
            let is_told = |told: &String| {
                told.starts_with(&format!("{expected} "))
                    || told.starts_with(&format!("{expected}."))
            };
            assert!(!told.is_empty() && told.iter().any(is_told), "{line}: {told:?}");
            assert!(told.iter().all(|told| told.contains(" -> ")), "{line}: {told:?}");
        }
        assert_eq!(differences(side(&with), side(&with)), []);
        let Some((line, value)) = with_variable(line) else { return };
        let set = |name: &str| (name == "V").then(|| value.clone());
        let secret = read(&of(&[beside(&line), vec![&line]].concat()), &set);
        for (before, after) in [(&without, &secret), (&secret, &without), (&with, &secret)] {
            let changes = differences(side(before), side(after));
            let own = changes.iter().filter(|it| it.key == key(&line) || it.key == "body");
            assert!(own.clone().all(|change| change.values.is_none()), "{line}: {changes:?}");
            hidden += own.count();
        }
    };
    PROCESS.iter().for_each(|line| check(&|lines| file(lines, &[], ("echo", &[])), line));
    FRONTEND.iter().for_each(|line| check(&|lines| file(&[], lines, ("echo", &[])), line));
    REFUSAL.iter().for_each(|line| check(&|lines| file(&[], lines, ("echo", &[])), line));
    HTTP.iter().for_each(|line| check(&|lines| file(&[], lines, ("http", &[])), line));
    PROXY.iter().for_each(|line| check(&|lines| file(&[], lines, ("proxy", &[])), line));
    UPSTREAM.iter().for_each(|line| check(&|lines| file(&[], &[], ("proxy", lines)), line));
    assert!(hidden > 80, "{hidden}");
}

#[test]
fn there_is_a_line_for_every_key() {
    let listed = |lines: &[&[&str]], others: &[&str]| {
        let lines = lines.concat();
        let mut keys: Vec<_> = lines
            .iter()
            .map(|line| key(line))
            .chain(others.iter().copied())
            .map(str::to_owned)
            .collect();
        keys.sort();
        keys
    };
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let frontend = listed(&[FRONTEND, REFUSAL, HTTP, PROXY], &["listen", "service", "upstream"]);
    assert_eq!(sorted(schema::keys::<tables::ProcessTable>()), listed(&[PROCESS], &[]));
    assert_eq!(sorted(schema::keys::<tables::FrontendTable>()), frontend);
    assert_eq!(
        sorted(schema::keys::<tables::UpstreamTable>()),
        listed(&[UPSTREAM, &[BACKENDS_FILE]], &["backends"])
    );
}

/// The description of a key says which service has it.
#[test]
fn keys_of_a_service_are_described_as_such() {
    let schema = schema::tree();
    let properties = schema["$defs"]["FrontendTable"]["properties"].as_object().unwrap();
    for (key, property) in properties {
        let description = property["description"].as_str().unwrap();
        let of = |keys: &[&str]| keys.contains(&key.as_str());
        assert_eq!(description.starts_with("proxy: "), of(&frontend::OF_PROXY), "{key}");
        assert_eq!(description.starts_with("http: "), of(&frontend::OF_HTTP), "{key}");
    }
}

/// Any of the lines, in any order.
fn some_of(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(lines, 0..=lines.len()).prop_shuffle()
}

fn needing(mut lines: Vec<&'static str>) -> Vec<&'static str> {
    let has = |lines: &[&str], name: &str| lines.iter().any(|line| key(line) == name);
    if has(&lines, "check_send") && !has(&lines, "check_expect") {
        lines.push("check_expect = \"x\"");
    }
    if has(&lines, "check_expect") && !has(&lines, "check_interval") {
        lines.push("check_interval = \"9s\"");
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_as_the_same(
        process in some_of(PROCESS),
        frontend in some_of(FRONTEND),
        proxy in some_of(PROXY),
        upstream in some_of(UPSTREAM).prop_map(needing),
    ) {
        round_trip(&file(&process, &[frontend, proxy].concat(), ("proxy", &upstream)));
    }

    /// Bytes of a check and bodies are the only texts that may have anything in them.
    #[test]
    fn any_text_is_read_as_it_was_written(body in any::<String>()) {
        let mut settings = loaded(&file(&[], &[], ("http", &[]))).unwrap();
        let http = crate::config::HttpConfig { body: body.into_bytes(), ..Default::default() };
        settings.config.frontends[0].protocol = crate::config::Protocol::Http(http);
        prop_assert_eq!(loaded(&print(&settings).unwrap()).unwrap(), settings);
    }
}
