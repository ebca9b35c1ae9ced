//! What is known of one source, in one word.

/// See the module.
///
/// ```text
///   bit  63            24 23              4 3     1 0
///       | arrival, us    | open connections | unused | changing |
/// ```
/// Arrival is the theoretical arrival time of [`Spacing`](super::Spacing), in microseconds modulo 2^40 (12.7 days).
/// It is never more than a day ahead of now ([`Rate`](crate::config::Rate)), so what seems to be further ahead is past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

const ARRIVAL_SHIFT: u32 = Entry::ARRIVAL_SHIFT;
const ARRIVAL_BITS: u32 = 64 - ARRIVAL_SHIFT;
const OPEN_SHIFT: u32 = 4;
const OPEN_MASK: u64 = (1 << (ARRIVAL_SHIFT - OPEN_SHIFT)) - 1;
const CHANGING: u64 = 1;

/// What is ahead by more than this is past.
const AHEAD_MOST_US: u64 = 1 << (ARRIVAL_BITS - 1);

impl Entry {
    /// Where the arrival begins.
    pub(super) const ARRIVAL_SHIFT: u32 = 24;
    /// Somebody puts another source into this place.
    pub(super) const CHANGING: Self = Self(CHANGING);
    /// One connection, as it is added to the word.
    pub(super) const ONE_OPEN: u64 = 1 << OPEN_SHIFT;
    /// Most connections that it counts.
    pub(super) const OPEN_MOST: u32 = OPEN_MASK as u32;

    pub(super) fn new(arrival_us: u64, open: u32) -> Self {
        let open = u64::from(open.min(Self::OPEN_MOST));
        Self(arrival_us << ARRIVAL_SHIFT | open << OPEN_SHIFT)
    }

    pub(super) fn open(self) -> u32 {
        (self.0 >> OPEN_SHIFT & OPEN_MASK) as u32
    }

    pub(super) fn is_changing(self) -> bool {
        self.0 & CHANGING != 0
    }

    /// The theoretical arrival time, or now if that is past.
    pub(super) fn arrival_us(self, now_us: u64) -> u64 {
        let ahead = (self.0 >> ARRIVAL_SHIFT).wrapping_sub(now_us) & (u64::MAX >> ARRIVAL_SHIFT);
        if ahead < AHEAD_MOST_US { now_us + ahead } else { now_us }
    }

    /// Whether nothing is lost with it.
    pub(super) fn is_idle(self, now_us: u64) -> bool {
        self.open() == 0 && !self.is_changing() && self.arrival_us(now_us) == now_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_both() {
        let entry = Entry::new(1_000_000, 70_000);
        assert_eq!((entry.arrival_us(999_000), entry.open()), (1_000_000, 70_000));
        assert_eq!(entry.arrival_us(2_000_000), 2_000_000);
        let more = Entry(entry.0 + Entry::ONE_OPEN);
        assert_eq!((more.arrival_us(0), more.open()), (1_000_000, 70_001));
        assert!(Entry::CHANGING.is_changing() && !more.is_changing());
    }

    #[test]
    fn time_goes_round() {
        let day_us = 86_400_000_000;
        let now = (1 << ARRIVAL_BITS) - 10;
        let entry = Entry::new(now + 500, 0);
        assert_eq!(entry.arrival_us(now), now + 500);
        assert!(!entry.is_idle(now) && entry.is_idle(now + 501));
        assert_eq!(entry.arrival_us(now + 6 * day_us), now + 6 * day_us);
    }

    #[test]
    fn it_is_idle_without_connections_and_with_its_time_past() {
        assert!(Entry::new(5, 0).is_idle(5) && Entry::new(5, 0).is_idle(6));
        assert!(!Entry::new(5, 0).is_idle(4) && !Entry::new(5, 1).is_idle(6));
        assert!(!Entry::CHANGING.is_idle(0));
    }
}
