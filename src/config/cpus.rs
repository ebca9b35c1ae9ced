//! A list of CPUs as the kernel writes it: `0-3,8,10-11`.

use std::str::FromStr;

use super::ConfigError;

/// CPUs to pin threads to, in the order given. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// One more than the highest CPU number that can be named (CPU_SETSIZE of sched_setaffinity(2)).
    pub const LIMIT: usize = 1024;

    /// The CPU for the `index`-th thread; the list is used again from its start when it is too short.
    pub fn for_thread(&self, index: usize) -> usize {
        self.0[index % self.0.len()]
    }

    /// The CPUs in the order given.
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = range(part).ok_or_else(|| malformed(text, part))?;
            if last >= Self::LIMIT || first > last {
                return Err(malformed(text, part));
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

fn range(part: &str) -> Option<(usize, usize)> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn malformed(text: &str, part: &str) -> ConfigError {
    ConfigError::new(format!(
        "'{part}' in the CPU list '{text}' is neither a CPU nor a range below {}; example: 0-3,8",
        CpuList::LIMIT
    ))
}
