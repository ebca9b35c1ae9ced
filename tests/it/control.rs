//! The control socket: commands, hostile clients, reloads.

mod commands;
mod discovery;
mod hangup;
mod hostile;
mod killed;
mod networks;
mod services;
mod words;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::harness::{Exit, Launch, SOON, Server};

/// A server that was started from a file, with a control socket.
struct Controlled {
    folder: Folder,
    server: Server,
}

/// An echo service and a proxy to nobody.
const TEXT: &str = "\
[frontend.e]
listen = '127.0.0.1:0'
service = 'echo'
[frontend.p]
listen = '127.0.0.1:0'
service = 'proxy'
upstream = 'web'
[upstream.web]
backends = ['127.0.0.1:1', '127.0.0.1:2,weight=3']
";

impl Controlled {
    fn start() -> Self {
        Self::with(TEXT, 2)
    }

    fn with(text: &str, listeners: usize) -> Self {
        Self::within(Folder::new(), text, listeners)
    }

    /// In a folder that has more in it.
    fn within(folder: Folder, text: &str, listeners: usize) -> Self {
        let text = in_full(&folder, text);
        let path = folder.write("a.toml", &text);
        let server = Launch::from_file(&["run", "--config", &path], listeners).start();
        Self { folder, server }
    }

    fn write(&self, text: &str) {
        self.folder.write("a.toml", &in_full(&self.folder, text));
    }

    fn socket(&self) -> String {
        self.folder.file("c.sock")
    }

    /// Runs the client.
    fn ctl(&self, arguments: &[&str]) -> Exit {
        let control = format!("unix:{}", self.socket());
        let command = [&["ctl", "--control", &control], arguments].concat();
        Launch::from_file(&command, 0).run_within(4 * SOON)
    }

    /// What the client writes for one that succeeds.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let exit = self.ctl(arguments);
        assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        exit.stdout
    }

    /// What it says of one that is refused.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let exit = self.ctl(arguments);
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        exit.stderr
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("it listens");
        stream.set_read_timeout(Some(2 * SOON)).expect("a timeout can be set");
        stream
    }

    fn status(&self) -> Value {
        let answer = ask(&self.connect(), &json!({"version": 1, "command": "status"}));
        assert_eq!(answer["ok"], json!(true), "{answer}");
        answer["result"].clone()
    }

    /// Reloads by the socket; the result, or the error.
    fn reload(&self) -> Result<Value, Value> {
        let answer = ask(&self.connect(), &json!({"version": 1, "command": "reload"}));
        match answer["ok"] == json!(true) {
            true => Ok(answer["result"].clone()),
            false => Err(answer["error"].clone()),
        }
    }
}

/// With the part of the process in front.
fn in_full(folder: &Folder, text: &str) -> String {
    let (engine, socket) = (crate::ENGINE, folder.file("c.sock"));
    format!("[process]\nengine = '{engine}'\nworkers = 2\ncontrol = 'unix:{socket}'\n{text}")
}

#[track_caller]
fn ask(mut stream: &UnixStream, request: &Value) -> Value {
    stream.write_all(format!("{request}\n").as_bytes()).expect("it can be sent");
    answer(stream)
}

#[track_caller]
fn answer(stream: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream.take(64 << 20)).read_line(&mut line).expect("an answer comes");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}'"))
}

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);
