use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uring_acceptor::simulation::{Conversation, Judgement, Simulation};
use uring_acceptor::testing::{Client, Harness, split_everywhere};

use super::protocol::COMMAND_BYTES;
use super::service::Resp;

/// As a client sends a command.
fn command(words: &[&str]) -> Vec<u8> {
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let words_text: String = words.iter().map(word).collect();
    format!("*{}\r\n{words_text}", words.len()).into_bytes()
}

struct Try(Harness<Resp>);

impl Try {
    fn ask(&mut self, client: Client, words: &[&str]) -> String {
        self.0.send(client, &command(words));
        self.heard(client)
    }

    fn heard(&mut self, client: Client) -> String {
        String::from_utf8(self.0.received(client)).unwrap()
    }
}

#[test]
fn commands_have_answers() {
    let mut it = Try(Harness::new(Resp));
    let client = it.0.connect();
    for (words, answer) in [
        (&["PING"][..], "+PONG\r\n"),
        (&["ECHO", "hi"], "$2\r\nhi\r\n"),
        (&["GET", "a"], "$-1\r\n"),
        (&["set", "a", "1"], "+OK\r\n"),
        (&["get", "a"], "$1\r\n1\r\n"),
        (&["TTL", "a"], ":-1\r\n"),
        (&["EXPIRE", "a", "100"], ":1\r\n"),
        (&["TTL", "a"], ":100\r\n"),
        (&["SET", "a", "2", "EX", "0"], "-ERR invalid expire time in 'set' command\r\n"),
        (&["DEL", "a", "b"], ":1\r\n"),
        (&["TTL", "a"], ":-2\r\n"),
        (&["PUBLISH", "news", "x"], ":0\r\n"),
        (&["NO", "a"], "-ERR unknown command 'NO', or not with these arguments\r\n"),
    ] {
        assert_eq!(it.ask(client, words), answer, "{words:?}");
    }
    it.0.send(client, b"SET b 7\r\n\r\nGET b\nQUIT\r\nPING\r\n");
    assert_eq!(it.heard(client), "+OK\r\n$1\r\n7\r\n+OK\r\n");
    assert!(it.0.is_closed(client));
}

#[test]
fn input_may_be_split_anywhere() {
    let mut input = command(&["SET", "key", "value"]);
    input.extend(command(&["GET", "key"]));
    input.extend(b"PING\r\n");
    input.extend(command(&["SUBSCRIBE", "a", "b"]));
    input.extend(command(&["PUBLISH", "a", "hello"]));
    let answer = split_everywhere(|| Resp, &input);
    assert!(answer.starts_with(b"+OK\r\n$5\r\nvalue\r\n+PONG\r\n*3\r\n$9\r\nsubscribe\r\n"));
}

