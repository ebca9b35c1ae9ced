//! Requests by their bytes.

use super::*;

fn text(request: &Template) -> String {
    String::from_utf8(request.render("h:1", false).bytes(false).to_vec()).unwrap()
}

fn field(text: &str) -> Field {
    Field::parse(text).expect(text)
}

#[test]
fn a_request_names_host_and_user_agent() {
    let expected = format!("GET /a?b=c HTTP/1.1\r\nHost: h:1\r\nUser-Agent: {USER_AGENT}\r\n\r\n");
    assert_eq!(text(&Template::get("/a?b=c")), expected);
}

#[test]
fn a_field_replaces_the_default_of_its_name() {
    let request = Template::get("/").fields(vec![
        field("host: x"),
        field("user-agent:me"),
        field("A: 1"),
        field("a: 2"),
    ]);
    assert_eq!(
        text(&request),
        "GET / HTTP/1.1\r\nhost: x\r\nuser-agent: me\r\nA: 1\r\na: 2\r\n\r\n"
    );
}

#[test]
fn an_empty_value_takes_a_default_out() {
    let request = Template::get("/").fields(vec![field("User-Agent:")]);
    assert_eq!(text(&request), "GET / HTTP/1.1\r\nHost: h:1\r\n\r\n");
}

#[test]
fn a_body_has_its_length_and_post_has_one_even_without() {
    let post = Template::get("/").fields(vec![field("User-Agent:")]).method("POST").unwrap();
    assert_eq!(text(&post), "POST / HTTP/1.1\r\nHost: h:1\r\nContent-Length: 0\r\n\r\n");
    let post = post.body(b"abc".to_vec());
    assert_eq!(text(&post), "POST / HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nabc");
}

