//! How nasty a simulated kernel is: probabilities, drawn once from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::sys::Errno;

/// Errors of accept(2) that take a connection with them.
const LOSSES: [Errno; 4] = [Errno::ECONNABORTED, Errno::EPROTO, Errno::ENETDOWN, Errno::ETIMEDOUT];

/// Errors of accept(2) that leave the queue as it is.
const SHORTAGES: [Errno; 4] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];

/// How often each nasty thing happens, in thousandths, and how late completions come.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// An accept fails and a connection is lost with it.
    pub accept_loses: u16,
    /// An accept is interrupted.
    pub accept_interrupted: u16,
    /// Descriptors or memory run out for a while; every accept fails until they are back.
    pub accept_shortage: u16,
    /// A multishot ends with a result that is valid.
    pub multishot_ends: u16,
    /// A receive finds no buffer although there is one.
    pub receive_starves: u16,
    /// A receive brings fewer bytes than there are.
    pub receive_short: u16,
    /// The network breaks a connection when something is received or sent.
    pub breaks: u16,
    /// What is cancelled succeeds all the same.
    pub cancel_loses: u16,
    /// A socket cannot be opened.
    pub open_fails: u16,
    /// A connect finds no local port.
    pub no_port: u16,
    /// A wait returns although nothing has happened.
    pub spurious: u16,
    /// A completion comes late.
    pub late: u16,
    /// The most by which it comes late.
    pub latest: Duration,
    /// A wait brings only some of what is there.
    pub partial_reap: u16,
}

impl Faults {
    /// A kernel that does what it is asked, at once, in order.
    pub fn none() -> Self {
        Self::default()
    }

    /// Half of the faults, each as often as the seed says: a seed in which everything fails all the
    /// time never gets far.
    pub fn from_seed(rng: &mut Rng) -> Self {
        let mut some = |most: u16| if rng.bool() { rng.u16(1..=most) } else { 0 };
        let mut faults = Self {
            accept_loses: some(100),
            accept_interrupted: some(100),
            accept_shortage: some(60),
            multishot_ends: some(400),
            receive_starves: some(40),
            receive_short: some(800),
            breaks: some(20),
            cancel_loses: some(700),
            open_fails: some(100),
            no_port: 0,
            spurious: some(40),
            late: some(700),
            latest: Duration::from_micros(1 << rng.u32(3..14)),
            partial_reap: if rng.bool() { 300 } else { 0 },
        };
        // Not drawn: the seeds that are kept stay what they are as far as possible. Where sockets cannot be opened alone,
        // it is known how long a pair may wait for one.
        faults.no_port = if faults.open_fails % 2 == 1 { faults.open_fails / 2 } else { 0 };
        faults
    }

    pub(super) fn happens(rng: &mut Rng, thousandths: u16) -> bool {
        thousandths > 0 && rng.u16(0..1000) < thousandths
    }

    /// How long a completion that is due takes.
    pub(super) fn delay(&self, rng: &mut Rng) -> Duration {
        if !Self::happens(rng, self.late) {
            return Duration::ZERO;
        }
        Duration::from_nanos(rng.u64(0..=self.latest.as_nanos() as u64))
    }

    pub(super) fn loss(rng: &mut Rng) -> Errno {
        LOSSES[rng.usize(0..LOSSES.len())]
    }

    pub(super) fn shortage(rng: &mut Rng) -> Errno {
        SHORTAGES[rng.usize(0..SHORTAGES.len())]
    }
}
