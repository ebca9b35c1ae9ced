//! Whether io_uring may be called at all, asked by a child process: a seccomp filter may kill whoever
//! calls it.

use std::{io, ptr};

use super::errno::{Errno, check};

/// IORING_REGISTER_PROBE of io_uring_register(2): reads, changes nothing.
const REGISTER_PROBE: libc::c_uint = 8;

/// What became of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// All three calls went through.
    Works,
    /// The named call came back with an errno.
    Refused(&'static str, Errno),
    /// The child was ended by this signal.
    Killed(i32),
}

/// The calls in the order in which the child makes them. Its exit status tells which one failed.
const CALLS: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// Makes the three io_uring calls in a child process.
///
/// # Errors
/// Those of clone(2) and waitpid(2); nothing is known then.
pub fn probe_io_uring() -> io::Result<Probe> {
    // SAFETY: the child makes raw system calls only and ends with _exit(2), so it neither takes a
    // lock that another thread held at the clone nor runs anything of ours.
    let child = unsafe { clone_silently() }?;
    if child == 0 {
        // SAFETY: _exit(2) does not return and touches no memory.
        unsafe { libc::_exit(status(in_child())) };
    }
    Ok(judge(wait_for(child)?))
}

/// fork(2) of a child whose end sends no signal: where SIGCHLD is ignored the kernel would reap it before
/// anybody has waited for it, and where it is handled that handler might.
///
/// # Safety
/// As for fork(2) in a process with threads: the child may only call what is async-signal-safe.
unsafe fn clone_silently() -> io::Result<libc::pid_t> {
    let none: libc::c_ulong = 0;
    // SAFETY: without flags and a stack of its own the child is a copy of this process, as of fork(2); the
    // order of the arguments differs between architectures, and all of them are 0.
    let child = unsafe { libc::syscall(libc::SYS_clone, none, none, none, none, none) };
    check(child as i32)
}

/// Which call failed and how; `None` if none did. Async-signal-safe.
fn in_child() -> Option<(usize, Errno)> {
    // struct io_uring_params and an empty struct io_uring_probe: 120 and 16 zero bytes.
    let (mut parameters, mut probe) = ([0_u64; 15], [0_u64; 2]);
    // SAFETY: the kernel reads and writes the 120 bytes of `parameters`, which outlive the call.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    if ring == -1 {
        return Some((0, last()));
    }
    let nothing = ptr::null::<libc::c_void>();
    // SAFETY: submits nothing, waits for nothing and names no memory.
    let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, 0, 0, 0, nothing, 0) };
    if entered == -1 {
        return Some((1, last()));
    }
    let answer = probe.as_mut_ptr();
    // SAFETY: with room for no operation the kernel reads and writes the 16 bytes of `probe`.
    let registered =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_PROBE, answer, 0) };
    (registered == -1).then(|| (2, last()))
}

fn last() -> Errno {
    // SAFETY: the address of this thread's errno is always valid.
    Errno(unsafe { *libc::__errno_location() })
}

/// An exit status has 8 bits and no errno is above 133, so a call takes two statuses: 0 is success,
/// errno is for the first call, and the other two calls only tell refused (EPERM) from missing.
fn status(failed: Option<(usize, Errno)>) -> i32 {
    match failed {
        None => 0,
        Some((0, errno)) => errno.0,
        Some((call, Errno::ENOSYS)) => 250 + call as i32,
        Some((call, _)) => 240 + call as i32,
    }
}

fn judge(wait_status: i32) -> Probe {
    if libc::WIFSIGNALED(wait_status) {
        return Probe::Killed(libc::WTERMSIG(wait_status));
    }
    match libc::WEXITSTATUS(wait_status) {
        0 => Probe::Works,
        code @ 251.. => Probe::Refused(CALLS[(code - 250) as usize % CALLS.len()], Errno::ENOSYS),
        code @ 241..=250 => {
            Probe::Refused(CALLS[(code - 240) as usize % CALLS.len()], Errno::EPERM)
        }
        code => Probe::Refused(CALLS[0], Errno(code)),
    }
}

fn wait_for(child: libc::pid_t) -> io::Result<i32> {
    let mut wait_status = 0;
    loop {
        // SAFETY: the kernel writes one int to `wait_status`, which outlives the call.
        match check(unsafe { libc::waitpid(child, &raw mut wait_status, libc::__WALL) }) {
            Ok(_) => return Ok(wait_status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_saw_comes_back() {
        let table = [
            (None, Probe::Works),
            (Some((0, Errno::EPERM)), Probe::Refused("io_uring_setup", Errno::EPERM)),
            (Some((0, Errno::ENOSYS)), Probe::Refused("io_uring_setup", Errno::ENOSYS)),
            (Some((1, Errno::EPERM)), Probe::Refused("io_uring_enter", Errno::EPERM)),
            (Some((1, Errno::ENOSYS)), Probe::Refused("io_uring_enter", Errno::ENOSYS)),
            (Some((2, Errno::EACCES)), Probe::Refused("io_uring_register", Errno::EPERM)),
            (Some((2, Errno::ENOSYS)), Probe::Refused("io_uring_register", Errno::ENOSYS)),
        ];
        for (failed, expected) in table {
            // As waitpid(2) packs the status of a process that has exited.
            assert_eq!(judge(status(failed) << 8), expected, "{failed:?}");
        }
        assert_eq!(judge(libc::SIGSYS), Probe::Killed(libc::SIGSYS));
    }

    #[test]
    fn the_child_ends_and_tells() {
        let probe = probe_io_uring().unwrap();
        let twice = probe_io_uring().unwrap();
        assert_eq!(probe, twice);
    }

    /// Runs [`the_child_ends_and_tells`] in a process of its own, since all tests share what is done about
    /// signals.
    #[test]
    fn the_child_tells_where_sigchld_is_ignored() {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "sys::probe::tests::the_child_ends_and_tells"]);
        // SAFETY: sigaction(2) is async-signal-safe and the closure allocates nothing.
        unsafe { again.pre_exec(|| crate::sys::ignore_signal(libc::SIGCHLD)) };
        let output = again.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
