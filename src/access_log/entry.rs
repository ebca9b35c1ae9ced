//! What is logged of a connection, and how that is written.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::config::LogFormat;
use crate::sys::Errno;

/// What is logged of one connection.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it ended.
    pub at: SystemTime,
    /// The client's address, as a trusted PROXY header says it or the kernel does.
    pub client: Option<SocketAddr>,
    /// In the kernel's accept queue, to the resolution of its clock.
    pub queued: Option<Duration>,
    /// From the acceptor to the worker.
    pub dispatch: Option<Duration>,
    /// From the worker to the first byte: of the backend, or without one of the client.
    pub first_byte: Option<Duration>,
    /// From the acceptor to the end.
    pub total: Option<Duration>,
    /// Bytes that came from the client.
    pub from_client: u64,
    /// Whose doing the end was.
    pub ended_by: EndedBy,
    /// Why it ended, in a word.
    pub ended: &'static str,
    /// What was wrong with what the client sent first; printable ASCII.
    pub reason: Option<String>,
    /// Who served it.
    pub served: Served,
}

/// Who served a connection.
#[derive(Debug, Clone)]
pub enum Served {
    /// A service of this program.
    Here {
        /// Bytes that were sent to the client.
        to_client: u64,
    },
    /// A backend, or none that was asked.
    Backend(Forwarded),
}

/// What a proxied connection has of its own.
#[derive(Debug, Clone, Default)]
pub struct Forwarded {
    /// The address of the backend that was tried last; `None` if none was.
    pub backend: Option<String>,
    /// From the worker to the end of the last connect.
    pub connect: Option<Duration>,
    /// Bytes that came from the backend.
    pub from_backend: u64,
    /// Connects to backends.
    pub attempts: u8,
    /// Those of them that failed.
    pub failures: u8,
    /// Why the last of these failed, or why there was no socket for one.
    pub errno: Option<Errno>,
}

/// Whose doing the end of a connection was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client, or the network towards it.
    Client,
    /// The backend, the network towards it, or that there was none.
    Backend,
    /// The service: its protocol was over, or it failed.
    Service,
    /// The server: a deadline, a limit, or its own end.
    Acceptor,
    /// Somebody who asked for it.
    Operator,
}

impl EndedBy {
    fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Service => "service",
            Self::Acceptor => "acceptor",
            Self::Operator => "operator",
        }
    }
}

/// A value as it stands in a line.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    /// `-`, or null.
    Unknown,
    /// Without spaces.
    Word(&'a str),
    Text(String),
    /// What may have spaces in it.
    Quoted(&'a str),
    Count(u64),
    /// Milliseconds with three places.
    Millis(f64),
}

/// The fields of an entry in the order of a line.
struct Fields<'a>(Vec<(&'static str, Value<'a>)>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn fields<'a>(frontend: &'a str, entry: &'a Entry) -> Fields<'a> {
    let ms = |duration: Option<Duration>| {
        duration.map_or(Value::Unknown, |it| Value::Millis(it.as_micros() as f64 / 1000.0))
    };
    let client = entry.client.map_or(Value::Unknown, |client| Value::Text(client.to_string()));
    // As the log of the program writes it.
    let time = Value::Text(humantime::format_rfc3339_micros(entry.at).to_string());
    let mut fields = vec![("time", time), ("frontend", Value::Word(frontend)), ("client", client)];
    let [queued, dispatch] = [entry.queued, entry.dispatch].map(ms);
    let waits = [("accept_queue_ms", queued), ("dispatch_ms", dispatch)];
    let [first_byte, total] = [entry.first_byte, entry.total].map(ms);
    let times = [("first_byte_ms", first_byte), ("total_ms", total)];
    let received = ("from_client_bytes", Value::Count(entry.from_client));
    match &entry.served {
        Served::Here { to_client } => {
            fields.extend(waits.into_iter().chain(times));
            fields.extend([received, ("to_client_bytes", Value::Count(*to_client))]);
        }
        Served::Backend(it) => {
            fields.push(("backend", it.backend.as_deref().map_or(Value::Unknown, Value::Word)));
            fields.extend(waits);
            fields.push(("connect_ms", ms(it.connect)));
            fields.extend(times);
            fields.extend([
                received,
                ("from_backend_bytes", Value::Count(it.from_backend)),
                ("attempts", Value::Count(it.attempts.into())),
                ("failed_connects", Value::Count(it.failures.into())),
                ("errno", it.errno.map_or(Value::Unknown, |errno| Value::Text(word(errno)))),
            ]);
        }
    }
    fields.extend([
        ("ended_by", Value::Word(entry.ended_by.word())),
        ("ended", Value::Word(entry.ended)),
        ("reason", entry.reason.as_deref().map_or(Value::Unknown, Value::Quoted)),
    ]);
    Fields(fields)
}

