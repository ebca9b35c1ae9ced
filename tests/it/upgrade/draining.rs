//! What is found behind an upgrade, or while the old process still has connections.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::json;

use super::family::{ECHO, Family, STEP};
use crate::client::{connect, expect_alive, expect_echo};
use crate::folder::Folder;
use crate::harness::{SOON, eventually};
use crate::process;

/// A frontend whose connections stay in the old process once it is out of the file.
const STAYS: &str = "[frontend.f]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n";

/// The new process dies, and another one starts, whether it would take over or not: the old one, which has connections,
/// keeps no address.
#[test]
fn the_new_process_dies() {
    for takes_over in [true, false] {
        let folder = Folder::new();
        let admin = folder.file("admin");
        let process = format!("[process]\nworkers = 2\nadmin = 'unix:{admin}'\n");
        let family = Family::within(folder, &format!("{process}{ECHO}{STAYS}"), |launch| launch);
        let client = connect(family.first.address_of(1));
        expect_echo(&client, b"abc");
        family.write(&format!("{process}{ECHO}"));
        let report = family.upgrade();
        assert_eq!((report.moved, report.left), (0, 1));
        UnixStream::connect(&admin).expect("the new process listens there");
        process::kill(report.pid, libc::SIGKILL);
        let old = family.first.pid();
        family.expect_alone(old);
        for path in [&admin, &family.control()] {
            let error = || UnixStream::connect(path).err().map(|error| error.kind());
            eventually(SOON, "nobody listens there", || {
                error() == Some(ErrorKind::ConnectionRefused)
            });
        }
        let from = format!("unix:{}", family.control());
        let arguments: &[&str] = if takes_over { &["--take-over", &from] } else { &[] };
        let next = family.by_hand(arguments).listeners(1).start();
        expect_alive(next.address());
        assert_eq!(family.pid(), next.pid());
        expect_echo(&client, b"abc");
        drop(client);
        family.expect_alone(next.pid());
        next.stop();
        family.stop();
    }
}

/// A new process that could not take all over drains what it has, and keeps no address either.
#[test]
fn the_old_process_dies_after_an_upgrade_that_has_failed() {
    let family = Family::prepared(ECHO, |launch| launch.variable(STEP, "hang:old-moved"));
    let client = connect(family.address());
    expect_echo(&client, b"abc");
    let from = format!("unix:{}", family.control());
    let impatient = family.by_hand(&["--take-over", &from]).variable(STEP, "limit:500");
    let new = impatient.listeners(1).start();
    let told = "the old process goes on, and this one drains";
    eventually(SOON, told, || new.stderr().contains(told));
    process::kill(family.first.pid(), libc::SIGKILL);
    family.expect_alone(new.pid());
    let next = family.by_hand(&["--take-over", &from]).listeners(1).start();
    expect_alive(next.address());
    expect_echo(&client, b"abc");
    drop(client);
    family.expect_alone(next.pid());
    assert_eq!(family.pid(), next.pid());
    family.stop();
}

/// The new one has another control socket, so nobody else answers on that of before.
#[test]
fn the_old_process_is_asked_on_its_own_socket() {
    let family = Family::start(&format!("{ECHO}{STAYS}"));
    let (old, client) = (family.pid(), connect(family.first.address_of(1)));
    expect_echo(&client, b"abc");
    let file = family.folder.file("a.toml");
    family.write(ECHO);
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replace("c.sock", "d.sock")).expect("there is room");
    let report = family.upgrade();
    assert_eq!((report.left, family.pid()), (1, old));
    for command in ["reload", "shutdown", "upgrade"] {
        let error = family.ask(&json!({"version": 1, "command": command})).unwrap_err();
        assert!(error.contains("an upgrade has taken place"), "{command}: {error}");
    }
    drop(client);
    family.expect_alone(report.pid);
    assert!(!fs::exists(family.control()).expect("we may look"));
    family.stop();
}

/// It leaves the files of sockets alone that the new one has.
#[test]
fn the_old_process_ends() {
    let mut family = Family::start(&format!("{ECHO}{STAYS}"));
    let client = connect(family.first.address_of(1));
    expect_echo(&client, b"abc");
    family.write(ECHO);
    let report = family.upgrade();
    drop(client);
    eventually(SOON, "it has ended", || family.first.has_ended());
    assert_eq!(family.pid(), report.pid, "its control socket is still there");
    expect_alive(family.address());
    family.stop();
}

