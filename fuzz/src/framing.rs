//! Messages out of receives, beside a plain reader of the whole.

use std::ops::ControlFlow;

use uring_acceptor::service::{Fed, LengthPrefix, PartialMessage, TooLong};

/// Messages that begin so stop the reader, if there are any that do.
const STOP: u8 = b'!';

/// How the bytes are read.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// Lines if there is none.
    prefix: Option<LengthPrefix>,
    limit_bytes: usize,
    stops: bool,
    /// Whether the session is suspended and resumed behind each receive.
    moves: bool,
}

/// The first byte says what is read and how, the second the limit, the third how many bytes behind it are the lengths of
/// the receives, over and over. It comes to the same as the whole, and a message that lies in one receive is not copied.
pub fn framing(data: &[u8]) {
    let &[how, limit, cuts, ref data @ ..] = data else { return };
    let Some((cuts, data)) = data.split_at_checked(usize::from(cuts)) else { return };
    let prefix = match how & 3 {
        0 => None,
        1 => Some(LengthPrefix::U8),
        2 => Some(LengthPrefix::U16),
        _ => Some(LengthPrefix::U32),
    };
    let limit_bytes = usize::from(limit) + 1;
    let reader = Reader { prefix, limit_bytes, stops: how & 4 != 0, moves: how & 8 != 0 };
    let (messages, left) = reader.plain(data);
    let (mut partial, mut seen) = (PartialMessage::default(), Vec::new());
    let mut too_long = false;
    for receive in receives(cuts, data) {
        too_long = reader.receive(&mut partial, receive, &mut seen).is_err();
        if too_long {
            break;
        }
        assert!(partial.len() <= limit_bytes, "{reader:?}");
    }
    assert_eq!(seen, messages, "{reader:?}");
    assert_eq!(too_long, left.is_none(), "{reader:?}");
    assert!(left.is_none_or(|left| left == partial.bytes()), "{reader:?}");
}

/// The data in pieces of these lengths, none of them empty.
fn receives<'a>(cuts: &'a [u8], mut data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut).max(1)).cycle();
    std::iter::from_fn(move || {
        let length = lengths.next().unwrap_or(data.len()).min(data.len());
        let receive = data.split_off(..length)?;
        (!receive.is_empty()).then_some(receive)
    })
}

impl Reader {
    /// All messages of the data, and what is left behind them unless it is too long.
    fn plain<'a>(&self, mut data: &'a [u8]) -> (Vec<&'a [u8]>, Option<&'a [u8]>) {
        let mut messages = Vec::new();
        loop {
            let (front, end, behind) = match self.prefix {
                None => {
                    let end = data.iter().position(|byte| *byte == b'\n');
                    let end = end.unwrap_or(self.limit_bytes.max(data.len()));
                    let cr = end <= data.len() && data[..end].ends_with(b"\r");
                    (0, end - usize::from(cr), 1 + usize::from(cr))
                }
                Some(prefix) => {
                    let front = prefix.bytes();
                    let length =
                        data.iter().take(front).fold(0, |sum, it| sum * 256 + usize::from(*it));
                    (front, if data.len() < front { front } else { front + length }, 0)
                }
            };
            let whole = end + behind <= data.len();
            match data.get(front..end) {
                _ if data.is_empty() => return (messages, Some(data)),
                _ if end + behind > self.limit_bytes && (whole || self.is_hopeless(data, end)) => {
                    return (messages, None);
                }
                Some(message) if whole => messages.push(message),
                _ => return (messages, Some(data)),
            }
            data = &data[end + behind..];
        }
    }

    /// Whether a message that is not whole and ends there cannot be within the limit.
    fn is_hopeless(&self, data: &[u8], end: usize) -> bool {
        match self.prefix {
            None => data.len() >= self.limit_bytes,
            Some(_) => end > self.limit_bytes,
        }
    }

    /// What one receive brings, and what is behind each stop in it.
    fn receive(
        self,
        partial: &mut PartialMessage,
        receive: &[u8],
        seen: &mut Vec<Vec<u8>>,
    ) -> Result<(), TooLong> {
        let mut input = receive;
        loop {
            let fed = self.feed(partial, input, seen)?;
            if self.moves {
                *partial = PartialMessage::from(partial.bytes().to_vec());
            }
            if fed.stopped.is_none() {
                return Ok(());
            }
            input = &[];
        }
    }

    fn feed(
        self,
        partial: &mut PartialMessage,
        input: &[u8],
        seen: &mut Vec<Vec<u8>>,
    ) -> Result<Fed, TooLong> {
        let (held, mut copied) = (partial.len(), 0);
        let places = input.as_ptr_range();
        let handle = |message: &[u8]| {
            seen.push(message.to_vec());
            copied += usize::from(!message.is_empty() && !places.contains(&message.as_ptr()));
            let stops = self.stops && message.first() == Some(&STOP);
            if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let fed = match self.prefix {
            None => partial.lines(input, self.limit_bytes, handle),
            Some(prefix) => partial.frames(input, prefix, self.limit_bytes, handle),
        };
        // Behind a stop there may be many that have been copied.
        assert!(copied <= usize::from(held > 0) || self.stops, "{copied} messages were copied");
        fed
    }
}
