//! What a server says on a connection on which no request is out. It is nobody's answer (RFC 9112,
//! section 9.2): either the word before a close, as a 408 is (RFC 9110, section 15.5.9), or a fault of
//! the server.

use super::answer::Answer;

/// The status that a server sends to nobody's request before it closes an idle connection.
const REQUEST_TIMEOUT: u16 = 408;

/// Bytes on an idle connection, which may come in pieces.
#[derive(Debug)]
pub(super) enum IdleResponse {
    /// Of a protocol without a form, and none has come.
    Plain,
    /// Of HTTP, and whether a byte has come.
    Http(Answer, bool),
    /// What comes behind that changes nothing.
    Heard,
}

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The server closes the connection.
    Goodbye,
    /// Bytes that nobody has asked for.
    Unasked,
}

impl IdleResponse {
    /// Nothing has come.
    pub(super) fn new(is_http: bool) -> Self {
        if is_http { Self::Http(Answer::new(false), false) } else { Self::Plain }
    }

    /// Takes what has come; tells once what it is, as soon as that is known.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<Heard> {
        let heard = match self {
            Self::Plain => Heard::Unasked,
            Self::Http(answer, any) => {
                *any = true;
                let taken = answer.take(bytes);
                match taken.map(|taken| (taken.bytes, taken.complete)) {
                    Ok((_, None)) => return None,
                    Ok((len, Some(whole))) if len == bytes.len() => {
                        heard(whole.status == REQUEST_TIMEOUT || !whole.keeps)
                    }
                    Ok(_) | Err(_) => Heard::Unasked,
                }
            }
            Self::Heard => return None,
        };
        *self = Self::Heard;
        Some(heard)
    }

    /// The connection is over: tells what came if that has not been told.
    pub(super) fn end(&mut self) -> Option<Heard> {
        match std::mem::replace(self, Self::Heard) {
            // Its end is all that has come.
            Self::Plain | Self::Http(_, false) => Some(Heard::Goodbye),
            // Without a length it ends with the connection.
            Self::Http(mut answer, true) => Some(heard(answer.end().is_ok())),
            Self::Heard => None,
        }
    }
}

fn heard(is_goodbye: bool) -> Heard {
    if is_goodbye { Heard::Goodbye } else { Heard::Unasked }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, Heard)] = &[
        ("HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\nno", Heard::Goodbye),
        ("HTTP/1.0 408 Request Time-out\r\nConnection: close\r\n\r\n<html>", Heard::Goodbye),
        (
            "HTTP/1.1 408 Request Timeout\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Heard::Goodbye,
        ),
        ("HTTP/1.1 503 Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", Heard::Goodbye),
        ("HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Heard::Goodbye),
        ("", Heard::Goodbye),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Heard::Unasked),
        ("HTTP/1.1 204 No\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Heard::Unasked),
        ("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\nx", Heard::Unasked),
        ("HTTP/1.1 408 Request Timeout\r\nContent-Length: 9\r\n\r\nno", Heard::Unasked),
        ("HTTP/1.1 408 Requ", Heard::Unasked),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Heard::Unasked),
        ("SSH-2.0-OpenSSH_9.2\r\n", Heard::Unasked),
    ];

    #[test]
    fn a_goodbye_is_told_from_what_nobody_asked_for() {
        for (bytes, expected) in TABLE {
            let mut idle_response = IdleResponse::new(true);
            let told = (!bytes.is_empty()).then(|| idle_response.take(bytes.as_bytes())).flatten();
            assert_eq!(told.or_else(|| idle_response.end()), Some(*expected), "{bytes:?}");
            assert_eq!((idle_response.take(b"x"), idle_response.end()), (None, None), "{bytes:?}");
        }
    }

    #[test]
    fn a_goodbye_may_come_in_pieces() {
        for (bytes, expected) in TABLE.iter().filter(|(_, heard)| *heard == Heard::Goodbye) {
            let mut idle_response = IdleResponse::new(true);
            let told: Vec<_> =
                bytes.as_bytes().chunks(1).filter_map(|byte| idle_response.take(byte)).collect();
            let told = told.first().copied().or_else(|| idle_response.end());
            assert_eq!(told, Some(*expected), "{bytes:?}");
        }
    }

    #[test]
    fn without_a_form_no_byte_is_a_goodbye() {
        assert_eq!(IdleResponse::new(false).take(b"x"), Some(Heard::Unasked));
        assert_eq!(IdleResponse::new(false).end(), Some(Heard::Goodbye));
    }
}