/// What is at the path of a unix socket may be somebody else's file by then, or nothing.
#[test]
fn the_file_of_a_socket_is_replaced_or_removed() {
    for is_replaced in [true, false] {
        let folder = Folder::new();
        let path = folder.file("u.sock");
        let text = format!("[frontend.u]\nlisten = 'unix:{path}'\nservice = 'echo'\n");
        let family = Family::within(folder, &text, |launch| launch);
        let control = family.control();
        fs::remove_file(&path).expect("it is there");
        let other = is_replaced.then(|| UnixListener::bind(&path).expect("the path is free"));
        family.upgrade();
        if other.is_none() {
            assert_eq!(family.ctl("reload", &[]).code, Some(0));
            expect_echo(UnixStream::connect(&path).expect("it is made again"), b"abc");
        }
        process::kill(family.pid(), libc::SIGTERM);
        eventually(SOON, "all have ended", || family.members().is_empty());
        assert_eq!(fs::exists(&path).expect("we may look"), is_replaced, "{is_replaced}");
        assert!(!fs::exists(&control).expect("we may look"));
        family.stop();
    }
}

/// An address for all and one of them cannot be listened on at once: it is told that the server is what is in the way.
#[test]
fn an_address_that_overlaps_with_one_of_before() {
    let family = Family::start(ECHO);
    let (address, port) = (family.address(), family.address().port());
    let told = format!("this server listens on {address} itself");
    for wide in [format!("0.0.0.0:{port}"), format!(":{port}")] {
        family.write(&ECHO.replace("127.0.0.1:0", &wide));
        let exit = family.ctl("reload", &[]);
        assert!(exit.code == Some(1) && exit.stderr.contains(&told), "{exit:?}");
        family.try_upgrade(None).unwrap_err();
        eventually(SOON, "the new process tells it", || family.log().contains(&told));
    }
    let error = format!("ERROR {}:", family.folder.file("a.toml"));
    let by_new =
        family.log().lines().filter(|it| it.contains(&told) && it.contains(&error)).count();
    assert_eq!(by_new, 2, "{}", family.log());
    assert_eq!(family.ctl("drain", &["e"]).code, Some(0));
    assert_eq!(family.ctl("reload", &[]).code, Some(0), "{}", family.log());
    expect_alive(address);
    family.stop();
}

/// A list of before an upgrade names connections of the old process: nobody else's.
#[test]
fn an_id_of_before_closes_nobody() {
    let family = Family::start(ECHO);
    let clients: Vec<_> = (0..4).map(|_| connect(family.address())).collect();
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    let ids = |family: &Family| {
        let list = family.ask(&json!({"version": 1, "command": "connections"})).expect("a list");
        let all = list["connections"].as_array().expect("a list").iter();
        all.map(|it| it["id"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let before = ids(&family);
    family.upgrade();
    for id in &before {
        let exit = family.ctl("close", &[id]);
        let told = format!("there is no connection {id}; it was one of another process");
        assert!(exit.code == Some(1) && exit.stderr.contains(&told), "{exit:?}");
    }
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    let after = ids(&family);
    assert!(after.len() == 4 && after.iter().all(|id| !before.contains(id)), "{after:?}");
    assert_eq!(family.ctl("close", &[&after[0]]).code, Some(0));
    drop(clients);
    family.stop();
}

/// Both processes follow a rotation.
#[test]
fn the_log_is_rotated() {
    let folder = Folder::new();
    let log = folder.file("access.log");
    let with_log = |text: &str| text.replace("service", &format!("access_log = '{log}'\nservice"));
    let (both, echo) = (with_log(&format!("{ECHO}{STAYS}")), with_log(ECHO));
    let family = Family::within(folder, &both, |launch| launch);
    let clients = [connect(family.address()), connect(family.first.address_of(1))];
    clients.iter().for_each(|client| expect_echo(client, b"abc"));
    family.write(&echo);
    let report = family.upgrade();
    assert_eq!((report.moved, report.left), (1, 1));
    fs::rename(&log, format!("{log}.1")).expect("it is there");
    let [moved, stayed] = clients;
    for (pid, client) in [(family.first.pid(), stayed), (report.pid, moved)] {
        let lines = || fs::read_to_string(&log).unwrap_or_default().lines().count();
        let before = lines();
        process::kill(pid, libc::SIGHUP);
        let told = if before == 0 {
            "so nothing is reloaded; the access log is opened again"
        } else {
            "SIGHUP: reloaded"
        };
        family.expect_logged(told);
        drop(client);
        eventually(SOON, "it is in the new file", || lines() == before + 1);
    }
    assert_eq!(fs::read_to_string(format!("{log}.1")).expect("it is there"), "");
    assert!(!family.log().contains("ERROR"), "{}", family.log());
    family.stop();
}
