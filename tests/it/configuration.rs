//! The configuration file: run, checked, printed, described.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use uring_acceptor::config_file;

use crate::cli::expect_golden;
use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server, meanwhile, source};

#[track_caller]
fn run(arguments: &[&str]) -> Exit {
    Launch::from_file(arguments, 0).run()
}

/// All lines of an end, joined as they came.
fn stdout(exit: &Exit) -> String {
    format!("{}\n", exit.stdout)
}

#[test]
fn the_schema_is_as_written_down() {
    let exit = run(&["schema"]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    expect_golden("configuration-schema.json", &stdout(&exit));
    serde_json::from_str::<serde_json::Value>(&exit.stdout).expect("it is JSON");
}

/// docs/CONFIGURATION.md is made from the types.
#[test]
fn the_reference_is_what_the_program_says() {
    let path = source("docs/CONFIGURATION.md");
    let made = config_file::reference();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&path, &made).expect("it can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "docs/CONFIGURATION.md differs; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn a_check_tells_what_would_be_served_or_all_that_is_wrong() {
    let folder = Folder::new();
    folder.write("web.toml", "[upstream.web]\nbackends = ['127.0.0.1:80', 'unix:/x']\n");
    let right = "include = 'web.toml'\n[frontend.e]\nlisten = 'localhost:7000'\nservice = 'echo'\n\
                 [frontend.p]\nlisten = ':1'\nservice = 'proxy'\nupstream = 'web'\n";
    folder.write("right.toml", right);
    folder.write(
        "wrong.toml",
        "[process]\nworkres = 1\n[frontend.e]\nlisten = '${NOT_SET}'\nservice = 'echo'\n",
    );
    let check = |arguments: &[&str]| {
        let launch = Launch::from_file(&[&["check", "--config"], arguments].concat(), 0);
        launch.within(&folder.0).run()
    };
    let exit = check(&["right.toml"]);
    assert_eq!(exit.stdout, "ok: 2 frontends and 1 upstream in 2 files");
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let exit = check(&["right.toml", "--json"]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    expect_golden("check-ok.json", &stdout(&exit));
    let exit = check(&["wrong.toml"]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        exit.stderr,
        "error: wrong.toml:2:1: process.workres: unknown key; did you mean 'workers'?\n\
         error: wrong.toml:4:11: frontend.e.listen = '${NOT_SET}': the variable NOT_SET is not set (a reload has the \
         environment that the server was started with); \
         set it, or write ${NOT_SET:-default}\n"
    );
    let exit = check(&["wrong.toml", "--json"]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(2), ""));
    expect_golden("check-fail.json", &stdout(&exit));
}

#[test]
fn a_check_resolves_names() {
    let folder = Folder::new();
    let text = "[upstream.u]\nbackends = ['name.invalid:80']\n\
                [frontend.e]\nlisten = 'name.invalid:1'\nservice = 'echo'\n";
    let path = folder.write("a.toml", text);
    let exit = Launch::from_file(&["check", "--config", &path], 0).run_within(4 * SOON);
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    for place in [":2:13: upstream.u.backends[0] = ", ":4:10: frontend.e.listen = "] {
        let line = exit.stderr.lines().find(|line| line.contains(place));
        let line = line.unwrap_or_else(|| panic!("no {place} in {}", exit.stderr));
        assert!(line.contains("the name cannot be resolved: "), "{line}");
    }
}

/// A check binds nothing: what is in use is no matter to it.
#[test]
fn a_check_binds_nothing() {
    let folder = Folder::new();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = busy.local_addr().expect("it has an address");
    let path = folder.write("a.toml", &frontend("e", &address.to_string(), "echo"));
    assert_eq!(run(&["check", "--config", &path]).code, Some(0));
    let exit = run(&["run", "--config", &path]);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains(&address.to_string()), "{}", exit.stderr);
}

fn frontend(name: &str, listen: &str, service: &str) -> String {
    format!("[frontend.{name}]\nlisten = '{listen}'\nservice = '{service}'\n")
}

fn with_engine(text: &str) -> String {
    format!("[process]\nengine = '{}'\n{text}", crate::ENGINE)
}

/// What cannot be read is told, with exit status 2 and without waiting for anybody.
#[test]
fn what_cannot_be_read_is_told_at_once() {
    let folder = Folder::new();
    let fifo = folder.file("fifo");
    crate::process::make_fifo(&fifo).expect("it is new");
    let included = folder.write("included.toml", "include = 'fifo'\n[frontend.e]\n");
    let body = format!("{}body_file = 'fifo'\n", frontend("h", ":1", "http"));
    let body = folder.write("body.toml", &body);
    let empty = folder.write("empty.toml", "");
    let folder_itself = folder.file("");
    let none = folder.file("none");
    let table = [
        (&fifo, "this is a FIFO, a device or a socket; it must be a regular file"),
        (&included, "included.toml:1:11: include = 'fifo': this is a FIFO"),
        (&body, "body_file = 'fifo': this is a FIFO"),
        (&folder_itself, "this is a directory"),
        (&none, "the file cannot be read: No such file"),
        (&empty, "no frontend; give at least one"),
    ];
    for (path, expected) in table {
        for command in ["check", "run"] {
            let exit = run(&[command, "--config", path]);
            assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""), "{command} {path}");
            assert!(exit.stderr.contains(expected), "{command} {path}: {}", exit.stderr);
            assert!(exit.stderr.starts_with("error: "), "{}", exit.stderr);
        }
    }
}

