//! `acceptor status` and `acceptor top`: what they tell, and top in a real terminal.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server, acceptor, eventually, skipped};
use crate::process;

/// A server with an admin endpoint, and the endpoint's address.
fn watched(folder: &Folder, arguments: &[&str]) -> (Server, String) {
    let admin = format!("unix:{}", folder.file("admin"));
    (Launch::new(&[arguments, &["--admin", &admin]].concat()).start(), admin)
}

fn run(arguments: &[&str]) -> Exit {
    Launch::from_file(arguments, 0).run()
}

#[test]
fn a_status_is_that_of_the_control_socket() {
    let folder = Folder::new();
    let control = format!("unix:{}", folder.file("control"));
    let (server, admin) = watched(&folder, &["echo", "--control", &control]);
    let mut client = connect(server.address());
    expect_echo(&mut client, b"here");
    let words = |exit: Exit| {
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
        let lines = exit.stdout.lines().map(str::to_owned);
        lines.filter(|line| !line.contains("up ")).collect::<Vec<_>>()
    };
    let own = words(run(&["status", &admin]));
    assert_eq!(own, words(run(&["ctl", "status", "--control", &control])));
    let row = own.iter().find(|line| line.starts_with("echo ")).expect("its frontend");
    assert!(row.contains(" healthy ") && row.contains(&server.address().to_string()), "{row}");
    let exit = run(&["status", &admin, "--json"]);
    let json: Value = serde_json::from_str(&exit.stdout).expect("JSON");
    assert_eq!(json["connections"]["open"], 1, "{json}");
    assert_eq!(json["pid"], server.pid());
}

#[test]
fn the_environment_may_say_where() {
    let folder = Folder::new();
    let (server, admin) = watched(&folder, &["echo"]);
    let exit = Launch::from_file(&["status"], 0).variable("ACCEPTOR_ADMIN", &admin).run();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains(&format!("pid {}", server.pid())), "{}", exit.stdout);
    let exit = Launch::from_file(&["status"], 0).variable("ACCEPTOR_ADMIN", "here").run();
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.starts_with("error: ACCEPTOR_ADMIN: 'here' "), "{}", exit.stderr);
}

#[test]
fn without_an_endpoint_it_is_said_what_to_set() {
    let nobody = "unix:/nobody/listens/here";
    for arguments in [&["status", nobody][..], &["top", "--once", nobody]] {
        let exit = run(arguments);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        for word in ["error: no server can be reached at unix:/nobody", "--admin 9100"] {
            assert!(exit.stderr.contains(word), "{}", exit.stderr);
        }
    }
}

#[test]
fn what_is_no_admin_endpoint_is_told() {
    let server = Server::start(&["http"]);
    let exit = run(&["status", &server.address().to_string()]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("is not the admin endpoint of an acceptor"), "{}", exit.stderr);
    let said = |answer: &'static str| {
        let exit = run(&["top", "--once", &answering(answer).to_string()]);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{answer}");
        exit.stderr
    };
    let text = said("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(text.contains("is not the admin endpoint of an acceptor: it answers 404"), "{text}");
    let text = said("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert!(text.contains("its status is not one of this program"), "{text}");
    let text = said("HTTP/1.1 503 Service Unavailable\r\n\r\nthe server is starting\n");
    assert!(text.contains("cannot tell yet: the server is starting"), "{text}");
    assert!(said("220 mail ESMTP\r\n").contains("does not speak HTTP"));
}

/// Somebody who answers this to the first who asks.
fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(answer.as_bytes());
    });
    address
}

