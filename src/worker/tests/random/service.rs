//! A service that does everything a service may do, as its input says, and remembers it all.

use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::RequestLimits;
use crate::service::{Action, CloseReason, ConnectionInfo, Input, Outbox, Pending, Responder};

/// Tight enough to be met.
pub(super) const SLOW_CLIENTS: RequestLimits = RequestLimits {
    header_timeout: Some(Duration::from_millis(700)),
    min_rate: NonZeroU32::new(1000),
    grace: Duration::from_millis(500),
};

static STATIC: [u8; 100] = [b's'; 100];

/// What a session has seen and said.
#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) over: Option<CloseReason>,
    pub(super) panicked: bool,
    /// How often it was asked whether it can be moved.
    asked: usize,
}

impl Record {
    /// So many bytes went, and then a reset or a FIN. A FIN says that this was all that the session has said, unless
    /// something was lost before it waited to be sent, or with the connection.
    pub(super) fn check_end(&self, sent: usize, is_reset: bool) {
        use CloseReason::{OutboxOverflow, PeerReset, ServicePanicked};
        let lost = [None, Some(OutboxOverflow), Some(PeerReset), Some(ServicePanicked)];
        let is_whole = sent == self.output.len() || lost.contains(&self.over);
        assert!(is_reset || is_whole, "{:?}: a FIN in an answer", self.over);
    }
}

/// Sessions are known by the number of their listener, which is the number of the connection.
#[derive(Default)]
pub(super) struct Chatter {
    pub(super) records: Mutex<Vec<Record>>,
    /// Whether nobody is resumed.
    pub(super) refuses: AtomicBool,
}

/// Without the noise of the panic hook.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("on purpose"))
}

impl Chatter {
    pub(super) fn record(&self, session: usize) -> Record {
        self.records.lock().unwrap()[session].clone()
    }

    /// How many sessions there have been.
    pub(super) fn opened(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    /// Whether the service refuses this connection by a panic.
    pub(super) fn panics_on(session: usize) -> bool {
        session % 16 == 15
    }

    /// Whether the session stays when the peer has sent its FIN.
    pub(super) fn outlives_fin(session: usize) -> bool {
        session % 4 == 1
    }

    fn note(&self, session: usize, note: impl FnOnce(&mut Record)) {
        let mut records = self.records.lock().unwrap();
        let record = &mut records[session];
        assert!(record.over.is_none() && !record.panicked, "a session that is over was called");
        note(record);
    }

    /// Remembers the answer, or that there is none.
    fn said(
        &self,
        session: usize,
        (input, outbox): (&[u8], &Outbox),
        action: Option<Action>,
    ) -> Action {
        self.note(session, |record| {
            record.input.extend_from_slice(input);
            match action {
                Some(_) => record.output.extend(outbox.render(input)),
                None => record.panicked = true,
            }
        });
        action.unwrap_or_else(|| panic_quietly())
    }
}

/// The answer to one input; its first byte says what kind. `None` is a panic.
fn answer(bytes: &[u8], outbox: &mut Outbox) -> Option<Action> {
    let (all, half) = (bytes.len(), bytes.len() / 2);
    match bytes[0] {
        0..100 => outbox.echo(0..all),
        100..130 => outbox.write(bytes),
        130..150 => {
            outbox.echo(half..all);
            outbox.send_static(&STATIC[..half.min(STATIC.len())]);
            outbox.echo(0..half);
        }
        150..170 => outbox.send_static(&STATIC),
        170..185 => {}
        185..200 => return Some(Action::Begin),
        200..220 => {
            outbox.echo(0..half);
            return Some(Action::Await);
        }
        220..230 => {
            outbox.echo(0..all);
            return Some(Action::Close);
        }
        230..235 => return Some(Action::Close),
        235..245 => {
            outbox.write(b"refused");
            return Some(Action::Linger);
        }
        245..248 => return Some(Action::Abort),
        248..251 => {
            outbox.echo(0..half);
            return None;
        }
        _ => outbox.write(&[b'w'; 9000]),
    }
    Some(Action::Continue)
}

impl Responder for Chatter {
    type Session = usize;

    fn name(&self) -> &str {
        "chatter"
    }

    fn open(&self, connection: &ConnectionInfo<'_>) -> usize {
        self.records.lock().unwrap().push(Record::default());
        let session = connection.listener();
        if Self::panics_on(session) {
            self.note(session, |record| record.panicked = true);
            panic_quietly();
        }
        session
    }

    fn data(&self, session: &mut usize, input: &Input<'_>, outbox: &mut Outbox) -> Action {
        let action = answer(input.bytes(), outbox);
        self.said(*session, (input.bytes(), outbox), action)
    }

    fn half_closed(&self, session: &mut usize, outbox: &mut Outbox) -> Action {
        let action = match *session % 4 {
            0 => {
                outbox.write(b"bye");
                Action::Close
            }
            1 => Action::Continue,
            2 => Action::Linger,
            _ => Action::Close,
        };
        self.said(*session, (&[], outbox), Some(action))
    }

    fn draining(&self, session: &mut usize, outbox: &mut Outbox) -> Action {
        let action = match *session % 3 {
            0 => {
                outbox.write(b"draining");
                Some(Action::Close)
            }
            1 if *session % 5 < 2 => None,
            _ => Some(Action::Await),
        };
        self.said(*session, (&[], outbox), action)
    }

    fn pending(&self, session: &usize) -> Pending {
        match session % 7 {
            0 | 1 => Pending::Head,
            2 | 3 => Pending::Body { bytes: self.record(*session).input.len() as u64 },
            4 => panic_quietly(),
            _ => Pending::Nothing,
        }
    }

    fn overdue(&self, session: &mut usize, outbox: &mut Outbox) {
        let action = match *session % 5 {
            0 => None,
            1 => Some(Action::Abort),
            _ => {
                outbox.write(b"late");
                Some(Action::Linger)
            }
        };
        let _ = self.said(*session, (&[], outbox), action);
    }

    /// Some never can be moved, some now and then.
    fn suspend(&self, session: &usize) -> Option<Vec<u8>> {
        self.note(*session, |record| record.asked += 1);
        let asked = self.record(*session).asked;
        match session % 8 {
            6 if session % 16 == 6 => panic_quietly(),
            6 => None,
            3 if asked.is_multiple_of(2) => None,
            _ => Some(session.to_le_bytes().into()),
        }
    }

    fn resume(&self, bytes: &[u8]) -> Option<usize> {
        let session = usize::from_le_bytes(bytes.try_into().expect("eight bytes"));
        match self.refuses.load(Ordering::Relaxed) {
            true if session % 2 == 0 => panic_quietly(),
            true => None,
            false => {
                self.note(session, |_| {});
                Some(session)
            }
        }
    }

    fn closed(&self, session: usize, reason: CloseReason) {
        self.note(session, |record| record.over = Some(reason));
    }
}
