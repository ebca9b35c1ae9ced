//! What /proc and a few system calls tell and do about processes.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;
use std::{fs, io};

/// CPU time of all threads of a process that are alive.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is alive");
    let nanos = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Resident memory in bytes.
pub(crate) fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("VmRSS is in kB") * 1024
}

/// The number of open descriptors.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is alive").count()
}

/// How many completed connections wait in the accept queues of the IPv4 listeners on this port.
pub(crate) fn accept_queue(port: u16) -> u64 {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
    table.lines().filter_map(|line| listener_queue(line, port)).sum()
}

/// Fields of /proc/net/tcp: number, local address, remote address, state, tx_queue:rx_queue. The
/// receive queue of a listener is its accept queue.
fn listener_queue(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.split_once(':')?;
    let ours = u16::from_str_radix(local_port, 16).ok()? == port && fields[3] == LISTEN;
    let (_, queue) = fields.get(4)?.split_once(':')?;
    if ours { u64::from_str_radix(queue, 16).ok() } else { None }
}

pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: kill(2) takes no pointer; the pid is that of a child that has not been reaped.
    let result = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(result, 0, "kill({pid}, {signal}): {}", io::Error::last_os_error());
}

/// Whether all threads of a process are stopped: state T in proc(5).
pub(crate) fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let stat = |thread: io::Result<fs::DirEntry>| {
        fs::read_to_string(thread.ok()?.path().join("stat")).ok()
    };
    threads.filter_map(stat).all(|stat| {
        // The name in parentheses before it may contain anything.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

/// F_SETPIPE_SZ: how many bytes a pipe holds, as far as whole pages go.
pub(crate) fn set_pipe_size(pipe: &impl AsRawFd, bytes: i32) -> io::Result<()> {
    // SAFETY: the call takes a number.
    let result = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// mkfifo(3).
pub(crate) fn make_fifo(path: &str) -> io::Result<()> {
    let path = std::ffi::CString::new(path)?;
    // SAFETY: the string ends with a zero and lives through the call.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) })
}

/// Stops a thread of a process that is our child, for good: ptrace(2). Returns when it stands still; it is
/// killed with its process.
pub(crate) fn freeze(pid: u32, name: &str) -> io::Result<()> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is alive").flatten();
    let is_named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.into_iter().find(is_named).expect("there is such a thread");
    let task: i32 = task.file_name().to_str().and_then(|id| id.parse().ok()).expect("a number");
    let (report, reported) = std::sync::mpsc::channel();
    // The one that traces has to stay, and to wait for the end: the process could not be reaped otherwise.
    std::thread::spawn(move || {
        let frozen = stand_still(task);
        let is_frozen = frozen.is_ok();
        let _ = report.send(frozen);
        while is_frozen && wait_for_change(task).is_ok_and(|status| !is_over(status)) {}
    });
    reported.recv().expect("it has not panicked")
}

fn stand_still(task: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: neither request reads or writes memory of ours.
    let request = |what| match unsafe { libc::ptrace(what, task, none, none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    request(libc::PTRACE_SEIZE)?;
    request(libc::PTRACE_INTERRUPT)?;
    wait_for_change(task).map(drop)
}

/// waitpid(2) for a single thread.
fn wait_for_change(task: i32) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to a local that lives through the call.
    match unsafe { libc::waitpid(task, &raw mut status, libc::__WALL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(status),
    }
}

fn is_over(status: i32) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

/// Sets RLIMIT_NOFILE of the calling process.
pub(crate) fn set_descriptor_limits(soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the pointer is to a local that lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// Lowers the limit of open files of another process of this user so that so many more can be opened.
pub(crate) fn leave_descriptors(pid: u32, free: usize) {
    limit_descriptors(pid, limit_that_leaves(pid, free));
}

/// The limit with which a process would have as many descriptors free as `free` says, with what it has now. What
/// it has only for a moment, such as a file of /proc that it looks into once a second, counts as free.
pub(crate) fn limit_that_leaves(pid: u32, free: usize) -> u64 {
    let mut used = descriptors(pid);
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(10));
        used = &used & &descriptors(pid);
    }
    // Beyond the last number that may be used.
    (0..).filter(|number| !used.contains(number)).nth(free).expect("there are many")
}

fn descriptors(pid: u32) -> BTreeSet<u64> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is alive");
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Sets the limit on descriptors of a process. An accept that is in flight on io_uring has the limit of the
/// moment at which it began.
pub(crate) fn limit_descriptors(pid: u32, limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    let pid = pid.cast_signed();
    // SAFETY: the kernel reads `limit`, a local that lives through the call, and writes nothing.
    let set =
        unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
    check(set).expect("a limit may be lowered");
}

/// Raises the soft limit of open files of this process to the hard limit, which is returned.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local that lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }).expect("it can be read");
    set_descriptor_limits(limit.rlim_max, limit.rlim_max).expect("it may be raised");
    limit.rlim_max
}

/// Sets RLIMIT_FSIZE of the calling process: the size that files may have.
pub(crate) fn limit_file_size(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the pointer is to a local that lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) })
}

