//! Where to.

use super::*;

#[test]
fn addresses() {
    let tcp = |text: &str| Place::Known(Target::Tcp(text.parse().unwrap()));
    let unix = Place::Known(Target::Unix("/run/x".into()));
    let named = |name: &str, port| Place::Named { name: name.into(), port };
    let table = [
        ("rr [::1]:9", tcp("[::1]:9"), None),
        ("rr unix:/run/x", unix.clone(), None),
        ("crr web-1.example:9", named("web-1.example", 9), None),
        ("http 127.0.0.1:80", tcp("127.0.0.1:80"), Some(("/", "127.0.0.1:80"))),
        ("http localhost:8080", named("localhost", 8080), Some(("/", "localhost:8080"))),
        ("http unix:/run/x", unix, Some(("/", "localhost"))),
        ("http http://127.0.0.1:8080", tcp("127.0.0.1:8080"), Some(("/", "127.0.0.1:8080"))),
        ("http http://127.0.0.1/a/b?c=d", tcp("127.0.0.1:80"), Some(("/a/b?c=d", "127.0.0.1"))),
        ("http http://a.example?x=1", named("a.example", 80), Some(("/?x=1", "a.example"))),
        ("http http://localhost:81/p?q", named("localhost", 81), Some(("/p?q", "localhost:81"))),
        ("http http://[::1]/", tcp("[::1]:80"), Some(("/", "[::1]"))),
        ("http http://[::1]:8080/x", tcp("[::1]:8080"), Some(("/x", "[::1]:8080"))),
        // Schemes are case-insensitive (RFC 3986, section 3.1), and a port may be empty (3.2.3).
        ("http HTTP://127.0.0.1/A", tcp("127.0.0.1:80"), Some(("/A", "127.0.0.1"))),
        ("http Http://localhost:81", named("localhost", 81), Some(("/", "localhost:81"))),
        ("http http://127.0.0.1:/a", tcp("127.0.0.1:80"), Some(("/a", "127.0.0.1"))),
    ];
    for (line, place, http) in table {
        let run = run(line);
        assert_eq!(run.place, place, "{line}");
        let request = run.plan.http.map(|http| text_of(&http));
        let expected = http.map(|(path, host)| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n"));
        let begins = request
            .as_ref()
            .zip(expected.as_ref())
            .is_none_or(|(own, right)| own.starts_with(right));
        assert!(begins && request.is_some() == expected.is_some(), "{line}: {request:?}");
    }
    assert_eq!(run("rr localhost:9 -4").family, Family::V4);
    assert_eq!(run("rr localhost:9 --ipv6").family, Family::V6);
}

/// The interface of a link-local address, which is nobody's business but ours (RFC 6874).
#[test]
fn interfaces() {
    let numbered = Place::Known(Target::Tcp("[fe80::1%7]:9".parse().unwrap()));
    let named = Place::Named { name: "fe80::1%eth0".into(), port: 9 };
    for (line, place, host) in [
        ("rr [fe80::1%7]:9", &numbered, None),
        ("rr [fe80::1%eth0]:9", &named, None),
        ("http [fe80::1%eth0]:9", &named, Some("[fe80::1]:9")),
        ("http http://[fe80::1%eth0]:9/", &named, Some("[fe80::1]:9")),
        ("http http://[fe80::1%25eth0]:9/", &named, Some("[fe80::1]:9")),
        ("http http://[fe80::1%257]:9/", &numbered, Some("[fe80::1]:9")),
    ] {
        let run = run(line);
        assert_eq!(run.place, *place, "{line}");
        let begins = host.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n"));
        let text = run.plan.http.map(|http| text_of(&http)).unwrap_or_default();
        assert!(text.starts_with(&begins.unwrap_or_default()), "{line}: {text}");
    }
}

#[test]
fn addresses_that_are_none_are_refused_with_an_example() {
    for (line, remedy) in [
        ("crr localhost", "no port"),
        ("crr ::1", "stands in brackets"),
        ("crr ::1:80", "stands in brackets"),
        ("crr [::1]", "no port behind the ]"),
        ("crr [::1]80", "no port behind the ]"),
        ("crr [::1:80", "no ] behind the ["),
        ("http [::1", "no ] behind the ["),
        ("http http://[::1/", "no ] behind the ["),
        ("http http://::1/", "stands in brackets"),
        ("crr [localhost]:80", "'localhost' is no IPv6 address"),
        ("crr [127.0.0.1]:80", "'127.0.0.1' is no IPv6 address"),
        ("crr [fe80::1]:80", "name the interface, as in [fe80::1%eth0]:80"),
        ("crr [fe80::1%]:80", "no name of an interface"),
        ("crr [fe80::1%sixteen-letters-]:80", "no name of an interface"),
        ("crr [::1%lo]:80", "write [::1]:80"),
        ("crr localhost:+7", "'+7' is no port"),
        ("crr localhost:7/x", "a path is for the http command"),
        ("crr ftp://127.0.0.1/", "a URL is for the http command"),
        ("crr HTTP://127.0.0.1/", "a URL is for the http command"),
        (
            "http ftp://127.0.0.1/x",
            "loadgen speaks http only, not ftp; for HTTP write http://127.0.0.1/x",
        ),
        (
            "http 127.0.0.1:80/path",
            "write http:// in front of an address with a path: http://127.0.0.1:80/path",
        ),
        ("http localhost/?q", "http://localhost/?q"),
        ("http http:/localhost/", "http://localhost/"),
        ("http http://", "the URL has no host"),
        ("http http:///x", "the URL has no host"),
        ("http http://:80/x", "'' is neither an address nor a name"),
        ("http HTTPS://127.0.0.1/", "does not speak TLS yet"),
        ("crr local host:7", "unexpected argument"),
        ("crr a/b:7", "neither an address nor a name"),
        ("crr localhost:http", "'http' is no port"),
        ("crr 127.0.0.1", "no port"),
        ("crr 127.0.0.1:0", "1 to 65535"),
        ("crr unix:", "unix:/run"),
        ("crr http://127.0.0.1:7/", "http command"),
        ("http http://a@b/", "-H 'Authorization"),
        ("http https://127.0.0.1/", "does not speak TLS yet; give an http:// URL"),
        ("http http://127.0.0.1/a#b", "percent-encoded"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(remedy), "{line} does not say '{remedy}': {text}");
    }
}
