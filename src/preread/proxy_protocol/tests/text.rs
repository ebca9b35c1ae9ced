//! Version 1: the specification, 2.1.

use super::*;
use crate::preread::proxy_protocol::MAX_V1_BYTES;

const LONGEST_V6: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

#[test]
fn lines_that_are_valid() {
    let v6 = format!("PROXY TCP6 {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n");
    let longest = format!("PROXY UNKNOWN {LONGEST_V6} {LONGEST_V6} 65535 65535\r\n");
    assert_eq!((v6.len(), longest.len()), (104, MAX_V1_BYTES), "as the specification counts");
    let all_ones = format!("[{LONGEST_V6}]:65535");
    let table = [
        // The examples of the specification.
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            tcp("192.168.0.1:56324", "192.168.0.11:443"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            tcp("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (&v6, tcp(&all_ones, &all_ones)),
        ("PROXY UNKNOWN\r\n", Endpoints::Unknown),
        (&longest, Endpoints::Unknown),
        // Its borders.
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", tcp("0.0.0.0:0", "0.0.0.0:0")),
        ("PROXY TCP6 :: ::1 1 10\r\n", tcp("[::]:1", "[::1]:10")),
        ("PROXY TCP6 2001:DB8::A 2001:db8::a 1 2\r\n", tcp("[2001:db8::a]:1", "[2001:db8::a]:2")),
        (
            "PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0001 ::1 1 2\r\n",
            tcp("[2001:db8::1]:1", "[::1]:2"),
        ),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", tcp("[::ffff:192.0.2.1]:1", "[::1]:2")),
        ("PROXY UNKNOWN \r\n", Endpoints::Unknown),
        ("PROXY UNKNOWN  what\0ever \u{e4}\r\n", Endpoints::Unknown),
    ];
    for (line, expected) in table {
        assert_eq!(whole(line.as_bytes()).endpoints, expected, "{line}");
    }
}

/// The second column is the part of the line that it takes to refuse it.
#[test]
fn lines_that_are_not() {
    let table = [
        ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY  "),
        ("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP5"),
        ("PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY t"),
        ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", "PROXY UD"),
        ("PROXY UNKNOWNS\r\n", "PROXY UNKNOWNS"),
        ("PROXY \r\n", "PROXY \r"),
        ("PROXY TCP4\r\n", "PROXY TCP4\r"),
        ("PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4  "),
        ("PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4 01.1.1.1 "),
        ("PROXY TCP4 256.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4 256.1.1.1 "),
        ("PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4 1.1.1 "),
        ("PROXY TCP4 1.1.1.1.1 1.1.1.1 1 1\r\n", "PROXY TCP4 1.1.1.1.1 "),
        ("PROXY TCP4 1234567890123456", "PROXY TCP4 1234567890123456"),
        ("PROXY TCP4 example.org 1.1.1.1 1 1\r\n", "PROXY TCP4 e"),
        ("PROXY TCP4 ::1 ::1 1 1\r\n", "PROXY TCP4 :"),
        ("PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n", "PROXY TCP4 1.1.1.1  "),
        ("PROXY TCP4 1.1.1.1 1.1.1.1\t1 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1\t"),
        ("PROXY TCP4 1.1.1.1\r\n", "PROXY TCP4 1.1.1.1\r"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1\r"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 01 "),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 00 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 00 "),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 +"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 -"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 65536 "),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 100000", "PROXY TCP4 1.1.1.1 1.1.1.1 100000"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 065\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 065\r"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 "),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx"),
        ("PROXY TCP4 1.1.1.1 1.1.1.1  1\r\n", "PROXY TCP4 1.1.1.1 1.1.1.1  "),
        ("PROXY TCP6 1.1.1.1 ::1 1 1\r\n", "PROXY TCP6 1.1.1.1 "),
        ("PROXY TCP6 ::1%eth0 ::1 1 1\r\n", "PROXY TCP6 ::1%"),
        ("PROXY TCP6 [::1] ::1 1 1\r\n", "PROXY TCP6 ["),
        ("PROXY TCP6 1::2::3 ::1 1 1\r\n", "PROXY TCP6 1::2::3 "),
        ("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 1\r\n", "PROXY TCP6 1:2:3:4:5:6:7 "),
        ("PROXY TCP6 12345:: ::1 1 1\r\n", "PROXY TCP6 12345:: "),
        ("PROXY UNKNOWN\n", "PROXY UNKNOWN\n"),
        ("PROXY UNKNOWN\rx", "PROXY UNKNOWN\rx"),
        ("PROXY UNKNOWN a\nb\r\n", "PROXY UNKNOWN a\n"),
        ("PROXY UNKNOWN a\rb\r\n", "PROXY UNKNOWN a\rb"),
    ];
    for (line, until) in table {
        assert_eq!(refused_at(line.as_bytes(), read), until.len(), "{line:?}");
    }
}

#[test]
fn a_line_that_does_not_end_is_refused_at_the_limit() {
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(refused_at(endless.as_bytes(), read), MAX_V1_BYTES);
    let late = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1_BYTES - 15));
    assert_eq!(late.len(), MAX_V1_BYTES + 1);
    assert_eq!(parse(late.as_bytes()), Err(Invalid::LineTooLong));
}

#[test]
fn written_lines() {
    let unix = Endpoints::Unix { source: b"/a", destination: b"/b" };
    let table = [
        (
            tcp("192.168.0.1:56324", "192.168.0.11:443"),
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ),
        (tcp("[2001:db8::1]:1", "[::1]:65535"), "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"),
        // What a listener on [::] sees of a client that speaks IPv4.
        (
            tcp("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2"),
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ),
        (tcp("[::ffff:192.0.2.1]:1", "192.0.2.2:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        (tcp("192.0.2.1:1", "[2001:db8::1]:2"), "PROXY TCP6 ::ffff:c000:201 2001:db8::1 1 2\r\n"),
        (tcp("[::1]:1", "10.0.0.255:2"), "PROXY TCP6 ::1 ::ffff:a00:ff 1 2\r\n"),
        (unix, "PROXY UNKNOWN\r\n"),
        (Endpoints::Unknown, "PROXY UNKNOWN\r\n"),
        (Endpoints::Local, "PROXY UNKNOWN\r\n"),
    ];
    for (endpoints, expected) in table {
        assert_eq!(String::from_utf8_lossy(&written_v1(endpoints)), expected);
    }
}