/// Blocks all signals that can be, for the calling thread and the program that it becomes.
pub(crate) fn block_signals() -> io::Result<()> {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set that the next call reads.
    let errno = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut())
    };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// Ignores a signal, in the calling process and the program that it becomes.
pub(crate) fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN is no function.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes the standard streams of the calling process.
pub(crate) fn close_standard_streams() -> io::Result<()> {
    // SAFETY: nothing in the new process uses them before the program begins.
    (0..3).try_for_each(|fd| check(unsafe { libc::close(fd) }))
}

/// A terminal: the side of whoever sits before it, and the side of programs.
pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut seat, mut program) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let none = std::ptr::null_mut();
    // SAFETY: the first two point to integers that are written, the last to a size that is read.
    check(unsafe {
        libc::openpty(&raw mut seat, &raw mut program, none, none.cast(), &raw const size)
    })
    .expect("there are terminals");
    // SAFETY: both are open, new, and owned by nobody else.
    unsafe { (OwnedFd::from_raw_fd(seat), OwnedFd::from_raw_fd(program)) }
}

/// Puts an empty folder in the place of /proc, for the calling process alone. Without privileges that takes a
/// user namespace, which not every machine allows.
pub(crate) fn hide_proc() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let unshare = |what| check(unsafe { libc::unshare(what) });
    unshare(libc::CLONE_NEWNS).or_else(|_| unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUSER))?;
    let (none, kind) = (std::ptr::null(), c"tmpfs".as_ptr());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: all strings are static and end with a zero.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, private, none.cast()) })?;
    // SAFETY: as above.
    check(unsafe { libc::mount(kind, c"/proc".as_ptr(), kind, 0, none.cast()) })
}

/// Of linux/capability.h; not in the libc crate.
pub(crate) const CAP_NET_ADMIN: u32 = 12;
/// The same.
pub(crate) const CAP_IPC_LOCK: u32 = 14;

/// Whoever is root loses this capability with the next execve(2); a plain user has none to lose.
pub(crate) fn drop_capability(capability: u32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) };
    if is_root() { check(result) } else { Ok(()) }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sets RLIMIT_MEMLOCK of the calling process.
pub(crate) fn set_locked_memory_limit(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the pointer is to a local that lives through the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) })
}

/// What a seccomp filter does with the three io_uring calls.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    /// They fail with this errno.
    With(i32),
    /// They kill the process with SIGSYS.
    Kill,
}

