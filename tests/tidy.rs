//! The rules of the house, held by a test: layers, unsafe, sizes, words.
//!
//! Each rule is a function from one source file to its violations, so that the tests below can show
//! it one. CONTRIBUTING.md says why the rules are as they are.

#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source::{Kind, Source, functions, names_above, names_behind};

/// Most lines of a file and of a function, and the median of the functions under src.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_LINES_MEDIAN_BELOW: usize = 10;

/// Files that are longer than they may be, with the length that they must not exceed. It only ever
/// gets shorter.
const RATCHET: &[(&str, usize)] = &[];

/// The top-level modules: the layer, and what is out of bounds although it lies below. A module
/// imports from lower layers only.
const LAYERS: &[(&str, usize, &[&str])] = &[
    ("sys", 0, &[]),
    ("config", 0, &[]),
    ("metrics", 0, &[]),
    ("log", 0, &[]),
    ("shared", 0, &[]),
    ("ring", 1, &[]),
    ("process", 1, &[]),
    ("sources", 1, &["metrics", "log", "shared"]),
    ("access_log", 2, &["ring"]),
    ("listener", 2, &["ring"]),
    ("dispatch", 2, &[]),
    ("preread", 2, &["sys", "metrics", "ring"]),
    ("service", 3, &["sys", "ring"]),
    ("upstream", 2, &["ring"]),
    (
        "config_file",
        3,
        &[
            "ring",
            "metrics",
            "log",
            "process",
            "listener",
            "dispatch",
            "upstream",
            "service",
            "access_log",
        ],
    ),
    ("connection", 4, &["listener"]),
    ("acceptor", 5, &["service"]),
    ("worker", 5, &["listener"]),
    ("proxy", 5, &["listener", "service"]),
    ("server", 6, &[]),
    ("load", 6, &["listener", "dispatch", "service", "connection", "acceptor", "worker", "proxy"]),
    ("control", 7, &["ring", "dispatch", "connection", "acceptor", "worker", "proxy", "load"]),
    (
        "admin",
        8,
        &["ring", "dispatch", "connection", "acceptor", "worker", "proxy", "load", "doctor"],
    ),
    ("upgrade", 7, &["ring", "dispatch", "acceptor", "worker", "proxy", "load"]),
    ("doctor", 7, &["service", "dispatch", "acceptor", "worker", "proxy", "load"]),
    ("simulation", 7, &["load"]),
    ("testing", 6, &["listener", "acceptor", "proxy"]),
];

/// Foreign crates that one folder alone may name.
const CONFINED: &[(&str, &str)] = &[
    ("libc", "src/sys"),
    ("io_uring", "src/ring"),
    ("crossbeam", "src/dispatch"),
    ("crossbeam_channel", "src/dispatch"),
    ("crossbeam_utils", "src/dispatch"),
];

/// Where `unsafe` may stand, and how far above it its SAFETY note may begin.
const UNSAFE_FOLDERS: &[&str] = &["src/sys", "src/ring"];
const SAFETY_NOTE_LINES_ABOVE: usize = 15;

type Rule = fn(&Source) -> Vec<String>;

const RULES: &[Rule] = &[
    only_lower_layers,
    crates_stay_confined,
    binaries_stay_above_the_ring,
    unsafe_is_confined_and_explained,
    files_and_functions_are_short,
    modules_begin_with_their_purpose,
    no_leftovers,
    nothing_is_printed,
    no_line_numbers_in_prose,
    the_library_names_no_options,
];

fn violation(source: &Source, line: usize, text: impl std::fmt::Display) -> String {
    format!("{}:{line}: {text}", source.path)
}

/// The top-level modules that a file names, with the lines; tests may name what they like.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let mut imports = names_behind(&source.shipped, "crate");
    imports.extend(names_above(&source.shipped, source.modules().len()));
    imports
}

fn layer(module: &str) -> Option<(usize, &'static [&'static str])> {
    LAYERS.iter().find(|(name, ..)| *name == module).map(|&(_, layer, denied)| (layer, denied))
}

fn only_lower_layers(source: &Source) -> Vec<String> {
    let modules = source.modules();
    let Some(own) = modules.first().copied().filter(|_| source.is_under("src")) else {
        return Vec::new();
    };
    let Some((own_layer, denied)) = layer(own) else {
        return vec![violation(source, 1, format!("module {own} has no layer in LAYERS"))];
    };
    let mut violations = Vec::new();
    for (name, line) in imports(source) {
        let Some((layer, _)) = layer(&name).filter(|_| name != own) else { continue };
        if layer >= own_layer || denied.contains(&name.as_str()) {
            violations.push(violation(source, line, format!("{own} must not know {name}")));
        }
    }
    violations
}

fn crates_stay_confined(source: &Source) -> Vec<String> {
    if !(source.is_under("src") || source.is_under("bin")) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for token in &source.shipped {
        for (name, folder) in CONFINED {
            if token.is(name) && !source.is_under(folder) {
                violations.push(violation(source, token.line, format!("{name} outside {folder}")));
            }
        }
    }
    violations
}

