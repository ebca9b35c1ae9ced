//! The same messages come out, however the bytes came in; what lies whole in a receive is not copied.

mod random;

use std::ops::ControlFlow;

use super::held::{FIRST_BYTES, Wants};
use super::*;

const LIMIT: usize = 16;

impl PartialMessage {
    /// Memory that is held, in bytes.
    fn memory(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.memory())
    }
}

/// What was seen of some receives.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    messages: Vec<Vec<u8>>,
    /// Of each message: the place in the receive that brought it where it was shown, if it was shown there.
    places: Vec<Option<usize>>,
    stops: usize,
    too_long: bool,
}

/// How a test cuts bytes into messages.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Lines,
    Frames(LengthPrefix),
    /// A run of the same byte, which is whole when another byte stands behind it.
    Runs,
}

impl Kind {
    fn message(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Lines => [content, b"\n"].concat(),
            Self::Frames(prefix) => {
                let length = (content.len() as u32).to_be_bytes();
                [&length[4 - prefix.bytes()..], content].concat()
            }
            // Ends with a byte that no other message has.
            Self::Runs => vec![content.len() as u8 + 1; content.len() + 1],
        }
    }

    /// Feeds one receive; a message that begins with `stop` stops.
    fn feed(
        self,
        partial: &mut PartialMessage,
        input: &[u8],
        (limit, stop): (usize, Option<u8>),
        seen: &mut Seen,
    ) -> Result<Fed, TooLong> {
        let mut handle = |message: &[u8]| {
            seen.messages.push(message.to_vec());
            seen.places.push(place(message, input));
            let stops = stop.is_some() && message.first().copied() == stop;
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self {
            Self::Lines => partial.lines(input, limit, handle),
            Self::Frames(prefix) => partial.frames(input, prefix, limit, handle),
            Self::Runs => partial.feed(input, limit, |bytes| {
                let Some(end) = bytes.iter().position(|byte| *byte != bytes[0]) else {
                    return Parsed::Partial;
                };
                match handle(&bytes[..end]) {
                    ControlFlow::Continue(()) => Parsed::Message(end),
                    ControlFlow::Break(()) => Parsed::Stop { handled: end, with: () },
                }
            }),
        }
    }

    /// Feeds these receives, and goes on behind each stop, until all is fed or a message is too long.
    fn all(self, pieces: &[&[u8]], limit: usize, stop: Option<u8>) -> (Seen, PartialMessage) {
        let (mut seen, mut partial) = (Seen::default(), PartialMessage::default());
        for piece in pieces {
            let mut input = *piece;
            loop {
                let Ok(fed) = self.feed(&mut partial, input, (limit, stop), &mut seen) else {
                    seen.too_long = true;
                    return (seen, partial);
                };
                let most = if fed.stopped.is_some() { limit + piece.len() } else { limit };
                assert!(partial.len() <= most);
                assert!(
                    partial.memory() <= (2 * partial.len()).max(FIRST_BYTES)
                        || fed.stopped.is_some()
                );
                seen.stops += usize::from(fed.stopped.is_some());
                input = &[];
                if fed.stopped.is_none() {
                    break;
                }
            }
        }
        (seen, partial)
    }
}

/// Where in `input` the part begins, if it is a part of it.
fn place(part: &[u8], input: &[u8]) -> Option<usize> {
    let (part, input) = (part.as_ptr_range(), input.as_ptr_range());
    let inside = input.start <= part.start && part.end <= input.end;
    inside.then(|| part.start as usize - input.start as usize)
}

fn lines(pieces: &[&str]) -> Seen {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    Kind::Lines.all(&pieces, LIMIT, None).0
}

#[test]
fn an_idle_session_is_small() {
    assert_eq!(size_of::<PartialMessage>(), size_of::<usize>());
}