#[test]
fn what_is_wrong_or_too_long_ends_the_connection() {
    let megabytes = format!("*2\r\n$3\r\nGET\r\n${}\r\n", 512 * 1024 * 1024);
    for (input, why) in [
        (&b"*1\r\n:1\r\n"[..], "expected '$'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (megabytes.as_bytes(), "the command is too long"),
        (&[b'a'; COMMAND_BYTES + 1], "the command is too long"),
    ] {
        let mut it = Try(Harness::new(Resp));
        let client = it.0.connect();
        it.0.send(client, b"PING\r\n");
        it.0.send(client, input);
        assert_eq!(it.heard(client), format!("+PONG\r\n-ERR Protocol error: {why}\r\n"));
        it.0.finish(client);
        assert!(it.0.is_closed(client));
    }
}

#[test]
fn a_pipeline_over_all_shards_is_answered_in_its_order() {
    let mut it = Try(Harness::with_workers(Resp, 3));
    let clients = [it.0.connect_to(0), it.0.connect_to(2)];
    let (mut input, mut expected) = (Vec::new(), String::new());
    for number in 0..5_000 {
        let (key, value) = (format!("key{number}"), number.to_string());
        input.extend(command(&["SET", &key, &value]));
        input.extend(command(&["GET", &key]));
        expected += &format!("+OK\r\n${}\r\n{value}\r\n", value.len());
    }
    it.0.send(clients[0], &input);
    assert_eq!(it.heard(clients[0]), expected);
    assert_eq!(it.ask(clients[1], &["GET", "key4999"]), "$4\r\n4999\r\n");
    let many: Vec<&str> = ["DEL", "key1", "key2", "key3", "key4", "key5", "key6"].into();
    assert!(it.ask(clients[1], &many).starts_with("-CROSSSLOT "));
}

#[test]
fn what_is_published_is_heard_by_subscribers_of_all_workers() {
    let mut it = Try(Harness::with_workers(Resp, 2));
    let subscribers: Vec<Client> = (0..6).map(|number| it.0.connect_to(number % 2)).collect();
    for subscriber in &subscribers {
        let answer = it.ask(*subscriber, &["SUBSCRIBE", "news"]);
        assert_eq!(answer, "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    }
    let publisher = it.0.connect_to(1);
    assert_eq!(it.ask(publisher, &["PUBLISH", "news", "hi"]), ":6\r\n");
    assert_eq!(it.ask(publisher, &["PUBLISH", "other", "hi"]), ":0\r\n");
    for subscriber in &subscribers {
        assert_eq!(it.heard(*subscriber), "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    }
    let left = it.ask(subscribers[0], &["UNSUBSCRIBE"]);
    assert!(left.ends_with("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"), "{left}");
    it.0.reset(subscribers[1]);
    assert_eq!(it.ask(publisher, &["PUBLISH", "news", "again"]), ":4\r\n");
    assert_eq!(it.heard(subscribers[0]), "");
}

#[test]
fn a_subscriber_that_never_reads_loses_its_connection_and_hurts_nobody() {
    let mut it = Try(Harness::new(Resp));
    let (stuck, other, publisher) = (it.0.connect(), it.0.connect(), it.0.connect());
    it.ask(stuck, &["SUBSCRIBE", "news"]);
    it.ask(other, &["SUBSCRIBE", "news"]);
    it.0.stall(stuck, true);
    let text = "x".repeat(100_000);
    let mut published = 0;
    while !it.0.is_closed(stuck) {
        assert_eq!(it.ask(publisher, &["PUBLISH", "news", &text]), ":2\r\n");
        published += 1;
        assert!(published < 100, "it keeps all of that");
        assert_eq!(
            it.heard(other).len(),
            100_000 + "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$100000\r\n\r\n".len()
        );
    }
    assert!(published > 5);
    assert!(it.0.was_reset(stuck), "a FIN would say that this was all");
    assert_eq!(it.ask(publisher, &["PUBLISH", "news", "on"]), ":1\r\n");
}

#[test]
fn keys_end_by_themselves() {
    let mut it = Try(Harness::new(Resp));
    let client = it.0.connect();
    it.ask(client, &["SET", "a", "1", "EX", "1"]);
    assert_eq!(it.ask(client, &["TTL", "a"]), ":1\r\n");
    std::thread::sleep(Duration::from_millis(1_010));
    assert_eq!(it.ask(client, &["GET", "a"]), "$-1\r\n");
    // One that nobody asks for takes no memory for long.
    it.ask(client, &["SET", "b", "1", "EX", "1"]);
    std::thread::sleep(Duration::from_millis(1_010));
    it.0.pass(Duration::from_secs(2));
    assert_eq!(it.0.local(0).keys(), 0);
}

/// Clients that keep things under names of their own, over all shards.
struct StoreTalk;

impl Conversation for StoreTalk {
    fn script(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let own = rng.u64(..);
        let command = |_| {
            let (key, value) = (rng.u8(0..8), rng.u32(..));
            match rng.u8(0..6) {
                0 => "PING\r\n".to_owned(),
                1 => format!("PUBLISH {own:x} {value}\r\n"),
                2 => format!("DEL {own:x}.{key}\r\n"),
                3 => format!("GET {own:x}.{key}\r\n"),
                _ => format!("SET {own:x}.{key} {value}\r\n"),
            }
        };
        (0..30).map(command).collect::<String>().into_bytes()
    }

    fn judge(&self, said: &[u8], heard: &[u8], _: usize) -> Judgement {
        let mut values = HashMap::new();
        let whole = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let said = std::str::from_utf8(&said[..whole]).unwrap();
        let answer = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            ["SET", key, value] => {
                values.insert(key.to_owned(), value.to_owned());
                "+OK\r\n".to_owned()
            }
            ["GET", key] => values
                .get(key)
                .map_or("$-1\r\n".to_owned(), |value| format!("${}\r\n{value}\r\n", value.len())),
            ["DEL", key] => format!(":{}\r\n", u8::from(values.remove(key).is_some())),
            ["PUBLISH", ..] => ":0\r\n".to_owned(),
            _ => "+PONG\r\n".to_owned(),
        };
        let right: String = said.lines().map(answer).collect();
        match right.as_bytes().strip_prefix(heard) {
            Some([]) => Judgement::Complete,
            Some(_) => Judgement::Partial,
            None => Judgement::Wrong(format!(
                "{:?} in place of {right:?}",
                String::from_utf8_lossy(heard)
            )),
        }
    }

    /// Part of a command is no sign of life.
    fn is_patient(&self) -> bool {
        false
    }
}

/// The whole server without a kernel: threads, network and clients in an order that the seed decides.
#[test]
fn a_simulated_server_of_several_workers_answers_all() {
    for run in [|simulation: Simulation<Resp, StoreTalk>| simulation, Simulation::with_changes] {
        let simulation = run(Simulation::new(Arc::new(Resp), StoreTalk));
        for seed in 1..=40 {
            simulation.run(seed).unwrap_or_else(|broken| panic!("{broken}"));
        }
    }
}
