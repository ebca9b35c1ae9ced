//! Resource limits of this process. See getrlimit(2).

use std::io;

use super::errno::check;

/// RLIMIT_NOFILE: one more than the highest descriptor that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NofileLimit {
    /// The limit in force; io_uring reads it when an accept is prepared.
    pub soft: u64,
    /// How far the process may raise the soft one by itself.
    pub hard: u64,
}

/// RLIMIT_NOFILE of this process.
///
/// # Errors
/// Those of getrlimit(2).
pub fn nofile() -> io::Result<NofileLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that the kernel may write; it outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(NofileLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets the soft limit of RLIMIT_NOFILE; the hard one stays.
///
/// # Errors
/// Those of setrlimit(2); EINVAL when `soft` is above the hard limit.
pub fn set_nofile_soft(soft: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: nofile()?.hard };
    // SAFETY: the kernel only reads `limit`, which outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

/// The soft limit of RLIMIT_NPROC: processes and threads of this user; `None` without one.
///
/// # Errors
/// Those of getrlimit(2).
pub fn nproc() -> io::Result<Option<u64>> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that the kernel may write; it outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &mut limit) })?;
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// RLIMIT_MEMLOCK: bytes of memory that this user may lock, over all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemlockLimit {
    /// The limit in force, [`MemlockLimit::NONE`] for none.
    pub soft: u64,
    /// How far the process may raise the soft one by itself.
    pub hard: u64,
}

impl MemlockLimit {
    /// RLIM_INFINITY.
    pub const NONE: u64 = libc::RLIM_INFINITY;
}

/// RLIMIT_MEMLOCK of this process.
///
/// # Errors
/// Those of getrlimit(2).
pub fn memlock() -> io::Result<MemlockLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is an rlimit that the kernel may write; it outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) })?;
    Ok(MemlockLimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets the soft limit of RLIMIT_MEMLOCK; the hard one stays.
///
/// # Errors
/// Those of setrlimit(2); EINVAL when `soft` is above the hard limit.
pub fn set_memlock_soft(soft: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: memlock()?.hard };
    // SAFETY: the kernel only reads `limit`, which outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_goes_up_to_the_hard_one_and_no_further() {
        let hard = nofile().unwrap().hard;
        set_nofile_soft(hard).unwrap();
        assert_eq!(nofile().unwrap(), NofileLimit { soft: hard, hard });
        let error = set_nofile_soft(hard.saturating_add(1)).map_err(|e| e.raw_os_error());
        // An unlimited hard limit has nothing above it.
        assert!(hard == u64::MAX || error == Err(Some(libc::EINVAL)), "{error:?}");
    }
}