#[test]
fn a_line_ends_with_lf_or_cr_lf() {
    let table: &[(&[&str], &[&str])] = &[
        (&["a\n"], &["a"]),
        (&["a\r\n"], &["a"]),
        (&["a\r", "\n"], &["a"]),
        (&["\n", "\r\n", "\r\r\n"], &["", "", "\r"]),
        (&["a\rb\n"], &["a\rb"]),
        (&["a", "b", "c\nd", "\n", "e"], &["abc", "d"]),
        (&["a\nb\nc", "d\ne\nf\n"], &["a", "b", "cd", "e", "f"]),
        (&[], &[]),
    ];
    for (pieces, expected) in table {
        let expected: Vec<&[u8]> = expected.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(lines(pieces).messages, expected, "{pieces:?}");
    }
}

#[test]
fn a_frame_has_as_many_bytes_as_it_says() {
    type Parts = &'static [&'static [u8]];
    let table: &[(LengthPrefix, Parts, Parts)] = &[
        (LengthPrefix::U8, &[b"\x01a\0\x02bc"], &[b"a", b"", b"bc"]),
        (LengthPrefix::U16, &[b"\0\x01a\0", b"\x02", b"b", b"c\0\0\0"], &[b"a", b"bc", b""]),
        (LengthPrefix::U32, &[b"\0", b"\0\0\x01a\0\0\0\0"], &[b"a", b""]),
        (LengthPrefix::U32, &[b"\0\0\0", b"\x03abc\0\0\0\x01d"], &[b"abc", b"d"]),
    ];
    for (prefix, pieces, expected) in table {
        let (seen, _) = Kind::Frames(*prefix).all(pieces, LIMIT, None);
        assert_eq!(seen.messages, *expected, "{prefix:?} {pieces:?}");
    }
}

#[test]
fn the_first_byte_of_a_length_counts_most() {
    let read = |prefix: LengthPrefix| prefix.read(&[1, 2, 3, 4, 5]);
    let table = [LengthPrefix::U8, LengthPrefix::U16, LengthPrefix::U32].map(read);
    assert_eq!(table, [Some(1), Some(0x102), Some(0x0102_0304)]);
}

/// The limit is for a whole message, in one receive as in many.
#[test]
fn more_than_the_limit_is_too_long() {
    let frames = |prefix: LengthPrefix| Kind::Frames(prefix);
    let table: &[(Kind, &[u8], bool)] = &[
        (Kind::Lines, b"0123456789abcde\n", false),
        (Kind::Lines, b"0123456789abcdef\n", true),
        (Kind::Lines, b"0123456789abcdef", true),
        (Kind::Lines, b"0123456789abcde", false),
        (frames(LengthPrefix::U8), b"\x0F0123456789abcde", false),
        (frames(LengthPrefix::U8), b"\x10", true),
        (frames(LengthPrefix::U16), b"\0\x0E0123456789abcd", false),
        (frames(LengthPrefix::U16), b"\0\x0F", true),
        (frames(LengthPrefix::U32), b"\0\0\0\x0C0123456789ab", false),
        (frames(LengthPrefix::U32), b"\xFF\xFF\xFF\xFF", true),
        (Kind::Runs, b"aaaaaaaaaaaaaaa", false),
        (Kind::Runs, b"aaaaaaaaaaaaaaaa", true),
    ];
    for (kind, bytes, too_long) in table {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [&[*bytes][..], &single] {
            let (seen, partial) = kind.all(pieces, LIMIT, None);
            assert_eq!(seen.too_long, *too_long, "{kind:?} {pieces:?}");
            assert!(partial.len() <= LIMIT);
        }
    }
    let error =
        PartialMessage::default().lines(&[0; 17], LIMIT, |_| ControlFlow::<()>::Continue(()));
    assert_eq!(error.unwrap_err().to_string(), "a message is longer than 16 bytes");
}

