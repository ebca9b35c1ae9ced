//! Opening what the lines go to.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{Cause, OpenError};
use crate::config::LogTarget;
use crate::sys::{self, Errno};

/// Where systemd-journald takes entries in its native protocol.
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// The program, as syslog and the journal call it.
const TAG: &str = "acceptor";

/// Facility "daemon" (3), severity "informational" (6); RFC 5424, section 6.2.1.
const PRIORITY: u8 = 3 * 8 + 6;

/// Opens it. What it returns does not buffer.
pub(super) fn open(target: &LogTarget) -> Result<Box<dyn Write + Send>, OpenError> {
    try_open(target).map_err(|cause| OpenError::Target { target: target.clone(), cause })
}

fn try_open(target: &LogTarget) -> Result<Box<dyn Write + Send>, Cause> {
    Ok(match target {
        LogTarget::Stdout => of_file(stdout().map_err(|error| Cause::Refused(Errno::of(&error)))?),
        LogTarget::File(path) => of_file(open_file(path)?),
        LogTarget::Journald => {
            let to = Socket::unix(JOURNALD_SOCKET.as_ref())?;
            Box::new(Datagrams {
                to,
                head: Head::Journal,
                datagram: Vec::new(),
                was_refused: false,
            })
        }
        LogTarget::Syslog(path) => Box::new(Datagrams {
            to: Socket::unix(path)?,
            head: Head::Local,
            datagram: Vec::new(),
            was_refused: false,
        }),
        LogTarget::SyslogUdp(address) => {
            let to = Socket::udp(*address)?;
            Box::new(Datagrams { to, head: Head::Remote, datagram: Vec::new(), was_refused: false })
        }
    })
}

/// A file to append to, or a FIFO that somebody reads.
fn open_file(path: &Path) -> Result<File, Cause> {
    let is_fifo = std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo());
    let opened = match is_fifo {
        true => sys::open_fifo(path),
        false => File::options().create(true).append(true).open(path),
    };
    match opened.map_err(|error| Errno::of(&error)) {
        Ok(file) => Ok(file),
        Err(Errno::ENXIO) if is_fifo => Err(Cause::Unread),
        Err(errno) => Err(Cause::Refused(errno)),
    }
}

/// stdout without a buffer.
fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

fn of_file(file: File) -> Box<dyn Write + Send> {
    match file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        true => Box::new(Pipe(file)),
        false => Box::new(file),
    }
}

/// Most bytes that a pipe takes whole, or not at all: PIPE_BUF, see pipe(7).
const PIPE_BUF: usize = 4096;

/// A pipe, which is given no more at once than it takes whole. A larger write would wait with a part of it written, and
/// nobody would know how many lines that are.
#[derive(Debug)]
struct Pipe(File);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(PIPE_BUF)];
        let lines = some.iter().rposition(|byte| *byte == b'\n').map_or(some.len(), |end| end + 1);
        self.0.write(&some[..lines])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What stands before a line.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// The native protocol of systemd-journald: a field for each line, `NAME=value`.
    Journal,
    /// What syslog(3) writes to the daemon of the machine, without the time: the daemon has a clock.
    Local,
    /// RFC 5424, section 6: version, time, host, program, process, and neither a message ID nor data.
    Remote,
}

impl Head {
    fn write(self, to: &mut Vec<u8>) -> io::Result<()> {
        let process = std::process::id();
        match self {
            Self::Journal => {
                let severity = PRIORITY % 8;
                write!(to, "PRIORITY={severity}\nSYSLOG_IDENTIFIER={TAG}\nMESSAGE=")
            }
            Self::Local => write!(to, "<{PRIORITY}>{TAG}[{process}]: "),
            Self::Remote => {
                let time = humantime::format_rfc3339_micros(SystemTime::now());
                write!(to, "<{PRIORITY}>1 {time} - {TAG} {process} - - ")
            }
        }
    }
}

#[derive(Debug)]
enum Socket {
    /// Not connected: a daemon that was started again is found by its path.
    Unix(UnixDatagram, PathBuf),
    Udp(UdpSocket),
}

