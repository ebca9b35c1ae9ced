//! For the tests of this module: real bytes, and what every reader has to hold.

use std::fmt::Debug;

/// What a reader says of a beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict<T> {
    NotYet,
    Done(T),
    Never,
}

/// The bytes of a fixture.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    let byte = |pair: &[u8]| {
        let pair = str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("hexadecimal")
    };
    digits.chunks(2).map(byte).collect()
}

/// Shows a reader every beginning of `bytes`, the empty one too, and returns its last word.
///
/// Once it has said something else than "not yet", no further byte may change that; and from
/// `limit` bytes on it must have.
#[track_caller]
pub(super) fn read_in_steps<'a, T: Debug + PartialEq>(
    bytes: &'a [u8],
    limit: usize,
    read: impl Fn(&'a [u8]) -> Verdict<T>,
) -> Verdict<T> {
    let mut last = Verdict::NotYet;
    for len in 0..=bytes.len() {
        let verdict = read(&bytes[..len]);
        if verdict == Verdict::NotYet {
            assert!(len < limit, "not yet, after {len} bytes");
        }
        if last != Verdict::NotYet {
            assert_eq!(verdict, last, "with {len} bytes it changed its mind");
        }
        last = verdict;
    }
    last
}

/// All proper beginnings of `bytes` are "not yet"; returns what it is in the end.
#[track_caller]
pub(super) fn read_at_last<'a, T: Debug + PartialEq>(
    bytes: &'a [u8],
    read: impl Fn(&'a [u8]) -> Verdict<T>,
) -> Verdict<T> {
    for len in 0..bytes.len() {
        assert_eq!(read(&bytes[..len]), Verdict::NotYet, "with {len} of {} bytes", bytes.len());
    }
    read(bytes)
}

/// How many bytes it takes a reader to refuse.
#[track_caller]
pub(super) fn refused_at<'a, T: Debug + PartialEq>(
    bytes: &'a [u8],
    read: impl Fn(&'a [u8]) -> Verdict<T>,
) -> usize {
    let refused = (0..=bytes.len()).find(|&len| read(&bytes[..len]) == Verdict::Never);
    refused.unwrap_or_else(|| panic!("not refused: {}", bytes.escape_ascii()))
}