fn binaries_stay_above_the_ring(source: &Source) -> Vec<String> {
    if !source.is_under("bin") {
        return Vec::new();
    }
    names_behind(&source.shipped, "uring_acceptor")
        .into_iter()
        .filter(|(name, _)| name == "sys" || name == "ring")
        .map(|(name, line)| violation(source, line, format!("a binary must not know {name}")))
        .collect()
}

fn unsafe_is_confined_and_explained(source: &Source) -> Vec<String> {
    if !(source.is_under("src") || source.is_under("bin")) {
        return Vec::new();
    }
    let allowed = UNSAFE_FOLDERS.iter().any(|folder| source.is_under(folder));
    let mut violations = Vec::new();
    for token in source.tokens.iter().filter(|token| token.is("unsafe")) {
        if !allowed {
            violations.push(violation(source, token.line, "unsafe outside sys and ring"));
        } else if !has_safety_note(&source.text, token.line) {
            violations.push(violation(source, token.line, "unsafe without a SAFETY note"));
        }
    }
    violations
}

/// Looks upwards from the line, as far as the paragraph goes.
fn has_safety_note(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let paragraph = lines.iter().rev().take(SAFETY_NOTE_LINES_ABOVE + 1);
    paragraph
        .take_while(|line| !line.trim().is_empty())
        .any(|line| line.contains("SAFETY") || line.contains("# Safety"))
}

fn files_and_functions_are_short(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    let lines = source.text.lines().count();
    let allowed = RATCHET.iter().find(|(path, _)| *path == source.path);
    let allowed = allowed.map_or(FILE_LINES_MAX, |&(_, lines)| lines);
    if lines > allowed {
        violations.push(violation(source, lines, format!("more than {allowed} lines")));
    }
    for function in functions(&source.tokens) {
        if function.lines > FUNCTION_LINES_MAX {
            let text = format!("{} has {} lines", function.name, function.lines);
            violations.push(violation(source, function.line, text));
        }
    }
    violations
}

fn modules_begin_with_their_purpose(source: &Source) -> Vec<String> {
    if source.is_under("src") && !source.text.starts_with("//!") {
        return vec![violation(source, 1, "does not begin with //! and its purpose")];
    }
    Vec::new()
}

fn no_leftovers(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, line) in source.unquoted.lines().enumerate() {
        for word in ["TODO", "FIXME"] {
            if line.contains(word) {
                violations.push(violation(source, index + 1, format!("{word} was left behind")));
            }
        }
    }
    for pair in source.tokens.windows(2) {
        if let Kind::Word(name) = &pair[0].kind
            && pair[1].is_punct('!')
            && matches!(name.as_str(), "todo" | "dbg" | "unimplemented")
        {
            violations.push(violation(source, pair[0].line, format!("{name}! was left behind")));
        }
    }
    violations
}

/// These panic where nobody reads any more, and wait where nobody reads fast enough. Lines go to an
/// `Outlet` or are written with `writeln!`, whose errors are seen.
fn nothing_is_printed(source: &Source) -> Vec<String> {
    if !(source.is_under("src") || source.is_under("bin")) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for pair in source.shipped.windows(2) {
        if let Kind::Word(name) = &pair[0].kind
            && pair[1].is_punct('!')
            && matches!(name.as_str(), "print" | "println" | "eprint" | "eprintln")
        {
            let text = format!("{name}! panics when it cannot write");
            violations.push(violation(source, pair[0].line, text));
        }
    }
    violations
}

fn no_line_numbers_in_prose(source: &Source) -> Vec<String> {
    cited_lines(&source.path, &source.unquoted)
}

/// What the library says is read by users of both programs and of none. Only what one program alone
/// runs may name its options.
fn the_library_names_no_options(source: &Source) -> Vec<String> {
    let of_one = ["src/load", "src/doctor"];
    if !source.is_under("src") || of_one.iter().any(|folder| source.is_under(folder)) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for token in &source.shipped {
        let Kind::Literal(text) = &token.kind else { continue };
        if let Some(option) = options_in(text).next() {
            let text = format!("names --{option}, which is an option of a program");
            violations.push(violation(source, token.line, text));
        }
    }
    violations
}

/// The names behind `--` where that begins a word.
fn options_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("--").filter_map(|(at, _)| {
        let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
        let name = &text[at + 2..];
        let end = name.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        let name = &name[..end.unwrap_or(name.len())];
        (begins && name.starts_with(|c: char| c.is_ascii_lowercase())).then_some(name)
    })
}

/// `name.rs` and a colon and a digit: such a reference is wrong after the next edit.
fn cited_lines(path: &str, text: &str) -> Vec<String> {
    let cites = |line: &str| {
        line.split(".rs:").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| cites(line));
    lines.map(|(index, _)| format!("{path}:{}: cites a line number", index + 1)).collect()
}

