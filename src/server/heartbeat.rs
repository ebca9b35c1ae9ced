//! Whether the threads of a server are alive: each is woken, and has taken a turn when it is looked at again.

use super::Handle;
use super::lifecycle::Phase;
use crate::metrics::Counter;

/// Looks at the threads of a server, again and again.
#[derive(Debug)]
pub struct Heartbeat {
    handle: Handle,
    /// Turns that each thread had taken at the last look.
    turns: Vec<u64>,
}

impl Handle {
    /// To look whether its threads are alive.
    pub fn heartbeat(&self) -> Heartbeat {
        let beat = Heartbeat { turns: self.turns(), handle: self.clone() };
        self.shared.lifecycle.wake_all();
        beat
    }

    /// Whether a thread has panicked, which ends the server.
    pub fn has_failed(&self) -> bool {
        self.shared.lifecycle.panicked().is_some()
    }

    fn turns(&self) -> Vec<u64> {
        self.by_thread(Counter::Turns).map(|(_, turns)| turns).collect()
    }
}

impl Heartbeat {
    /// Whether each thread has taken a turn since the last look; a thread that had not is given as much time again. A
    /// server that drains is taken to be alive: its threads end, each by itself, and have a limit for that.
    pub fn is_alive(&mut self) -> bool {
        if self.handle.phase() != Phase::Serving {
            return true;
        }
        let turns = self.handle.turns();
        let is_alive = self.turns.iter().zip(&turns).all(|(before, now)| now > before);
        if is_alive {
            self.turns = turns;
            self.handle.shared.lifecycle.wake_all();
        }
        is_alive
    }
}
