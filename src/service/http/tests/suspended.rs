//! Sessions as bytes: whoever is resumed goes on as if nothing had been.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::segments::{conversation, cut};
use super::*;
use crate::service::Builtin;
use crate::service::http::MAX_HEAD_BYTES;

impl Peer {
    /// The service's end becomes bytes, and a session again.
    fn moves(&mut self) {
        let record = http().suspend(&self.session).expect("it can always be moved");
        self.session = http().resume(&record).expect("it was written by a session");
        assert_eq!(http().suspend(&self.session), Some(record));
    }

    /// As [`after`](Self::after), and moves between the segments.
    fn moved<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut peer = Self::new();
        for segment in segments {
            peer.moves();
            if !segment.is_empty() && !peer.has_ended() {
                let _ = peer.send(segment);
            }
        }
        peer.moves();
        peer
    }
}

proptest! {
    #[test]
    fn a_move_changes_no_answer((stream, answers) in conversation(), cuts in vec(any::<Index>(), 0..12)) {
        for segments in [cut(&stream, &cuts), stream.chunks(1).collect()] {
            let (moved, stayed) = (Peer::moved(segments.clone()), Peer::after(segments));
            prop_assert_eq!(String::from_utf8_lossy(&moved.seen), &*answers);
            prop_assert_eq!(moved.action, stayed.action);
            prop_assert_eq!(moved.session.is_between_requests(), stayed.session.is_between_requests());
        }
    }

    /// Nor does it with damage, whether it is refused before or behind the move.
    #[test]
    fn a_move_changes_no_refusal(
        (stream, _) in conversation(),
        at in any::<Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n\0 :;,0"[..])],
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let mut stream = stream;
        let at = at.index(stream.len());
        stream[at] = byte;
        let segments = cut(&stream, &cuts);
        let (moved, stayed) = (Peer::moved(segments.clone()), Peer::after(segments));
        prop_assert_eq!(moved.seen, stayed.seen);
        prop_assert_eq!(moved.action, stayed.action);
    }

    /// Whoever sends records is trusted no further than that.
    #[test]
    fn a_record_that_is_damaged_hurts_nobody(
        (stream, _) in conversation(),
        end in any::<Index>(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let peer = Peer::after([&stream[..end.index(stream.len())]]);
        let mut record = http().suspend(&peer.session).unwrap();
        for (at, byte) in damage {
            let at = at.index(record.len());
            record[at] = byte;
        }
        if let Some(session) = http().resume(&record) {
            let mut peer = Peer { session, ..Peer::new() };
            for segment in stream.chunks(7) {
                let _ = peer.send(segment);
            }
        }
    }
}

/// A request has been answered; of the next one a part of the head, or of the body, has come.
#[test]
fn the_format_stays() {
    let written = |stream: String| {
        let record = http().suspend(&Peer::after([stream.as_bytes()]).session).unwrap();
        ciborium::from_reader::<ciborium::Value, _>(&record[..]).map(|value| format!("{value:?}"))
    };
    let head = written(format!("{GET}GE")).unwrap();
    let field = |name: &str, value: &str| format!("(Text(\"{name}\"), {value})");
    let number = |number: u64| format!("Integer(Integer({number}))");
    let record = |served: bool, request: &str| {
        let version = field("version", &number(1));
        let served = field("served", &format!("Bool({served})"));
        format!("Map([{version}, {served}, {}])", field("request", request))
    };
    assert_eq!(head, record(true, "Map([(Text(\"head\"), Bytes([71, 69]))])"));
    assert_eq!(written(String::new()).unwrap(), record(false, "Null"));

    let reply = |persistence: &str| {
        let headers_only = field("headers-only", "Bool(false)");
        let persistence = field("persistence", &format!("Text(\"{persistence}\")"));
        field("reply", &format!("Map([{headers_only}, {persistence}])"))
    };
    let body = |body: String, (persistence, taken): (&str, u64)| {
        let taken = field("taken", &number(taken));
        let parts = format!("Map([{}, {}, {taken}])", field("body", &body), reply(persistence));
        format!("Map([{}])", field("body", &parts))
    };
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let counted =
        written(format!("{post}Connection: close\r\nContent-Length: 9\r\n\r\n12")).unwrap();
    let length = format!("Map([{}])", field("length", &number(7)));
    assert_eq!(counted, record(false, &body(length, ("close", 2))));
    let chunked = written(format!("{post}Transfer-Encoding: chunked\r\n\r\n1;a")).unwrap();
    let place = field("place", "Text(\"extension\")");
    let left = u64::from(crate::service::http::MAX_FRAMING_BYTES) - 2;
    let reader = [field("size", &number(1)), field("framing-left", &number(left)), place];
    let chunks = format!("Map([{}])", field("chunked", &format!("Map([{}])", reader.join(", "))));
    assert_eq!(chunked, record(false, &body(chunks, ("keep-alive", 3))));
}

#[test]
fn what_no_session_has_written_is_refused() {
    let text = |value: &str| ciborium::Value::Text(value.into());
    let number = |number: u64| ciborium::Value::Integer(number.into());
    let record = |version: u64, request: ciborium::Value| {
        let fields = vec![
            (text("version"), number(version)),
            (text("served"), ciborium::Value::Bool(true)),
            (text("request"), request),
        ];
        let mut bytes = Vec::new();
        ciborium::into_writer(&ciborium::Value::Map(fields), &mut bytes).unwrap();
        http().resume(&bytes).is_some()
    };
    let head =
        |len| ciborium::Value::Map(vec![(text("head"), ciborium::Value::Bytes(vec![b'a'; len]))]);
    assert!(record(1, ciborium::Value::Null) && record(1, head(MAX_HEAD_BYTES)));
    assert!(!record(2, ciborium::Value::Null), "a version that is not known");
    assert!(!record(1, head(MAX_HEAD_BYTES + 1)));
    assert!(!record(1, ciborium::Value::Map(vec![(text("tail"), number(1))])));
    let reply = || {
        let fields = vec![
            (text("headers-only"), ciborium::Value::Bool(false)),
            (text("persistence"), text("close")),
        ];
        ciborium::Value::Map(fields)
    };
    let body = |body: ciborium::Value| {
        let fields = vec![(text("body"), body), (text("reply"), reply())];
        ciborium::Value::Map(vec![(text("body"), ciborium::Value::Map(fields))])
    };
    let counted = |len| ciborium::Value::Map(vec![(text("length"), number(len))]);
    assert!(record(1, body(counted(1))) && !record(1, body(counted(0))));
    let chunked = |size, left, digits| {
        let digits = ciborium::Value::Map(vec![(text("digits"), number(digits))]);
        let place = ciborium::Value::Map(vec![(text("size"), digits)]);
        let fields = vec![
            (text("size"), number(size)),
            (text("framing-left"), number(left)),
            (text("place"), place),
        ];
        ciborium::Value::Map(vec![(text("chunked"), ciborium::Value::Map(fields))])
    };
    assert!(record(1, body(chunked(9, 16 * 1024, 16))) && record(1, body(chunked(0, 0, 0))));
    assert!(!record(1, body(chunked(9, 16 * 1024 + 1, 1))));
    assert!(!record(1, body(chunked(9, 9, 17))) && !record(1, body(chunked(9, 9, 0))));
}

/// A frontend may have another protocol afterwards.
#[test]
fn a_service_takes_sessions_of_its_own_kind_only() {
    let services = [
        Builtin::Echo(crate::service::Echo),
        Builtin::Discard(crate::service::Discard),
        Builtin::Http(Box::new(Http::new(BODY.as_bytes()))),
    ];
    for (from, service) in services.iter().enumerate() {
        let session = service.open(&crate::service::ConnectionInfo::new(0, &|| None));
        let record = service.suspend(&session).unwrap();
        for (to, other) in services.iter().enumerate() {
            assert_eq!(other.resume(&record).is_some(), from == to, "{from} {to}");
        }
        assert!(service.resume(b"").is_none());
    }
}
