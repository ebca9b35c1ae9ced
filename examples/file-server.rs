//! Files of a folder over HTTP/1.1: GET and HEAD, ranges, keep-alive. The bytes go from the disk's cache to the socket
//! and take no memory here, however large the file is and however slow the client. What may wait for the disk, opening
//! a file, is done on a thread of its own while the session pauses; each worker keeps what it has opened for a moment.
//!
//! `cargo run --release --example file-server -- 127.0.0.1:7005 .`, then `curl http://127.0.0.1:7005/README.md`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use httparse::Status;
use uring_acceptor::server::Server;
use uring_acceptor::service::{
    Action, ConnectionInfo, Input, Mailbox, Outbox, Parsed, PartialMessage, Service, WorkerInfo,
};

/// The longest head of a request, and its most fields.
const HEAD_BYTES: usize = 8 * 1024;
const FIELDS: usize = 64;

/// How many files one worker keeps open, and for how long: so long a change may go unseen.
const KEPT_MAX: usize = 256;
const KEPT_FOR: Duration = Duration::from_secs(1);

/// How many files may wait to be opened.
const WANTED_MAX: usize = 1024;

/// An open file and its length in bytes.
type Opened = (Arc<File>, u64);

/// A file that a session waits for.
struct Wanted {
    path: PathBuf,
    session: Mailbox<Found>,
}

/// What became of it.
struct Found {
    path: PathBuf,
    file: io::Result<Opened>,
}

struct Files {
    root: PathBuf,
    wanted: SyncSender<Wanted>,
}

/// What a worker has opened, and when.
#[derive(Default)]
struct Kept(HashMap<PathBuf, (Opened, Instant)>);

struct Session {
    mailbox: Mailbox<Found>,
    partial: PartialMessage,
    /// What is to be answered when its file has been found.
    waits: Option<Request>,
}

/// What is asked for.
struct Request {
    /// `None` if it is not below the root.
    path: Option<PathBuf>,
    has_body: bool,
    range: Option<String>,
    goes_on: bool,
}

/// Why a request has no file as its answer.
struct Refusal(&'static str);

const INVALID: Refusal = Refusal("400 Bad Request");
const NOT_ALLOWED: Refusal = Refusal("405 Method Not Allowed");
const TOO_LONG: Refusal = Refusal("431 Request Header Fields Too Large");
const BUSY: Refusal = Refusal("503 Service Unavailable");

impl Kept {
    fn get(&mut self, path: &Path) -> Option<Opened> {
        let (opened, since) = self.0.get(path)?;
        (since.elapsed() < KEPT_FOR).then(|| opened.clone())
    }

    fn keep(&mut self, path: PathBuf, opened: Opened) {
        if self.0.len() >= KEPT_MAX {
            self.0.retain(|_, (_, since)| since.elapsed() < KEPT_FOR);
        }
        if self.0.len() < KEPT_MAX {
            self.0.insert(path, (opened, Instant::now()));
        }
    }
}

impl Request {
    /// The first request in `bytes`, which has so many of them; `None` if it is not whole.
    fn parse(bytes: &[u8], root: &Path) -> Result<Option<(Self, usize)>, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Request::new(&mut fields);
        let len = match head.parse(bytes) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
            Err(_) => return Err(INVALID),
        };
        let field = |name: &str| {
            let mut named = head.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name));
            named.next().and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let has_body = match head.method {
            Some("GET") => true,
            Some("HEAD") => false,
            _ => return Err(NOT_ALLOWED),
        };
        // What a client sends behind such a head is no request.
        let sends_body = field("content-length").is_some_and(|length| length.trim() != "0");
        if sends_body || field("transfer-encoding").is_some() {
            return Err(INVALID);
        }
        let path = below(root, head.path.unwrap_or_default());
        let closes =
            field("connection").is_some_and(|it| it.to_ascii_lowercase().contains("close"));
        let goes_on = head.version == Some(1) && !closes;
        let range = field("range").map(str::to_owned);
        Ok(Some((Self { path, has_body, range, goes_on }, len)))
    }

    /// There is no such file.
    fn miss(&self, outbox: &mut Outbox) -> Action {
        outbox.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n");
        self.end_head(outbox)
    }

    /// Ends the head of an answer.
    fn end_head(&self, outbox: &mut Outbox) -> Action {
        if self.goes_on {
            outbox.write(b"\r\n");
            Action::Continue
        } else {
            outbox.write(b"Connection: close\r\n\r\n");
            Action::Close
        }
    }

    /// Answers with a file.
    fn answer(&self, (file, length): &Opened, outbox: &mut Outbox) -> Action {
        let (status, range) = match self.range.as_deref().map(|text| part_of(text, *length)) {
            None | Some(None) => ("200 OK", 0..*length),
            Some(Some(range)) if range.is_empty() => ("416 Range Not Satisfiable", 0..0),
            Some(Some(range)) => ("206 Partial Content", range),
        };
        let _ = write!(outbox, "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\n");
        let _ = write!(outbox, "Content-Length: {}\r\n", range.end - range.start);
        match status {
            "206 Partial Content" => {
                let last = range.end - 1;
                let _ = write!(outbox, "Content-Range: bytes {}-{last}/{length}\r\n", range.start);
            }
            "416 Range Not Satisfiable" => {
                let _ = write!(outbox, "Content-Range: bytes */{length}\r\n");
            }
            _ => {}
        }
        let action = self.end_head(outbox);
        if self.has_body {
            outbox.file(file, range);
        }
        action
    }
}

