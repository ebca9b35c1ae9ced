//! Which answer a request gets, and what becomes of the connection.

use super::*;
use crate::service::{ConnectionInfo, Item};

fn without_body(answer: &str) -> &str {
    answer.strip_suffix(BODY).unwrap()
}

#[test]
fn any_method_and_target_are_answered() {
    for line in ["GET /", "POST /a?b=c", "OPTIONS *", "BREW coffee://pot", "get http://a/"] {
        expect(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), ANSWER, Action::Continue);
    }
}

#[test]
fn an_empty_text_is_an_answer_too() {
    let mut outbox = Outbox::default();
    let action =
        Http::new(b"").data(&mut Session::default(), &Input::new(GET.as_bytes()), &mut outbox);
    assert_eq!(action, Action::Continue);
    assert!(outbox.render(&[]).ends_with(b"Content-Length: 0\r\n\r\n"));
}

#[test]
fn head_gets_the_same_headers_without_the_body() {
    let head = GET.replace("GET", "HEAD");
    expect(&head, without_body(ANSWER), Action::Continue);
    let close = head.replace("Host", "Connection: close\r\nHost");
    expect(&close, without_body(ANSWER_CLOSE), Action::Close);
    let stated = "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    expect(stated, without_body(ANSWER_STATED), Action::Continue);
    expect(GET.replace("GET", "head"), ANSWER, Action::Continue);
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    expect("GET / HTTP/1.0\r\n\r\n", ANSWER_CLOSE, Action::Close);
    for value in ["keep-alive", "Keep-Alive", "foo,  KEEP-ALIVE\t, bar"] {
        let request = format!("GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n");
        expect(request, ANSWER_STATED, Action::Continue);
    }
}

#[test]
fn connection_close_closes_in_all_its_spellings() {
    let spellings = [
        "Connection: close",
        "connection:CLOSE",
        "CONNECTION: foo, Close ,bar",
        "Connection: ,close",
        "Connection: keep-alive\r\nConnection: close",
        "Connection: close, keep-alive",
    ];
    for spelling in spellings {
        for (version, host) in [("1.1", "Host: a\r\n"), ("1.0", "")] {
            let request = format!("GET / HTTP/{version}\r\n{host}{spelling}\r\n\r\n");
            expect(request, ANSWER_CLOSE, Action::Close);
        }
    }
    for other in ["Connection: closed", "Connection: keep-alive", "X-Connection: close"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{other}\r\n\r\n");
        expect(request, ANSWER, Action::Continue);
    }
}

#[test]
fn pipelined_requests_leave_in_one_send() {
    let requests = GET.repeat(10);
    let mut outbox = Outbox::default();
    let action =
        http().data(&mut Session::default(), &Input::new(requests.as_bytes()), &mut outbox);
    assert_eq!(action, Action::Continue);
    assert_eq!(outbox.render(&[]), ANSWER.repeat(10).as_bytes());
    assert!(matches!(outbox.items(), [Item::Shared(_)]), "{:?}", outbox.items().len());
}

#[test]
fn bytes_behind_a_closing_request_are_not_answered() {
    let close = GET.replace("Host", "Connection: close\r\nHost");
    expect(format!("{GET}{close}"), &format!("{ANSWER}{ANSWER_CLOSE}"), Action::Close);
    let peer = Peer::after([format!("{GET}{close}{GET}").as_bytes()]);
    peer.has_seen(format!("{ANSWER}{ANSWER_CLOSE}"));
    assert_eq!(peer.action, Action::Linger, "closing over unread bytes would reset");
}

#[test]
fn requests_in_front_of_a_bad_one_are_answered() {
    let answers = format!("{ANSWER}{ANSWER}{}", refusal("400 Bad Request"));
    expect(format!("{GET}{GET}?\r\n\r\n"), &answers, Action::Linger);
}

#[test]
fn large_texts_are_held_once_and_sent_whole() {
    let text = vec![b'x'; crate::service::Prepared::REPEATED_BYTES + 1];
    let http = Http::new(&text);
    let body_of = |request: &str| {
        let mut outbox = Outbox::default();
        let _ = http.data(&mut Session::default(), &Input::new(request.as_bytes()), &mut outbox);
        let sent = outbox.render(&[]);
        assert_eq!(sent.len(), outbox.len());
        match outbox.items() {
            [Item::Shared(head), Item::Shared(body)] if head.ends_with(b"\r\n\r\n") => body.clone(),
            items => panic!("{} items for {request}", items.len()),
        }
    };
    let kept = body_of(GET);
    assert_eq!(kept[..], text);
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        assert!(std::ptr::eq(&kept[..], &body_of(request)[..]));
    }
    let mut outbox = Outbox::default();
    let head = GET.replace("GET", "HEAD");
    let _ = http.data(&mut Session::default(), &Input::new(head.as_bytes()), &mut outbox);
    assert!(outbox.render(&[]).ends_with(b"Content-Length: 65537\r\n\r\n"));
}

#[test]
fn while_draining_the_next_answer_is_the_last() {
    let mut peer = Peer::new();
    peer.draining = true;
    assert_eq!(peer.send(GET), Action::Close);
    peer.has_seen(ANSWER_CLOSE);

    let mut peer = Peer::new();
    peer.draining = true;
    assert_eq!(peer.send(GET.repeat(2)), Action::Linger);
    peer.has_seen(ANSWER_CLOSE);

    let mut peer = Peer::new();
    assert_eq!(peer.send(&GET[..9]), Action::Begin);
    peer.draining = true;
    assert_eq!(peer.send(&GET[9..12]), Action::Await);
    assert_eq!(peer.send(&GET[12..]), Action::Close);
    peer.has_seen(ANSWER_CLOSE);
}

#[test]
fn a_drain_ends_sessions_between_two_requests_only() {
    let drain = |peer: &mut Peer| http().draining(&mut peer.session, &mut Outbox::default());
    let mut peer = Peer::new();
    assert_eq!(drain(&mut peer), Action::Await, "its first request may be on the way");
    let _ = peer.send(GET);
    assert_eq!(drain(&mut peer), Action::Close);
    let _ = peer.send("\r\n");
    assert_eq!(drain(&mut peer), Action::Close, "an empty line is no request");
    let _ = peer.send("G");
    assert_eq!(drain(&mut peer), Action::Await, "in the middle of a head");

    let mut peer = Peer::after([GET.as_bytes()]);
    let _ = peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1");
    assert_eq!(drain(&mut peer), Action::Await, "in the middle of a body");
}

#[test]
fn a_peer_that_will_send_no_more_is_done() {
    for sent in ["", GET, "GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1"] {
        let mut peer = Peer::after([sent.as_bytes()]);
        let mut outbox = Outbox::default();
        assert_eq!(http().half_closed(&mut peer.session, &mut outbox), Action::Close);
        assert!(outbox.is_empty());
    }
}

#[test]
fn a_session_opens_empty_and_is_named_after_its_protocol() {
    let session = http().open(&ConnectionInfo::new(0, &|| None));
    assert_eq!(session.held_bytes(), 0);
    assert!(!session.is_between_requests());
    assert_eq!(http().name(), "http");
}
