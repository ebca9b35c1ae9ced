//! Echo (RFC 862): everything comes back.

use super::{Action, ConnectionInfo, Input, Outbox, Responder};

/// A suspended session: there is nothing to say, but whose it is.
const RECORD: &[u8] = b"echo";

/// Sends back what it receives, from the buffer it was received into.
#[derive(Debug, Default, Clone, Copy)]
pub struct Echo;

impl Responder for Echo {
    type Session = ();

    fn name(&self) -> &str {
        "echo"
    }

    fn open(&self, _: &ConnectionInfo<'_>) {}

    fn data(&self, (): &mut (), input: &Input<'_>, outbox: &mut Outbox) -> Action {
        outbox.echo(0..input.bytes().len());
        Action::Continue
    }

    fn suspend(&self, (): &()) -> Option<Vec<u8>> {
        Some(RECORD.into())
    }

    fn resume(&self, bytes: &[u8]) -> Option<()> {
        (bytes == RECORD).then_some(())
    }
}