/// The file of a target such as `/folder/a%20name?query`; `None` if it is not below the root.
fn below(root: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    let mut path = String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))?;
    if path.is_empty() || path.ends_with('/') {
        path.push_str("index.html");
    }
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    Path::new(&path).components().all(is_name).then(|| root.join(path))
}

/// The bytes of a file that one `Range` asks for, none if it has none of them. `None` for what is not understood, which
/// is as if it were not there.
fn part_of(text: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => Some(length.saturating_sub(last.parse().ok()?)..length),
        (first, "") => Some(first.parse().ok()?..length),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| first..length.min(last.saturating_add(1)))
        }
    }
}

/// Opens files, one after the other.
fn open_all(wanted: &Receiver<Wanted>) {
    for Wanted { path, session } in wanted {
        let file = open(&path);
        // A session that has gone wants it no more.
        let _ = session.send(Found { path, file });
    }
}

fn open(path: &Path) -> io::Result<Opened> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((Arc::new(file), length))
}

impl Refusal {
    /// The rest of what has come is not looked at.
    fn answer(&self, outbox: &mut Outbox) -> Action {
        let Self(status) = self;
        let _ = write!(outbox, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n");
        outbox.write(b"Connection: close\r\n\r\n");
        Action::Linger
    }
}

impl Files {
    /// Answers what has come, as far as that goes without waiting.
    fn answer(
        &self,
        session: &mut Session,
        kept: &mut Kept,
        input: &[u8],
        outbox: &mut Outbox,
    ) -> Action {
        let Session { mailbox, partial, waits } = session;
        let fed = partial.feed(input, HEAD_BYTES, |bytes| {
            let (request, len) = match Request::parse(bytes, &self.root) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => return Parsed::NeedsByte(b'\n'),
                Err(refusal) => {
                    return Parsed::Stop { handled: 0, with: refusal.answer(outbox) };
                }
            };
            let opened = request.path.as_ref().map(|path| kept.get(path).ok_or(path.clone()));
            let action = match opened {
                None => request.miss(outbox),
                Some(Ok(opened)) => request.answer(&opened, outbox),
                Some(Err(path)) => {
                    *waits = Some(request);
                    let wanted = Wanted { path, session: mailbox.clone() };
                    // Full, or gone.
                    let refused = self.wanted.try_send(wanted).is_err();
                    if refused { BUSY.answer(outbox) } else { Action::Pause }
                }
            };
            match action {
                Action::Continue => Parsed::Message(len),
                action => Parsed::Stop { handled: len, with: action },
            }
        });
        match fed {
            Ok(fed) => fed.stopped.unwrap_or_else(|| fed.action()),
            Err(_) => TOO_LONG.answer(outbox),
        }
    }
}

impl Service for Files {
    type Session = Session;
    type Message = Found;
    type Local = Kept;

    fn name(&self) -> &str {
        "file-server"
    }

    fn local(&self, _: &WorkerInfo<'_, Found>) -> Kept {
        Kept::default()
    }

    fn open(&self, _: &mut Kept, connection: &ConnectionInfo<'_, Found>) -> Session {
        let (mailbox, partial) = (connection.mailbox(), PartialMessage::default());
        Session { mailbox, partial, waits: None }
    }

    fn data(
        &self,
        session: &mut Session,
        kept: &mut Kept,
        input: &Input<'_>,
        outbox: &mut Outbox,
    ) -> Action {
        self.answer(session, kept, input.bytes(), outbox)
    }

    fn message(
        &self,
        session: &mut Session,
        kept: &mut Kept,
        Found { path, file }: Found,
        outbox: &mut Outbox,
    ) -> Action {
        let Some(request) = session.waits.take() else { return Action::Await };
        let action = match file {
            Ok(opened) => {
                kept.keep(path, opened.clone());
                request.answer(&opened, outbox)
            }
            Err(_) => request.miss(outbox),
        };
        if action != Action::Continue {
            return action;
        }
        match self.answer(session, kept, b"", outbox) {
            // What is not whole is no reason to pause any longer.
            Action::Await | Action::Begin => Action::Continue,
            action => action,
        }
    }

    fn draining(&self, session: &mut Session, _: &mut Kept, _: &mut Outbox) -> Action {
        let is_idle = session.waits.is_none() && session.partial.is_empty();
        if is_idle { Action::Close } else { Action::Await }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7005".into());
    let root = arguments.next().unwrap_or_else(|| ".".into());
    let root = fs::canonicalize(&root).map_err(|error| format!("{root}: {error}"))?;
    let (wanted, waiting) = sync_channel(WANTED_MAX);
    std::thread::spawn(move || open_all(&waiting));
    let server = Server::builder(Files { root, wanted }).listen(address.parse()?).start()?;
    for address in server.addresses() {
        println!("listening {address} file-server");
    }
    server.join()?;
    Ok(())
}
