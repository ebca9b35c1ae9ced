//! What nginx says of `server_name`: exact, then the longest wildcard, then the default.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn route(text: &str) -> Result<Route<SocketAddr>, RouteError> {
    text.parse()
}

fn routes(lines: &[&str], default: Option<&str>) -> Routes<String> {
    let routes = lines.iter().map(|line| line.parse().expect("a route"));
    Routes::new(routes, default.map(str::to_owned)).expect("no duplicates")
}

#[test]
fn exact_then_longest_wildcard_then_default() {
    let lines =
        ["www.example.org=exact", "*.example.org=wide", "*.b.example.org=narrow", "*.org=widest"];
    let table = [
        ("www.example.org", "exact"),
        ("WWW.EXAMPLE.ORG.", "exact"),
        ("a.example.org", "wide"),
        ("a.www.example.org", "wide"),
        ("b.example.org", "wide"),
        ("a.b.example.org", "narrow"),
        ("x.y.b.example.org", "narrow"),
        ("example.org", "widest"),
        ("xexample.org", "widest"),
        ("org", "default"),
        ("www.example.com", "default"),
    ];
    let with_default = routes(&lines, Some("default"));
    let without = routes(&lines, None);
    for (name, expected) in table {
        let name = HostName::new(name.as_bytes()).expect("a name");
        assert_eq!(with_default.target(Some(&name)).map(String::as_str), Some(expected), "{name}");
        let expected = Some(expected).filter(|&target| target != "default");
        assert_eq!(without.target(Some(&name)).map(String::as_str), expected, "{name}");
    }
    assert_eq!(with_default.target(None).map(String::as_str), Some("default"));
    assert_eq!(without.target(None), None);
}

#[test]
fn a_route_is_a_pattern_and_a_target() {
    let table = [
        ("example.org=10.0.0.1:443", "example.org", "10.0.0.1:443"),
        ("*.Example.ORG.=[::1]:443", "*.example.org", "[::1]:443"),
        ("localhost=127.0.0.1:1", "localhost", "127.0.0.1:1"),
    ];
    for (text, pattern, target) in table {
        let route = route(text).expect("a route");
        assert_eq!(
            (route.pattern.to_string(), route.target.to_string()),
            (pattern.into(), target.into())
        );
    }
    // Only the first `=` divides.
    let route: Route<String> = "a=b=c".parse().expect("a route");
    assert_eq!(route.target, "b=c");
}

#[test]
fn what_is_wrong_is_named() {
    let table = [
        (
            "example.org",
            "'example.org' is no route; write NAME=ADDRESS, as in www.example.org=10.0.0.1:443",
        ),
        ("=10.0.0.1:443", "'' cannot be routed: a host name is empty"),
        (
            "*=10.0.0.1:443",
            "'*' cannot be routed; clients with any other name or none go to the default",
        ),
        ("*.=10.0.0.1:443", "'*.' cannot be routed: a host name is empty"),
        (
            "w*.example.org=10.0.0.1:443",
            "'w*.example.org' cannot be routed: a wildcard is '*.' at the start, as in *.example.org",
        ),
        (
            "*.*.org=10.0.0.1:443",
            "'*.*.org' cannot be routed: a wildcard is '*.' at the start, as in *.example.org",
        ),
        (
            "www.*=10.0.0.1:443",
            "'www.*' cannot be routed: a wildcard is '*.' at the start, as in *.example.org",
        ),
        (
            "10.0.0.2=10.0.0.1:443",
            "'10.0.0.2' cannot be routed: for an IP address a TLS client sends no name",
        ),
        (
            "::1=10.0.0.1:443",
            "'::1' cannot be routed: for an IP address a TLS client sends no name",
        ),
        (
            "[::1]=10.0.0.1:443",
            "'[::1]' cannot be routed: for an IP address a TLS client sends no name",
        ),
        ("a..b=10.0.0.1:443", "'a..b' cannot be routed: a host name has an empty label"),
        (
            "b\u{fc}cher.example=10.0.0.1:443",
            "'b\u{fc}cher.example' cannot be routed: a host name has the byte 0xc3; other scripts are written in punycode (xn--...)",
        ),
        (
            "example.org=10.0.0.1",
            "the target of 'example.org=10.0.0.1' is wrong: invalid socket address syntax",
        ),
        ("example.org=", "the target of 'example.org=' is wrong: invalid socket address syntax"),
    ];
    for (text, expected) in table {
        assert_eq!(route(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn the_same_names_twice_are_refused() {
    let parse = |lines: [&str; 2]| {
        let routes = lines.map(|line| line.parse::<Route<String>>().expect("a route"));
        Routes::new(routes, None).map(|_| ()).map_err(|error| error.to_string())
    };
    let twice = |name: &str| Err(format!("there are two routes for '{name}'; leave one"));
    assert_eq!(parse(["a.b=1", "A.B.=2"]), twice("a.b"));
    assert_eq!(parse(["*.a.b=1", "*.A.b=1"]), twice("*.a.b"));
    assert_eq!(parse(["a.b=1", "*.a.b=2"]), Ok(()));
}

proptest! {
    /// Against the plain reading of the rule: of the patterns that fit, the longest.
    #[test]
    fn the_longest_that_fits(
        patterns in prop::collection::btree_set("(\\*\\.)?[ab](\\.[ab]){0,3}", 0..12),
        name in "[ab](\\.[ab]){0,5}",
    ) {
        let lines = patterns.iter().map(|pattern| format!("{pattern}={pattern}").parse());
        let routes = Routes::<String>::new(lines.map(|line| line.expect("a route")), None);
        let found = routes.expect("no duplicates").target(Some(&HostName::new(name.as_bytes())?)).cloned();
        let fits = |pattern: &&String| match pattern.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix) && name.len() > suffix.len(),
            None => **pattern == name,
        };
        let exact = patterns.get(&name);
        let expected = exact.or_else(|| patterns.iter().filter(fits).max_by_key(|pattern| pattern.len()));
        prop_assert_eq!(found.as_ref(), expected);
    }
}
