//! The page as a browser builds it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Folder, Measured, alone};
use crate::browser;
use crate::harness::{Server, eventually, skipped};

/// It may start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed, by its own pid, when it has not ended.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The document of a page after the browser has read it.
#[track_caller]
fn dump(browser: &str, page: &Path, folder: &Folder) -> String {
    let out = folder.file("document.html");
    let file = std::fs::File::create(&out).expect("it can be written");
    let child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.file("profile")))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .expect("the browser starts");
    let mut browser = Browser(child);
    eventually(PATIENCE, "the browser has ended", || {
        browser.0.try_wait().expect("it is our child").is_some()
    });
    std::fs::read_to_string(&out).expect("it was written")
}

#[test]
fn a_browser_shows_three_pictures_with_lines() {
    let _alone = alone();
    let Some(browser) = browser::program() else {
        return skipped("there is no chromium to read a page");
    };
    let folder = Folder::new("page");
    let server = Server::start(&["echo"]);
    let (address, page) = (server.address().to_string(), folder.file("page.html"));
    let arguments = ["crr", &address, "-d", "300ms", "--warm-up", "0s", "--html", &page];
    Measured::run("browser", &arguments);
    server.stop();
    let document = dump(browser, Path::new(&page), &folder);
    let pictures: Vec<&str> = document.split("<svg").skip(1).collect();
    assert_eq!(pictures.len(), 3, "{document}");
    for picture in pictures {
        let picture = picture.split("</svg>").next().expect("a part");
        // More than a move to one point: something can be seen.
        let seen = |line: &str| line.contains("class=\"line") && line.contains('L');
        assert!(picture.split("<path").any(seen), "no line in {picture}");
    }
    assert!(document.contains("prefers-color-scheme"), "nothing for dark rooms");
}
