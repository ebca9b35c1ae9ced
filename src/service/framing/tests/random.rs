//! Random messages, cut at random places.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

use super::*;

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Lines),
        Just(Kind::Runs),
        Just(Kind::Frames(LengthPrefix::U8)),
        Just(Kind::Frames(LengthPrefix::U16)),
        Just(Kind::Frames(LengthPrefix::U32)),
    ]
}

/// Where each part begins and ends.
fn ranges(parts: &[impl AsRef<[u8]>]) -> Vec<Range<usize>> {
    let ends = parts.iter().scan(0, |end, part| {
        let start = *end;
        *end += part.as_ref().len();
        Some(start..*end)
    });
    ends.collect()
}

/// The pieces between these places, none of them empty.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let pieces = ends.iter().scan(0, |start, end| {
        let piece = &bytes[*start..*end];
        *start = *end;
        Some(piece)
    });
    pieces.filter(|piece| !piece.is_empty()).collect()
}

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_way_to_cut_changes_the_messages(
        kind in kind(),
        contents in vec(vec(b'a'..=b'd', 0..40), 0..20),
        cuts in vec(any::<Index>(), 0..30),
        limit in prop_oneof![1 => 5_usize..40, 1 => Just(1000)],
        stop in proptest::option::of(b'a'..=b'd'),
    ) {
        let bytes: Vec<u8> = contents.iter().flat_map(|content| kind.message(content)).collect();
        let (whole, left) = kind.all(&[&bytes], limit, stop);
        let (seen, kept) = kind.all(&cut(&bytes, &cuts), limit, stop);
        prop_assert_eq!(&seen.messages, &whole.messages);
        prop_assert_eq!((seen.too_long, seen.stops), (whole.too_long, whole.stops));
        if !whole.too_long {
            prop_assert_eq!(kept.bytes(), left.bytes());
            prop_assert!(left.is_empty() || matches!(kind, Kind::Runs));
        }
        if limit == 1000 && !matches!(kind, Kind::Runs) {
            prop_assert_eq!(seen.messages, contents);
        }
    }

    #[test]
    fn what_is_whole_in_a_piece_is_shown_there(
        prefix in prop_oneof![Just(None), Just(Some(LengthPrefix::U8)), Just(Some(LengthPrefix::U32))],
        contents in vec(vec(b'a'..=b'd', 0..40), 1..20),
        cuts in vec(any::<Index>(), 0..10),
    ) {
        let kind = prefix.map_or(Kind::Lines, Kind::Frames);
        let messages: Vec<_> = contents.iter().map(|content| kind.message(content)).collect();
        let bytes = messages.concat();
        let pieces = cut(&bytes, &cuts);
        let (seen, _) = kind.all(&pieces, 1000, None);
        prop_assert_eq!(seen.messages, contents);
        let ranges = ranges(&messages);
        let pieces = self::ranges(&pieces);
        for (range, place) in ranges.iter().zip(&seen.places) {
            let piece = pieces.iter().find(|piece| piece.start <= range.start && range.end <= piece.end);
            let front = prefix.map_or(0, LengthPrefix::bytes);
            prop_assert_eq!(*place, piece.map(|piece| range.start - piece.start + front));
        }
    }
}