/// The name of an errno, or its number.
fn word(errno: Errno) -> String {
    match errno.name() {
        "errno" => errno.0.to_string(),
        name => name.to_owned(),
    }
}

/// Appends a line.
pub(super) fn write_line(
    to: &mut impl Write,
    form: LogFormat,
    (frontend, entry): (&str, &Entry),
) -> io::Result<()> {
    let fields = fields(frontend, entry);
    match form {
        LogFormat::Json => serde_json::to_writer(&mut *to, &fields)?,
        LogFormat::Text => {
            for (index, (name, value)) in fields.0.iter().enumerate() {
                let space = if index == 0 { "" } else { " " };
                write!(to, "{space}{name}=")?;
                write_value(to, value)?;
            }
        }
    }
    writeln!(to)
}

fn write_value(to: &mut impl Write, value: &Value<'_>) -> io::Result<()> {
    match value {
        Value::Unknown => to.write_all(b"-"),
        Value::Word(word) => to.write_all(word.as_bytes()),
        Value::Text(text) => to.write_all(text.as_bytes()),
        Value::Quoted(text) => Ok(serde_json::to_writer(to, text)?),
        Value::Count(count) => write!(to, "{count}"),
        Value::Millis(ms) => write!(to, "{ms:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(served: Served) -> Entry {
        let ms = |count| Some(Duration::from_micros(count));
        Entry {
            at: SystemTime::UNIX_EPOCH,
            client: Some(([192, 0, 2, 1], 4711).into()),
            queued: ms(4_000),
            dispatch: ms(76),
            first_byte: None,
            total: ms(1_234_567),
            from_client: 78,
            ended_by: EndedBy::Client,
            ended: "client-reset",
            reason: None,
            served,
        }
    }

    #[track_caller]
    fn expect(entry: &Entry, form: LogFormat, line: &str) {
        let mut bytes = Vec::new();
        write_line(&mut bytes, form, ("web", entry)).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{line}\n"));
    }

    #[test]
    fn lines_of_a_service() {
        let entry = entry(Served::Here { to_client: 68 });
        expect(
            &entry,
            LogFormat::Text,
            "time=1970-01-01T00:00:00.000000Z frontend=web client=192.0.2.1:4711 accept_queue_ms=4.000 \
             dispatch_ms=0.076 first_byte_ms=- total_ms=1234.567 from_client_bytes=78 to_client_bytes=68 \
             ended_by=client ended=client-reset reason=-",
        );
        expect(
            &entry,
            LogFormat::Json,
            "{\"time\":\"1970-01-01T00:00:00.000000Z\",\"frontend\":\"web\",\"client\":\"192.0.2.1:4711\",\
             \"accept_queue_ms\":4.0,\"dispatch_ms\":0.076,\"first_byte_ms\":null,\"total_ms\":1234.567,\
             \"from_client_bytes\":78,\"to_client_bytes\":68,\"ended_by\":\"client\",\"ended\":\"client-reset\",\
             \"reason\":null}",
        );
    }

    #[test]
    fn lines_of_a_proxy() {
        let served = Served::Backend(Forwarded {
            backend: Some("192.0.2.9:80".into()),
            connect: Some(Duration::from_micros(195)),
            from_backend: 68,
            attempts: 2,
            failures: 1,
            errno: Some(Errno(4000)),
        });
        let entry = Entry { reason: Some("no \"header\"".into()), ..entry(served) };
        expect(
            &entry,
            LogFormat::Text,
            "time=1970-01-01T00:00:00.000000Z frontend=web client=192.0.2.1:4711 backend=192.0.2.9:80 \
             accept_queue_ms=4.000 dispatch_ms=0.076 connect_ms=0.195 first_byte_ms=- total_ms=1234.567 \
             from_client_bytes=78 from_backend_bytes=68 attempts=2 failed_connects=1 errno=4000 ended_by=client \
             ended=client-reset reason=\"no \\\"header\\\"\"",
        );
    }
}
