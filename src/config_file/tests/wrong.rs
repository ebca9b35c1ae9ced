//! What is told of a file that is wrong.

use super::*;

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let text = "\
inclde = ['x']
[process]
workers = 0
dispatch = 'foo'
x = { a = 1 }
[defaults]
listen = ':1'
[frontend.web]
listen = [':8080', 'foo']
service = 'http'
body = 'a'
body_size = 3
upstream = 'x'
[frontend.two]
listen = ':8080'
idle-timeout = 60
idle_timeout = 60
nagle = 'yes'
routes = 'a'
service = 'ecko'
[frontend.'b c']
service = 'proxy'
upstream = 'wbe'
[upstream.web]
backends = ['10.0.0.1:80', { adress = 'a:1' }, { address = '10.0.0.1:80', weight = 900 }, ['a']]
check_expect = ''
[upstream.none]
[[upstream.list]]
";
    let expected = "\
main.toml:1:1: inclde: unknown key; did you mean 'include'?
main.toml:3:11: process.workers = 0: it must be a number from 1 to 1024
main.toml:4:12: process.dispatch = 'foo': it must be least-connections, round-robin, source-hash or incoming-cpu
main.toml:5:1: process.x: unknown key; known are workers, acceptors, cpus, dispatch, max_connections, max_per_source, rate_per_source, sources, ipv4_prefix, ipv6_prefix, drain_timeout, drain_spread, engine, buffers, buffer_size, cq_entries, sq_entries, log_level, log_format, stats_interval, control, admin
main.toml:7:1: defaults.listen: no default can be given for listen; write it into each frontend
main.toml:9:20: frontend.web.listen[1] = 'foo': 'foo' cannot be listened on: it has no port. Examples: 127.0.0.1:7000, [::]:7000, unix:/run/name.sock
main.toml:12:1: frontend.web.body_size: body is given already; leave one of them
main.toml:13:1: frontend.web.upstream: only service = \"proxy\" has it, and this is service = \"http\"
main.toml:15:10: frontend.two.listen = ':8080': frontend.web.listen[0] has this address already, at main.toml:9:11; give each address once
main.toml:16:1: frontend.two.idle-timeout: unknown key; did you mean 'idle_timeout'?
main.toml:17:16: frontend.two.idle_timeout = 60: write a number with its unit, such as 500ms, 60s or 5m
main.toml:18:9: frontend.two.nagle = 'yes': it must be true or false
main.toml:19:10: frontend.two.routes = 'a': it must be a table
main.toml:20:11: frontend.two.service = 'ecko': it must be echo, discard, http or proxy
main.toml:21:11: frontend.\"b c\": 'b c' cannot be the name of a frontend; take 1 to 64 letters, digits, '.', '_' or '-'
main.toml:21:11: frontend.\"b c\": it has no listen; add one, such as listen = \":7000\"
main.toml:23:12: frontend.\"b c\".upstream = 'wbe': there is no such upstream; did you mean 'web'?
main.toml:25:30: upstream.web.backends[1].adress: unknown key; did you mean 'address'?
main.toml:25:48: upstream.web.backends[2]: upstream.web.backends[0] is this backend already; for more connections give it a weight, such as { address = \"10.0.0.1:80\", weight = 2 }
main.toml:25:84: upstream.web.backends[2].weight = 900: it must be a number from 1 to 256
main.toml:25:91: upstream.web.backends[3] = ['a']: it must be an address, or { address = \"IP:PORT\", weight = N }
main.toml:26:1: upstream.web.check_expect: it does nothing without check_interval; add that
main.toml:26:16: upstream.web.check_expect = '': it expects nothing; leave it out to check by a connect alone
main.toml:27:11: upstream.none: it has no backends; give at least one, such as backends = [\"10.0.0.1:80\"]
main.toml:28:12: upstream.list: it must be a table; write [upstream.list], with single brackets";
    let actual = errors(text);
    assert_eq!(actual, expected, "\n{actual}");
}

#[test]
fn one_mistake_at_a_time() {
    let echo = "[frontend.e]\nlisten = ':1'\nservice = 'echo'\n";
    let table = [
        (String::new(), "main.toml: no frontend; give at least one, such as [frontend.web] with"),
        ("# nothing\n".into(), "main.toml: no frontend"),
        (
            "[frontend.a]\nservice='echo'\n".into(),
            "main.toml:1:11: frontend.a: it has no listen; add one, such as",
        ),
        ("[frontend.a]\nlisten=':1'\n".into(), "frontend.a: it has no service; add one, such as"),
        ("[frontend.a]\nlisten=[]\nservice='echo'".into(), "frontend.a: it has no listen"),
        (
            "frontend = 3".into(),
            "main.toml:1:12: frontend = 3: it must be a table; write [frontend]",
        ),
        ("[frontend.p]\nlisten=':1'\nservice='proxy'\n".into(), "frontend.p: it has no upstream"),
        (
            "[frontend.p]\nlisten=':1'\nservice='proxy'\nupstream='u'".into(),
            "main.toml:4:10: frontend.p.upstream = 'u': there is no upstream; add one",
        ),
        (format!("{echo}[upstream.'a b']\nbackends=['a:1']"), "cannot be the name of an upstream"),
        (
            format!("{echo}[upstream.u]\nbackends='a:1'"),
            "upstream.u.backends = 'a:1': it must be a list",
        ),
        (format!("{echo}[upstream.u]\nbackends=[{{weight=1}}]"), "backends[0]: it has no address"),
        (
            format!("{echo}[upstream.u]\nbackends=['a:1']\nsource=[]"),
            "main.toml:6:1: upstream.u.source: it has no address; give at least one, such as source = [\"10.0.0.5\"], or leave it out",
        ),
        (
            format!("{echo}[upstream.u]\nbackends=['a:1']\neject_time='2m'"),
            "upstream.u: the longest ejection is 1m; it must be 2m to 1h",
        ),
        (
            format!("{echo}[upstream.u]\nbackends=['a:1']\ncheck_interval='1s'\ncheck_send='a'"),
            "without check_expect",
        ),
    ];
    told_one_by_one(&table);
}

#[test]
fn one_wrong_value_at_a_time() {
    let echo = "[frontend.e]\nlisten = ':1'\nservice = 'echo'\n";
    let table = [
        (format!("{echo}[process]\ncontrol='/run/x'"), "it must be unix:PATH or unix:@NAME"),
        (
            format!("{echo}[process]\nacceptors='many'"),
            "it must be auto, or a number from 0 to 1024",
        ),
        (format!("{echo}[process]\ncpus='1-0'"), "example: 0-3,8"),
        (format!("{echo}[process]\ncpus=1979-05-27"), "process.cpus = 1979-05-27: "),
        (format!("{echo}[process]\nworkers=1.5"), "process.workers = 1.5: it must be a number"),
        (
            format!("{echo}nagle = '$x'"),
            "main.toml:4:10: frontend.e.nagle = '$x': a dollar sign alone",
        ),
        (
            format!("{echo}nagle = 'a${{x'"),
            "main.toml:4:11: frontend.e.nagle = 'a${x': a variable without its",
        ),
        (format!("{echo}nagle = '${{1x}}'"), "'1x' cannot be the name of a variable"),
        (
            format!("{echo}nagle = '${{X}}'"),
            "the variable X is not set (a reload has the environment that the server was started with); \
             set it, or write ${X:-default}",
        ),
        (format!("{echo}x = 'unclosed"), "main.toml:4:14: this is not TOML: "),
        (format!("{echo}listen = ':2'"), "main.toml:4:1: this is not TOML: duplicate key"),
        (
            "[frontend.p]\nlisten=':1'\nservice='proxy'\nupstream='u'\n[upstream.u]\n\
             backends=['a:1']\n[frontend.p.routes]\n'a.b'='u'\n'A.b'='u'\n'*'='u'\n"
                .into(),
            "main.toml:9:1: frontend.p.routes.\"A.b\": 'a.b' is a route for the same names; leave one\n\
             main.toml:10:1: frontend.p.routes.\"*\": '*' cannot be routed",
        ),
    ];
    told_one_by_one(&table);
}

#[test]
fn what_overload_cannot_be() {
    let echo = "[frontend.e]\nlisten = ':1'\nservice = 'echo'\n";
    let target = "the overload target is";
    told_one_by_one(&[
        (
            format!("{echo}overload = 'drop'"),
            "main.toml:4:12: frontend.e.overload = 'drop': it must be hold, shed, evict or lifo",
        ),
        (format!("{echo}overload_target = '0s'"), "it must be 1ms to 60s"),
        (format!("{echo}overload_interval = '9ms'"), "it must be 10ms to 60s"),
        (format!("{echo}patience = 'never'"), "frontend.e.patience = 'never': "),
        (format!("{echo}half_close = 'no'"), "it must be true or false"),
        (
            format!("{echo}overload_target = '100ms'"),
            "main.toml:4:1: frontend.e.overload_target: the overload target is 100ms; it must be below the \
             overload interval, 100ms: lower it, or raise the interval",
        ),
        (format!("{echo}overload_target = '50ms'\noverload_interval = '20ms'"), target),
        (format!("{echo}[defaults]\noverload_target = '1s'"), target),
    ]);
}

/// Each is told as what stands beside it, and no more is told.
#[track_caller]
fn told_one_by_one(table: &[(String, &str)]) {
    for (text, expected) in table {
        let told = errors(text);
        assert!(told.contains(expected), "{text}\nis told as\n{told}");
        let lines = expected.lines().count();
        assert_eq!(told.lines().count(), lines, "{text}\nis told as\n{told}");
    }
}

/// Columns are characters, not bytes; a long value is cut.
#[test]
fn places_and_values_are_for_people() {
    let told = errors("[frontend.e]\nlisten = ['é:1', 'ü']\nservice='echo'\n");
    assert!(told.contains("main.toml:2:11: frontend.e.listen[0] = 'é:1': "), "{told}");
    assert!(told.contains("main.toml:2:18: frontend.e.listen[1] = 'ü': "), "{told}");
    let long = "x".repeat(1000);
    let told = errors(&format!("[frontend.e]\nlisten=':1'\nservice='{long}'\n"));
    assert!(told.contains("service = 'xxxxx") && told.len() < 250, "{told}");
    let told = errors("[frontend.e]\nlisten=':1'\nservice='''\na\tb\n'''\n");
    assert!(told.contains("service = ''' a b ''': it must be"), "{told}");
}

/// A value that came from the environment is never shown, whatever is wrong with it.
#[test]
fn secrets_are_never_shown() {
    let secret = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    let template = |table: &str, key: &str| {
        let frontend = "listen = ':1'\nservice = 'proxy'\nupstream = 'u'\n";
        let upstream = "backends = ['10.0.0.1:80']\ncheck_interval = '1s'\n";
        let line = |own: &str| format!("{key} = '${{SECRET}}'\n").repeat(usize::from(own == table));
        let without = |lines: &str| -> String {
            lines
                .lines()
                .filter(|line| !line.starts_with(&format!("{key} ")))
                .fold(String::new(), |text, line| text + line + "\n")
        };
        let (frontend, upstream) = match table {
            "frontend" => (without(frontend), upstream.to_owned()),
            "upstream" => (frontend.to_owned(), without(upstream)),
            _ => (frontend.to_owned(), upstream.to_owned()),
        };
        format!(
            "[process]\n{}[frontend.f]\n{frontend}{}[upstream.u]\n{upstream}{}",
            line("process"),
            line("frontend"),
            line("upstream")
        )
    };
    let of = |table: &'static str, keys: Vec<String>| keys.into_iter().map(move |key| (table, key));
    let all = of("process", schema::keys::<tables::ProcessTable>())
        .chain(of("frontend", schema::keys::<tables::FrontendTable>()))
        .chain(of("upstream", schema::keys::<tables::UpstreamTable>()));
    let mut refused = 0;
    for (table, key) in all {
        let text = template(table, &key);
        if let Err(told) = loaded_with(&text, &secret) {
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.contains("${SECRET}") || told.contains(&key), "{told}");
            refused += 1;
        }
    }
    assert!(refused > 45, "{refused}");
    let nested = [
        "[frontend.f]\nlisten=':1'\nservice='proxy'\nupstream='u'\n[frontend.f.routes]\na='${SECRET}'\n",
        "[frontend.f]\nlisten=[':1','${SECRET}']\nservice='echo'\n",
        "[frontend.f]\nlisten=['${SECRET}:1','${SECRET}:1']\nservice='echo'\n",
        "[frontend.f]\nlisten=':1'\nservice='http'\nbody_file='${SECRET}'\n",
        "[upstream.u]\nbackends=['${SECRET}:1','${SECRET}:1']\n",
        "[upstream.u]\nbackends=[{address='${SECRET}:1',weight='${SECRET}'}]\n",
        "include = '${SECRET}'\n",
        "process = '${SECRET}'\n",
    ];
    for text in nested {
        let told = loaded_with(text, &secret).unwrap_err();
        let told = if text.starts_with("include") { told.replace("hunter2:", "") } else { told };
        assert!(!told.contains("hunter2"), "{told}");
    }
}
