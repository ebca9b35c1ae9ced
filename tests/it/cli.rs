//! What the command line prints: help texts against golden files.

use std::process::{Command, Stdio};

/// A width that fits every terminal; the help wraps to it.
pub(crate) const COLUMNS: &str = "80";

fn acceptor(arguments: &[&str]) -> std::process::Output {
    Command::new(crate::harness::acceptor())
        .args(arguments)
        .env("COLUMNS", COLUMNS)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[track_caller]
pub(crate) fn expect_golden(file: &str, actual: &str) {
    let path = crate::harness::source("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == actual,
        "{} differs; UPDATE_GOLDEN=1 rewrites it. Now it is:\n{actual}",
        path.display()
    );
}

#[test]
fn help_is_as_written_down() {
    for (arguments, file) in [
        (&["--help"][..], "help.txt"),
        (&["http", "--help"], "help-http.txt"),
        (&["doctor", "--help"], "help-doctor.txt"),
        (&["proxy", "--help"], "help-proxy.txt"),
        (&["run", "--help"], "help-run.txt"),
        (&["check", "--help"], "help-check.txt"),
        (&["ctl", "--help"], "help-ctl.txt"),
        (&["reload", "--help"], "help-reload.txt"),
    ] {
        let output = acceptor(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
        expect_golden(file, &String::from_utf8(output.stdout).expect("help is text"));
    }
}

#[test]
fn version_is_the_version_of_the_package() {
    let output = acceptor(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim_end(), concat!("acceptor ", env!("CARGO_PKG_VERSION")));
}
