//! What the command line of the load generator prints: help against golden files, and refusals.

use std::process::{Command, Output, Stdio};

use crate::cli::{COLUMNS, expect_golden};
use crate::harness::Launch;
use crate::process::Refused;

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(crate::harness::loadgen())
        .args(arguments)
        .env("COLUMNS", COLUMNS)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[test]
fn help_is_as_written_down() {
    for (arguments, file) in [
        (&["--help"][..], "loadgen-help.txt"),
        (&["crr", "--help"], "loadgen-crr-help.txt"),
        (&["http", "--help"], "loadgen-http-help.txt"),
        (&["compare", "--help"], "loadgen-compare-help.txt"),
    ] {
        let output = loadgen(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
        expect_golden(file, &String::from_utf8(output.stdout).expect("help is text"));
    }
}

#[test]
fn bad_usage_exits_with_2_and_says_why_on_stderr() {
    let table = [
        ("", "Usage"),
        ("run 127.0.0.1:7", "run"),
        ("crr", "<ADDR>"),
        ("crr nobody.invalid:7", "nobody.invalid cannot be resolved"),
        ("crr 127.0.0.1:7 --connections 0", "--connections"),
        ("crr 127.0.0.1:7 --rate 5 -c 5", "--max-inflight 5"),
        ("crr 127.0.0.1:7 --duration 2h", "1h"),
        ("crr 127.0.0.1:7 --threads 1025 -c 2000", "1024"),
        ("crr 127.0.0.1:7 --json - --csv -", "--csv -"),
        ("rr 127.0.0.1:7 --close server", "--close server"),
        ("merge one.json", "<FILE>"),
        ("report", "<FILE>"),
        ("compare one.json", "<B>"),
    ];
    for (line, part) in table {
        let output = loadgen(&line.split_whitespace().collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(text.contains(part), "{line} does not say '{part}': {text}");
    }
}

#[test]
fn version_is_the_version_of_the_package() {
    let output = loadgen(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim_end(), concat!("loadgen ", env!("CARGO_PKG_VERSION")));
}

/// The options of a subcommand, as its help has them.
fn options_of(command: &str) -> Vec<String> {
    let help = String::from_utf8(loadgen(&[command, "--help"]).stdout).expect("help is text");
    options_in(&help).collect()
}

fn options_in(text: &str) -> impl Iterator<Item = String> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let words = text.split(is_end).filter(|word| word.starts_with("--") && word.len() > 2);
    words.map(str::to_owned)
}

/// A machine without io_uring is told what to do here, not what a server could do.
#[test]
fn a_refusal_of_io_uring_names_only_options_that_there_are() {
    let known = options_of("crr");
    for how in [
        Refused::With(libc::EPERM),
        Refused::With(libc::ENOSYS),
        Refused::With(libc::ENOMEM),
        Refused::Kill,
    ] {
        for (engine, code) in [("uring", 69), ("auto", 1)] {
            let run = ["crr", "127.0.0.1:9", "-n", "1", "--warm-up", "0s", "--engine", engine];
            let exit = Launch::loadgen(&run).refusing_io_uring(how).run();
            assert_eq!(exit.code, Some(code), "{exit:?}");
            // A run that happens all the same notes it in its report.
            let told = exit.stdout.clone() + &exit.stderr;
            assert!(told.contains("io_uring"), "{exit:?}");
            for option in options_in(&told) {
                assert!(known.contains(&option), "{option} is no option: {exit:?}");
            }
        }
    }
}
