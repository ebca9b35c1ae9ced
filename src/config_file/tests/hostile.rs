//! Files that nobody means well with.

use super::*;

#[test]
fn what_is_no_regular_text_file_of_a_sane_size_is_told() {
    let folder = Folder::new();
    let path = folder.write("main.toml", b"[frontend.e]\nlisten = '\xff'\n");
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(
        told,
        "main.toml: not UTF-8 from line 2 on; a configuration is a text file in UTF-8"
    );
    // Without anything in it; a file of this size takes no place.
    fs::File::create(&path).unwrap().set_len(100 * 1024 * 1024).unwrap();
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(told, "main.toml: the file is too large; it may have at most 16 MiB");
    fs::remove_file(&path).unwrap();
    assert!(
        folder.load(&empty).unwrap_err().contains("main.toml: the file cannot be read: No such")
    );
    fs::create_dir(&path).unwrap();
    assert!(folder.load(&empty).unwrap_err().contains("main.toml: this is a directory"));
    let device = load(std::path::Path::new("/dev/zero"), &empty).unwrap_err().to_string();
    assert!(device.contains("a FIFO, a device or a socket"), "{device}");
}

#[test]
fn many_mistakes_are_counted_and_not_all_told() {
    let text: String = (0..5000).map(|number| format!("x{number} = 1\n")).collect();
    let told = errors(&text);
    assert_eq!(told.lines().count(), Errors::COUNT_MAX + 1);
    assert!(told.ends_with("\nand 4900 more"), "{told}");
}

#[test]
fn depth_and_width_do_no_harm() {
    let deep = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(errors(&deep).contains("this is not TOML"));
    let deep = format!("[{}]\n", vec!["frontend"; 10_000].join("."));
    assert!(!errors(&deep).is_empty());
    let wide = format!("[frontend.e]\nlisten = [{}]\nservice = 'echo'", "'x',".repeat(100_000));
    assert!(errors(&wide).ends_with("more"));
    let long = format!("{} = 1\n", "k".repeat(1_000_000));
    assert!(!errors(&long).is_empty());
}

/// As many as there may be.
#[test]
fn large_configurations_are_read() {
    let mut text = String::new();
    for number in 0..1000 {
        let port = 10_000 + number;
        text += &format!("[frontend.f{number}]\nlisten = '127.0.0.1:{port}'\nservice = 'proxy'\n");
        text += &format!("upstream = 'u{number}'\n[upstream.u{number}]\nbackends = [");
        (0..10).for_each(|backend| text += &format!("'10.0.{backend}.1:{port}',"));
        text += "]\n";
    }
    let config = loaded(&text).unwrap().config;
    assert_eq!((config.frontends.len(), config.upstreams.len()), (1000, 1000));
}
