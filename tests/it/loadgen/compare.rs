//! Two stored runs beside each other.

use std::fs;

use serde_json::Value;

use super::{DONE, Folder, INVALID, USAGE, alone};
use crate::harness::{Exit, Launch, Server};

fn measure(arguments: &[&str], file: &str) {
    let exit = Launch::loadgen(&[arguments, &["-q", "--json", file]].concat()).run();
    assert!(matches!(exit.code, Some(DONE | INVALID)), "{exit:?}");
}

/// The exit code says whether the figures can be trusted, which other tests may spoil.
#[track_caller]
fn compare(arguments: &[&str]) -> Exit {
    let exit = Launch::loadgen(&[&["compare"], arguments].concat()).run();
    let invalid = exit.stdout.contains("is INVALID");
    assert_eq!(exit.code, Some(if invalid { INVALID } else { DONE }), "{exit:?}");
    exit
}

#[test]
fn a_run_is_the_same_as_itself() {
    let _alone = alone();
    let folder = Folder::new("compare");
    let server = Server::start(&["echo"]);
    let (address, file) = (server.address().to_string(), folder.file("run.json"));
    let plan = ["crr", &address, "--rate", "300", "--arrival", "uniform", "-d", "5s"];
    measure(&plan, &file);
    let exit = compare(&[&file, &file]);
    for line in ["| rate ", "| completed ", "| total p50 ", "| total p99 "] {
        let row = exit.stdout.lines().find(|row| row.starts_with(line));
        let row = row.unwrap_or_else(|| panic!("no {line} in {}", exit.stdout));
        assert!(row.contains("| 1.000 |") && row.contains("| noise"), "{row}");
    }
    let json = folder.file("comparison.json");
    let exit = compare(&[&file, &file, "--json", &json]);
    let json: Value = serde_json::from_str(&fs::read_to_string(&json).expect("it was written"))
        .expect("it is JSON");
    assert_eq!(json["schema"], "uring-acceptor/loadgen-comparison");
    assert_eq!(
        (&json["a"]["seconds"], &json["figures"][0]["finding"]),
        (&5.into(), &"noise".into())
    );
    assert!(exit.stdout.contains("All differences"), "{}", exit.stdout);
    server.stop();
}

#[test]
fn short_runs_and_other_modes() {
    let _alone = alone();
    let folder = Folder::new("compare-short");
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let [crr, rr] = ["crr.json", "rr.json"].map(|name| folder.file(name));
    measure(&["crr", &address, "-n", "50", "--warm-up", "0s"], &crr);
    measure(&["rr", &address, "-n", "50", "--warm-up", "0s"], &rr);
    server.stop();

    let exit = compare(&[&crr, &crr]);
    assert!(exit.stdout.contains("cannot tell: 0 s are too short"), "{}", exit.stdout);
    assert!(exit.stdout.contains("run longer with --duration"), "{}", exit.stdout);

    let exit = Launch::loadgen(&["compare", &crr, &rr]).run();
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(USAGE), ""), "{exit:?}");
    assert!(exit.stderr.contains("A ran crr and B ran rr"), "{}", exit.stderr);

    let exit = Launch::loadgen(&["compare", &crr, &crr, "--json", "-"]).run();
    serde_json::from_str::<Value>(&exit.stdout).expect("all of stdout is JSON");
}
