//! Answers as servers give them, whole and in pieces.

mod limits;
mod random;
mod table;

use super::*;

/// Takes the pieces, then the FIN. What it came to, and how many bytes were of the answer, if
/// it was one.
#[track_caller]
pub(super) fn read<'a>(
    method_is_head: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<Complete, Broken>, usize) {
    let mut answer = Answer::new(method_is_head);
    let mut bytes = 0;
    for piece in pieces {
        match answer.take(piece) {
            Err(broken) => return (Err(broken), 0),
            Ok(Taken { bytes: taken, complete: Some(complete) }) => {
                return (Ok(complete), bytes + taken);
            }
            Ok(Taken { bytes: taken, complete: None }) => {
                assert_eq!(taken, piece.len(), "all is taken up to the end");
                bytes += taken;
            }
        }
    }
    let end = answer.end();
    (end, if end.is_ok() { bytes } else { 0 })
}

#[test]
fn it_has_not_begun_before_a_byte_has_come_nor_behind_an_interim_answer() {
    let mut answer = Answer::new(false);
    let mut seen = Vec::new();
    let pieces: [&[u8]; 5] = [
        b"",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Content-Length: 1\r\n\r\n",
    ];
    for piece in pieces {
        answer.take(piece).expect("it is well");
        seen.push(answer.has_begun());
    }
    assert_eq!(seen, [false, true, false, true, true]);
}

#[test]
fn what_is_broken_has_a_name_of_its_own() {
    let all = [
        Broken::NotHttp,
        Broken::HeadTooLarge,
        Broken::BadLength,
        Broken::BadChunk,
        Broken::SwitchedProtocol,
        Broken::Truncated,
    ];
    let mut names: Vec<&str> = all.iter().map(|broken| broken.name()).collect();
    assert!(names.iter().all(|name| name.chars().all(|c| c == '-' || c.is_ascii_lowercase())));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}
