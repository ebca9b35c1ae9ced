//! Each rule is shown something that it must catch, and something that looks like it.

use super::*;

#[track_caller]
fn expect(rule: Rule, path: &str, text: &str, caught: usize) {
    let violations = rule(&Source::new(path, text));
    assert_eq!(violations.len(), caught, "{path}: {text}\n{violations:?}");
}

#[test]
fn imports_upwards_and_sideways() {
    let table = [
        ("src/ring/mod.rs", "use crate::sys::Errno;", 0),
        ("src/ring/mod.rs", "use crate::listener::X;", 1),
        ("src/ring/mod.rs", "fn f() -> crate::service::Y { todo() }", 1),
        ("src/ring/mod.rs", "use crate::{sys::A, dispatch::{B, C}, worker};", 2),
        ("src/sys/mod.rs", "use crate::config::Config;", 1),
        ("src/config/mod.rs", "use crate::sys::Errno;", 1),
        ("src/metrics.rs", "use crate::sys::Errno;", 1),
        ("src/listener/mod.rs", "use crate::config::A; use crate::sys::B;", 0),
        ("src/listener/mod.rs", "use crate::ring::A;", 1),
        ("src/dispatch/mod.rs", "use crate::ring::A;", 0),
        ("src/dispatch/mod.rs", "use crate::acceptor::A;", 1),
        ("src/service/echo.rs", "use crate::sys::A;", 1),
        ("src/preread/routes.rs", "use crate::config::A;", 0),
        ("src/preread/routes.rs", "use crate::{sys, ring, service};", 3),
        ("src/service/echo.rs", "use crate::config::A;", 0),
        ("src/upstream/mod.rs", "use crate::{config, metrics, sys};", 0),
        ("src/upstream/mod.rs", "use crate::{listener, ring, worker};", 3),
        ("src/acceptor/mod.rs", "use crate::{dispatch, listener, ring, metrics};", 0),
        ("src/acceptor/mod.rs", "use crate::{service, worker};", 2),
        ("src/worker/mod.rs", "use crate::{dispatch, service, ring, metrics};", 0),
        ("src/worker/mod.rs", "use crate::{acceptor, listener};", 2),
        ("src/server/mod.rs", "use crate::{acceptor, worker, service, dispatch};", 0),
        ("src/server/mod.rs", "use crate::load;", 1),
        ("src/load/mod.rs", "use crate::{sys, ring, metrics, config};", 0),
        ("src/load/mod.rs", "use crate::{server, worker, service};", 3),
        ("src/doctor/mod.rs", "use crate::{server, listener, ring, config, sys};", 0),
        ("src/doctor/mod.rs", "use crate::{load, worker};", 2),
        ("src/server/mod.rs", "use crate::doctor;", 1),
        ("src/unheard_of.rs", "", 1),
        ("src/lib.rs", "pub mod sys; pub use crate::server::Server;", 0),
    ];
    for (path, text, caught) in table {
        expect(only_lower_layers, path, text, caught);
    }
}

#[test]
fn imports_by_way_of_super() {
    let table = [
        ("src/ring/uring.rs", "use super::listener::X;", 0),
        ("src/ring/uring.rs", "use super::super::listener::X;", 1),
        ("src/ring/mod.rs", "use super::listener::X;", 1),
        ("src/ring/mod.rs", "use super::{sys, worker};", 1),
        ("src/service/http/mod.rs", "use super::super::ring::X;", 1),
        ("src/service/http/mod.rs", "use super::Action; fn f() { super::ring(); }", 0),
    ];
    for (path, text, caught) in table {
        expect(only_lower_layers, path, text, caught);
    }
}

#[test]
fn imports_in_tests_strings_and_comments_do_not_count() {
    let table = [
        "#[cfg(test)]\nmod tests { use crate::server::X; }",
        "#[cfg(test)] use crate::server::X;",
        "#[cfg(all(test, loom))]\n#[allow(x)]\nmod tests { use crate::server::X; }",
        "const X: &str = \"crate::server::X\";",
        "/// See [`X`](crate::server::X).\nfn f() {}",
        "// crate::server::X",
    ];
    for text in table {
        expect(only_lower_layers, "src/ring/mod.rs", text, 0);
    }
    expect(only_lower_layers, "src/ring/tests.rs", "use crate::server::X;", 0);
    let after = "#[cfg(test)] mod tests {} use crate::server::X;";
    expect(only_lower_layers, "src/ring/mod.rs", after, 1);
    let not = "#[cfg(not(test))] use crate::server::X;";
    expect(only_lower_layers, "src/ring/mod.rs", not, 1);
}

#[test]
fn confined_crates() {
    let table = [
        ("src/sys/mod.rs", "use libc::c_int;", 0),
        ("src/ring/mod.rs", "use libc::c_int;", 1),
        ("src/ring/mod.rs", "use io_uring::opcode;", 0),
        ("src/worker/mod.rs", "fn f() { ::io_uring::x() }", 1),
        ("src/dispatch/mod.rs", "use crossbeam_channel::bounded;", 0),
        ("src/server/mod.rs", "use {crossbeam_channel as c, std::io};", 1),
        ("bin/acceptor.rs", "fn main() { libc::exit(0) }", 1),
        ("tests/it/main.rs", "use libc::kill;", 0),
        ("src/worker/mod.rs", "// libc\nconst A: &str = \"libc\";", 0),
        ("src/worker/mod.rs", "#[cfg(test)] mod tests { use libc::kill; }", 0),
    ];
    for (path, text, caught) in table {
        expect(crates_stay_confined, path, text, caught);
    }
}

