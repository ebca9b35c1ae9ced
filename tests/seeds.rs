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
