//! Which engine runs: chosen once per process, before there are threads, and settled when each of them
//! has its ring.
//!
//! The memory of rings is limited per user, over all threads and processes, so that the n-th ring may be
//! refused when the others are made. All threads run on one engine: what is settled is tried for all of
//! them together.
//!
//! ```text
//!   io_uring as planned --ENOMEM--> smaller rings --ENOMEM--> smallest rings --ENOMEM--> epoll
//!            |                     (RLIMIT_MEMLOCK, shared out)                            ^
//!            +----------------------- any other refusal -----------------------------------+
//! ```
//!
//! `--engine uring` stops behind the first step: it asks for io_uring as planned, or nothing.

use std::fmt;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::uring::{self, Uring};
use super::{Refusal, Sizes};
use crate::config::Engine;
use crate::sys::{self, Errno, MemlockLimit};

/// The engine that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chosen {
    /// [`Uring`].
    #[default]
    Uring,
    /// [`Epoll`](super::epoll::Epoll).
    Epoll,
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Sizes of a ring that only shows whether there can be one.
const SMALLEST: Sizes =
    Sizes { submission_entries: 8, completion_entries: 8, buffers: 1, buffer_bytes: 64 };

/// Chooses an engine; with it comes why it is not io_uring, if that was to be tried.
///
/// # Errors
/// Why this machine refuses io_uring, if nothing else is allowed.
pub fn choose(asked: Engine) -> Result<(Chosen, Option<Refusal>), Refusal> {
    match asked {
        Engine::Epoll => Ok((Chosen::Epoll, None)),
        Engine::Uring => try_uring().map(|()| (Chosen::Uring, None)),
        Engine::Auto => Ok(match try_uring() {
            Ok(()) => (Chosen::Uring, None),
            Err(refusal) => (Chosen::Epoll, Some(refusal)),
        }),
    }
}

/// How long what is missing may be the memory of rings that have just been closed: the kernel ends
/// them in its own time, those of a process that is gone too.
const RELEASE_LIMIT: Duration = Duration::from_millis(300);
/// Between two looks.
const RELEASE_STEP: Duration = Duration::from_millis(10);

/// How all rings of a process are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Making {
    /// The engine of all of them.
    pub engine: Chosen,
    /// Locked memory that each may take; `None`: as planned.
    budget_bytes: Option<u64>,
    /// How long to try when there is no memory.
    patience: Duration,
}

impl Making {
    const EPOLL: Self =
        Self { engine: Chosen::Epoll, budget_bytes: None, patience: Duration::ZERO };

    /// Makes a ring of up to these sizes for the calling thread.
    ///
    /// # Errors
    /// Why this machine refuses.
    pub fn uring(&self, sizes: &Sizes) -> Result<Uring, Refusal> {
        let sizes = self.budget_bytes.map_or(*sizes, |budget| uring::within(sizes, budget));
        patiently_for(self.patience, || Uring::new(&sizes))
    }
}

/// Tries again, as long as rings that were closed just now may still have the memory that is missing.
///
/// # Errors
/// Those of `make`.
pub fn patiently<T>(make: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    patiently_for(RELEASE_LIMIT, make)
}

fn patiently_for<T>(
    patience: Duration,
    mut make: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let deadline = Instant::now() + patience;
    loop {
        match make() {
            Err(Refusal::Memory) if Instant::now() < deadline => thread::sleep(RELEASE_STEP),
            result => return result,
        }
    }
}

/// What is to be told of the engine that runs: it is not what was hoped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// On epoll, although io_uring was to be tried.
    #[error("running on epoll, which takes more CPU time: {0}")]
    Epoll(Refusal),
    /// On io_uring with small queues.
    #[error(
        "io_uring runs with smaller queues, which take more system calls under load: {} \
         {wanted_kib} KiB of locked memory, and this user is allowed {limit_kib} KiB for all processes \
         together; raise it with 'ulimit -l {enough}' or LimitMEMLOCK={enough}K, or give CAP_IPC_LOCK",
        if *rings == 1 { "its ring wants".to_owned() } else { format!("its {rings} rings want") },
        enough = wanted_kib + limit_kib
    )]
    Smaller {
        /// Rings of this process.
        rings: usize,
        /// What they want together.
        wanted_kib: u64,
        /// RLIMIT_MEMLOCK.
        limit_kib: u64,
    },
}

