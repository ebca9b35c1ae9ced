//! Outputs: looked at before the run, and each written whatever becomes of the others.

use std::fs::{self, File};
use std::io::{ErrorKind, PipeWriter, pipe};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{DONE, FAILED, Folder, INVALID, USAGE, alone};
use crate::harness::{Launch, SOON, Server};

/// A pipe whose reader has gone.
fn broken() -> PipeWriter {
    let (reader, writer) = pipe().expect("there are descriptors");
    drop(reader);
    writer
}

#[test]
fn files_are_written_although_nobody_reads_stdout() {
    let _alone = alone();
    let folder = Folder::new("broken-stdout");
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let (json, html) = (folder.file("run.json"), folder.file("run.html"));
    let full = || File::options().write(true).open("/dev/full").expect("it is there");
    for (out, codes) in [(broken().into(), [DONE, INVALID]), (full().into(), [FAILED, FAILED])] {
        let out: std::os::fd::OwnedFd = out;
        let run =
            ["crr", &address, "-n", "10", "--warm-up", "0s", "--json", &json, "--html", &html];
        let exit = Launch::loadgen(&run).stdout(out).run();
        assert!(exit.code.is_some_and(|code| codes.contains(&code)), "{exit:?}");
        assert_eq!(exit.stderr.contains("stdout cannot be written"), codes == [FAILED; 2]);
        for (file, end) in [(&json, "}\n"), (&html, "</html>\n")] {
            assert!(fs::read_to_string(file).expect("it was written").ends_with(end), "{file}");
            fs::remove_file(file).expect("it was written");
        }
    }
    server.stop();
}

#[test]
fn nobody_reads_stderr() {
    let exit = Launch::loadgen(&["report", "/no/such/file"]).stderr(broken()).run();
    assert_eq!(exit.code, Some(USAGE), "{exit:?}");
}

/// One that cannot be written must not cost the others.
#[test]
fn each_output_is_for_itself() {
    let _alone = alone();
    let folder = Folder::new("each");
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let svg = folder.file("run.svg");
    let csv = folder.file("run.csv");
    symlink("/dev/full", &csv).expect("it is new");
    let outputs = ["--json", "/dev/full", "--csv", &csv, "--svg", &svg];
    let run = [&["crr", &address, "-n", "10", "--warm-up", "0s"], &outputs[..]].concat();
    let exit = Launch::loadgen(&run).run();
    assert_eq!(exit.code, Some(FAILED), "{exit:?}");
    for file in ["/dev/full", &csv] {
        let words = format!("{file} cannot be written: No space left");
        assert!(exit.stderr.contains(&words), "'{words}' is missing in {exit:?}");
    }
    assert!(exit.stdout.contains("verdict:"), "{exit:?}");
    assert!(fs::read_to_string(&svg).expect("it was written").ends_with("</svg>\n"));
    server.stop();
}

#[test]
fn what_cannot_be_written_is_said_before_the_run() {
    let folder = Folder::new("before");
    let target = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    target.set_nonblocking(true).expect("it is open");
    let address = target.local_addr().expect("it is bound").to_string();
    fs::create_dir(folder.file("folder")).expect("it is new");
    symlink(folder.file("gone/file"), folder.file("link")).expect("it is new");
    for file in ["no/such/folder.json", "folder", "link"] {
        let file = folder.file(file);
        for option in ["--json", "--csv", "--hdr", "--svg", "--html"] {
            let exit = Launch::loadgen(&["crr", &address, "-d", "60s", option, &file]).run();
            assert_eq!((exit.code, exit.stdout.as_str()), (Some(USAGE), ""), "{exit:?}");
            assert!(exit.stderr.contains(&format!("{file} cannot be written: ")), "{exit:?}");
        }
    }
    assert_eq!(target.accept().expect_err("nobody has come").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_run_that_fails_leaves_files_as_they_were() {
    let folder = Folder::new("older");
    let (old, new) = (folder.file("old.json"), folder.file("new.html"));
    let (link, behind) = (folder.file("link.svg"), folder.file("behind.svg"));
    fs::write(&old, "older").expect("it can be written");
    symlink(&behind, &link).expect("it is new");
    let outputs = ["--json", &old, "--html", &new, "--svg", &link];
    let run = [&["crr", "127.0.0.1:9", "-c", "500", "-d", "60s"], &outputs[..]].concat();
    let exit = Launch::loadgen(&run).descriptors(64).run();
    assert!(exit.code == Some(USAGE) && exit.stderr.contains("RLIMIT_NOFILE"), "{exit:?}");
    assert_eq!(fs::read_to_string(&old).expect("it is there"), "older");
    assert!(!Path::new(&new).exists() && !Path::new(&behind).exists());
    assert!(fs::symlink_metadata(&link).is_ok(), "the link is not what was made");
}

/// A pipe is not opened before there is something to write.
#[test]
fn a_pipe_is_an_output() {
    let _alone = alone();
    let server = Server::start(&["echo"]);
    let address = server.address().to_string();
    let run = ["crr", &address, "-n", "10", "--warm-up", "0s", "-q", "--json", "/dev/stdout"];
    let exit = Launch::loadgen(&run).run_within(SOON);
    let json: serde_json::Value = serde_json::from_str(&exit.stdout).expect("it is JSON");
    assert_eq!(json["counts"]["completed"], 10, "{exit:?}");
    server.stop();
}
