//! A browser without a window, told what to do over a pipe (the DevTools protocol of Chromium).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::Folder;

/// A browser, wherever it is called so.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// It may start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol is spoken on descriptors 3 and 4.
const ON_A_PIPE: &str = "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";

/// The name of the browser; `None` where there is none.
pub(crate) fn program() -> Option<&'static str> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&folders).collect();
    let is_there = |name: &&str| folders.iter().any(|folder| folder.join(name).is_file());
    BROWSERS.into_iter().find(is_there)
}

/// Killed, by its own pid, at the end.
pub(crate) struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    last: u64,
    /// What the page has complained about: exceptions, the policy, the console.
    complaints: Vec<String>,
    _profile: Folder,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// `None` where there is none.
    pub(crate) fn start() -> Option<Self> {
        let name = program()?;
        let profile = Folder::new();
        let mut child = Command::new("sh")
            .args(["-c", ON_A_PIPE, "sh", name, "--headless", "--no-sandbox", "--disable-gpu"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.file("profile")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let orders = child.stdin.take().expect("a pipe");
        let answers = read(child.stdout.take().expect("a pipe"));
        Some(Self { child, orders, answers, last: 0, complaints: Vec::new(), _profile: profile })
    }

    #[track_caller]
    fn order(&mut self, method: &str, session: Option<&str>, parameters: &Value) -> Value {
        self.last += 1;
        let mut order = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        write!(self.orders, "{order}\0").expect("the browser takes it");
        loop {
            let mut answer = self.answers.recv_timeout(PATIENCE).expect("the browser answers");
            if answer["id"] == self.last {
                assert_eq!(answer["error"], Value::Null, "{method}");
                return answer["result"].take();
            }
            let is_error = match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => true,
                Some("Log.entryAdded") => answer["params"]["entry"]["level"] == "error",
                Some("Runtime.consoleAPICalled") => answer["params"]["type"] == "error",
                _ => false,
            };
            if is_error {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }

    /// Opens a page in a window of its own.
    #[track_caller]
    pub(crate) fn open(&mut self, address: &str) -> Page<'_> {
        let window = json!({"url": "about:blank", "newWindow": true});
        let target = self.order("Target.createTarget", None, &window)["targetId"].take();
        let attach = json!({"targetId": target, "flatten": true});
        let session = self.order("Target.attachToTarget", None, &attach)["sessionId"].take();
        let mut page =
            Page { browser: self, session: session.as_str().expect("a name").to_owned() };
        page.order("Runtime.enable", &json!({}));
        page.order("Log.enable", &json!({}));
        page.order("Page.navigate", &json!({"url": address}));
        page
    }
}

/// Each answer ends with a zero.
fn read(from: ChildStdout) -> Receiver<Value> {
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        for answer in BufReader::new(from).split(0).map_while(Result::ok) {
            let value = serde_json::from_slice(&answer).expect("JSON");
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    answers
}

/// A page that is open.
pub(crate) struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
}

impl Page<'_> {
    #[track_caller]
    fn order(&mut self, method: &str, parameters: &Value) -> Value {
        self.browser.order(method, Some(&self.session), parameters)
    }

    /// The value of an expression of JavaScript.
    #[track_caller]
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true});
        self.order("Runtime.evaluate", &parameters)["result"]["value"].take()
    }

    /// What can be read in the first element that a selector finds; nothing where there is none.
    #[track_caller]
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({selector:?})?.innerText ?? ''");
        self.value(&expression).as_str().unwrap_or_default().to_owned()
    }

    /// What the page has complained about so far.
    #[track_caller]
    pub(crate) fn complaints(&mut self) -> &[String] {
        self.value("0");
        &self.browser.complaints
    }
}
