//! Reports of hand-made outcomes.

pub(in crate::load) mod build;
mod files;
mod hostile;
mod json;
mod merge;
mod picture;

use std::path::PathBuf;

#[track_caller]
pub(in crate::load) fn expect_golden(file: &str, actual: &str) {
    // What cargo says now goes before what it said at the build: see scripts/check-plain-user.
    let source = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let path = source.join("tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).expect("the golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let path = path.display();
    assert!(golden == actual, "{path} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{actual}");
}
