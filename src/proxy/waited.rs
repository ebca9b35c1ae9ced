//! What a pair has waited for. One byte, since there may be many pairs.

/// Something that a pair waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Want {
    /// A backend with room.
    Room = 1 << 0,
    /// A socket.
    Socket = 1 << 1,
    /// A local port.
    Port = 1 << 2,
    /// Its turn, in the queue: until it has had it, its place there is its own.
    Turn = 1 << 3,
}

/// A bit for each that it has waited for, and was counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Waited(u8);

impl Waited {
    /// It waits for this; true if it never did before.
    pub(super) fn note(&mut self, want: Want) -> bool {
        let is_new = !self.has(want);
        self.0 |= want as u8;
        is_new
    }

    /// Whether it has ever waited for this.
    pub(super) fn has(self, want: Want) -> bool {
        self.0 & want as u8 != 0
    }

    /// It has had this.
    pub(super) fn forget(&mut self, want: Want) {
        self.0 &= !(want as u8);
    }

    /// Whether it keeps its place in the queue, however full that is: it tries for those too that wait behind it.
    pub(super) fn keeps_place(self) -> bool {
        self.has(Want::Port) || self.has(Want::Turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_once() {
        let mut waited = Waited::default();
        for want in [Want::Room, Want::Socket, Want::Port, Want::Turn] {
            assert!(!waited.has(want));
            assert_eq!([waited.note(want), waited.note(want)], [true, false]);
            assert!(waited.has(want));
            assert_eq!(waited.keeps_place(), matches!(want, Want::Port | Want::Turn));
            waited.forget(want);
            assert_eq!(waited, Waited::default());
        }
    }
}
