//! Where a line goes for each connection that has ended.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ConfigError;

/// Where a line goes for each connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessLogConfig {
    /// Who gets it.
    pub target: LogTarget,
    /// The form of the lines.
    pub format: LogFormat,
}

/// Who gets the lines of an access log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// stdout: `-`
    Stdout,
    /// A file to append to, or a FIFO: its path.
    File(PathBuf),
    /// systemd-journald of this machine: `journald:`
    Journald,
    /// A syslog daemon, by its unix socket: `syslog:` for [`LogTarget::SYSLOG_SOCKET`], `syslog:PATH` for another.
    Syslog(PathBuf),
    /// A syslog daemon, by UDP: `syslog:IP:PORT`
    SyslogUdp(SocketAddr),
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogFormat {
    /// For people: words, `name=value` with spaces between.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl LogTarget {
    /// Where the syslog daemon of a machine listens.
    pub const SYSLOG_SOCKET: &str = "/dev/log";

    const JOURNALD: &str = "journald:";
    const SYSLOG: &str = "syslog:";

    /// What it may be, in words.
    pub const EXPECTED: &str =
        "a path, - for stdout, journald:, syslog:, syslog:PATH or syslog:IP:PORT";
}

impl FromStr for LogTarget {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new(format!("it must be {}", Self::EXPECTED));
        if text.is_empty() || text.contains('\0') {
            return Err(wrong());
        }
        if let Some(rest) = text.strip_prefix(Self::JOURNALD) {
            return if rest.is_empty() { Ok(Self::Journald) } else { Err(wrong()) };
        }
        let Some(rest) = text.strip_prefix(Self::SYSLOG) else {
            return Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) });
        };
        match rest {
            "" => Ok(Self::Syslog(Self::SYSLOG_SOCKET.into())),
            path if path.starts_with('/') => Ok(Self::Syslog(path.into())),
            address => address.parse().map(Self::SyslogUdp).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => formatter.write_str("-"),
            Self::File(path) => path.display().fmt(formatter),
            Self::Journald => formatter.write_str(Self::JOURNALD),
            Self::Syslog(path) if path == Path::new(Self::SYSLOG_SOCKET) => {
                formatter.write_str(Self::SYSLOG)
            }
            Self::Syslog(path) => write!(formatter, "{}{}", Self::SYSLOG, path.display()),
            Self::SyslogUdp(address) => write!(formatter, "{}{address}", Self::SYSLOG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_and_written() {
        let table = [
            ("-", LogTarget::Stdout),
            ("a.log", LogTarget::File("a.log".into())),
            ("/var/log/syslog:x", LogTarget::File("/var/log/syslog:x".into())),
            ("journald:", LogTarget::Journald),
            ("syslog:", LogTarget::Syslog("/dev/log".into())),
            ("syslog:/run/log", LogTarget::Syslog("/run/log".into())),
            ("syslog:127.0.0.1:514", LogTarget::SyslogUdp(([127, 0, 0, 1], 514).into())),
            ("syslog:[::1]:514", LogTarget::SyslogUdp("[::1]:514".parse().unwrap())),
        ];
        for (text, target) in table {
            assert_eq!(text.parse().as_ref(), Ok(&target), "{text}");
            assert_eq!(target.to_string(), text);
        }
        for wrong in ["", "a\0b", "journald:x", "syslog:x", "syslog:127.0.0.1", "syslog:host:514"] {
            let error = wrong.parse::<LogTarget>().unwrap_err().to_string();
            assert!(error.contains("syslog:IP:PORT"), "{error}");
        }
    }
}
