//! getsockopt(2) and setsockopt(2) for the options that socket2 does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, socklen_t};

use super::errno::check;

/// An option, by its level and its name.
#[derive(Clone, Copy)]
pub(super) struct Sockopt {
    pub(super) level: c_int,
    pub(super) name: c_int,
}

/// The first `N` 32-bit words of the value of an option.
///
/// # Errors
/// Those of getsockopt(2); ENODATA when the value has fewer words.
pub(super) fn get_words<const N: usize>(
    fd: BorrowedFd<'_>,
    option: Sockopt,
) -> io::Result<[u32; N]> {
    let mut words = [0_u32; N];
    let mut length = size_of::<[u32; N]>() as socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `words`, and every bit
    // pattern is a `u32`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            option.level,
            option.name,
            words.as_mut_ptr().cast(),
            &mut length,
        )
    };
    check(result)?;
    if length as usize == size_of::<[u32; N]>() { Ok(words) } else { Err(no_data()) }
}

/// Sets an option whose value is an `int`.
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn set_word(fd: BorrowedFd<'_>, option: Sockopt, value: u32) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<u32>()` bytes from `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            option.level,
            option.name,
            (&raw const value).cast(),
            size_of::<u32>() as socklen_t,
        )
    };
    check(result).map(drop)
}

/// The kernel has no value for what was asked.
pub(super) fn no_data() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODATA)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_option_that_is_shorter_than_asked_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kind = Sockopt { level: libc::SOL_SOCKET, name: libc::SO_TYPE };
        assert_eq!(get_words(listener.as_fd(), kind).unwrap(), [libc::SOCK_STREAM as u32]);
        let error = get_words::<2>(listener.as_fd(), kind).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODATA));
    }
}
