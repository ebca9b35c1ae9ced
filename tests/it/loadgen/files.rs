//! What it writes and reads.

use std::fs;

use super::{DONE, Folder, INVALID, USAGE, alone};
use crate::harness::{Exit, Launch, SOON, Server};

#[track_caller]
fn fails(exit: &Exit, code: i32, words: &[&str]) {
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(code), ""), "{exit:?}");
    for word in words {
        assert!(exit.stderr.contains(word), "'{word}' is missing in: {}", exit.stderr);
    }
}

/// 192.0.2.0/24 is for documentation (RFC 5737). Refused before a socket is opened.
#[test]
fn another_machine_is_not_put_under_load() {
    let exit = Launch::loadgen(&["crr", "192.0.2.1:80", "-n", "1", "--warm-up", "0s"]).run();
    fails(&exit, USAGE, &["192.0.2.1:80", "--allow-remote"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = Folder::new("bad-files");
    let (missing, nonsense) = (folder.file("missing.json"), folder.file("nonsense.json"));
    fs::write(&nonsense, "{\"schema\": 7}").expect("it can be written");
    fails(&Launch::loadgen(&["merge", &missing, &missing]).run(), USAGE, &[&missing]);
    fails(&Launch::loadgen(&["merge", &nonsense, &nonsense]).run(), USAGE, &[&nonsense]);
    fails(&Launch::loadgen(&["report", &missing]).run(), USAGE, &[&missing]);
    fails(&Launch::loadgen(&["report", &nonsense]).run(), USAGE, &[&nonsense]);
}

/// A file that is no run: what it is, which side it was, and what is wanted.
#[test]
fn a_file_that_is_no_run_is_told_by_what_it_is() {
    let folder = Folder::new("no-runs");
    let file = folder.file("file");
    let table: &[(&[u8], &str)] = &[
        (b"{\"schema\":\"uring-acceptor/loadgen-knee\",\"version\":1}", "is a search for the knee"),
        (
            b"{\"schema\":\"uring-acceptor/loadgen-comparison\",\"version\":1}",
            "is the comparison of two runs",
        ),
        (
            b"{\"schema\":\"uring-acceptor/loadgen\",\"version\":2}",
            "is a run in version 2 of the schema, and this loadgen reads version 4",
        ),
        (b"{\"schema\":\"uring-acceptor/loadgen\"}", "is a run in version missing of the schema"),
        (b"{\"schema\":\"other\"}", "is no run that can be read: schema is \"other\""),
        (b"[]", "is no run that can be read: schema is missing"),
        (b"second,completed\n", "is not JSON (expected value"),
        (b"{\"schema\":", "is not JSON (EOF"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is no run: it is not text"),
    ];
    for (content, words) in table {
        fs::write(&file, content).expect("it can be written");
        let words = format!("{file} {words}");
        fails(&Launch::loadgen(&["report", &file]).run(), USAGE, &[&words]);
        fails(&Launch::loadgen(&["merge", &file, &file]).run(), USAGE, &[&words]);
        let sides = [format!("A: {words}"), "B: /no/such/file cannot be read".to_owned()];
        let exit = Launch::loadgen(&["compare", &file, "/no/such/file"]).run();
        fails(&exit, USAGE, &["compare wants two runs", &sides[0], &sides[1]]);
    }
    let here = folder.file(".");
    let words = format!("{here} cannot be read: Is a directory");
    fails(&Launch::loadgen(&["report", &here]).run(), USAGE, &[&words]);
}

/// Nobody waits for a warm-up to hear it.
#[test]
fn a_server_that_is_not_there_is_told_before_the_run() {
    let target = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = target.local_addr().expect("it is bound").to_string();
    target.set_nonblocking(true).expect("it is open");
    for more in [&["-d", "60s"][..], &["--find-knee"]] {
        let run =
            [&["crr", &address, "--warm-up", "60s", "--server-pid", "4194304"], more].concat();
        let exit = Launch::loadgen(&run).run();
        fails(&exit, USAGE, &["--server-pid 4194304: there is no such process"]);
    }
    target.accept().expect_err("nobody has come");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let _alone = alone();
    let folder = Folder::new("unwritable");
    let server = Server::start(&["echo"]);
    let (address, file) = (server.address().to_string(), folder.file("no/such/folder.csv"));
    let arguments = ["crr", &address, "-n", "10", "--warm-up", "0s", "--csv", &file];
    let exit = Launch::loadgen(&arguments).run();
    assert_eq!(exit.code, Some(USAGE), "{exit:?}");
    assert!(exit.stderr.contains(&file), "{}", exit.stderr);
    server.stop();
}

fn completed(file: &str) -> u64 {
    let text = fs::read_to_string(file).expect("it was written");
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    json["counts"]["completed"].as_u64().expect("it is a count")
}

#[test]
fn every_output_is_written_and_two_runs_are_merged_and_compared() {
    let _alone = alone();
    let folder = Folder::new("outputs");
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let [first, second, merged] =
        ["first.json", "second.json", "merged.json"].map(|name| folder.file(name));
    let outputs = ["run.csv", "run.hdr", "run.svg", "run.html"].map(|name| folder.file(name));
    let [csv, hdr, svg, html] = &outputs;
    let run = ["crr", &address, "--warm-up", "0s", "-n"];
    let written =
        ["100", "--json", &first, "--csv", csv, "--hdr", hdr, "--svg", svg, "--html", html];
    Launch::loadgen(&[&run[..], &written].concat()).run();
    Launch::loadgen(&[&run[..], &["200", "-q", "--json", &second]].concat()).run();
    for file in &outputs {
        assert!(fs::metadata(file).is_ok_and(|file| file.len() > 0), "{file} is empty or missing");
    }
    assert_eq!((completed(&first), completed(&second)), (100, 200));

    // They were one after another, so their rates are not to be added.
    let exit = Launch::loadgen(&["merge", &first, &second, "--json", &merged]).run();
    assert_eq!(exit.code, Some(INVALID), "{exit:?}");
    assert_eq!(completed(&merged), 300);
    assert!(exit.stdout.contains("300 completed"), "{}", exit.stdout);
    assert!(exit.stdout.contains("the runs were not at the same time"), "{}", exit.stdout);

    let exit = Launch::loadgen(&["report", &first, &second, "--html", html]).run();
    assert_eq!(exit.code, Some(DONE), "{exit:?}");
    let page = fs::read_to_string(html).expect("it was written");
    for name in [&first, &second] {
        assert!(page.contains(name.as_str()), "the page does not name {name}");
        assert!(exit.stdout.contains(name.as_str()), "the tables do not name {name}");
    }
    assert!(!page.contains("<script src") && !page.contains("<link"), "it is not one file");
    server.stop();
}

fn rate(file: &str) -> f64 {
    let text = fs::read_to_string(file).expect("it was written");
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    json["rate_per_second"].as_f64().expect("it is a number")
}

#[test]
fn the_rates_of_runs_at_the_same_time_are_added() {
    let _alone = alone();
    let folder = Folder::new("together");
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let files = ["first.json", "second.json"].map(|name| folder.file(name));
    let run = ["crr", &address, "--rate", "50", "-d", "4s", "--warm-up", "0s", "-q", "--json"];
    let running = files
        .each_ref()
        .map(|file| Launch::loadgen(&[&run[..], &[file.as_str()]].concat()).start());
    for one in running {
        let exit = one.wait(SOON);
        assert!(matches!(exit.code, Some(DONE | INVALID)), "{exit:?}");
    }
    let [first, second] = &files;
    let merged = folder.file("merged.json");
    let exit = Launch::loadgen(&["merge", first, second, "--json", &merged]).run();
    assert!(!exit.stdout.contains("not at the same time"), "{}", exit.stdout);
    assert!((rate(&merged) - rate(first) - rate(second)).abs() < 1e-6, "{exit:?}");
    server.stop();
}
