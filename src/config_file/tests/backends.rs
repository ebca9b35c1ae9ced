//! Lists of backends that are files of their own: what is taken, and what is told of those that are wrong.

use super::*;
use crate::config::upstream::UpstreamConfig;

const MAIN: &str = "[frontend.p]\nlisten = ':1'\nservice = 'proxy'\nupstream = 'web'\n\
                    [upstream.web]\nbackends_file = 'web.json'\n";

/// What is said of a list, as a file of its own and as part of a configuration: the same.
#[track_caller]
fn told(list: &str) -> String {
    let folder = Folder::new();
    folder.write("main.toml", MAIN);
    let path = folder.write("web.json", list);
    let alone = load_backends(&path, "web").expect_err("it was taken").to_string();
    let alone = alone.replace(&format!("{}/", folder.0.display()), "");
    assert_eq!(folder.load(&empty).expect_err("it was taken"), alone);
    alone
}

#[test]
fn a_list_has_addresses_and_tables_as_in_a_configuration_file() {
    let folder = Folder::new();
    folder.write("main.toml", MAIN);
    let list = " [\"10.0.0.1:80,weight=3\",\n {\"weight\": 2, \"address\": \"unix:/x\"}, \
                {\"address\":\"\\u0061.example:81\",\"weight\":\"4\"}]\n";
    let path = folder.write("web.json", list);
    let loaded = folder.load(&empty).unwrap();
    let upstream = &loaded.settings.config.upstreams[0];
    let backends: Vec<_> = upstream.backends.iter().map(ToString::to_string).collect();
    assert_eq!(backends, ["10.0.0.1:80,weight=3", "unix:/x,weight=2", "a.example:81,weight=4"]);
    assert_eq!(upstream.backends_file.as_deref(), Some(path.as_path()));
    assert_eq!(loaded.files, [folder.0.join("main.toml"), path.clone()]);
    let alone = load_backends(&path, "web").unwrap();
    assert_eq!(alone.backends, upstream.backends);
    for lookups in [&alone.lookups, &loaded.lookups] {
        let [lookup] = &lookups[..] else { panic!("{lookups:?}") };
        assert_eq!((lookup.name.as_str(), lookup.port), ("a.example", 81));
        let told = lookup.failed("nobody knows it").to_string();
        let place = format!("{}:2:39: upstream.web.backends[2]: ", path.display());
        assert!(told.starts_with(&place), "{told}");
    }
}

#[test]
fn what_is_no_list_is_told_with_its_line() {
    let part = "; a part of the file is missing";
    let list = "it must be a list of backends, such as [\"10.0.0.1:80\", { \"address\": \
                \"10.0.0.2:80\", \"weight\": 2 }]";
    let table = [
        ("", format!("1:1: this is not JSON: EOF while parsing a value{part}")),
        (
            "[\n \"10.0.0.1:80\",\n",
            format!("3:1: this is not JSON: EOF while parsing a value{part}"),
        ),
        ("[\"10.0.0.1:8", format!("1:12: this is not JSON: EOF while parsing a string{part}")),
        ("[\n\"a:1\",]", "2:7: this is not JSON: trailing comma".to_owned()),
        ("['a:1']", "1:2: this is not JSON: expected value".to_owned()),
        ("{\"backends\": []}", format!("1:1: {list}")),
        ("null", format!("1:4: {list}")),
    ];
    expect_told(&table);
}

/// What is told of lists, without the name of the file.
#[track_caller]
fn expect_told(table: &[(&str, String)]) {
    for (list, expected) in table {
        assert_eq!(told(list), format!("web.json:{expected}"), "{list}");
    }
}

