//! Messages over a unix stream socket: four bytes with the length, least significant first, and then so many bytes of
//! CBOR. Descriptors come with the first of the four bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::UpgradeError;
use super::message::Message;
use super::step;
use crate::sys::{self, Polled};

/// The longest message, in bytes.
const MESSAGE_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of it that room is made for at a time.
const PART_BYTES: usize = 1024 * 1024;

/// Bytes that are sent at a time, each time with the rest of the limit.
const SENT_BYTES: usize = 64 * 1024;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;

/// One end of the way between the two processes.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Over this stream.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        Ok(Self(stream))
    }

    /// Over what this process was given as its standard input, which is empty from then on.
    ///
    /// # Errors
    /// Those of fcntl(2), open(2) and dup2(2).
    pub fn from_stdin() -> io::Result<Self> {
        Self::new(UnixStream::from(sys::take_stdin()?))
    }

    /// Sends a message, with descriptors. It is whole at the other end, or an error.
    pub(super) fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<(), UpgradeError> {
        let mut bytes = vec![0; LENGTH_BYTES];
        ciborium::into_writer(message, &mut bytes).map_err(io::Error::other)?;
        let length = bytes.len() - LENGTH_BYTES;
        if length > MESSAGE_MAX_BYTES {
            return Err(io::Error::from(ErrorKind::FileTooLarge).into());
        }
        bytes[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
        self.send_all(&bytes, descriptors, Instant::now() + limit).map_err(|error| {
            // Half a message is no message, and nothing may come behind it.
            let _ = self.0.shutdown(Shutdown::Both);
            failed(error, limit)
        })
    }

    /// Sends all of it until then, however slowly it is read.
    fn send_all(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        let mut parts = bytes.chunks(SENT_BYTES);
        let mut descriptors = Some(descriptors);
        let mut part = parts.next().unwrap_or_default();
        while !part.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.0.set_write_timeout(Some(left))?;
            let sent = match descriptors.take() {
                Some(descriptors) => self.send_first(part, descriptors),
                None => (&self.0).write(part),
            };
            match sent {
                Ok(sent) => part = &part[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if part.is_empty() {
                part = parts.next().unwrap_or_default();
            }
        }
        Ok(())
    }

    fn send_first(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            match sys::send_with_descriptors(self.0.as_fd(), bytes, descriptors) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }

    /// Whether something can be received, or the other end is closed, within this time.
    pub(super) fn is_readable(&self, limit: Duration) -> Result<bool, UpgradeError> {
        let mut polled = [Polled::new(self.0.as_fd(), sys::POLLIN)];
        sys::poll(&mut polled, Some(limit))?;
        Ok(polled[0].ready != 0)
    }

    /// The next message, with its descriptors: fewer than were sent if this process may not have more.
    pub(super) fn receive(&self, limit: Duration) -> Result<(Message, Vec<OwnedFd>), UpgradeError> {
        let limit = step::limit(limit);
        let deadline = Instant::now() + limit;
        self.0.set_read_timeout(Some(limit))?;
        let mut length = [0; LENGTH_BYTES];
        let (came, descriptors) =
            self.receive_first(&mut length).map_err(|error| failed(error, limit))?;
        if came == 0 {
            return Err(UpgradeError::Ended);
        }
        self.fill(&mut length[came..], deadline).map_err(|error| failed(error, limit))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MESSAGE_MAX_BYTES {
            return Err(UpgradeError::Unexpected(format!("a message of {length} bytes")));
        }
        let mut bytes = Vec::new();
        while bytes.len() < length {
            // Whoever announces much and sends little takes no memory.
            let from = bytes.len();
            bytes.resize(length.min(from + PART_BYTES), 0);
            self.fill(&mut bytes[from..], deadline).map_err(|error| failed(error, limit))?;
        }
        let message: Message = ciborium::from_reader(&bytes[..]).map_err(|error| {
            UpgradeError::Unexpected(format!("a message that is none ({error})"))
        })?;
        match message {
            Message::GiveUp(reason) => Err(UpgradeError::GivenUp(reason)),
            message => Ok((message, descriptors)),
        }
    }

    /// Reads so many bytes until then, however slowly they come.
    fn fill(&self, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            self.0.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match (&self.0).read(bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !bytes.is_empty() && Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn receive_first(&self, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            match sys::receive_with_descriptors(self.0.as_fd(), bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                came => return came,
            }
        }
    }

    /// Tells the other process that everything is as it was before.
    pub fn give_up(&self, reason: &str) {
        // One that does not hear it sees the end of the stream.
        let _ = self.send(&Message::GiveUp(reason.to_owned()), &[], Duration::from_millis(100));
    }
}

fn failed(error: io::Error, limit: Duration) -> UpgradeError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => UpgradeError::Late(limit),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            UpgradeError::Ended
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn channels() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), Channel::new(other).unwrap())
    }

    #[test]
    fn a_message_comes_whole_with_its_descriptors() {
        let (one, other) = channels();
        let (passed, _) = UnixStream::pair().unwrap();
        one.send(&Message::Taken(vec![3, 1]), &[passed.as_fd(), passed.as_fd()], SOON).unwrap();
        one.send(&Message::Go, &[], SOON).unwrap();
        let (message, descriptors) = other.receive(SOON).unwrap();
        assert!(matches!(message, Message::Taken(refused) if refused == [3, 1]));
        assert_eq!(descriptors.len(), 2);
        assert!(matches!(other.receive(SOON), Ok((Message::Go, none)) if none.is_empty()));
    }

    /// Longer than the socket takes at once.
    #[test]
    fn a_long_message_comes_whole() {
        let (one, other) = channels();
        let refused: Vec<u32> = (0..1_000_000).collect();
        let sent = Message::Taken(refused.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| one.send(&sent, &[], SOON).unwrap());
            let (message, _) = other.receive(SOON).unwrap();
            assert!(matches!(message, Message::Taken(came) if came == refused));
        });
    }

    #[test]
    fn whoever_ends_gives_up_or_says_nothing_is_told_apart() {
        let (one, other) = channels();
        let short = Duration::from_millis(10);
        assert!(matches!(other.receive(short), Err(UpgradeError::Late(limit)) if limit == short));
        one.give_up("no room");
        let given_up = other.receive(SOON).unwrap_err();
        assert!(matches!(given_up, UpgradeError::GivenUp(reason) if reason == "no room"));
        (&one.0).write_all(&[5, 0, 0, 0, 1]).unwrap();
        drop(one);
        assert!(matches!(other.receive(SOON), Err(UpgradeError::Ended)));
        assert!(matches!(other.receive(SOON), Err(UpgradeError::Ended)));
    }

    #[test]
    fn what_is_no_message_is_told() {
        for bytes in [&[0xff, 0xff, 0xff, 0x7f][..], &[1, 0, 0, 0, 0xff], b"GET / HTTP/1.1\r\n\r\n"]
        {
            let (one, other) = channels();
            (&one.0).write_all(bytes).unwrap();
            let error = other.receive(SOON).unwrap_err();
            assert!(matches!(error, UpgradeError::Unexpected(_)), "{error}");
        }
    }
}