/// From here on io_uring is refused to this process and its children. Needs no privilege.
pub(crate) fn refuse_io_uring(how: Refused) -> io::Result<()> {
    let action = match how {
        Refused::With(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        Refused::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    };
    install(&mut [
        step(LOAD_WORD, NUMBER_OFFSET),
        jump_if(libc::SYS_io_uring_setup as u32, 3, 0),
        jump_if(libc::SYS_io_uring_enter as u32, 2, 0),
        jump_if(libc::SYS_io_uring_register as u32, 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(RETURN, action),
    ])
}

/// From here on socket(2) knows no IPv6, as in a kernel that was built or booted without it.
pub(crate) fn refuse_ipv6() -> io::Result<()> {
    install(&mut [
        step(LOAD_WORD, NUMBER_OFFSET),
        jump_if(libc::SYS_socket as u32, 0, 2),
        step(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        jump_if(libc::AF_INET6.cast_unsigned(), 1, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned()),
    ])
}

/// From here on no thread can be made, as at a limit on them; a process can.
pub(crate) fn refuse_threads() -> io::Result<()> {
    install(&mut [
        step(LOAD_WORD, NUMBER_OFFSET),
        // Its flags are in memory, where a filter cannot look: the C library takes clone(2) then.
        jump_if(libc::SYS_clone3 as u32, 5, 0),
        jump_if(libc::SYS_clone as u32, 0, 3),
        step(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        step(AND, libc::CLONE_THREAD.cast_unsigned()),
        jump_if(libc::CLONE_THREAD.cast_unsigned(), 2, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EAGAIN.cast_unsigned()),
    ])
}

fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: no pointer is passed.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) })?;
    // SAFETY: `program` and the filter that it points to live through the call; the kernel copies.
    check(unsafe {
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program)
    })
}

/// Where the number of the system call stands in seccomp_data.
const NUMBER_OFFSET: u32 = 0;
/// Where the lower half of the first argument stands, on a little-endian machine.
const FIRST_ARGUMENT_OFFSET: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };
const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// Over so many steps if what was loaded is this, and over so many if it is not.
fn jump_if(value: u32, equal: u8, else_over: u8) -> libc::sock_filter {
    libc::sock_filter { code: JUMP_IF_EQUAL, jt: equal, jf: else_over, k: value }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn a_listener_in_the_table_of_the_kernel() {
    let line = "  3: 0100007F:1F90 00000000:0000 0A 00000000:00000007 00:00000000 00000000 0 0 1";
    assert_eq!(listener_queue(line, 0x1F90), Some(7));
    assert_eq!(listener_queue(line, 0x1F91), None);
    assert_eq!(listener_queue(&line.replace(" 0A ", " 01 "), 0x1F90), None);
    assert_eq!(listener_queue("  sl  local_address rem_address   st tx_queue", 1), None);
}

/// Brings up `lo` in a network namespace of one's own.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is integers and arrays of them, for which zeroes are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads `request`, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Puts one file in the place of another, in a mount namespace of one's own.
pub(crate) fn bind_mount(from: &str, to: &str) -> io::Result<()> {
    let [from, to] = [from, to].map(std::ffi::CString::new);
    let (from, to) = (from?, to?);
    // SAFETY: both names end with a zero byte and outlive the call; the others may be null.
    let done = unsafe {
        libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// In a new process: these are its descriptors from 3 on, as sd_listen_fds(3) has them.
pub(crate) fn pass_descriptors(descriptors: &[i32]) -> io::Result<()> {
    const OUT_OF_THE_WAY: i32 = 100;
    for (place, descriptor) in (OUT_OF_THE_WAY..).zip(descriptors) {
        // SAFETY: dup2(2) takes numbers only; those from here on are nobody's in a process that just began.
        check(unsafe { libc::dup2(*descriptor, place) }.min(0))?;
    }
    for (place, number) in (OUT_OF_THE_WAY..).zip(3..).take(descriptors.len()) {
        // SAFETY: as above; what was at this number is replaced on purpose.
        check(unsafe { libc::dup2(place, number) }.min(0))?;
        // SAFETY: close(2) of a number from above.
        check(unsafe { libc::close(place) })?;
    }
    Ok(())
}
