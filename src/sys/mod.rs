//! The only caller of libc: functions named after the system call, owned descriptors and
//! `io::Result`. Logs nothing, decides nothing.

mod errno;

pub use errno::Errno;
