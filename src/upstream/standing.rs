//! What checks and the operator say of an endpoint together, as it stands in an atomic byte for those who pick.

use super::health::Checked;

/// What the operator has said about the health of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Forced {
    /// Nothing: checks and connections say how it is.
    #[default]
    Auto,
    /// It is up whatever they say, and is not ejected.
    Up,
    /// It gets no new connections in any case, and is not checked.
    Down,
}

impl Forced {
    /// From what it is [displayed](std::fmt::Display) as; what is nothing known says nothing.
    pub(super) fn of(text: &str) -> Self {
        let known = [Self::Up, Self::Down].into_iter().find(|forced| forced.to_string() == text);
        known.unwrap_or_default()
    }
}

/// What checks say, and what the operator says instead.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    pub(super) checked: Checked,
    pub(super) forced: Forced,
}

/// What follows from that, as it stands in an atomic byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Standing {
    Up,
    Down,
    ForcedUp,
    ForcedDown,
}

impl Health {
    pub(super) fn standing(self) -> Standing {
        match self.forced {
            Forced::Auto if self.checked.is_up() => Standing::Up,
            Forced::Auto => Standing::Down,
            Forced::Up => Standing::ForcedUp,
            Forced::Down => Standing::ForcedDown,
        }
    }
}

impl Standing {
    /// From the byte.
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            up if up == Self::Up as u8 => Self::Up,
            down if down == Self::Down as u8 => Self::Down,
            up if up == Self::ForcedUp as u8 => Self::ForcedUp,
            _ => Self::ForcedDown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_survives_the_byte() {
        for standing in [Standing::Up, Standing::Down, Standing::ForcedUp, Standing::ForcedDown] {
            assert_eq!(Standing::of(standing as u8), standing);
        }
    }
}