/// What is announced costs nothing, what has come at most twice itself.
#[test]
fn memory_grows_with_what_has_come() {
    const ANNOUNCED: usize = 512 << 20;
    let mut partial = PartialMessage::default();
    let prefix = (ANNOUNCED as u32).to_be_bytes();
    let mut feed = |input: &[u8], limit| {
        let fed =
            partial.frames(input, LengthPrefix::U32, limit, |_| ControlFlow::<()>::Continue(()));
        (fed.map(|fed| fed.messages), partial.len(), partial.memory())
    };
    assert_eq!(feed(&prefix, 1 << 20), (Err(TooLong { limit_bytes: 1 << 20 }), 0, 0));
    assert_eq!(feed(&prefix, ANNOUNCED + 4), (Ok(0), 4, FIRST_BYTES));
    for _ in 0..100 {
        let (fed, len, memory) = feed(&[7; 1000], ANNOUNCED + 4);
        assert_eq!(fed, Ok(0));
        assert!((len..=2 * len).contains(&memory), "{memory} bytes for {len}");
    }
    // A limit that was lowered meanwhile holds too.
    assert_eq!(feed(b"a", 1 << 20).0, Err(TooLong { limit_bytes: 1 << 20 }));
}

#[test]
fn memory_is_never_more_than_a_message_needs() {
    let mut partial = PartialMessage::default();
    let mut feed = |input: &[u8]| {
        let fed = partial
            .frames(input, LengthPrefix::U8, 256, |_| ControlFlow::<()>::Continue(()))
            .expect("a byte says no more");
        (fed.messages, partial.memory())
    };
    assert_eq!(feed(&[10, 1, 2]), (0, 11));
    assert_eq!(feed(&[3; 8]), (1, 0), "it is given back");
    assert_eq!(feed(&[200, 1]), (0, FIRST_BYTES));
    assert_eq!(feed(&[1; 100]), (0, 2 * FIRST_BYTES));
    assert_eq!(feed(&[1; 90]), (0, 201));
}

#[test]
fn what_lies_whole_in_a_receive_is_not_copied() {
    let seen = lines(&["one\ntwo\nthr", "ee\nfour\n", "five", "\n", "six\n"]);
    assert_eq!(seen.places, [Some(0), Some(4), None, Some(3), None, Some(0)]);
    let frames: [&[u8]; 2] = [b"\x01a\x02b", b"c\x01d\0"];
    let (seen, _) = Kind::Frames(LengthPrefix::U8).all(&frames, LIMIT, None);
    assert_eq!(seen.places, [Some(1), None, Some(2), Some(4)]);
    let (seen, _) = Kind::Runs.all(&[b"aab", b"bccd"], LIMIT, None);
    assert_eq!(seen.places, [Some(0), None, Some(1)]);
}

/// Feeds receives to a parser of messages of 10 bytes that says `wants` of less, and returns how many bytes it was
/// shown each time.
fn shown(pieces: &[usize], wants: Parsed) -> Vec<usize> {
    let (mut partial, mut shown) = (PartialMessage::default(), Vec::new());
    for piece in pieces {
        let fed = partial.feed(&vec![b'a'; *piece], 1_000, |bytes| {
            shown.push(bytes.len());
            if bytes.len() < 10 { wants } else { Parsed::Message(10) }
        });
        assert!(fed.is_ok());
    }
    shown
}