#[test]
fn what_is_wrong_in_a_list_is_told_with_its_line() {
    let table = [
        (
            "[]",
            "1:1: upstream.web.backends = []: no backend; give at least one, such as 10.0.0.1:80"
                .to_owned(),
        ),
        (
            "[\n\"a\"]",
            "2:1: upstream.web.backends[0] = \"a\": 'a' cannot be a backend: it has no port. \
             Examples: 10.0.0.1:80, [2001:db8::1]:80, name.example:80, srv:_web._tcp.example, \
             unix:/run/name.sock"
                .to_owned(),
        ),
        (
            "[{\"adress\": \"a:1\"}]",
            "1:3: upstream.web.backends[0].adress: unknown key; did you mean 'address'?".to_owned(),
        ),
        (
            "[{\"weight\": 1}]",
            "1:2: upstream.web.backends[0]: it has no address; give one, such as \
             { \"address\": \"10.0.0.1:80\", \"weight\": 1 }"
                .to_owned(),
        ),
        (
            "[{\"address\": \"a:1\", \"weight\": 0}]",
            "1:31: upstream.web.backends[0].weight = 0: it must be a number from 1 to 256"
                .to_owned(),
        ),
        (
            "[{\"address\": \"a:1\", \"weight\": null}]",
            "1:31: upstream.web.backends[0].weight = null: it must be a single value".to_owned(),
        ),
        (
            "[{\"address\": {\"address\": \"a:1\"}}]",
            "1:14: upstream.web.backends[0].address: it must be a single value".to_owned(),
        ),
        (
            "[{\"address\": \"a:1\", \"address\": \"a:2\"}]",
            "1:21: this key is given twice; leave one of them".to_owned(),
        ),
        (
            "[{\"address\": \"srv:a.b\", \"weight\": 3}]",
            "1:35: upstream.web.backends[0].weight = 3: an SRV name has the weights of its records; \
             leave the weight out"
                .to_owned(),
        ),
        (
            "[\"a:1\", [\"a:2\"]]",
            "1:9: upstream.web.backends[1] = [\"a:2\"]: it must be an address, or \
             { \"address\": \"IP:PORT\", \"weight\": N }"
                .to_owned(),
        ),
        (
            "[\"a:1\",\n\"a:1\"]",
            "2:1: upstream.web.backends[1] = \"a:1\": upstream.web.backends[0] is this backend \
             already; for more connections give it a weight, such as \
             { \"address\": \"10.0.0.1:80\", \"weight\": 2 }"
                .to_owned(),
        ),
    ];
    expect_told(&table);
}

/// Not only the first.
#[test]
fn all_that_is_wrong_is_told() {
    let told = told("[\"a\",\n{\"wieght\": 1, \"address\": \"b\"},\n\"c:0\"]");
    let lines: Vec<_> = told.lines().map(|line| &line[..12]).collect();
    assert_eq!(lines, ["web.json:1:2", "web.json:2:2", "web.json:2:2", "web.json:3:1"], "{told}");
}

#[test]
fn there_are_no_variables_in_a_list() {
    let folder = Folder::new();
    let path = folder.write("web.json", "[\"unix:/$a/${b}\"]");
    let loaded = load_backends(&path, "web").unwrap();
    assert_eq!(loaded.backends[0].to_string(), "unix:/$a/${b}");
}

#[test]
fn a_list_has_its_limits() {
    let most = UpstreamConfig::BACKENDS_MAX;
    let list = |count: usize| {
        let all: Vec<_> = (1..=count).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!("[{}]", all.join(","))
    };
    let told_of_many = told(&list(most + 1));
    assert!(told_of_many.contains("1025 backends; there may be at most 1024"), "{told_of_many}");
    let folder = Folder::new();
    let path = folder.write("web.json", list(most));
    assert_eq!(load_backends(&path, "web").unwrap().backends.len(), most);
    let blanks = " ".repeat(UpstreamConfig::BACKENDS_FILE_BYTES_MAX as usize);
    folder.write("web.json", blanks);
    folder.write("main.toml", MAIN);
    let told = folder.load(&empty).unwrap_err();
    assert!(told.contains("EOF while parsing a value"), "{told}");
    folder.write("web.json", list(most) + &" ".repeat(1 << 20));
    let why = "the file is too large; it may have at most 1 MiB";
    let told = folder.load(&empty).unwrap_err();
    assert_eq!(told, format!("main.toml:6:17: upstream.web.backends_file = 'web.json': {why}"));
    let told = load_backends(&path, "web").unwrap_err().to_string();
    assert_eq!(told, format!("{}: {why}", path.display()));
}

/// However deep it goes, nothing overflows.
#[test]
fn a_hostile_list_is_only_wrong() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"address\":", "}]")] {
        let deep = 30_000;
        told(&open.repeat(deep));
        told(&format!("{}1{}", open.repeat(deep), close.repeat(deep)));
        told(&format!("[{}1{}]", open.repeat(deep), close.repeat(deep)));
    }
}

#[test]
fn a_list_is_given_once_and_in_a_file() {
    let folder = Folder::new();
    folder.write("web.json", "[\"a:1\"]");
    folder.write("main.toml", format!("{MAIN}backends = ['a:1']\n"));
    let told = folder.load(&empty).unwrap_err();
    let expected = "main.toml:6:1: upstream.web.backends_file: backends is given already; leave \
                    one of them";
    assert_eq!(told, expected);
    fs::remove_file(folder.0.join("web.json")).unwrap();
    folder.write("main.toml", MAIN);
    let told = folder.load(&empty).unwrap_err();
    let place = "main.toml:6:17: upstream.web.backends_file = 'web.json': ";
    assert!(told.starts_with(&format!("{place}the file cannot be read: No such file")), "{told}");
    let told = load_text(MAIN, &empty).unwrap_err().to_string();
    assert!(told.contains("this text is in no file"), "{told}");
}
