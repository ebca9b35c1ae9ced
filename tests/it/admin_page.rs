//! The page of the admin endpoint, as a browser shows it.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::browser::{Browser, Page};
use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::harness::{Launch, SOON, Server, eventually, skipped};

/// A server with an admin endpoint, and where its page is.
fn watched(arguments: &[&str]) -> (Server, String) {
    let server = Launch::new(&[arguments, &["--admin", "0"]].concat()).start();
    let page = page_of(&server);
    (server, page)
}

/// As the server tells it.
fn page_of(server: &Server) -> String {
    const TOLD: &str = "the admin endpoint is on ";
    eventually(SOON, "it is told", || server.stderr().contains(TOLD));
    let log = server.stderr();
    let address = log.split(TOLD).nth(1).and_then(|rest| rest.split_whitespace().next());
    format!("http://{}/", address.expect("an address"))
}

/// What the page shows of the rate with this title, as a number; 0 while it shows none.
fn rate(page: &mut Page<'_>, title: &str) -> f64 {
    let expression = format!(
        "[...document.querySelectorAll('figcaption')].find(it => it.firstChild.textContent === '{title}')?.lastChild.textContent ?? ''"
    );
    let text = page.value(&expression).as_str().unwrap_or_default().to_owned();
    text.split(['/', ' ']).next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The points of the first plot that are neither empty nor of the grid: the colours of the lines are not grey.
const COLOURED_POINTS: &str = "(() => { const canvas = document.querySelector('canvas'); \
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height); let found = 0; \
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 128 && Math.abs(data[at] - data[at + 2]) > 60) found += 1; \
    return found; })()";

/// Connections that come and go, until this is dropped.
struct Load {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let ended = Arc::<AtomicBool>::default();
        let told = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                expect_echo(&connect(address), b"hello");
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn numbers_move_under_load() {
    let Some(mut browser) = Browser::start() else { return skipped("no chromium shows the page") };
    let (server, address) = watched(&["echo", "--queue-wait-sample", "1"]);
    let mut page = browser.open(&address);
    eventually(SOON, "it is live", || page.text("#updated").starts_with("live"));
    assert_eq!(page.text("#phase"), "serving");
    assert!(page.text("#verdicts").contains("The listener is healthy."));
    assert!(page.text("#listeners tbody tr").contains(&server.address().to_string()));
    assert_eq!(page.text("#notice"), "");
    assert!(page.text("#waits-sum").starts_with("No connections counted"));
    let load = Load::on(server.address());
    eventually(SOON, "rates are shown", || {
        ["Accepted", "Closed, by reason", "Bytes"].iter().all(|it| rate(&mut page, it) > 0.0)
    });
    eventually(SOON, "lines are drawn", || page.value(COLOURED_POINTS).as_u64() > Some(20));
    eventually(SOON, "waits are shown", || page.text("#waits-sum").contains("99th percentile"));
    let before = page.text("#waits-sum");
    eventually(SOON, "they move", || page.text("#waits-sum") != before);
    drop(load);
    let lifetimes = "document.querySelector('#waits-kind').value = 'frontend_lifetime'; \
                     document.querySelector('#waits-kind').dispatchEvent(new Event('change'))";
    page.value(lifetimes);
    assert!(page.text("#waits-sum").contains("99th percentile"));
    let first_bytes = lifetimes.replace("frontend_lifetime", "frontend_first_byte");
    page.value(&first_bytes);
    assert!(page.text("#waits-sum").contains("99th percentile"));
    eventually(SOON, "the load has ended", || rate(&mut page, "Accepted") == 0.0);
    let held = [0; 3].map(|_| connect(server.address()));
    held.iter().for_each(|client| expect_echo(client, b"x"));
    eventually(SOON, "they are shown", || page.text("#connections").starts_with("3 of "));
    assert_eq!(page.complaints(), [] as [String; 0]);
    drop(held);
    server.stop();
}

#[test]
fn the_verdict_turns_and_turns_back() {
    let Some(mut browser) = Browser::start() else { return skipped("no chromium shows the page") };
    let (server, address) = watched(&["echo", "--max-connections", "1"]);
    let mut page = browser.open(&address);
    let shows = |page: &mut Page<'_>, selector: &str, what: &str| {
        eventually(SOON, what, || page.text(selector).contains(what));
    };
    shows(&mut page, "#verdicts", "healthy");
    let first = connect(server.address());
    expect_echo(&first, b"x");
    let waiting = connect(server.address());
    shows(&mut page, "#verdicts", "accepting_paused (max_connections)");
    shows(&mut page, "#verdicts", "at its limit on connections");
    shows(&mut page, "#verdicts", &server.address().to_string());
    shows(&mut page, "#listeners tbody .word", "accepting_paused");
    drop(first);
    expect_echo(&waiting, b"x");
    drop(waiting);
    eventually(3 * SOON, "the pause is forgotten", || {
        page.text("#verdicts").contains("The listener is healthy.")
    });
    assert!(page.value("document.title").as_str().unwrap().starts_with("healthy"));
    server.stop();
}

#[test]
fn sources_rules_and_bans_are_shown_where_there_are_some() {
    let Some(mut browser) = Browser::start() else { return skipped("no chromium shows the page") };
    let (plain, address) = watched(&["echo"]);
    let mut page = browser.open(&address);
    eventually(SOON, "it is live", || page.text("#updated").starts_with("live"));
    let hidden = |page: &mut Page<'_>, id: &str| {
        page.value(&format!("document.querySelector('{id}').hidden")).as_bool()
    };
    assert_eq!(hidden(&mut page, "#sources-part"), Some(true));
    assert!(page.text("#bans-sum").starts_with("none; they would be "));
    assert_eq!(hidden(&mut page, "#bans-list"), Some(true));
    let folder = Folder::new();
    let (denied, control) = (folder.write("denied", "192.0.2.0/24\n"), folder.file("control"));
    let text = format!(
        "[process]\nadmin = '0'\ncontrol = 'unix:{control}'\nengine = '{}'\nmax_per_source = 9\n[frontend.web]\nlisten = '127.0.0.1:0'\n\
         service = 'echo'\nmax_per_source = 2\ndeny_file = '{denied}'\noverload = 'shed'\n",
        crate::ENGINE
    );
    let file = folder.write("a.toml", &text);
    let server = Launch::from_file(&["run", "--config", &file], 1).start();
    let mut page = browser.open(&page_of(&server));
    let held = [0; 2].map(|_| connect(server.address()));
    held.iter().for_each(|client| expect_echo(client, b"x"));
    let above = TcpStream::connect(server.address()).and_then(|mut it| it.read(&mut [0]));
    assert!(!matches!(above, Ok(1..)), "it is above the limit");
    let shows = |page: &mut Page<'_>, selector: &str, what: &str| {
        eventually(SOON, what, || page.text(selector).replace('\t', " ").contains(what));
    };
    shows(&mut page, "#sources tbody", "127.0.0.1 2 0 ms 1");
    shows(&mut page, "#sources-sum", "1 known, room for 65,536");
    shows(&mut page, "#rules tbody", "web max_per_source refused 1");
    shows(&mut page, "#listeners tbody", "shed 0 2");
    assert_eq!(page.text("#rules-sum"), "connections, since the start");
    fs::write(&denied, "nobody\n").expect("it can be written");
    shows(&mut page, "#rules-sum", "web: ");
    shows(&mut page, "#rules-sum", "denied:1: 'nobody': it must be a network");
    let ban = ["ctl", "--control", &format!("unix:{control}"), "ban", "192.0.2.7", "--for", "1h"];
    assert_eq!(Launch::from_file(&ban, 0).run().code, Some(0));
    shows(&mut page, "#bans-sum", "1, ");
    shows(&mut page, "#bans tbody", "192.0.2.7 operator");
    shows(&mut page, "#sources-of", "web");
    page.value(
        "document.querySelector('#sources-by').value = 'refused'; \
         document.querySelector('#sources-by').dispatchEvent(new Event('change'))",
    );
    assert_eq!(hidden(&mut page, "#sources-part"), Some(false));
    assert_eq!(page.complaints(), [] as [String; 0]);
    drop(held);
    server.stop();
    plain.stop();
}

#[test]
fn a_server_that_drains_or_is_gone_is_told() {
    let Some(mut browser) = Browser::start() else { return skipped("no chromium shows the page") };
    let (server, address) = watched(&["echo", "--drain-timeout", "20s"]);
    let mut page = browser.open(&address);
    let open = connect(server.address());
    expect_echo(&open, b"x");
    eventually(SOON, "it is live", || page.text("#updated").starts_with("live"));
    server.signal(libc::SIGTERM);
    eventually(SOON, "the drain is told", || {
        page.text("#notice").contains("The server is draining")
            && page.text("#notice").contains("1 is still open")
    });
    drop(open);
    assert_eq!(server.wait(SOON).code, Some(0));
    eventually(SOON, "it is told that nobody answers", || {
        page.text("#notice").contains("The server cannot be reached. The data below is from")
    });
    assert_eq!(page.text("#phase"), "unreachable");
}
