//! Which directories have to be watched so that no change of a file goes unseen.
//!
//! A file is replaced by a rename in its directory. Where a part of its path is a symlink, as with a mounted ConfigMap
//! of Kubernetes (`web.json` -> `..data/web.json`, `..data` -> `..2026_11_30`), it is the link that is replaced: so
//! the directory of each link is watched too.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Most symlinks that are followed; path_resolution(7) has the same.
const LINKS_MAX: usize = 40;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// Without symlinks in it.
    pub(super) directory: PathBuf,
    pub(super) name: OsString,
}

/// The entries that decide what an absolute path leads to, beside those of directories that are no symlinks: the
/// file itself, or the first part of its path that is not there, and each symlink on the way.
pub(super) fn places(file: &Path) -> Vec<Place> {
    let (mut found, mut links) = (Vec::new(), 0);
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = parts(file).collect();
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let whole = at.join(&name);
        let kind = fs::symlink_metadata(&whole).map(|metadata| metadata.file_type());
        match (kind, fs::read_link(&whole)) {
            (Ok(_), Ok(target)) => {
                found.push(Place { directory: at.clone(), name });
                links += 1;
                if links > LINKS_MAX {
                    break;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                parts(&target).rev().for_each(|part| rest.push_front(part));
            }
            (Ok(kind), Err(_)) if kind.is_dir() && !rest.is_empty() => at = whole,
            _ => {
                found.push(Place { directory: at, name });
                break;
            }
        }
    }
    found
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The places, relative to a folder.
    fn relative(folder: &Path, file: &str) -> Vec<String> {
        let folder = folder.canonicalize().unwrap();
        let told = |place: Place| {
            let whole = place.directory.join(place.name);
            whole.strip_prefix(&folder).unwrap_or(&whole).display().to_string()
        };
        places(&folder.join(file)).into_iter().map(told).collect()
    }

    #[test]
    fn each_link_on_the_way_counts() {
        let folder = std::env::temp_dir().join(format!("places-{}", std::process::id()));
        fs::create_dir_all(folder.join("mount/..one")).unwrap();
        fs::write(folder.join("mount/..one/web.json"), "").unwrap();
        fs::write(folder.join("plain.json"), "").unwrap();
        symlink("..one", folder.join("mount/..data")).unwrap();
        symlink("..data/web.json", folder.join("mount/web.json")).unwrap();
        symlink(folder.join("mount"), folder.join("absolute")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        let mounted = ["mount/web.json", "mount/..data", "mount/..one/web.json"];
        let table: [(&str, &[&str]); 7] = [
            ("plain.json", &["plain.json"]),
            ("mount/../plain.json", &["plain.json"]),
            ("none/there/web.json", &["none"]),
            ("plain.json/web.json", &["plain.json"]),
            ("mount/web.json", &mounted),
            ("mount", &["mount"]),
            ("absolute/web.json", &[&["absolute"][..], &mounted].concat()),
        ];
        for (file, expected) in table {
            assert_eq!(relative(&folder, file), expected, "{file}");
        }
        assert_eq!(relative(&folder, "loop").len(), LINKS_MAX + 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
