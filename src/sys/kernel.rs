//! The running kernel: its release and its sysctls.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::{fmt, fs, io};

use super::errno::check;

/// The first two numbers of a kernel release, which is what features are gated on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRelease {
    /// The 6 of 6.18.
    pub major: u32,
    /// The 18 of 6.18.
    pub minor: u32,
}

impl KernelRelease {
    /// From the text of uname(2): `6.18.44-generic`. `None` when it does not begin with two numbers.
    pub fn parse(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some(Self { major: number(major)?, minor: number(&rest[..digits])? })
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// The release of the running kernel, from uname(2).
///
/// # Errors
/// Those of uname(2); `InvalidData` with the text when it is not a release.
pub fn release() -> io::Result<KernelRelease> {
    let text = uname_release()?;
    KernelRelease::parse(&text).ok_or_else(|| invalid("the kernel release", &text))
}

fn uname_release() -> io::Result<String> {
    let mut name = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: the kernel may write a whole utsname to `name`, which outlives the call.
    check(unsafe { libc::uname(name.as_mut_ptr()) })?;
    // SAFETY: uname(2) has succeeded, so every field has been written.
    let name = unsafe { name.assume_init() };
    // SAFETY: uname(2) ends each field with a zero inside its array, and `name` outlives the borrow.
    let release = unsafe { CStr::from_ptr(name.release.as_ptr()) };
    Ok(release.to_string_lossy().into_owned())
}

/// `net.core.somaxconn` of this network namespace: the most that a backlog can be.
///
/// # Errors
/// Those of reading /proc, which may not be mounted; `InvalidData` when it holds no number.
pub fn somaxconn() -> io::Result<u32> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    text.trim().parse().map_err(|_| invalid("net.core.somaxconn", &text))
}

/// `kernel.io_uring_disabled` (Linux 6.6): 0 for everyone, 1 for the privileged and the group of
/// `kernel.io_uring_group`, 2 for nobody. `None` when the kernel has no such switch or it cannot be
/// read.
pub fn io_uring_disabled() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn invalid(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is '{}'", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let table = [
            ("6.18.44-fc-v669", Some((6, 18))),
            ("6.1.0-28-amd64", Some((6, 1))),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15))),
            ("6.19-rc1", Some((6, 19))),
            ("6.8", Some((6, 8))),
            ("10.0+", Some((10, 0))),
            ("", None),
            ("6", None),
            ("6.", None),
            (".1", None),
            ("+6.1", None),
            ("6.-1", None),
            ("v6.1", None),
            ("99999999999.1", None),
        ];
        for (text, expected) in table {
            let parsed = KernelRelease::parse(text).map(|release| (release.major, release.minor));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn releases_are_ordered_as_numbers() {
        let release = |text| KernelRelease::parse(text).unwrap();
        assert!(release("6.9") < release("6.10"));
        assert!(release("5.19") < release("6.1"));
        assert_eq!(release("6.1.5"), release("6.1.200"));
    }

    #[test]
    fn the_running_kernel_has_a_release_that_prints_as_it_reads() {
        let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(text.starts_with(&release().unwrap().to_string()), "{text}");
    }

    #[test]
    fn the_sysctls_can_be_read() {
        assert!(somaxconn().unwrap() > 0);
        assert!(io_uring_disabled().is_none_or(|switch| switch <= 2));
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert_eq!(
            invalid("net.core.somaxconn", "many\n").to_string(),
            "net.core.somaxconn is 'many'"
        );
    }
}
