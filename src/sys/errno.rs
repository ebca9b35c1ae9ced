//! Error numbers as the kernel gives them.

use std::{fmt, io};

/// An errno(3) value, never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// The errno of an `io::Error`; errors without one count as EIO.
    pub fn of(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The symbolic name of the ones that this program meets; `errno` for others.
    pub fn name(self) -> &'static str {
        match self {
            Self::EPERM => "EPERM",
            Self::ENOENT => "ENOENT",
            Self::EINTR => "EINTR",
            Self::EIO => "EIO",
            Self::ENXIO => "ENXIO",
            Self::EBADF => "EBADF",
            Self::EAGAIN => "EAGAIN",
            Self::ENOMEM => "ENOMEM",
            Self::EACCES => "EACCES",
            Self::EFAULT => "EFAULT",
            Self::EBUSY => "EBUSY",
            Self::EINVAL => "EINVAL",
            Self::ENFILE => "ENFILE",
            Self::EMFILE => "EMFILE",
            Self::EROFS => "EROFS",
            Self::ENOSPC => "ENOSPC",
            Self::EFBIG => "EFBIG",
            Self::ENODEV => "ENODEV",
            Self::ENOTDIR => "ENOTDIR",
            Self::EISDIR => "EISDIR",
            Self::EPIPE => "EPIPE",
            Self::ENAMETOOLONG => "ENAMETOOLONG",
            Self::EPROTO => "EPROTO",
            Self::ENODATA => "ENODATA",
            Self::ENOSYS => "ENOSYS",
            Self::ETIME => "ETIME",
            Self::ENONET => "ENONET",
            Self::ENOTSOCK => "ENOTSOCK",
            Self::ENOPROTOOPT => "ENOPROTOOPT",
            Self::EOPNOTSUPP => "EOPNOTSUPP",
            Self::EAFNOSUPPORT => "EAFNOSUPPORT",
            Self::EADDRINUSE => "EADDRINUSE",
            Self::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            Self::ENETDOWN => "ENETDOWN",
            Self::ENETUNREACH => "ENETUNREACH",
            Self::ECONNABORTED => "ECONNABORTED",
            Self::ECONNRESET => "ECONNRESET",
            Self::ENOBUFS => "ENOBUFS",
            Self::ENOTCONN => "ENOTCONN",
            Self::ETIMEDOUT => "ETIMEDOUT",
            Self::ECONNREFUSED => "ECONNREFUSED",
            Self::EHOSTDOWN => "EHOSTDOWN",
            Self::EHOSTUNREACH => "EHOSTUNREACH",
            Self::EDQUOT => "EDQUOT",
            Self::EINPROGRESS => "EINPROGRESS",
            Self::ECANCELED => "ECANCELED",
            _ => "errno",
        }
    }

    /// Whether a connect that fails so had a connection, which was reset before anybody asked how the
    /// connect went. A reset instead of a handshake is ECONNREFUSED; one behind it is ECONNRESET, or
    /// EPIPE if the peer's FIN came first (tcp_reset in net/ipv4/tcp_input.c, Linux 6.18).
    pub fn comes_after_the_handshake(self) -> bool {
        [Self::ECONNRESET, Self::EPIPE].contains(&self)
    }

    /// Whether a send fails so because of its connection: the peer or the network has ended it. What fails otherwise is
    /// where the bytes come from.
    pub fn breaks_a_connection(self) -> bool {
        let unreachable = [Self::EHOSTUNREACH, Self::ENETUNREACH, Self::EHOSTDOWN, Self::ENETDOWN];
        let ended = [Self::ECONNRESET, Self::ECONNABORTED, Self::EPIPE, Self::ETIMEDOUT];
        let others = [Self::ENOTCONN, Self::ECONNREFUSED, Self::ENONET, Self::EPROTO];
        [unreachable, ended, others].concat().contains(&self) || self == Self::ECANCELED
    }
}

/// Named as in errno(3).
#[allow(missing_docs)]
impl Errno {
    pub const EPERM: Self = Self(libc::EPERM);
    pub const ENOENT: Self = Self(libc::ENOENT);
    pub const EINTR: Self = Self(libc::EINTR);
    pub const EIO: Self = Self(libc::EIO);
    pub const ENXIO: Self = Self(libc::ENXIO);
    pub const EBADF: Self = Self(libc::EBADF);
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    pub const EACCES: Self = Self(libc::EACCES);
    pub const EFAULT: Self = Self(libc::EFAULT);
    pub const EBUSY: Self = Self(libc::EBUSY);
    pub const EINVAL: Self = Self(libc::EINVAL);
    pub const ENFILE: Self = Self(libc::ENFILE);
    pub const EMFILE: Self = Self(libc::EMFILE);
    pub const EROFS: Self = Self(libc::EROFS);
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    pub const EFBIG: Self = Self(libc::EFBIG);
    pub const ENODEV: Self = Self(libc::ENODEV);
    pub const ENOTDIR: Self = Self(libc::ENOTDIR);
    pub const EISDIR: Self = Self(libc::EISDIR);
    pub const EPIPE: Self = Self(libc::EPIPE);
    pub const ENAMETOOLONG: Self = Self(libc::ENAMETOOLONG);
    pub const EPROTO: Self = Self(libc::EPROTO);
    pub const ENODATA: Self = Self(libc::ENODATA);
    pub const ENOSYS: Self = Self(libc::ENOSYS);
    pub const ETIME: Self = Self(libc::ETIME);
    pub const ENONET: Self = Self(libc::ENONET);
    pub const ENOTSOCK: Self = Self(libc::ENOTSOCK);
    pub const ENOPROTOOPT: Self = Self(libc::ENOPROTOOPT);
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    pub const EAFNOSUPPORT: Self = Self(libc::EAFNOSUPPORT);
    pub const EADDRINUSE: Self = Self(libc::EADDRINUSE);
    pub const EADDRNOTAVAIL: Self = Self(libc::EADDRNOTAVAIL);
    pub const ENETDOWN: Self = Self(libc::ENETDOWN);
    pub const ENETUNREACH: Self = Self(libc::ENETUNREACH);
    pub const ECONNABORTED: Self = Self(libc::ECONNABORTED);
    pub const ECONNRESET: Self = Self(libc::ECONNRESET);
    pub const ENOBUFS: Self = Self(libc::ENOBUFS);
    pub const ENOTCONN: Self = Self(libc::ENOTCONN);
    pub const ETIMEDOUT: Self = Self(libc::ETIMEDOUT);
    pub const ECONNREFUSED: Self = Self(libc::ECONNREFUSED);
    pub const EHOSTDOWN: Self = Self(libc::EHOSTDOWN);
    pub const EHOSTUNREACH: Self = Self(libc::EHOSTUNREACH);
    pub const EDQUOT: Self = Self(libc::EDQUOT);
    pub const EINPROGRESS: Self = Self(libc::EINPROGRESS);
    pub const ECANCELED: Self = Self(libc::ECANCELED);
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = io::Error::from_raw_os_error(self.0);
        write!(formatter, "{} ({description})", self.name())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        io::Error::from_raw_os_error(errno.0)
    }
}

/// The result of a call that returns -1 and sets errno when it fails.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