#[test]
fn a_file_is_served_with_what_the_command_line_overrides() {
    let folder = Folder::new();
    let text = with_engine(&frontend("main", "127.0.0.1:0", "echo"))
        .replace("[process]\n", "[process]\nlog_format = 'json'\nlog_level = 'error'\n");
    let path = folder.write("a.toml", &text);
    let server =
        Launch::from_file(&["run", "--config", &path, "-v", "--log-format", "text"], 1).start();
    assert_eq!(server.listening()[0].service, "echo");
    assert_eq!(ask(server.address(), b"ping\n"), b"ping\n");
    let log = server.stop();
    assert!(log.contains("DEBUG running on "), "{log}");
}

/// Sends, says that this was all, and reads to the end.
fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(address).expect("it accepts");
    client.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    client.write_all(request).expect("it can be sent");
    client.shutdown(std::net::Shutdown::Write).expect("a FIN can be sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the answer comes");
    answer
}

#[test]
fn a_command_line_is_printed_as_the_file_that_does_the_same() {
    let line = ["http", "--listen", "127.0.0.1:0", "--body", "$5\n", "--engine", crate::ENGINE];
    let exit = run(&[&line[..], &["--print-config"]].concat());
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let folder = Folder::new();
    let path = folder.write("a.toml", &stdout(&exit));
    let server = Launch::from_file(&["run", "--config", &path], 1).start();
    let answer = ask(server.address(), b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with(b"\r\n\r\n$5\n"), "{}", answer.escape_ascii());
    server.stop();
}

