//! Discard (RFC 863): everything is read, nothing comes back.

use super::{Action, ConnectionInfo, Input, Outbox, Responder};

/// A suspended session: there is nothing to say, but whose it is.
const RECORD: &[u8] = b"discard";

/// Reads and drops what it receives.
#[derive(Debug, Default, Clone, Copy)]
pub struct Discard;

impl Responder for Discard {
    type Session = ();

    fn name(&self) -> &str {
        "discard"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), _: &Input<'_>, _: &mut Outbox) -> Action {
        Action::Continue
    }

    fn suspend(&self, (): &()) -> Option<Vec<u8>> {
        Some(RECORD.into())
    }

    fn resume(&self, bytes: &[u8]) -> Option<()> {
        (bytes == RECORD).then_some(())
    }
}
