//! Sessions that tell each other something, wait for it, stream, and have timers: a service that keeps books of all of it.
//!
//! Each thing that a client asks for has one right answer, whatever happens to the messages behind it. So the client
//! judges that answers come in the order of the questions and none is missing, and [`Books`] that each message came once, to whom it was
//! for, or was given back.

mod books;
mod post;

use std::cmp::Ordering;
use std::sync::Arc;

use fastrand::Rng;

use super::conversation::{Conversation, Judgement};
use super::workload::Conversing;
use super::{Broken, Run, Summary};
use books::Books;
use post::{Post, answer, answer_bytes};

/// Longest script, in questions.
const QUESTIONS: usize = 60;

/// Bytes of one question: what is asked for, and a number.
const QUESTION_BYTES: usize = 2;

/// What clients of [`Post`] ask for, and the books of it.
#[derive(Debug, Default)]
struct PostTalk {
    books: Arc<Books>,
}

impl PostTalk {
    /// With books in which nothing stands.
    fn begin(&self) -> Conversing<'_, Post, Self> {
        self.books.open_anew();
        Conversing::new(Arc::new(Post::new(Arc::clone(&self.books))), self)
    }
}

impl Conversation for PostTalk {
    fn script(&self, rng: &mut Rng) -> Vec<u8> {
        let most = [2, 10, QUESTIONS][rng.usize(0..3)];
        let count = rng.usize(1..=most);
        (0..count).flat_map(|_| [b"emmmmwst"[rng.usize(0..8)], rng.u8(..)]).collect()
    }

    fn judge(&self, said: &[u8], heard: &[u8], from: usize) -> Judgement {
        let mut end = 0;
        for asked in said.chunks_exact(QUESTION_BYTES) {
            let (start, length) = (end, answer_bytes(asked[0], asked[1]));
            end += length;
            if end <= from || start >= heard.len() {
                continue;
            }
            let came = &heard[start..end.min(heard.len())];
            if came != &answer(asked[0], asked[1])[..came.len()] {
                return Judgement::Wrong(format!("{asked:?} at {start} is answered by {came:?}"));
            }
        }
        match heard.len().cmp(&end) {
            Ordering::Less => Judgement::Partial,
            Ordering::Equal => Judgement::Complete,
            Ordering::Greater => {
                Judgement::Wrong(format!("{} bytes, {end} are right", heard.len()))
            }
        }
    }

    /// A session that pauses reads nothing, which is no sign of life.
    fn is_patient(&self) -> bool {
        false
    }

    fn pauses(&self) -> bool {
        true
    }

    fn check(&self, is_over: bool) -> Result<(), String> {
        self.books.check(is_over)
    }
}

/// A server whose sessions and workers tell each other something.
#[derive(Debug, Default)]
pub struct MessageSimulation {
    run: Run,
}

impl MessageSimulation {
    /// Changes the server while it runs: new settings, listeners that move, a frontend that is removed.
    #[must_use]
    pub fn with_changes() -> Self {
        Self { run: Run { changes: true, ..Run::default() } }
    }

    /// Runs a seed. One that fails is run again with a trace.
    ///
    /// # Errors
    /// What went wrong, with the events before it.
    pub fn run(&self, seed: u64) -> Result<Summary, Box<Broken>> {
        let talk = PostTalk::default();
        super::run(seed, self.run, || talk.begin())
    }

    /// Runs a seed with a whole trace.
    pub fn replay(&self, seed: u64) -> (Result<Summary, Box<Broken>>, String) {
        let talk = PostTalk::default();
        super::replay(seed, self.run, talk.begin())
    }
}