#[test]
fn once_prints_a_picture_of_eighty_columns() {
    let folder = Folder::new();
    let (server, admin) = watched(&folder, &["echo"]);
    let mut client = connect(server.address());
    expect_echo(&mut client, b"here");
    let once = ["top", &admin, "--once", "--interval", "100ms"];
    let exit = run(&once);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for text in [
        "\nopen 1 of ",
        "1 listener, healthy",
        "\nListeners\n",
        "\nWorkers\n",
        "\nUpstreams\n",
        "\nTimes\n",
    ] {
        assert!(exit.stdout.contains(text), "{text}: {}", exit.stdout);
    }
    assert!(!exit.stdout.contains("accepted -/s"), "a rate is known: {}", exit.stdout);
    assert!(exit.stdout.lines().all(|line| line.chars().count() <= 80), "{}", exit.stdout);
    let exit = run(&[&once[..], &["--view", "connections", "--sort", "age"]].concat());
    let from = client.local_addr().expect("it is connected").to_string();
    assert!(exit.stdout.contains("1 of 1 connections, the oldest first"), "{}", exit.stdout);
    assert!(exit.stdout.contains(&from), "{}", exit.stdout);
    let exit = run(&[&once[..], &["--view", "sources"]].concat());
    assert!(exit.stdout.contains("\nno rules by source\n"), "{}", exit.stdout);
}