#[test]
fn shells_are_told_how_to_complete() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let exit = run(&["completions", shell]);
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["acceptor", "print-config", "backend-max-connections", "doctor"] {
            assert!(exit.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    if let Ok(status) = std::process::Command::new("bash").args(["-n", "/dev/null"]).status() {
        assert!(status.success());
        let folder = Folder::new();
        let path = folder.write("bash", &stdout(&run(&["completions", "bash"])));
        let status = std::process::Command::new("bash").args(["-n", &path]).status();
        assert!(status.expect("it was there").success());
    }
}

#[test]
fn manual_pages_are_written() {
    let folder = Folder::new();
    let exit = run(&["man", folder.0.to_str().expect("a path in text")]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for (page, word) in [
        ("acceptor.1", "doctor"),
        ("acceptor-proxy.1", "when\\-all\\-out"),
        ("acceptor-run.1", "CONFIGURATION.md"),
        ("acceptor-check.1", "json"),
    ] {
        let text = fs::read_to_string(folder.file(page)).expect(page);
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
        assert!(text.contains(word), "{page} does not know {word}");
    }
    assert!(!folder.0.join("acceptor-man.1").exists(), "it is hidden");
    let exit = run(&["man", &folder.file("none")]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("the manual pages cannot be written to"), "{}", exit.stderr);
}

/// Of a file by `check` and at the start, of a command line at the start.
#[test]
fn rules_that_do_nothing_are_warned_of() {
    let text = format!(
        "[process]\nengine = '{}'\n[frontend.e]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nban_after = 5\n",
        crate::ENGINE
    );
    let folder = Folder::new();
    let path = folder.write("a.toml", &text);
    let exit = run(&["check", "--config", &path]);
    let warning = "a.toml:6:13: frontend.e.ban_after = 5: nobody is banned";
    assert!(exit.code == Some(0) && exit.stdout.contains(warning), "{}", exit.stdout);
    let server = Launch::from_file(&["run", "--config", &path, "--log-format", "text"], 1).start();
    let log = server.stop();
    assert!(log.contains(warning), "{log}");
    let log = Server::start(&["echo", "--refuse", "delay", "--log-format", "text"]).stop();
    assert!(log.contains("--refuse: no rate of a source is limited"), "{log}");
}

/// The file under deploy/ with other ports.
fn deployed() -> String {
    let text = fs::read_to_string(source("deploy/acceptor.toml")).expect("it can be read");
    for port in ["8080", "8081", "7007"] {
        assert!(text.contains(&format!("listen = \"127.0.0.1:{port}\"")), "{port}");
    }
    text
}

#[test]
fn the_file_that_is_delivered_is_right() {
    let path = source("deploy/acceptor.toml");
    let path = path.to_str().expect("a path in text");
    let exit = run(&["check", "--config", path]);
    assert_eq!(exit.stdout, "ok: 3 frontends and 1 upstream in 1 file", "{}", exit.stderr);
    assert_eq!(exit.code, Some(0));
    assert!(!deployed().contains('\t'));
}

/// Each line that is commented out, with the `#` taken away, is right too.
#[test]
fn what_is_commented_out_in_the_file_that_is_delivered_is_right() {
    let is_setting = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        rest.starts_with('[')
            || rest.starts_with('"')
            || rest
                .split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let text: String = deployed()
        .lines()
        .map(|line| if is_setting(line) { &line[2..] } else { line })
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(text.lines().any(|line| line.starts_with("access_log = ")), "{text}");
    let text = text + "[upstream.api]\nbackends = ['127.0.0.1:1']\n";
    let folder = Folder::new();
    let path = folder.write("a.toml", &text);
    let exit = run(&["check", "--config", &path]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

/// The file that is delivered, as it is but for the addresses and the engine: all of its frontends at once.
#[test]
fn the_file_that_is_delivered_is_served() {
    let folder = Folder::new();
    let app = format!("unix:{}", folder.file("app.sock"));
    let text = deployed()
        .replace("127.0.0.1:8081", &app)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:7007", "127.0.0.1:0")
        .replace("[process]\n", &format!("[process]\nengine = '{}'\n", crate::ENGINE));
    let path = folder.write("acceptor.toml", &text);
    fs::create_dir(folder.file("conf.d")).expect("it is new");
    folder.write("conf.d/sink.toml", &frontend("sink", "127.0.0.1:0", "discard"));
    let server = Launch::from_file(&["run", "--config", &path], 4).start();
    let listening = server.listening();
    let at = |service: &str, name: &str| {
        let place = listening
            .iter()
            .position(|l| (l.service.as_str(), l.frontend.as_str()) == (service, name));
        place.unwrap_or_else(|| panic!("no {service} {name} in {listening:?}"))
    };
    assert_eq!(listening[at("http", "app")].address, app);
    for _ in 0..20 {
        let answer = ask(server.address_of(at("proxy", "web")), b"GET / HTTP/1.0\r\n\r\n");
        assert!(answer.ends_with(b"\r\n\r\nhello\n"), "{}", answer.escape_ascii());
        assert_eq!(ask(server.address_of(at("echo", "echo")), b"ping\n"), b"ping\n");
        assert_eq!(ask(server.address_of(at("discard", "sink")), b"ping\n"), b"");
    }
    server.stop();
}

/// Each frontend goes by its own settings, and by the defaults where it has none.
#[test]
fn each_frontend_has_its_own_settings() {
    let folder = Folder::new();
    let text = with_engine(&format!(
        "[defaults]\nfirst_byte_timeout = '1h'\n{}first_byte_timeout = '50ms'\n{}{}max_connections = 1\n",
        frontend("short", "127.0.0.1:0", "echo"),
        frontend("long", "127.0.0.1:0", "echo"),
        frontend("one", "127.0.0.1:0", "echo"),
    ));
    let server = Launch::from_file(&["run", "--config", &folder.write("a.toml", &text)], 3).start();
    let connect = |listener: usize| {
        let client = TcpStream::connect(server.address_of(listener)).expect("it accepts");
        client.set_read_timeout(Some(SOON)).expect("a timeout can be set");
        client
    };
    let (mut short, mut long) = (connect(0), connect(1));
    assert_eq!(short.read(&mut [0]).expect("it is closed in time"), 0);
    let mut answer = [0];
    long.write_all(b"x").and_then(|()| long.read_exact(&mut answer)).expect("it is still open");
    // The second one waits in the kernel until the first has gone.
    let (mut first, mut second) = (connect(2), connect(2));
    first.write_all(b"1").and_then(|()| first.read_exact(&mut answer)).expect("it is served");
    second.write_all(b"2").expect("the kernel takes it");
    second.set_nonblocking(true).expect("it can be set");
    let nothing_yet = || second.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    meanwhile(Duration::from_millis(200), "the second one waits", nothing_yet);
    drop(first);
    second.set_nonblocking(false).expect("it can be set");
    second.read_exact(&mut answer).expect("it is served now");
    assert_eq!(&answer, b"2");
    drop((second, long));
    server.stop();
}

/// Those that are whole, with a frontend.
#[test]
fn the_files_in_the_documents_are_right() {
    let folder = Folder::new();
    let mut checked = 0;
    for entry in fs::read_dir(source("docs")).expect("it is there") {
        let path = entry.expect("it can be read").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|it| it.contains("[frontend.") && !it.contains("backends_file"))
        {
            let exit = run(&["check", "--config", &folder.write("a.toml", block)]);
            assert_eq!(exit.code, Some(0), "{}: {}\n{block}", path.display(), exit.stderr);
            checked += 1;
        }
    }
    assert!(checked >= 6, "{checked}");
}