/// The modules of a circle of imports, if there is one.
fn import_cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        edges: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
    ) -> Option<Vec<String>> {
        let last = path.last()?.clone();
        for next in edges.get(&last).into_iter().flatten() {
            if let Some(start) = path.iter().position(|module| module == next) {
                return Some(path[start..].to_vec());
            }
            path.push(next.clone());
            if let Some(cycle) = walk(edges, path) {
                return Some(cycle);
            }
            path.pop();
        }
        None
    }
    edges.keys().find_map(|start| walk(edges, &mut vec![start.clone()]))
}

fn import_edges(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let modules = source.modules();
        let Some(&own) = modules.first() else { continue };
        let others = imports(source).into_iter().map(|(name, _)| name);
        let known = others.filter(|name| name != own && layer(name).is_some());
        edges.entry(own.to_owned()).or_default().extend(known);
    }
    edges
}

fn median_function_lines(sources: &[Source]) -> usize {
    let shipped = sources.iter().filter(|source| source.is_under("src"));
    let mut lines: Vec<usize> = shipped
        .flat_map(|source| functions(&source.shipped))
        .map(|function| function.lines)
        .collect();
    lines.sort_unstable();
    lines.get(lines.len() / 2).copied().unwrap_or_default()
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of the package with this extension; packages of their own and build output are left out.
fn files(folder: &Path, extension: &str, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.expect("the folder can be read")) {
        let path = entry.path();
        if path.is_dir() {
            let own_package = path.join("Cargo.toml").exists();
            if !own_package && !path.ends_with("target") {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            let name = path.strip_prefix(package()).expect("it lies in the package");
            let text = fs::read_to_string(&path).expect("the file is text");
            found.push((name.to_string_lossy().into_owned(), text));
        }
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "bin", "tests", "examples", "benches"] {
        files(&package().join(folder), "rs", &mut found);
    }
    assert!(!found.is_empty(), "no source file was found");
    found.iter().map(|(path, text)| Source::new(path, text)).collect()
}

#[test]
fn the_package_is_tidy() {
    let sources = sources();
    let mut violations: Vec<String> =
        RULES.iter().flat_map(|rule| sources.iter().flat_map(rule)).collect();
    let mut prose = Vec::new();
    for entry in fs::read_dir(package()).expect("the package can be read").flatten() {
        if entry.path().extension().is_some_and(|own| own == "md") {
            let text = fs::read_to_string(entry.path()).expect("the file is text");
            prose.push((entry.file_name().to_string_lossy().into_owned(), text));
        }
    }
    files(&package().join("docs"), "md", &mut prose);
    violations.extend(prose.iter().flat_map(|(path, text)| cited_lines(path, text)));
    if let Some(cycle) = import_cycle(&import_edges(&sources)) {
        violations.push(format!("modules import each other in a circle: {}", cycle.join(" -> ")));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// The fields behind options, as clap names them.
#[test]
fn messages_of_the_load_generator_name_options_that_it_has() {
    let sources = sources();
    let of_bin = |source: &&Source| source.path.starts_with("bin/loadgen_options");
    let known: String = sources.iter().filter(of_bin).map(|source| source.text.as_str()).collect();
    for source in sources.iter().filter(|source| source.is_under("src/load")) {
        for token in &source.shipped {
            let Kind::Literal(text) = &token.kind else { continue };
            for option in options_in(text) {
                let field = format!("pub(super) {}:", option.replace('-', "_"));
                assert!(known.contains(&field), "{}:{}: --{option}", source.path, token.line);
            }
        }
    }
}

/// cargo writes it anew only where somebody fuzzes, and nobody builds it here.
#[test]
fn the_lock_of_the_fuzz_package_fits() {
    let read = |name| -> toml::Table {
        let text = fs::read_to_string(package().join(name)).expect("the file can be read");
        text.parse().expect("it is TOML")
    };
    let (lock, manifest) = (read("fuzz/Cargo.lock"), read("Cargo.toml"));
    let packages = lock["package"].as_array().expect("it is a list");
    let own = packages.iter().find(|it| it["name"].as_str() == Some("uring-acceptor"));
    let locked = own.expect("it is fuzzed")["dependencies"].as_array().expect("it is a list");
    // A name, with its version where there are several.
    let locked = locked.iter().filter_map(|it| it.as_str()?.split(' ').next());
    let locked: BTreeSet<&str> = locked.collect();
    let wanted = manifest["dependencies"].as_table().expect("it is a table");
    let wanted: BTreeSet<&str> = wanted.keys().map(String::as_str).collect();
    assert_eq!(locked, wanted, "cargo metadata --manifest-path fuzz/Cargo.toml writes it again");
}

#[test]
fn functions_are_short_on_the_whole() {
    let median = median_function_lines(&sources());
    assert!(median < FUNCTION_LINES_MEDIAN_BELOW, "the median function has {median} lines");
}

/// A ratchet that is not needed any more would let its file grow back.
#[test]
fn the_ratchet_is_tight() {
    for (path, allowed) in RATCHET {
        let text = fs::read_to_string(package().join(path)).expect("the file exists");
        assert_eq!(text.lines().count(), *allowed, "{path}: lower the ratchet");
        assert!(*allowed > FILE_LINES_MAX, "{path} needs no ratchet");
    }
}

#[path = "tidy/caught.rs"]
mod caught;