#[test]
fn once_prints_sources_that_have_a_limit() {
    let folder = Folder::new();
    let (server, admin) = watched(&folder, &["echo", "--max-per-source", "5", "--deny", "::/0"]);
    let mut client = connect(server.address());
    expect_echo(&mut client, b"here");
    let exit = run(&["top", &admin, "--once", "--interval", "100ms", "--view", "sources"]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    for text in [
        "\necho: 1 of 1 sources, those with most open connections first; room for 65536\n",
        "\n127.0.0.1     1            0ms        0\n",
        "\necho      deny            refused           0      0\n",
        "\nbans: none; they would be ",
    ] {
        assert!(exit.stdout.contains(text), "{text}: {}", exit.stdout);
    }
    assert!(exit.stdout.lines().all(|line| line.chars().count() <= 80), "{}", exit.stdout);
}

#[test]
fn what_is_no_terminal_is_refused() {
    let folder = Folder::new();
    let (_server, admin) = watched(&folder, &["echo"]);
    let exit = run(&["top", &admin]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
    assert_eq!(exit.stderr, "error: stdout is not a terminal; --once prints one picture as text\n");
}

/// A shell in a terminal of 80 columns and 24 lines.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// `None`, said loudly, where there is no tmux.
    fn start(folder: &Folder) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skipped("tmux is not installed");
            return None;
        }
        let terminal = Self { socket: folder.file("tmux") };
        let size = ["-x", "80", "-y", "24"];
        terminal.tmux(&[&["new-session", "-d"][..], &size, &["env", "PS1=ready> ", "sh"]].concat());
        eventually(SOON, "the shell is there", || terminal.shows("ready>"));
        Some(terminal)
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-S", &self.socket]).args(arguments);
        // That of a plain user may be one that lets nobody in.
        command.env("SHELL", "/bin/sh").env_remove("TMUX");
        let output = command.output().expect("tmux starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn shows(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        let mut screen = String::new();
        eventually(SOON, &format!("'{text}' is on the screen"), || {
            screen = self.screen();
            screen.contains(text)
        });
    }

    fn top(&self, admin: &str) {
        let program = acceptor().display().to_string();
        self.keys(&["clear", "Enter"]);
        self.keys(&[&format!("{program} top {admin} --interval 200ms"), "Enter"]);
        self.expect("1 listener, healthy");
        assert_eq!(self.state(), "1 0", "another screen, and no cursor");
    }

    /// The process that the shell waits for.
    fn program(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let path = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(path).expect("the kernel tells");
        children.trim().parse().expect("there is one")
    }

    /// Whether the other screen is shown, and the cursor.
    fn state(&self) -> String {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim().to_owned()
    }

    /// The shell is back, with this exit status of the program, and a terminal as it was.
    #[track_caller]
    fn expect_sane(&self, code: u32) {
        // What is typed before that is a key of top.
        eventually(SOON, "the shell's own screen is back", || self.state() == "0 1");
        self.keys(&["echo ended $?; stty -a | tr ';' '\\n' | grep -w icanon", "Enter"]);
        // Behind the prompt, if it was typed before there was one.
        self.expect(&format!("ended {code}\n"));
        eventually(SOON, "lines and echo are on", || {
            let screen = self.screen();
            let flags = screen.lines().find(|line| line.trim_start().starts_with("isig"));
            flags.is_some_and(|line| line.contains(" icanon") && !line.contains("-icanon"))
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut screen = Command::new("tmux");
            screen.args(["-S", &self.socket, "capture-pane", "-p"]);
            let shown = screen.env_remove("TMUX").output().map(|it| it.stdout).unwrap_or_default();
            eprintln!("the screen was:\n{}", String::from_utf8_lossy(&shown));
        }
        let end = ["-S", &self.socket, "kill-server"];
        let _ = Command::new("tmux").args(end).env_remove("TMUX").output();
    }
}

#[test]
fn top_draws_and_resizes_and_gives_the_terminal_back() {
    let folder = Folder::new();
    let Some(terminal) = Terminal::start(&folder) else { return };
    let (server, admin) = watched(&folder, &["echo"]);
    terminal.top(&admin);
    terminal.expect("VERDICT  FRONTEND  ADDRESS");
    terminal.expect(&format!("healthy  echo      {}", server.address()));
    terminal.expect("\nopen 0 of ");
    // A number that moves.
    let mut clients: Vec<_> = (0..3).map(|_| connect(server.address())).collect();
    clients.iter_mut().for_each(|client| expect_echo(client, b"here"));
    terminal.expect("\nopen 3 of ");
    drop(clients.pop());
    terminal.expect("\nopen 2 of ");
    terminal.keys(&["2"]);
    terminal.expect("\nTHREAD    BALANCE");
    terminal.keys(&["a"]);
    terminal.expect("2 of 2 connections, the oldest first");
    terminal.expect(&clients[0].local_addr().expect("it is connected").to_string());
    terminal.keys(&["w"]);
    terminal
        .expect("2 of 2 connections, the longest in the accept queue first; WAIT recorded since");
    terminal.keys(&["5"]);
    terminal.expect("1 of 1 clients with 2 connections");
    terminal.expect("127.0.0.1            2");
    terminal.keys(&["6"]);
    terminal.expect("how long connections took in the last");
    terminal.keys(&["a"]);
    terminal.expect("2 of 2 connections, the oldest first");
    for (width, height) in [(60, 10), (100, 30), (20, 4)] {
        terminal.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
        let is_below = |line: Option<&str>| line.is_some_and(|line| line.starts_with("1-7 Tab"));
        eventually(SOON, "the keys are on the last line", || {
            let screen = terminal.screen();
            screen.lines().count() == height && is_below(screen.lines().last())
        });
    }
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal.expect("2 of 2 connections, the oldest first");
    terminal.keys(&["q"]);
    terminal.expect_sane(0);
}

#[test]
fn top_ends_by_control_c_and_by_a_signal() {
    let folder = Folder::new();
    let Some(terminal) = Terminal::start(&folder) else { return };
    let (_server, admin) = watched(&folder, &["echo"]);
    terminal.top(&admin);
    terminal.keys(&["C-c"]);
    terminal.expect_sane(0);
    terminal.top(&admin);
    process::kill(terminal.program(), libc::SIGTERM);
    terminal.expect_sane(0);
}

/// As when a connection of ssh breaks: it does not go on reading from nothing.
#[test]
fn top_ends_with_its_terminal() {
    let folder = Folder::new();
    let Some(terminal) = Terminal::start(&folder) else { return };
    let (_server, admin) = watched(&folder, &["echo"]);
    terminal.top(&admin);
    let top = terminal.program();
    drop(terminal);
    eventually(SOON, "it has ended", || {
        // Nobody may have waited for it.
        let stat = std::fs::read_to_string(format!("/proc/{top}/stat")).unwrap_or_default();
        !stat.contains("(acceptor)") || stat.contains(") Z ")
    });
}

#[test]
fn top_tells_that_the_server_is_gone_and_sees_the_next_one() {
    let folder = Folder::new();
    let Some(terminal) = Terminal::start(&folder) else { return };
    let (server, admin) = watched(&folder, &["echo"]);
    terminal.top(&admin);
    server.stop();
    terminal.expect("no server can be reached at unix:");
    let (server, _) = watched(&folder, &["echo"]);
    terminal.expect(&format!("pid {}", server.pid()));
    terminal.expect("1-7 Tab view");
    terminal.keys(&["Escape"]);
    terminal.expect_sane(0);
}