/// What runs, and what there is to tell of it.
#[derive(Debug)]
pub struct Settled<T> {
    /// What was made.
    pub made: T,
    /// What it runs on.
    pub engine: Chosen,
    /// To be told to the operator.
    pub notice: Option<Notice>,
}

/// Makes all rings of a process, of the sizes `wanted`, in the first way that works for all of them.
/// `chosen` is what [`choose`] made of `asked`. `make_all` makes them, or leaves none behind and says why
/// io_uring was refused.
///
/// # Errors
/// Those of `make_all` that are no refusal, and the refusal if nothing else is allowed.
pub fn settle<T, E: From<Refusal>>(
    asked: Engine,
    (chosen, refusal): (Chosen, Option<Refusal>),
    wanted: &[Sizes],
    mut make_all: impl FnMut(Making) -> Result<Result<T, Refusal>, E>,
) -> Result<Settled<T>, E> {
    let mut refusal = refusal;
    if chosen == Chosen::Uring {
        let Locked { wanted_bytes, limit_bytes } = Locked::look(wanted);
        for making in ways(asked, wanted.len(), wanted_bytes, limit_bytes) {
            match make_all(making)? {
                Ok(made) => {
                    let notice = making.budget_bytes.map(|_| Notice::Smaller {
                        rings: wanted.len(),
                        wanted_kib: wanted_bytes.div_ceil(1024),
                        limit_kib: limit_bytes / 1024,
                    });
                    return Ok(Settled { made, engine: Chosen::Uring, notice });
                }
                Err(why) => refusal = Some(why),
            }
            if refusal != Some(Refusal::Memory) {
                break;
            }
        }
        if let (Engine::Uring, Some(why)) = (asked, refusal) {
            return Err(why.into());
        }
    }
    let made = make_all(Making::EPOLL)??;
    Ok(Settled { made, engine: Chosen::Epoll, notice: refusal.map(Notice::Epoll) })
}

/// What [`settle`] would have to tell now. Makes the rings, each in a thread of its own, and drops them.
pub fn rehearse(asked: Engine, wanted: &[Sizes]) -> Option<Notice> {
    let choice = choose(asked).ok()?;
    let settled =
        settle(asked, choice, wanted, |making| Ok::<_, Refusal>(make_all(making, wanted)));
    settled.ok()?.notice
}

/// All at the same time: none is dropped before the last has been made.
fn make_all(making: Making, wanted: &[Sizes]) -> Result<(), Refusal> {
    if making.engine == Chosen::Epoll {
        return Ok(());
    }
    let gate = Mutex::new(());
    let (report, made) = mpsc::channel();
    thread::scope(|scope| {
        let closed = gate.lock();
        for sizes in wanted {
            // The buffers themselves are no locked memory.
            let sizes = Sizes { buffer_bytes: SMALLEST.buffer_bytes, ..*sizes };
            let (report, gate) = (report.clone(), &gate);
            let hold = move || {
                let ring = making.uring(&sizes);
                let _ = report.send(ring.as_ref().map(drop).map_err(|refusal| *refusal));
                drop(gate.lock());
            };
            let spawned = thread::Builder::new().spawn_scoped(scope, hold);
            spawned.map_err(|error| no_thread(Errno::of(&error)))?;
        }
        drop(report);
        let all = made.iter().take(wanted.len()).collect();
        drop(closed);
        all
    })
}

fn no_thread(errno: Errno) -> Refusal {
    Refusal::Step { step: "a thread for a ring on trial", errno }
}

/// Locked memory that rings want, and that there is.
struct Locked {
    wanted_bytes: u64,
    limit_bytes: u64,
}

impl Locked {
    /// Raises the soft limit to the hard one, too.
    fn look(wanted: &[Sizes]) -> Self {
        let wanted_bytes = wanted.iter().map(uring::locked_bytes).sum();
        let MemlockLimit { soft, hard } =
            sys::memlock().unwrap_or(MemlockLimit { soft: MemlockLimit::NONE, hard: 0 });
        let raised = soft < hard && sys::set_memlock_soft(hard).is_ok();
        Self { wanted_bytes, limit_bytes: if raised { hard } else { soft } }
    }
}