#[test]
fn the_last_request_asks_to_close_whatever_the_user_said() {
    let request =
        Template::get("/").fields(vec![field("User-Agent:"), field("Connection: keep-alive")]);
    let rendered = request.render("h", true);
    let kept = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(rendered.bytes(false), kept);
    assert_eq!(rendered.bytes(true), b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(request.render("h", false).bytes(true), kept);
}

#[test]
fn what_would_break_a_request_is_refused_by_name() {
    let fields = [
        "no colon",
        ": x",
        "a b: c",
        "X: a\rb",
        "X: a\nb",
        "X: a\0",
        "Content-Length: 3",
        "transfer-encoding: chunked",
    ];
    for bad in fields {
        Field::parse(bad).expect_err(bad);
    }
    for bad in ["", "a b", "GET\r\n", "CONNECT"] {
        Template::get("/").method(bad).expect_err(bad);
    }
    for bad in ["", "a", "/a b", "/a#b", "/\u{e4}", "/\r\n"] {
        Template::get("/").path(bad).expect_err(bad);
    }
}

fn texts(file: &str, base: &Template) -> Vec<String> {
    parse_file(file.as_bytes(), base).expect(file).iter().map(text).collect()
}

#[test]
fn a_file_has_a_path_or_an_object_on_each_line() {
    let base = Template::get("/").fields(vec![field("A: base"), field("User-Agent:")]);
    let file = "# comment\n/one?x=1\n\n{\"method\":\"POST\",\"path\":\"/two\",\"headers\":{\"a\":\"own\"},\"body\":\"b\"}\r\n{}\n";
    let texts = texts(file, &base);
    assert_eq!(
        texts,
        [
            "GET /one?x=1 HTTP/1.1\r\nHost: h:1\r\nA: base\r\n\r\n",
            "POST /two HTTP/1.1\r\nHost: h:1\r\na: own\r\nContent-Length: 1\r\n\r\nb",
            "GET / HTTP/1.1\r\nHost: h:1\r\nA: base\r\n\r\n",
        ]
    );
}

#[test]
fn a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_with_crlf() {
    let base = Template::get("/").fields(vec![field("User-Agent:")]);
    let first = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h:1\r\n\r\n");
    let file = "\u{feff}/a\r\n# comment\r\n\r\n{\"path\":\"/b\"}\r\n /c \r\n";
    assert_eq!(texts(file, &base), ["/a", "/b", "/c"].map(first));
    assert_eq!(texts("\u{feff}{\"path\":\"/b\"}", &base), [first("/b")]);
}

#[test]
fn a_header_comes_as_often_as_it_has_values() {
    let base = Template::get("/").fields(vec![field("Cookie: base"), field("User-Agent:")]);
    let headers = |json: &str| {
        let text = texts(&format!("{{\"headers\":{json}}}"), &base).remove(0);
        let head = "GET / HTTP/1.1\r\nHost: h:1\r\n";
        text.strip_prefix(head).expect("it begins so").replace("\r\n", "|")
    };
    assert_eq!(headers(r#"{"Cookie":["a","b"]}"#), "Cookie: a|Cookie: b||");
    assert_eq!(headers(r#"{"Z":"1","cookie":"a","A":"2"}"#), "Z: 1|cookie: a|A: 2||");
    // The same name again is the same header again, in whatever case.
    assert_eq!(
        headers(r#"{"Cookie":"a","cookie":"b","Cookie":"c"}"#),
        "Cookie: a|cookie: b|Cookie: c||"
    );
    assert_eq!(headers(r#"{"cookie":[]}"#), "|");
    assert_eq!(headers(r#"{"cookie":""}"#), "|");
    assert_eq!(headers("{}"), "Cookie: base||");
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    let table = [
        ("/a\nb\n", "line 2: 'b' is neither a path"),
        ("{\"path\":\"x\"}", "line 1: the path 'x' does not begin with /"),
        ("{\"headers\":{\"a b\":\"c\"}}", "line 1: 'a b' is no name of a header"),
        ("{\"headers\":{\"a\":[\"b\",\"c\\r\"]}}", "line 1: the value of a has '\\r' in it"),
        ("# nothing\n\n", "there is no request in it"),
    ];
    for (file, expected) in table {
        let error = parse_file(file.as_bytes(), &Template::get("/")).expect_err(file);
        assert!(error.starts_with(expected), "{error}");
    }
    let error = parse_file(b"/a\r\n/b\n/\xff", &Template::get("/")).unwrap_err();
    assert_eq!(error, "line 3: it is not UTF-8");
}

/// One position, that of the file.
#[test]
fn what_is_wrong_in_an_object_is_told_with_its_column() {
    let table = [
        ("/a\n{\"pth\":\"/\"}", "line 2, column 6: unknown field `pth`, expected one of "),
        ("{\"body\":\"\u{e4}\u{e4}\",x}", "line 1, column 14: key must be a string"),
        ("\n  {\"path\":7}\r\n", "line 2, column 11: invalid type: integer `7`, expected a string"),
        ("{\"path\":\"/\",\"path\":\"/\"}", "line 1, column 18: duplicate field `path`"),
        (
            "{\"headers\":{\"a\":1}}",
            "line 1, column 17: invalid type: integer `1`, expected a string or a list of strings",
        ),
        (
            "{\"headers\":{\"a\":[1]}}",
            "line 1, column 18: invalid type: integer `1`, expected a string",
        ),
        (
            "{\"headers\":[]}",
            "line 1, column 11: invalid type: sequence, expected an object of header names",
        ),
        (
            "{\n\"path\":\"/\"}",
            "line 1, column 1: EOF while parsing an object; a request is one line",
        ),
        ("{} {}", "line 1, column 4: trailing characters"),
    ];
    for (file, expected) in table {
        let error = parse_file(file.as_bytes(), &Template::get("/")).expect_err(file);
        assert!(error.starts_with(expected), "{file}: {error}");
        assert!(!error.contains(" at line "), "{error}");
    }
}

#[test]
fn only_what_may_be_done_twice_is_idempotent() {
    for (method, expected) in [
        ("GET", true),
        ("HEAD", true),
        ("PUT", true),
        ("POST", false),
        ("PATCH", false),
        ("X", false),
    ] {
        let request = Template::get("/").method(method).unwrap().render("h", false);
        assert_eq!(
            (request.is_idempotent(), request.is_head()),
            (expected, method == "HEAD"),
            "{method}"
        );
    }
}
