//! Answers that are as large as they may be, and larger; and such as drip in.

use super::*;

fn head(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 204 No Content\r\n{fields}\r\n").into_bytes()
}

/// In one piece, in pieces like those of a socket, and byte by byte.
#[track_caller]
fn expect(answer: &[u8], expected: Result<u16, Broken>) {
    for size in [answer.len(), 4096, 1] {
        let (result, _) = read(false, answer.chunks(size));
        assert_eq!(result.map(|complete| complete.status), expected, "in pieces of {size}");
    }
}

#[test]
fn a_page_may_set_many_cookies() {
    expect(&head(&"Set-Cookie: session=0123456789abcdef; path=/\r\n".repeat(80)), Ok(204));
}

#[test]
fn a_head_has_so_many_fields_and_no_more() {
    expect(&head(&"A: b\r\n".repeat(FIELDS_LIMIT)), Ok(204));
    expect(&head(&"A: b\r\n".repeat(FIELDS_LIMIT + 1)), Err(Broken::HeadTooLarge));
}

#[test]
fn a_head_has_so_many_bytes_and_no_more() {
    let rest = head("A: \r\n").len();
    let exact = head(&format!("A: {}\r\n", "b".repeat(HEAD_LIMIT_BYTES - rest)));
    assert_eq!(exact.len(), HEAD_LIMIT_BYTES);
    expect(&exact, Ok(204));
    let longer = head(&format!("A: {}\r\n", "b".repeat(HEAD_LIMIT_BYTES - rest + 1)));
    expect(&longer, Err(Broken::HeadTooLarge));
    // Without an end there is no need to wait for more.
    expect(&longer[..HEAD_LIMIT_BYTES], Err(Broken::HeadTooLarge));
    expect(&b"\r\n".repeat(HEAD_LIMIT_BYTES / 2), Err(Broken::HeadTooLarge));
}

#[test]
fn each_head_has_the_limit_to_itself() {
    let field = format!("A: {}\r\n", "b".repeat(HEAD_LIMIT_BYTES / 2));
    let interim = format!("HTTP/1.1 103 Early Hints\r\n{field}\r\n").into_bytes();
    expect(&[&interim[..], &interim[..], &head(&field)[..]].concat(), Ok(204));
}

#[test]
fn there_are_so_many_interim_answers_and_no_more() {
    let interim = |count: u32| b"HTTP/1.1 100 Continue\r\n\r\n".repeat(count as usize);
    let answer = [interim(INTERIM_LIMIT), head("")].concat();
    expect(&answer, Ok(204));
    let (result, _) = read(false, [&answer[..]]);
    assert_eq!(result.map(|complete| complete.interim), Ok(INTERIM_LIMIT));
    expect(&[interim(INTERIM_LIMIT + 1), head("")].concat(), Err(Broken::HeadTooLarge));
}

fn chunked(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
}

#[test]
fn the_line_of_a_chunk_is_bounded() {
    let longest = "x".repeat(CHUNK_LINE_LIMIT_BYTES - 2);
    // Each line has it to itself.
    expect(&chunked(&format!("1;{longest}\r\na\r\n0;{longest}\r\n\r\n")), Ok(200));
    expect(&chunked(&format!("1;{longest}x\r\na\r\n")), Err(Broken::BadChunk));
    let zeros = "0".repeat(CHUNK_LINE_LIMIT_BYTES);
    expect(&chunked(&format!("{zeros}\r\n\r\n")), Ok(200));
    expect(&chunked(&format!("0{zeros}\r\n\r\n")), Err(Broken::BadChunk));
    let spaces = " ".repeat(CHUNK_LINE_LIMIT_BYTES);
    expect(&chunked(&format!("0{spaces}\r\n\r\n")), Err(Broken::BadChunk));
}

#[test]
fn trailers_are_bounded() {
    let trailers = |count| chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(count)));
    expect(&trailers(FIELDS_LIMIT), Ok(200));
    expect(&trailers(FIELDS_LIMIT + 1), Err(Broken::HeadTooLarge));
    let endless = chunked(&format!("0\r\nA: {}", "b".repeat(HEAD_LIMIT_BYTES)));
    expect(&endless, Err(Broken::HeadTooLarge));
}

/// All looks together see few times what has come: of a head that is one line, and of one that has
/// as many as there may be.
#[test]
fn a_head_that_drips_in_is_looked_at_a_few_times() {
    let lines = head(&format!("A: {}\r\n", "b".repeat(200)).repeat(FIELDS_LIMIT));
    for head in [head(&format!("A: {}\r\n", "b".repeat(200_000))), lines] {
        let mut section = Section::default();
        let mut looked_at = 0;
        for byte in head.chunks(1) {
            assert_eq!(section.take(byte), 1);
            if section.look() {
                looked_at += section.bytes().len();
            }
        }
        assert!(looked_at <= 3 * head.len(), "{looked_at} of {}", head.len());
    }
}

/// What cannot become HTTP is not waited for.
#[test]
fn what_is_not_http_is_noticed_early() {
    let table: [(&[u8], usize); 4] = [
        (b"SSH-2.0-OpenSSH\r\n", 1),
        (b"HTTP/2.0 200 OK\r\n", 8),
        (b"HTTP/1.1 200 OK\r\nno colon\r\nsome more, as long as all of it\r\n", 64),
        (b"HTTP/1.1 2xx\r\n", 16),
    ];
    for (bytes, within) in table {
        let mut answer = Answer::new(false);
        let taken = bytes.chunks(1).take_while(|byte| answer.take(byte).is_ok()).count();
        assert!(taken < within, "{} after {taken}", bytes.escape_ascii());
    }
}

/// One that comes in one piece, or whose head does, is read where it is.
#[test]
fn a_head_in_one_piece_is_not_copied() {
    let mut answer = Answer::new(false);
    answer.take(&[&chunked("5\r\nhel")[..]].concat()).expect("it is well");
    answer.take(b"lo\r\n0\r\n").expect("it is well");
    assert!(answer.take(b"\r\n").expect("it is well").complete.is_some());
    assert_eq!(answer.section.capacity_bytes(), 0);
}
