//! A thread that ends by a panic is told to whoever cannot do without it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is done when a thread has panicked: its name is given.
type Act = dyn Fn(&str) + Send;

/// Watches over threads. Clones are the same alarm.
#[derive(Clone, Default)]
pub struct Alarm(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The first thread that panicked.
    raised: Option<String>,
    acts: Vec<Box<Act>>,
}

impl Alarm {
    /// What a thread of this name has to run in place of `run`, so that its panic raises the alarm.
    pub fn watch(
        &self,
        thread: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> impl FnOnce() + Send + 'static {
        let (alarm, thread) = (self.clone(), thread.to_owned());
        // Nothing that `run` may have left half done is used again: the program is about to end.
        move || catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| alarm.raise(thread))
    }

    /// Lets this be done when a thread has panicked: at once if one has.
    pub fn connect(&self, act: impl Fn(&str) + Send + 'static) {
        let mut state = self.state();
        state.raised.iter().for_each(|thread| act(thread));
        state.acts.push(Box::new(act));
    }

    /// The first thread that panicked.
    pub fn raised(&self) -> Option<String> {
        self.state().raised.clone()
    }

    /// Says that a thread has panicked.
    pub(crate) fn raise(&self, thread: String) {
        let mut state = self.state();
        if state.raised.is_none() {
            state.acts.iter().for_each(|act| act(&thread));
            state.raised = Some(thread);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Alarm").field(&self.raised()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn the_first_panic_is_told_to_those_who_wait_and_to_those_who_come_later() {
        let (alarm, (early, told_early), (late, told_late)) =
            (Alarm::default(), channel(), channel());
        alarm.connect(move |thread| early.send(thread.to_owned()).unwrap());
        thread::spawn(alarm.watch("well", || {})).join().unwrap();
        assert_eq!(alarm.raised(), None);
        for name in ["first", "second"] {
            thread::spawn(alarm.watch(name, || panic!("on purpose"))).join().unwrap();
        }
        alarm.connect(move |thread| late.send(thread.to_owned()).unwrap());
        drop(alarm);
        assert_eq!(told_early.iter().collect::<Vec<_>>(), ["first"]);
        assert_eq!(told_late.iter().collect::<Vec<_>>(), ["first"]);
    }
}
