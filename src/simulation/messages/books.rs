//! What has been said to whom, and what became of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::service::Mailbox;

use super::post::Letter;

/// Names a session or a message, in the order in which they came.
pub(super) type Number = u64;

/// What has become of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is on its way.
    Sent,
    /// It came to whom it was for, or was given back, and the answer is on its way.
    Answered,
    /// The same, but the channel of who asked was full.
    Unanswered,
    /// Who asked knows the answer, or has ended.
    Over,
}

/// A question that somebody has asked.
#[derive(Debug)]
struct Asked {
    by: Number,
    /// A session; or a worker, none of which ends before its sessions.
    of: To,
    fate: Fate,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Session(Number),
    Worker(usize),
}

#[derive(Debug, Default)]
struct Pages {
    /// Sessions that are open, each with its mailbox.
    open: Vec<(Number, Mailbox<Letter>)>,
    asked: BTreeMap<Number, Asked>,
    /// The last question that each has got from each other.
    last: BTreeMap<(Number, Number), Number>,
    sessions: Number,
    /// How often each worker has made what its sessions share.
    locals: BTreeMap<usize, u32>,
    /// The first thing that was wrong.
    wrong: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Books(Mutex<Pages>);

impl Books {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub(super) fn open_anew(&self) {
        *self.pages() = Pages::default();
    }

    /// Notes that something is wrong.
    pub(super) fn wrong(&self, what: impl FnOnce() -> String) {
        self.pages().wrong.get_or_insert_with(what);
    }

    /// A worker makes what its sessions share.
    pub(super) fn local(&self, worker: usize) {
        let mut pages = self.pages();
        let made = pages.locals.entry(worker).or_default();
        *made += 1;
        if *made > 1 {
            pages.wrong.get_or_insert_with(|| format!("worker {worker} has two locals"));
        }
    }

    /// A session has opened. Returns its number.
    pub(super) fn opened(&self, mailbox: &Mailbox<Letter>) -> Number {
        let mut pages = self.pages();
        pages.sessions += 1;
        let number = pages.sessions;
        pages.open.push((number, mailbox.clone()));
        number
    }

    /// A session has ended: nobody waits for what it has asked.
    pub(super) fn closed(&self, session: Number) {
        let mut pages = self.pages();
        pages.open.retain(|(number, _)| *number != session);
        let mine = pages.asked.values_mut().filter(|asked| asked.by == session);
        mine.for_each(|asked| asked.fate = Fate::Over);
    }

    /// Some session that is open: the one who asks, if it is the only one.
    pub(super) fn anybody(&self, choice: u8) -> Option<(Number, Mailbox<Letter>)> {
        let pages = self.pages();
        let index = usize::from(choice).checked_rem(pages.open.len())?;
        Some(pages.open[index].clone())
    }

    /// Somebody asks somebody. Returns the number of the question.
    pub(super) fn asks(&self, by: Number, of: To) -> Number {
        let mut pages = self.pages();
        let number = pages.asked.len() as Number + 1;
        pages.asked.insert(number, Asked { by, of, fate: Fate::Sent });
        number
    }

    /// The question could not be sent.
    pub(super) fn unsent(&self, number: Number) {
        self.pages().asked.get_mut(&number).expect("it was asked").fate = Fate::Over;
    }

    /// A question has come to somebody.
    pub(super) fn got(&self, number: Number, who: To) {
        let mut pages = self.pages();
        let Asked { by, of, fate } = *pages.asked.get(&number).expect("it was asked");
        if of != who {
            pages
                .wrong
                .get_or_insert_with(|| format!("{number} was for {of:?} and came to {who:?}"));
        }
        if let To::Session(session) = who {
            let before = pages.last.insert((by, session), number).unwrap_or_default();
            if before >= number {
                pages.wrong.get_or_insert_with(|| format!("{number} came behind {before}"));
            }
        }
        self.note_answer(&mut pages, (number, fate));
    }

    /// A question was given back, since whom it was for has ended.
    pub(super) fn given_back(&self, number: Number) {
        let mut pages = self.pages();
        let fate = pages.asked.get(&number).expect("it was asked").fate;
        self.note_answer(&mut pages, (number, fate));
    }

    fn note_answer(&self, pages: &mut Pages, (number, fate): (Number, Fate)) {
        match fate {
            Fate::Sent => {
                pages.asked.get_mut(&number).expect("it was asked").fate = Fate::Answered;
            }
            // Who asked has ended meanwhile, or was asked twice.
            Fate::Over => {}
            Fate::Answered | Fate::Unanswered => {
                pages.wrong.get_or_insert_with(|| format!("{number} came twice"));
            }
        }
    }

    /// The channel of who asked was full.
    pub(super) fn unanswered(&self, number: Number) {
        let mut pages = self.pages();
        let asked = pages.asked.get_mut(&number).expect("it was asked");
        if asked.fate == Fate::Answered {
            asked.fate = Fate::Unanswered;
        }
    }

    /// Who asked has the answer.
    pub(super) fn answered(&self, number: Number) {
        let mut pages = self.pages();
        let asked = pages.asked.get_mut(&number).expect("it was asked");
        let before = std::mem::replace(&mut asked.fate, Fate::Over);
        if before != Fate::Answered {
            pages
                .wrong
                .get_or_insert_with(|| format!("an answer to {number}, which is {before:?}"));
        }
    }

    /// Who asked has waited in vain.
    pub(super) fn in_vain(&self, number: Number) {
        let mut pages = self.pages();
        let asked = pages.asked.get_mut(&number).expect("it was asked");
        let before = std::mem::replace(&mut asked.fate, Fate::Over);
        if before != Fate::Unanswered {
            pages.wrong.get_or_insert_with(|| format!("nobody answers {number}, {before:?}"));
        }
    }

    /// At the end of a run no session is open.
    ///
    /// # Errors
    /// The first thing that was wrong.
    pub(super) fn check(&self, is_over: bool) -> Result<(), String> {
        let pages = self.pages();
        match (&pages.wrong, pages.open.first()) {
            (Some(wrong), _) => Err(wrong.clone()),
            (None, Some((number, _))) if is_over => {
                Err(format!("session {number} was never told of its end"))
            }
            _ => Ok(()),
        }
    }
}
