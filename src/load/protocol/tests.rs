//! Requests and replies by their bytes.

use super::super::plan::testing::plan;
use super::super::request::Template;
use super::*;

fn feed(protocol: &Protocol, number: u64, pieces: &[&[u8]]) -> Result<Option<Whole>, Fault> {
    let mut reply = protocol.reply(number);
    let mut done = None;
    for piece in pieces {
        assert!(done.is_none(), "complete before {piece:?}");
        let (taken, whole) = reply.take(protocol, number, piece)?;
        assert_eq!(taken, piece.len());
        done = whole;
    }
    Ok(done)
}

const RIGHT: Result<Option<Whole>, Fault> = Ok(Some(Whole::PLAIN));

#[test]
fn an_echo_is_compared_byte_by_byte() {
    let protocol = Protocol::new(&plan(Mode::Crr));
    let request = protocol.request(7, false);
    let feed = |pieces: &[&[u8]]| feed(&protocol, 7, pieces);
    assert_eq!(request.len(), 64);
    assert_eq!(feed(&[request]), RIGHT);
    assert_eq!(feed(&[&request[..9], &request[9..]]), RIGHT);
    assert_eq!(feed(&[&request[..9]]), Ok(None));
    assert_eq!(feed(&[&request[1..]]), Err(Fault::WrongBytes));
    assert_eq!(feed(&[protocol.request(8, false)]), Err(Fault::WrongBytes));
    let long = [request, b"!"].concat();
    assert_eq!(feed(&[&long]), Err(Fault::WrongBytes));
}

fn http(change: impl FnOnce(&mut HttpPlan)) -> Protocol {
    let mut plan = plan(Mode::Http { requests_per_connection: None });
    change(plan.http.as_mut().expect("it is HTTP"));
    Protocol::new(&plan)
}

fn verdict(protocol: &Protocol, number: u64, answer: &str) -> Result<(), Fault> {
    feed(protocol, number, &[answer.as_bytes()])?.expect("it is whole").verdict
}

const SIX: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
const FIVE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

#[test]
fn an_answer_has_its_status_and_size_checked_where_that_is_asked_for() {
    let protocol = http(|_| ());
    for (answer, expected) in [(SIX, Ok(())), (FIVE, Ok(())), (MISSING, Err(Fault::WrongStatus))] {
        assert_eq!(verdict(&protocol, 1, answer), expected, "{answer}");
    }
    let missing = http(|plan| plan.expect_status = "4xx".parse().unwrap());
    assert_eq!(verdict(&missing, 1, MISSING), Ok(()));
    assert_eq!(verdict(&missing, 1, SIX), Err(Fault::WrongStatus));
    let sized = http(|plan| plan.expect_body = ExpectBody::Bytes(6));
    assert_eq!(verdict(&sized, 1, SIX), Ok(()));
    assert_eq!(verdict(&sized, 1, FIVE), Err(Fault::WrongSize));
}

#[test]
fn sizes_are_held_to_the_first_of_the_same_request() {
    let requests = ["/a", "/b"].map(|path| Template::get(path).render("h", false));
    let protocol = http(|plan| {
        plan.requests = requests.to_vec();
        plan.expect_body = ExpectBody::LikeTheFirst;
    });
    let table = [
        (0, SIX, Ok(())),
        (1, FIVE, Ok(())),
        (2, SIX, Ok(())),
        (3, FIVE, Ok(())),
        (4, FIVE, Err(Fault::WrongSize)),
    ];
    for (number, answer, expected) in table {
        assert_eq!(verdict(&protocol, number, answer), expected, "{number}");
    }
}

#[test]
fn requests_are_sent_in_turn_or_drawn_by_the_seed() {
    let requests: Vec<_> =
        (0..4).map(|n| Template::get(&format!("/{n}")).render("h", false)).collect();
    let draw = |order| {
        let protocol = http(|plan| {
            plan.requests.clone_from(&requests);
            plan.order = order;
        });
        let index = |number| {
            requests.iter().position(|own| own.bytes(false) == protocol.request(number, false))
        };
        (0..4000).map(|number| index(number).expect("it is one of them")).collect::<Vec<_>>()
    };
    let in_turn = draw(Order::InTurn);
    assert!((0..4000).all(|number| in_turn[number] == number % 4));
    let drawn = draw(Order::Random);
    assert_eq!(drawn, draw(Order::Random));
    for request in 0..4 {
        let count = drawn.iter().filter(|own| **own == request).count();
        assert!((800..1200).contains(&count), "request {request} was drawn {count} times of 4000");
    }
}

#[test]
fn faults_of_an_answer_are_named_by_kind() {
    let protocol = http(|_| ());
    for (answer, expected) in [
        ("garbage\r\n\r\n", Broken::NotHttp),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Broken::BadLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Broken::BadChunk),
    ] {
        assert_eq!(verdict(&protocol, 1, answer), Err(Fault::Http(expected)), "{answer}");
    }
    let mut cut = protocol.reply(1);
    cut.take(&protocol, 1, &SIX.as_bytes()[..SIX.len() - 1]).unwrap();
    assert_eq!(cut.end(&protocol, 1), Err(Fault::EarlyEnd));
}
