//! What is right, and does nothing or not what it looks like.

use super::*;

const ECHO: &str = "[frontend.e]\nlisten = ':1'\nservice = 'echo'\n";

/// Each warning of a file, without the folder.
#[track_caller]
fn warned_in(folder: &Folder, text: &str, environment: &Environment<'_>) -> Vec<String> {
    folder.write("main.toml", text);
    let warnings = folder.load(environment).unwrap().warnings;
    let prefix = format!("{}/", folder.0.display());
    warnings.iter().map(|warning| warning.to_string().replace(&prefix, "")).collect()
}

#[track_caller]
fn warned(text: &str) -> Vec<String> {
    warned_in(&Folder::new(), text, &empty)
}

#[test]
fn what_has_no_effect_is_told_with_its_place() {
    for (keys, expected) in [
        ("ban_after = 5", "main.toml:4:13: frontend.e.ban_after = 5: nobody is banned"),
        (
            "max_per_source = 1\nban_after = 5\nsource_rules = 'observe'",
            "main.toml:5:13: frontend.e.ban_after = 5: source_rules = \"observe\" refuses nobody",
        ),
        ("ban_time = '1h'", "main.toml:4:12: frontend.e.ban_time = '1h': nobody is banned without"),
        ("refuse = 'delay'", "main.toml:4:10: frontend.e.refuse = 'delay': no rate"),
        ("reply = ''", "main.toml:4:9: frontend.e.reply = '': it is empty"),
        (
            "deny = ['10.0.0.0/8', '10.0.0.5/8']",
            "main.toml:4:23: frontend.e.deny[1] = '10.0.0.5/8': bits behind the prefix are ignored: the network is \
             10.0.0.0/8",
        ),
        ("allow = '10.0.0.5/8'", "main.toml:4:9: frontend.e.allow = '10.0.0.5/8': bits"),
        (
            "allow = []",
            "main.toml:4:9: frontend.e.allow = []: an empty list does nothing: everybody",
        ),
    ] {
        let told = warned(&format!("{ECHO}{keys}\n"));
        assert_eq!(told.len(), 1, "{keys}: {told:?}");
        assert!(told[0].starts_with(expected), "{}", told[0]);
    }
    let all = warned(&format!(
        "[defaults]\nallow = []\n{ECHO}allow = []\nban_after = 5\nrefuse = 'delay'\n"
    ));
    let lines: Vec<_> = all.iter().filter_map(|it| it.split(':').nth(1)).collect();
    assert_eq!(lines, ["2", "6", "7", "8"], "in the order of the file: {all:?}");
    for keys in [
        "max_per_source = 1\nban_after = 5\nban_time = '1h'",
        "rate_per_source = '1/s'\nrefuse = 'delay'",
        "reply = 'x'",
        "allow = ['10.0.0.5', '10.0.0.0/8']\ndeny = []",
    ] {
        assert_eq!(warned(&format!("{ECHO}{keys}\n")), [""; 0], "{keys}");
    }
}

#[test]
fn files_of_networks_and_replies_are_looked_at_too() {
    let folder = Folder::new();
    folder.write("denied.txt", "10.0.0.0/8\n192.0.2.7/24\n192.0.2.8/24\n");
    folder.write("empty.txt", "");
    let told = |keys: &str| warned_in(&folder, &format!("{ECHO}{keys}\n"), &empty);
    let all = told("deny_file = 'denied.txt'");
    let expected = "main.toml:4:13: frontend.e.deny_file = 'denied.txt': bits behind the prefix are ignored: \
                    192.0.2.7/24 is the network 192.0.2.0/24, and 1 more in the file";
    assert_eq!(all, [expected]);
    let all = told("refuse = 'reply'\nreply_file = 'empty.txt'");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("main.toml:5:14: frontend.e.reply_file = 'empty.txt': it is empty"));
    // It allows nobody, which is an effect.
    assert_eq!(told("allow_file = 'empty.txt'"), [""; 0]);
    let all = told("allow = []\nallow_file = 'empty.txt'");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].ends_with("the networks of allow_file are allowed"), "{}", all[0]);
}

/// A default that one of them can use is none to warn of, and one that none can use is told once.
#[test]
fn defaults_are_told_if_no_frontend_can_use_them() {
    let two = "[frontend.a]\nlisten = ':1'\nservice = 'echo'\n[frontend.b]\nlisten = ':2'\nservice = 'echo'\n";
    let told = warned(&format!("[defaults]\nban_after = 5\n{two}"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("main.toml:2:13: defaults.ban_after = 5: nobody"), "{}", told[0]);
    assert_eq!(warned(&format!("[defaults]\nban_after = 5\n{two}max_per_source = 1\n")), [""; 0]);
    let told =
        warned(&format!("[defaults]\nban_after = 5\n{two}ban_after = 6\nmax_per_source = 1\n"));
    assert_eq!(told.len(), 1, "frontend.a alone has it, and cannot use it: {told:?}");
}

#[test]
fn an_empty_list_may_take_the_place_of_a_default() {
    let defaults = |allow: &str| format!("[defaults]\nallow = {allow}\n{ECHO}allow = []\n");
    assert_eq!(warned(&defaults("['10.0.0.0/8']")), [""; 0]);
    assert_eq!(warned(&defaults("'10.0.0.0/8'")), [""; 0]);
    let told = warned(&defaults("[]"));
    assert!(told.len() == 2 && told[0].contains("defaults.allow = []"), "{told:?}");
}

#[test]
fn what_came_from_the_environment_is_not_told() {
    let environment = |name: &str| (name == "NET").then(|| "10.9.8.7/16".to_owned());
    let told = warned_in(&Folder::new(), &format!("{ECHO}deny = '${{NET}}'\n"), &environment);
    let expected = "main.toml:4:8: frontend.e.deny = '${NET}': bits behind the prefix are ignored";
    assert_eq!(told, [expected]);
}
