//! Several files.

use super::*;

const ECHO: &str = "listen = '127.0.0.1:0'\nservice = 'echo'\n";

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.settings.config.frontends.iter().map(|frontend| frontend.name.as_str()).collect()
}

#[test]
fn patterns_are_read_in_order_relative_to_the_file() {
    let folder = Folder::new();
    folder.write(
        "main.toml",
        format!("include = ['conf.d/*.toml', 'none/*.toml', 'b.toml']\n[frontend.m]\n{ECHO}"),
    );
    for (file, name) in [("conf.d/2.toml", "two"), ("conf.d/10.toml", "ten"), ("b.toml", "b")] {
        folder.write(file, format!("[frontend.{name}]\n{ECHO}"));
    }
    // Neither hidden files nor others.
    folder.write("conf.d/.hidden.toml", "broken");
    folder.write("conf.d/x.toml.bak", "broken");
    folder.write("conf.d/deep/x.toml", "broken");
    let loaded = folder.load(&empty).unwrap();
    assert_eq!(names(&loaded), ["m", "ten", "two", "b"]);
    let files: Vec<_> =
        loaded.files.iter().map(|file| file.strip_prefix(&folder.0).unwrap().to_owned()).collect();
    assert_eq!(
        files,
        ["main.toml", "conf.d/10.toml", "conf.d/2.toml", "b.toml"].map(PathBuf::from)
    );
}

#[test]
fn a_name_is_given_once_over_all_files() {
    let folder = Folder::new();
    folder.write("main.toml", format!("include = '?.toml'\n[frontend.m]\n{ECHO}"));
    folder.write("a.toml", format!("[upstream.u]\nbackends = ['a:1']\n\n[frontend.m]\n{ECHO}"));
    folder.write("b.toml", "[upstream.u]\nbackends = ['a:1']\n");
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(
        told,
        "a.toml:4:11: frontend.m: another frontend has this name, at main.toml:2:11; \
         each needs a name of its own\n\
         b.toml:1:11: upstream.u: another upstream has this name, at a.toml:1:11; \
         each needs a name of its own"
    );
}

#[test]
fn what_is_wrong_in_any_file_is_told_in_their_order() {
    let folder = Folder::new();
    folder.write(
        "main.toml",
        "include = ['a.toml', 'none.toml', '***/x', 'b.toml']\n[process]\nx = 1\n",
    );
    folder.write("a.toml", "[process]\nworkers = 1\n[defaults]\n[frontend]\nx = 1\n");
    folder.write("b.toml", "not TOML");
    let told = folder.load(&empty).unwrap_err();
    let begins = [
        "main.toml:1:22: include[1] = 'none.toml': the file cannot be read: No such file",
        "main.toml:1:35: include[2] = '***/x': this pattern cannot be matched: ",
        "main.toml:3:1: process.x: unknown key",
        "a.toml:1:2: process: only the first file may have it",
        "a.toml:3:2: defaults: only the first file may have it",
        "a.toml:5:5: frontend.x = 1: it must be a table",
        "b.toml:1:5: this is not TOML: ",
    ];
    assert_eq!(told.lines().count(), begins.len(), "{told}");
    for (line, begin) in told.lines().zip(begins) {
        assert!(line.starts_with(begin), "{line}\nnot {begin}\n{told}");
    }
}

/// Two may include a third: it is read once. Nothing may include itself, by whatever way.
#[test]
fn circles_are_refused_where_they_close() {
    let folder = Folder::new();
    folder.write("main.toml", format!("include = ['a.toml', 'b.toml']\n[frontend.m]\n{ECHO}"));
    folder.write("a.toml", "include = 'c.toml'");
    folder.write("b.toml", "include = './c.toml'");
    folder.write("c.toml", format!("[frontend.c]\n{ECHO}"));
    assert_eq!(names(&folder.load(&empty).unwrap()), ["m", "c"]);
    let of = "this file would be included by itself, directly or by others; ";
    folder.write("c.toml", "include = './main.toml'");
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(told, format!("c.toml:1:11: include = './main.toml': {of}leave it out"));
    let (own, pattern) = (format!("include = 'main.toml'\n[frontend.m]\n{ECHO}"), "*.toml");
    folder.write("main.toml", &own);
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(told, format!("main.toml:1:11: include = 'main.toml': {of}leave it out"));
    folder.write("main.toml", own.replace("main.toml", pattern));
    folder.write("c.toml", "");
    let told = folder.load(&empty).unwrap_err();
    let begin =
        format!("main.toml:1:11: include = '*.toml': {of}put what is included into a folder");
    assert!(told.starts_with(&begin), "{told}");
}

/// A pattern does not say which of its files it was.
#[test]
fn a_file_that_cannot_be_read_is_told_with_the_file_that_includes_it() {
    let folder = Folder::new();
    folder.write(
        "main.toml",
        format!("[frontend.m]\n{ECHO}").replace("[f", "include = 'a.toml'\n[f"),
    );
    folder.write("a.toml", "include = ['x/*.toml']");
    fs::create_dir_all(folder.0.join("x/b.toml")).unwrap();
    let told = folder.load(&empty).unwrap_err();
    let begin = "a.toml:1:12: include[0] = 'x/*.toml': x/b.toml: this is a directory";
    assert!(told.starts_with(begin), "{told}");
}

#[test]
fn includes_are_not_endlessly_deep() {
    let folder = Folder::new();
    folder.write("main.toml", "include = '1.toml'");
    for depth in 1..=INCLUDE_DEPTH_MAX + 1 {
        folder.write(&format!("{depth}.toml"), format!("include = '{}.toml'", depth + 1));
    }
    let told = folder.load(&empty).unwrap_err();
    let deepest = format!("{INCLUDE_DEPTH_MAX}.toml:1:11: include = '9.toml': files include files");
    assert!(told.starts_with(&deepest), "{told}");
}