#[test]
fn a_parser_is_called_when_there_is_enough() {
    let table: &[(&[usize], Parsed, &[usize])] = &[
        (&[25], Parsed::Partial, &[25, 15, 5]),
        (&[1; 10], Parsed::Partial, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (&[1; 10], Parsed::Needs(10), &[1, 10]),
        (&[1; 10], Parsed::Needs(4), &[1, 4, 5, 6, 7, 8, 9, 10]),
        // What is behind the message is not copied if it is known how long that is.
        (&[5, 20], Parsed::Needs(10), &[5, 10, 15, 5]),
        (&[5, 20], Parsed::Partial, &[5, 25, 15, 5]),
        // A byte that does not come: never again.
        (&[1; 10], Parsed::NeedsByte(b'b'), &[1]),
        (&[1; 10], Parsed::NeedsByte(b'a'), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (&[1, 9], Parsed::NeedsByte(b'a'), &[1, 2, 10]),
    ];
    for (pieces, wants, expected) in table {
        assert_eq!(shown(pieces, *wants), *expected, "{pieces:?} {wants:?}");
    }
}

/// So that what comes byte by byte is not looked at again for each.
#[test]
fn lines_and_frames_say_what_they_need() {
    let table: &[(Kind, &[u8], Wants)] = &[
        (Kind::Lines, b"a", Wants::Byte(b'\n')),
        (Kind::Frames(LengthPrefix::U16), b"\0", Wants::Bytes { least: 2, announced: true }),
        (Kind::Frames(LengthPrefix::U16), b"\0\x09a", Wants::Bytes { least: 11, announced: true }),
    ];
    for (kind, bytes, wants) in table {
        let (_, partial) = kind.all(&[bytes], LIMIT, None);
        assert_eq!(partial.held.map(|held| held.wants()), Some(*wants), "{kind:?} {bytes:?}");
    }
}

/// A parser may have to see more than the message to know where it ends.
#[test]
fn a_message_may_end_in_front_of_what_it_needed() {
    let mut partial = PartialMessage::default();
    let mut feed = |input: &[u8]| {
        let fed = partial.feed(input, LIMIT, |bytes| match bytes {
            [b'l', ..] if bytes.len() < 10 => Parsed::<()>::Needs(10),
            _ => Parsed::Message(1),
        });
        fed.expect("short messages").messages
    };
    assert_eq!([feed(b"lxxxx"), feed(b"xxxx"), feed(b"xx")], [0, 0, 11]);
}

/// Neither for each byte of a receive nor for all of it.
#[test]
fn a_parser_that_cannot_say_is_shown_twice_as_much() {
    for wants in [Parsed::Partial, Parsed::NeedsByte(b'a')] {
        let (mut partial, mut shown) = (PartialMessage::default(), Vec::new());
        for piece in [1, 10_000] {
            let fed = partial.feed(&vec![b'a'; piece], 20_000, |bytes| {
                shown.push(bytes.len());
                if bytes.len() < 2_000 { wants } else { Parsed::Stop { handled: 0, with: () } }
            });
            assert!(fed.is_ok());
        }
        let first = shown[1];
        let expected: &[usize] =
            if first == 2 { &[1, 2, 514, 1028, 2056] } else { &[1, 513, 1026, 2052] };
        assert_eq!(shown, expected, "{wants:?}");
        assert_eq!(partial.len(), 10_001, "what is behind a stop is kept");
    }
}

#[test]
fn a_session_goes_on_behind_a_stop() {
    let (mut partial, mut seen) = (PartialMessage::default(), Seen::default());
    let mut feed = |input: &str| {
        let fed = Kind::Lines.feed(&mut partial, input.as_bytes(), (LIMIT, Some(b'!')), &mut seen);
        let fed = fed.expect("short lines");
        (fed.messages, fed.stopped.is_some(), partial.len())
    };
    assert_eq!(feed("a\n!b\nc\n!d\ne"), (2, true, 6));
    assert_eq!(feed(""), (2, true, 1));
    assert_eq!(feed(""), (0, false, 1));
    assert_eq!(feed("f\n!g\n"), (2, true, 0));
    assert_eq!(feed("h\n!i\n!j\n"), (2, true, 3));
    // What comes meanwhile stays behind it.
    assert_eq!(feed("k\n!l\nm"), (1, true, 6));
    assert_eq!(feed("n\n"), (2, true, 3));
    assert_eq!(feed(""), (1, false, 0));
    assert_eq!(seen.messages.concat(), b"a!bc!def!gh!i!jk!lmn");
}

/// A stop keeps what one receive brought, and no more than the limit besides.
#[test]
fn a_stop_keeps_a_receive_and_no_more() {
    let mut partial = PartialMessage::default();
    let mut stop = |input: &[u8]| {
        let fed = partial.feed(input, LIMIT, |_| Parsed::Stop { handled: 0, with: () });
        (fed.map(|fed| fed.messages), partial.len())
    };
    assert_eq!(stop(&[7; 10]), (Ok(0), 10));
    assert_eq!(stop(&[7; 1000]), (Ok(0), 1010));
    assert_eq!(stop(&[]), (Ok(0), 1010), "nothing more is asked for");
    assert_eq!(stop(&[7]), (Err(TooLong { limit_bytes: LIMIT }), 1010));
    let fed = partial.feed(&[], LIMIT, |_| Parsed::<()>::Message(1)).expect("nothing is partial");
    assert_eq!((fed.messages, partial.memory()), (1010, 0));
}

/// The memory of many messages is not kept for a piece of one.
#[test]
fn what_a_stop_kept_is_given_back() {
    let (mut partial, mut seen) = (PartialMessage::default(), Seen::default());
    let input = ["!\n", &"a\n".repeat(5_000), "b"].concat();
    for (input, len) in [(input.as_bytes(), 10_001), (b"", 1), (b"c", 2)] {
        let fed = Kind::Lines.feed(&mut partial, input, (LIMIT, Some(b'!')), &mut seen);
        assert!(fed.is_ok());
        assert_eq!(partial.len(), len);
    }
    assert!(partial.memory() <= FIRST_BYTES, "{} bytes", partial.memory());
}

#[test]
fn a_session_is_resumed_from_its_bytes() {
    let more = |partial: &mut PartialMessage, input: &[u8]| {
        let mut seen = Seen::default();
        let fed = Kind::Lines.feed(partial, input, (LIMIT, Some(b'!')), &mut seen);
        assert!(fed.is_ok());
        seen.messages.concat()
    };
    for input in ["", "a", "!a\nb\nc", "!a\nb\n"] {
        let mut partial = PartialMessage::default();
        let _ = more(&mut partial, input.as_bytes());
        let mut resumed = PartialMessage::from(partial.bytes().to_vec());
        assert_eq!(resumed.is_empty(), partial.is_empty());
        for input in [&b""[..], b"d\n"] {
            assert_eq!(more(&mut resumed, input), more(&mut partial, input));
            assert_eq!(resumed.bytes(), partial.bytes());
        }
    }
}

#[test]
fn a_message_of_a_resumed_session_may_be_too_long() {
    let mut partial = PartialMessage::from(vec![b'a'; LIMIT + 1]);
    let fed = partial.lines(b"\n", LIMIT, |_| ControlFlow::<()>::Continue(()));
    assert_eq!(fed, Err(TooLong { limit_bytes: LIMIT }));
}

/// Neither behind what was handled, nor more than the limit of a message that had begun.
#[test]
fn what_is_too_long_is_not_held() {
    let receives: [&[u8]; 2] = [b"a", b"b\n0123456789abcdef"];
    let (seen, partial) = Kind::Lines.all(&receives, LIMIT, None);
    assert!(seen.too_long && seen.messages == [b"ab"] && partial.is_empty());
    let (seen, partial) = Kind::Lines.all(&[b"a", &[b'a'; 1000]], LIMIT, None);
    assert!(seen.too_long && partial.len() <= LIMIT, "{} bytes", partial.len());
}

#[test]
fn a_worker_is_told_whether_a_message_has_begun() {
    let table = [
        ("a\n", Action::Continue, None),
        ("a", Action::Begin, None),
        ("b", Action::Await, None),
        ("c\nd", Action::Begin, None),
        ("e\n", Action::Continue, None),
        ("a\nb", Action::Begin, None),
        ("", Action::Await, None),
        ("c\n!d\ne\nf", Action::Continue, Some(())),
        ("", Action::Begin, None),
        ("", Action::Await, None),
    ];
    let (mut partial, mut seen) = (PartialMessage::default(), Seen::default());
    for (input, action, stopped) in table {
        let fed = Kind::Lines.feed(&mut partial, input.as_bytes(), (LIMIT, Some(b'!')), &mut seen);
        let fed = fed.expect("short lines");
        assert_eq!((fed.action(), fed.stopped), (action, stopped), "{input:?}");
    }
}

#[test]
#[should_panic(expected = "a message of no bytes")]
fn a_message_has_bytes() {
    let _ = PartialMessage::default().feed(b"a", LIMIT, |_| Parsed::<()>::Message(0));
}

#[test]
#[should_panic(expected = "2 of 1 bytes were handled")]
fn no_more_is_handled_than_was_shown() {
    let _ = PartialMessage::default().feed(b"a", LIMIT, |_| Parsed::<()>::Message(2));
}