impl Socket {
    fn unix(path: &Path) -> Result<Self, Cause> {
        let refused =
            |error| Cause::NoDaemon { at: path.display().to_string(), errno: Errno::of(&error) };
        let probe = UnixDatagram::unbound().map_err(refused)?;
        probe.connect(path).map_err(refused)?;
        Ok(Self::Unix(UnixDatagram::unbound().map_err(refused)?, path.to_owned()))
    }

    fn udp(address: SocketAddr) -> Result<Self, Cause> {
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
        };
        // Connected: what an ICMP message says of one datagram, the next one is told.
        let made = UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| socket));
        made.map(Self::Udp)
            .map_err(|error| Cause::NoDaemon { at: address.to_string(), errno: Errno::of(&error) })
    }

    /// Whether it tells of a datagram that was refused when the next one is sent, which may be welcome.
    fn tells_late(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket, path) => socket.send_to(datagram, path),
            Self::Udp(socket) => socket.send(datagram),
        }
        .map(drop)
    }
}

/// Sends each line as a datagram of its own.
#[derive(Debug)]
struct Datagrams {
    to: Socket,
    head: Head,
    /// Used again for each.
    datagram: Vec<u8>,
    /// Whether the last one was sent after it was told that the one before had been refused.
    was_refused: bool,
}

impl Write for Datagrams {
    /// Takes one line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        self.datagram.clear();
        self.head.write(&mut self.datagram)?;
        self.datagram.extend_from_slice(line.trim_ascii_end());
        if matches!(self.head, Head::Journal) {
            self.datagram.push(b'\n');
        }
        let mut sent = self.to.send(&self.datagram);
        if sent.is_err() && self.to.tells_late() && !self.was_refused {
            (self.was_refused, sent) = (true, self.to.send(&self.datagram));
        } else {
            self.was_refused = sent.is_err();
        }
        sent.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("access-log-{}-{name}", std::process::id()))
    }

    fn received(head: Head, socket: &UnixDatagram, to: Socket) -> Vec<String> {
        let mut writer = Datagrams { to, head, datagram: Vec::new(), was_refused: false };
        writer.write_all(b"a=1 b=2\n{\"c\":3}\n").unwrap();
        let mut bytes = [0; 256];
        let mut next = || {
            let length = socket.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        vec![next(), next()]
    }

    #[test]
    fn each_line_is_a_datagram() {
        let path = path("each-line");
        let socket = UnixDatagram::bind(&path).unwrap();
        let to = || Socket::unix(&path).unwrap();
        let process = std::process::id();
        let local = [
            format!("<30>acceptor[{process}]: a=1 b=2"),
            format!("<30>acceptor[{process}]: {{\"c\":3}}"),
        ];
        assert_eq!(received(Head::Local, &socket, to()), local);
        let journal = received(Head::Journal, &socket, to());
        assert_eq!(journal[0], "PRIORITY=6\nSYSLOG_IDENTIFIER=acceptor\nMESSAGE=a=1 b=2\n");
        let remote = received(Head::Remote, &socket, to());
        let (head, line) = remote[0].split_once(&format!(" - acceptor {process} - - ")).unwrap();
        assert_eq!(line, "a=1 b=2");
        assert!(humantime::parse_rfc3339(head.strip_prefix("<30>1 ").unwrap()).is_ok(), "{head}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_daemon_that_is_started_again_is_found() {
        let path = path("again");
        let first = UnixDatagram::bind(&path).unwrap();
        let mut to = open(&LogTarget::Syslog(path.clone())).unwrap();
        drop(first);
        assert!(to.write(b"x\n").is_err());
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        assert_eq!(to.write(b"x\n").unwrap(), 2);
        assert!(second.recv(&mut [0; 64]).unwrap() > 0);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn who_is_not_there_is_named() {
        let Err(cause) = try_open(&LogTarget::Syslog("/none/log".into())) else {
            panic!("it is there")
        };
        assert_eq!(cause, Cause::NoDaemon { at: "/none/log".into(), errno: Errno::ENOENT });
    }
}
