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

#[test]
fn a_file_has_a_path_or_an_object_on_each_line() {
    let base = Template::get("/").fields(vec![field("A: base"), field("User-Agent:")]);
    let file = "# comment\n/one?x=1\n\n{\"method\":\"POST\",\"path\":\"/two\",\"headers\":{\"a\":\"own\"},\"body\":\"b\"}\r\n{}\n";
    let requests = parse_file(file, &base).unwrap();
    let texts: Vec<String> = requests.iter().map(text).collect();
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
fn a_bad_line_is_named_by_its_number() {
    let table = [
        ("/a\nb\n", "line 2: 'b' is neither a path"),
        ("{\"pth\":\"/\"}", "line 1: unknown field `pth`"),
        ("{\"path\":\"x\"}", "line 1: the path 'x' does not begin with /"),
        ("{\"headers\":{\"a b\":\"c\"}}", "line 1: 'a b' is no name of a header"),
        ("# nothing\n\n", "there is no request in it"),
    ];
    for (file, expected) in table {
        let error = parse_file(file, &Template::get("/")).expect_err(file);
        assert!(error.contains(expected), "{error}");
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