#[test]
fn binaries() {
    let table = [
        ("bin/acceptor.rs", "use uring_acceptor::{config::Config, server};", 0),
        ("bin/acceptor.rs", "use uring_acceptor::{ring::Ring, sys};", 2),
        ("examples/a.rs", "use uring_acceptor::sys;", 0),
    ];
    for (path, text, caught) in table {
        expect(binaries_stay_above_the_ring, path, text, caught);
    }
}

#[test]
fn unsafe_code() {
    let explained = "// SAFETY: the pointer comes from a Box.\nlet x = unsafe { *p };";
    let table = [
        ("src/sys/mod.rs", format!("fn f() {{\n{explained}\n}}"), 0),
        ("src/sys/mod.rs", format!("fn f() {{\n{explained}\n\nunsafe {{ g() }}\n}}"), 1),
        ("src/sys/mod.rs", "/// # Safety\n/// Never.\nunsafe fn f() {}".to_owned(), 0),
        ("src/sys/mod.rs", "unsafe impl Send for X {}".to_owned(), 1),
        ("src/worker/mod.rs", format!("fn f() {{\n{explained}\n}}"), 1),
        ("src/worker/tests.rs", format!("fn f() {{\n{explained}\n}}"), 1),
        ("src/worker/mod.rs", "// unsafe\nconst A: &str = \"unsafe\";".to_owned(), 0),
        ("tests/it/main.rs", "fn f() { unsafe { g() } }".to_owned(), 0),
    ];
    for (path, text, caught) in table {
        expect(unsafe_is_confined_and_explained, path, &text, caught);
    }
}

#[test]
fn sizes() {
    let long_file = "//\n".repeat(FILE_LINES_MAX + 1);
    expect(files_and_functions_are_short, "tests/a.rs", &long_file, 1);
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines - 2));
    expect(files_and_functions_are_short, "src/a.rs", &function(FUNCTION_LINES_MAX), 0);
    expect(files_and_functions_are_short, "src/a.rs", &function(FUNCTION_LINES_MAX + 1), 1);
    let in_tests = format!("#[cfg(test)] mod tests {{ {} }}", function(FUNCTION_LINES_MAX + 1));
    expect(files_and_functions_are_short, "src/a.rs", &in_tests, 1);
}

#[test]
fn the_median_leaves_tests_out() {
    let text = "fn a() {}\nfn b() {\n}\nfn c() {\n\n}\ntrait T { fn d(); }\n\
                #[cfg(test)] mod tests { fn e() {\n\n\n\n\n} }";
    assert_eq!(median_function_lines(&[Source::new("src/sys/mod.rs", text)]), 2);
}

#[test]
fn purposes() {
    expect(modules_begin_with_their_purpose, "src/a.rs", "//! Why.\n", 0);
    expect(modules_begin_with_their_purpose, "src/a.rs", "use std::io;\n", 1);
    expect(modules_begin_with_their_purpose, "benches/a.rs", "use std::io;\n", 0);
}

#[test]
fn leftovers() {
    let table = [
        ("// TODO: later", 1),
        ("/// FIXME", 1),
        ("fn f() { todo!() }", 1),
        ("fn f() { dbg!(1); }", 1),
        ("const A: &str = \"TODO and todo!()\";", 0),
        ("const A: &str = r#\"FIXME\n TODO\"#; // fine", 0),
        ("fn todo() { todo() }", 0),
    ];
    for (text, caught) in table {
        expect(no_leftovers, "src/a.rs", text, caught);
    }
}

#[test]
fn prints() {
    let table = [
        ("src/a.rs", "fn f() { println!(); }", 1),
        ("bin/a.rs", "fn f() { eprintln!(\"x\"); print!(\"x\") }", 2),
        ("bin/a.rs", "fn f() { let _ = writeln!(out, \"println!\"); }", 0),
        ("src/a.rs", "#[cfg(test)] mod tests { fn f() { println!(); } }", 0),
        ("tests/it/a.rs", "fn f() { println!(); }", 0),
    ];
    for (path, text, caught) in table {
        expect(nothing_is_printed, path, text, caught);
    }
}

#[test]
fn line_numbers() {
    expect(no_line_numbers_in_prose, "src/a.rs", "// see mod.rs:12", 1);
    expect(no_line_numbers_in_prose, "src/a.rs", "//! see mod.rs: the contract", 0);
    expect(no_line_numbers_in_prose, "src/a.rs", "const A: &str = \"mod.rs:12\";", 0);
    assert_eq!(cited_lines("README.md", "a\nsee uring.rs:7").len(), 1);
}

#[test]
fn options() {
    let table = [
        ("src/ring/a.rs", "const A: &str = \"set --cq-entries\";", 1),
        ("src/ring/a.rs", "fn f() { format!(\"--workers is {n}\", \"a (--b)\"); }", 2),
        ("src/ring/a.rs", "const A: &str = \"xn--a, a--b, r3---sn, -- and -->\";", 0),
        ("src/ring/a.rs", "/// `--workers` sets it.\nfn f() {}", 0),
        ("src/ring/a.rs", "#[cfg(test)] mod tests { const A: &str = \"--exact\"; }", 0),
        ("src/load/a.rs", "const A: &str = \"lower --rate\";", 0),
        ("bin/a.rs", "const A: &str = \"--rate\";", 0),
    ];
    for (path, text, caught) in table {
        expect(the_library_names_no_options, path, text, caught);
    }
}

#[test]
fn circles() {
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        edges
    };
    assert_eq!(import_cycle(&edges(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let cycle = import_cycle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")]));
    assert_eq!(cycle, Some(vec!["b".to_owned(), "c".to_owned()]));
    let sources = [
        Source::new("src/sys/a.rs", "use crate::config::A;"),
        Source::new("src/config/mod.rs", "use crate::sys::B;"),
    ];
    assert!(import_cycle(&import_edges(&sources)).is_some());
}
