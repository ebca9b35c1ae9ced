//! What a program is started with, why it has no thread, and how it learns that one is gone.

mod alarm;
mod notify;
mod threads;

pub use alarm::Alarm;
pub use notify::notify;
pub use threads::NoThread;

use crate::sys;

/// Undoes what the one who started this program may have left behind. To be called before there are
/// threads, which inherit it.
///
/// - A mask of blocked signals would keep SIGTERM from ever being seen: nothing stays blocked.
/// - Ignored, SIGCHLD would let the kernel reap children whose exit status is wanted.
/// - SIGXFSZ would end the program at a limit on the size of files (`ulimit -f`): ignored, a write comes back
///   with EFBIG instead, as with ENOSPC on a full disk.
///
/// std has ignored SIGPIPE and opened /dev/null for standard streams that are closed.
pub fn prepare() {
    // A sandbox may refuse these calls; then everything stays as it was.
    let _ = sys::unblock_signals();
    let _ = sys::reset_signal(sys::SIGCHLD);
    let _ = sys::ignore_signal(sys::SIGXFSZ);
}
