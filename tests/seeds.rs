//! The seeds of the fuzz targets, through the functions that the targets call. What a fuzzer has
//! found once goes into `fuzz/seeds/` and stays found.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "for the fuzz targets it is a library")]
mod checks;

/// Calls `check` with each seed of a target.
#[track_caller]
fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let seeds = fs::read_dir(&folder).expect("the target has seeds");
    let mut count = 0;
    for seed in seeds {
        let path = seed.expect("the folder can be read").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("the seed can be read"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn proxy_v1() {
    run("proxy_v1", checks::proxy_v1);
}

#[test]
fn proxy_v2() {
    run("proxy_v2", checks::proxy_v2);
}

#[test]
fn client_hello() {
    run("client_hello", checks::client_hello);
}

#[test]
fn http() {
    run("http", checks::http);
}

#[test]
fn answer() {
    run("answer", checks::answer);
}

#[test]
fn configuration() {
    run("configuration", checks::configuration);
}

#[test]
fn control() {
    run("control", checks::control);
}

#[test]
fn ban_filter() {
    run("ban_filter", checks::ban_filter::ban_filter);
}

#[test]
fn networks() {
    run("networks", checks::networks::networks);
}

#[test]
fn framing() {
    run("framing", checks::framing::framing);
}

#[test]
fn messages_that_are_nearly_right() {
    nearly_right("framing", checks::framing::framing, 20_000);
}

#[test]
fn lists_of_networks_that_are_nearly_right() {
    nearly_right("networks", checks::networks::networks, 5_000);
}

/// Requests that are nearly right.
#[test]
fn requests_that_are_nearly_right() {
    nearly_right("control", checks::control, 5_000);
}

/// The seeds with parts cut out, doubled, swapped or changed: most of these are nearly right.
#[test]
fn configurations_that_are_nearly_right() {
    nearly_right("configuration", checks::configuration, 500);
}

fn nearly_right(target: &str, check: fn(&[u8]), count: usize) {
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let read = |seed: std::io::Result<fs::DirEntry>| fs::read(seed.unwrap().path()).unwrap();
    let seeds: Vec<Vec<u8>> = fs::read_dir(folder).unwrap().map(read).collect();
    for _ in 0..count {
        let mut bytes = rng.choice(&seeds).unwrap().clone();
        for _ in 0..rng.usize(1..4) {
            change(&mut bytes, &mut rng);
        }
        check(&bytes);
    }
}

fn change(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    let at = rng.usize(..=bytes.len());
    let end = rng.usize(at..=bytes.len().min(at + 20));
    match rng.u8(..4) {
        0 => drop(bytes.drain(at..end)),
        1 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(end..end, part).for_each(drop);
        }
        2 => bytes.insert(at, rng.choice(*b"[]{}='\"$.,#\n0a-_*").unwrap()),
        _ => {
            let other = rng.usize(..=bytes.len());
            let part: Vec<u8> = bytes[at..end].to_vec();
            bytes.splice(other..other, part).for_each(drop);
        }
    }
}
