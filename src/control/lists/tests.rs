//! What inotify tells of each way in which a file may be replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::watches::{Touched, Watches};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("watches-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        // A symlink of this machine above it is none of ours.
        Self(folder.canonicalize().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str) {
        fs::write(self.file(name), "[]").unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the file is told of; nothing is left to be read then.
fn is_touched(watches: &mut Watches, file: &PathBuf) -> bool {
    let touched = watches.read();
    assert!(!touched.all && touched.files.len() <= 1);
    assert_eq!(watches.read(), Touched::default());
    touched.files.contains(file)
}

type Change = fn(&Folder);

#[test]
fn every_way_to_replace_a_file_is_told() {
    let table: [(&str, Change); 7] = [
        ("a rename over it", |it| {
            it.write("new");
            fs::rename(it.file("new"), it.file("web.json")).unwrap();
        }),
        ("written in place", |it| it.write("web.json")),
        ("removed", |it| fs::remove_file(it.file("web.json")).unwrap()),
        ("made again", |it| it.write("web.json")),
        ("moved away", |it| fs::rename(it.file("web.json"), it.file("old")).unwrap()),
        ("linked", |it| fs::hard_link(it.file("old"), it.file("web.json")).unwrap()),
        ("its directory removed", |it| fs::remove_dir_all(&it.0).unwrap()),
    ];
    let it = Folder::new("file");
    it.write("web.json");
    let (file, mut watches) = (it.file("web.json"), Watches::default());
    watches.set([&file].into_iter());
    assert_eq!(watches.trouble(), None);
    for (what, change) in table {
        assert!(!is_touched(&mut watches, &file));
        change(&it);
        assert!(is_touched(&mut watches, &file), "{what}");
        // As after each look.
        watches.set([&file].into_iter());
    }
    fs::create_dir(&it.0).unwrap();
    assert!(is_touched(&mut watches, &file), "its directory is there again");
}

#[test]
fn links_that_are_swapped_are_told() {
    let it = Folder::new("links");
    for version in ["..1", "..2"] {
        fs::create_dir(it.file(version)).unwrap();
        it.write(&format!("{version}/web.json"));
    }
    symlink("..1", it.file("..data")).unwrap();
    symlink("..data/web.json", it.file("web.json")).unwrap();
    let (file, mut watches) = (it.file("web.json"), Watches::default());
    watches.set([&file].into_iter());
    symlink("..2", it.file("..data_tmp")).unwrap();
    assert!(!is_touched(&mut watches, &file), "it is not there yet");
    fs::rename(it.file("..data_tmp"), it.file("..data")).unwrap();
    assert!(is_touched(&mut watches, &file));
    watches.set([&file].into_iter());
    it.write("..1/web.json");
    assert!(!is_touched(&mut watches, &file), "it is another one now");
    it.write("..2/web.json");
    assert!(is_touched(&mut watches, &file));
}

#[test]
fn what_is_no_matter_is_not_told() {
    let it = Folder::new("others");
    it.write("web.json");
    let (file, mut watches) = (it.file("web.json"), Watches::default());
    watches.set([&file].into_iter());
    it.write("other.json");
    fs::read(&file).unwrap();
    assert!(!is_touched(&mut watches, &file));
    watches.set([].into_iter());
    it.write("web.json");
    assert_eq!(watches.read(), Touched::default(), "it is not watched any more");
}
