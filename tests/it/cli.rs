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
        (&["upgrade", "--help"], "help-upgrade.txt"),
        (&["status", "--help"], "help-status.txt"),
        (&["top", "--help"], "help-top.txt"),
    ] {
        let output = acceptor(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
        expect_golden(file, &String::from_utf8(output.stdout).expect("help is text"));
    }
}

/// docs/command-line.md names each option; those of `ctl` may stand in docs/CONTROL.md.
#[test]
fn every_option_is_in_a_document() {
    let read = |name: &str| std::fs::read_to_string(crate::harness::source(name)).unwrap();
    let (options, control) = (read("docs/command-line.md"), read("docs/CONTROL.md"));
    let commands: [&[&str]; 18] = [
        &["echo"],
        &["discard"],
        &["http"],
        &["proxy"],
        &["run"],
        &["check"],
        &["reload"],
        &["upgrade"],
        &["status"],
        &["top"],
        &["schema"],
        &["completions"],
        &["doctor"],
        &["ctl"],
        &["ctl", "set", "max-connections"],
        &["ctl", "set", "backlog"],
        &["ctl", "backend", "weight"],
        &["ctl", "connections"],
    ];
    let mut seen = 0;
    for command in commands {
        let help = acceptor(&[command, &["--help"]].concat());
        assert_eq!(help.status.code(), Some(0), "{command:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
            let Some((_, rest)) = line.split_once("--") else { continue };
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            let name = &rest[..end.unwrap_or(rest.len())];
            let option = format!("--{name}");
            let ends =
                |behind: &str| !behind.starts_with(|c: char| c.is_alphanumeric() || c == '-');
            let is_named = |text: &str| text.split(&option).skip(1).any(ends);
            let is_of_ctl = matches!(command[0], "ctl" | "reload");
            let short = line.split_once(',').map(|(short, _)| format!("`{short}`"));
            let is_short = short.is_some_and(|short| options.contains(&short));
            assert!(
                is_named(&options) || is_short || is_of_ctl && is_named(&control) || name == "help",
                "{command:?} --{name} is in no document"
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn version_is_the_version_of_the_package() {
    let output = acceptor(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim_end(), concat!("acceptor ", env!("CARGO_PKG_VERSION")));
}
