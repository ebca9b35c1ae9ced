//! What this process does about signals.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use super::errno::check;

/// Lets no signal be blocked in the calling thread, and in those that it starts.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that the next call reads; the old mask is not asked for.
    let errno = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), null_mut())
    };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// Ignores a signal.
///
/// # Errors
/// Those of sigaction(2).
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    dispose(signal, libc::SIG_IGN)
}

/// Gives a signal its default action.
///
/// # Errors
/// Those of sigaction(2).
pub fn reset_signal(signal: i32) -> io::Result<()> {
    dispose(signal, libc::SIG_DFL)
}

fn dispose(signal: i32, disposition: libc::sighandler_t) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zeros are a sigaction without flags, handler and mask; both constants are no functions.
    check(unsafe {
        (*action.as_mut_ptr()).sa_sigaction = disposition;
        libc::sigaction(signal, action.as_ptr(), null_mut())
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::block_sigpipe;

    /// A mask of /proc/thread-self/status, such as `SigBlk`.
    fn mask(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn nothing_stays_blocked() {
        let masks = std::thread::spawn(|| {
            block_sigpipe().unwrap();
            let before = mask("SigBlk");
            unblock_signals().unwrap();
            (before, mask("SigBlk"))
        });
        assert_eq!(masks.join().unwrap(), (1 << (libc::SIGPIPE - 1), 0));
    }

    #[test]
    fn a_signal_is_ignored_and_has_its_default_again() {
        // Nothing in this process waits for it, and its default is to be ignored.
        let ignored = || mask("SigIgn") & 1 << (libc::SIGURG - 1) != 0;
        ignore_signal(libc::SIGURG).unwrap();
        assert!(ignored());
        reset_signal(libc::SIGURG).unwrap();
        assert!(!ignored());
    }
}