/// How io_uring is tried, in this order. What cannot be the limit of locked memory is not bettered by
/// smaller rings.
fn ways(asked: Engine, rings: usize, wanted_bytes: u64, limit_bytes: u64) -> Vec<Making> {
    let making = |budget_bytes, patience| Making { engine: Chosen::Uring, budget_bytes, patience };
    let fits = wanted_bytes <= limit_bytes;
    let mut ways = vec![making(None, if fits { RELEASE_LIMIT } else { Duration::ZERO })];
    if asked == Engine::Auto && limit_bytes != MemlockLimit::NONE {
        let share = limit_bytes / rings.max(1) as u64;
        ways.extend([Some(share), Some(0)].map(|budget| making(budget, RELEASE_LIMIT)));
    }
    ways
}

/// The child first: it may be killed for asking. The ring that is tried then belongs to a thread of its
/// own, because the end of a ring comes late and interrupts what its thread is doing meanwhile (EINTR).
fn try_uring() -> Result<(), Refusal> {
    patiently(try_once)
}

fn try_once() -> Result<(), Refusal> {
    uring::probe()?;
    let trial = thread::Builder::new().spawn(|| Uring::new(&SMALLEST).map(drop));
    let trial = trial.map_err(|error| no_thread(Errno::of(&error)))?;
    trial.join().unwrap_or_else(|_| Err(no_thread(Errno::EIO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [Sizes; 3] =
        [Sizes { submission_entries: 1024, completion_entries: 4096, ..SMALLEST }; 3];

    /// What is tried, with a machine on which `works` says what does, and what it comes to.
    fn settled(
        asked: Engine,
        refusal: Refusal,
        works: impl Fn(&Making) -> bool,
    ) -> (Vec<Making>, Result<Option<Notice>, Refusal>) {
        let mut tried = Vec::new();
        let result = settle(asked, (Chosen::Uring, None), &WANTED, |making| {
            tried.push(making);
            Ok(if works(&making) { Ok(()) } else { Err(refusal) })
        });
        (tried, result.map(|settled| settled.notice))
    }

    fn is_epoll(making: &Making) -> bool {
        making.engine == Chosen::Epoll
    }

    #[test]
    fn what_works_at_once_is_taken_and_nothing_is_told() {
        for asked in [Engine::Auto, Engine::Uring] {
            let (tried, result) = settled(asked, Refusal::Memory, |_| true);
            assert_eq!((tried.len(), result), (1, Ok(None)));
        }
    }

    #[test]
    fn auto_never_ends_without_an_engine() {
        for refusal in [Refusal::Memory, Refusal::Seccomp, Refusal::Missing] {
            let (tried, result) = settled(Engine::Auto, refusal, is_epoll);
            assert!(is_epoll(tried.last().unwrap()));
            assert_eq!(result, Ok(Some(Notice::Epoll(refusal))));
        }
    }

    #[test]
    fn smaller_rings_are_tried_for_memory_alone() {
        let limit = 64 * 1024;
        let all = ways(Engine::Auto, 3, 3 * limit, limit);
        assert_eq!(
            all.iter().map(|way| way.budget_bytes).collect::<Vec<_>>(),
            [None, Some(limit / 3), Some(0)]
        );
        assert!(all[0].patience.is_zero() && !all[1].patience.is_zero());
        assert!(!ways(Engine::Auto, 3, limit, limit)[0].patience.is_zero(), "it may come back");
        assert_eq!(ways(Engine::Auto, 3, limit, MemlockLimit::NONE).len(), 1);
        assert_eq!(ways(Engine::Uring, 3, 3 * limit, limit).len(), 1);
        let (tried, _) = settled(Engine::Auto, Refusal::Seccomp, is_epoll);
        assert_eq!(tried.len(), 2, "io_uring once, and epoll");
    }

    #[test]
    fn uring_is_as_planned_or_refused() {
        let (tried, result) = settled(Engine::Uring, Refusal::Memory, is_epoll);
        assert_eq!((tried.len(), result), (1, Err(Refusal::Memory)));
    }

    #[test]
    fn the_notice_names_what_is_wanted_what_there_is_and_the_command() {
        let text = Notice::Smaller { rings: 3, wanted_kib: 492, limit_kib: 64 }.to_string();
        for word in ["3 rings", "492 KiB", "64 KiB", "'ulimit -l 556'", "LimitMEMLOCK=556K"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        let text = Notice::Smaller { rings: 1, wanted_kib: 336, limit_kib: 64 }.to_string();
        assert!(text.contains("under load: its ring wants 336 KiB of locked memory"), "{text}");
    }
}
