//! res_query(3): a question to the name servers of resolv.conf, with retries, and over TCP where that is needed.

use std::ffi::{CStr, c_char, c_int};
use std::io;

/// Most bytes of an answer: over TCP its length has 16 bits.
const ANSWER_BYTES_MAX: usize = 65_535;

/// The class of the internet, in `arpa/nameser.h`.
const CLASS_IN: c_int = 1;

/// Records of the type SRV: RFC 2782.
pub const TYPE_SRV: u16 = 33;

/// Of `netdb.h`.
const HOST_NOT_FOUND: c_int = 1;
const TRY_AGAIN: c_int = 2;
const NO_DATA: c_int = 4;

// In the C library itself since glibc 2.34, and in musl. The libc crate declares neither.
// SAFETY: as `resolv.h` and `netdb.h` of glibc and musl declare them.
unsafe extern "C" {
    fn res_query(
        name: *const c_char,
        class: c_int,
        kind: c_int,
        answer: *mut u8,
        length: c_int,
    ) -> c_int;
    fn __h_errno_location() -> *mut c_int;
}

/// Asks for the records of one type. `name` is absolute: no search domain is tried. It may block as long as resolv.conf
/// says. Returns the answer as it came.
///
/// # Errors
/// There is no such name, or it has no such records ([`io::ErrorKind::NotFound`]); no name server has answered; it
/// has answered with an error.
pub fn query(name: &CStr, kind: u16) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    // SAFETY: `name` ends with a zero byte; the C library writes at most `answer.len()` bytes to `answer`, which
    // outlives the call. Its state is the thread's own.
    let length = unsafe {
        res_query(
            name.as_ptr(),
            CLASS_IN,
            c_int::from(kind),
            answer.as_mut_ptr(),
            answer.len() as c_int,
        )
    };
    match usize::try_from(length) {
        // A longer answer was cut, and says so itself.
        Ok(length) => {
            answer.truncate(length);
            Ok(answer)
        }
        Err(_) => Err(failure()),
    }
}

/// Why the last query of this thread has failed.
fn failure() -> io::Error {
    // SAFETY: it returns where the h_errno of this thread is, which lives as long as the thread.
    let code = unsafe { *__h_errno_location() };
    let (kind, text) = match code {
        HOST_NOT_FOUND => (io::ErrorKind::NotFound, "there is no such name"),
        NO_DATA => (io::ErrorKind::NotFound, "the name has no such records"),
        TRY_AGAIN => (io::ErrorKind::TimedOut, "no name server has answered"),
        _ => (io::ErrorKind::Other, "the name server has answered with an error"),
    };
    io::Error::new(kind, text)
}
