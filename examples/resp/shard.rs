//! The keys of one worker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::protocol::Answer;

/// See the module.
#[derive(Default)]
pub(super) struct Shard {
    values: HashMap<Box<[u8]>, Value>,
    /// How many of them end by themselves.
    ending: usize,
}

struct Value {
    bytes: Box<[u8]>,
    ends: Option<Instant>,
}

/// Most keys that are looked at when some may have ended.
const LOOK_AT: usize = 10_000;

impl Shard {
    /// Does a command that names keys of this shard. False if there is none of this name and number of arguments.
    pub(super) fn execute(&mut self, words: &[&[u8]], answer: &mut impl Answer) -> bool {
        let Some((name, arguments)) = words.split_first() else { return false };
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match arguments {
            [key] if is("GET") => match self.get(key) {
                Some(bytes) => answer.string(bytes),
                None => answer.nothing(),
            },
            [key, value] if is("SET") => {
                self.set(key, value, None);
                let _ = answer.write_all(b"+OK\r\n");
            }
            [key, value, ex, seconds] if is("SET") && ex.eq_ignore_ascii_case(b"EX") => {
                match seconds_in(seconds) {
                    Some(time) => {
                        self.set(key, value, Some(time));
                        answer.status("OK");
                    }
                    None => answer.error("invalid expire time in 'set' command"),
                }
            }
            keys if is("DEL") && !keys.is_empty() => {
                let removed = keys.iter().filter(|key| self.remove(key)).count();
                answer.integer(removed as i64);
            }
            [key, seconds] if is("EXPIRE") => match seconds_in(seconds) {
                Some(time) => answer.integer(i64::from(self.expire(key, time))),
                None => answer.error("value is not an integer or out of range"),
            },
            [key] if is("TTL") => answer.integer(self.time_to_live(key)),
            _ => return false,
        }
        true
    }

    fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        self.end_if_due(key);
        self.values.get(key).map(|value| &*value.bytes)
    }

    fn set(&mut self, key: &[u8], bytes: &[u8], time: Option<Duration>) {
        let value = Value { bytes: bytes.into(), ends: time.map(|time| Instant::now() + time) };
        self.ending += usize::from(value.ends.is_some());
        let before = match self.values.get_mut(key) {
            Some(place) => Some(std::mem::replace(place, value)),
            None => self.values.insert(key.into(), value),
        };
        self.ending -= usize::from(before.is_some_and(|before| before.ends.is_some()));
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        self.end_if_due(key);
        let removed = self.values.remove(key);
        self.ending -= usize::from(removed.as_ref().is_some_and(|value| value.ends.is_some()));
        removed.is_some()
    }

    fn expire(&mut self, key: &[u8], time: Duration) -> bool {
        self.end_if_due(key);
        let Some(value) = self.values.get_mut(key) else { return false };
        self.ending += usize::from(value.ends.is_none());
        value.ends = Some(Instant::now() + time);
        true
    }

    /// In seconds; -1: it does not end by itself, -2: there is no such key.
    fn time_to_live(&mut self, key: &[u8]) -> i64 {
        self.end_if_due(key);
        match self.values.get(key).map(|value| value.ends) {
            Some(Some(ends)) => {
                ends.saturating_duration_since(Instant::now()).as_millis().div_ceil(1000) as i64
            }
            Some(None) => -1,
            None => -2,
        }
    }

    fn end_if_due(&mut self, key: &[u8]) {
        let is_due = |value: &Value| value.ends.is_some_and(|ends| ends <= Instant::now());
        if self.ending > 0 && self.values.get(key).is_some_and(is_due) {
            self.values.remove(key);
            self.ending -= 1;
        }
    }

    /// Whether some keys end by themselves.
    pub(super) fn is_ending(&self) -> bool {
        self.ending > 0
    }

    /// Removes keys whose time is over, so that they take no memory although nobody asks for them.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        let is_due = |value: &Value| value.ends.is_some_and(|ends| ends <= now);
        let some = self.values.iter().take(LOOK_AT);
        let due: Vec<_> = some.filter(|it| is_due(it.1)).map(|it| it.0.clone()).collect();
        self.ending -= due.len();
        due.iter().for_each(|key| drop(self.values.remove(key)));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

fn seconds_in(text: &[u8]) -> Option<Duration> {
    let seconds: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}
