//! Where threads may run, how long they have, and when they wake. See sched_setaffinity(2), prctl(2).

use std::time::Duration;
use std::{io, mem};

use libc::cpu_set_t;

use super::errno::check;

/// CPUs that a `cpu_set_t` can name.
const SETSIZE: usize = libc::CPU_SETSIZE as usize;

/// The calling thread, for the calls that take a thread id.
const THIS_THREAD: libc::pid_t = 0;

/// sched_getaffinity(2): the CPUs on which the calling thread may run, in ascending order. A new
/// thread and a new process inherit them.
///
/// # Errors
/// Those of sched_getaffinity(2); EINVAL on a machine with more than 1024 possible CPUs.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: the kernel writes at most the size of `set`, which outlives the call.
    check(unsafe { libc::sched_getaffinity(THIS_THREAD, size_of::<cpu_set_t>(), &mut set) })?;
    // SAFETY: CPU_ISSET reads the bit of a CPU below CPU_SETSIZE, so inside `set`.
    Ok((0..SETSIZE).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// CLOCK_THREAD_CPUTIME_ID: CPU time of the calling thread so far.
///
/// # Errors
/// Those of clock_gettime(2).
pub fn thread_cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to `time`, which outlives the call.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// sched_setaffinity(2): the calling thread runs on `cpu` only.
///
/// # Errors
/// Those of sched_setaffinity(2); EINVAL when there is no such CPU or this process may not use it.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= SETSIZE {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut set = empty_set();
    // SAFETY: `cpu` is below CPU_SETSIZE, so its bit is inside `set`.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel only reads `set`, which outlives the call.
    check(unsafe { libc::sched_setaffinity(THIS_THREAD, size_of::<cpu_set_t>(), &set) }).map(drop)
}

fn empty_set() -> cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is a value.
    unsafe { mem::zeroed() }
}

/// PR_SET_TIMERSLACK of the calling thread: how much later than asked its timers may fire. Zero means
/// the default of the process, 50 us.
///
/// # Errors
/// Those of prctl(2).
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    let nanoseconds = libc::c_ulong::try_from(slack.as_nanos()).unwrap_or(libc::c_ulong::MAX);
    // SAFETY: the option takes a number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_only() {
        let last = *allowed_cpus().unwrap().last().unwrap();
        let pinned = thread::spawn(move || {
            pin_to(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [last]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        for cpu in [SETSIZE - 1, SETSIZE, usize::MAX] {
            assert_eq!(pin_to(cpu).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{cpu}");
        }
    }
}
