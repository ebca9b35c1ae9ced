//! What is sent, and whether what comes back is right.

use super::outcome::Fault;
use super::plan::{CloseStyle, Mode, Plan, Target};

/// Bytes of which every payload is a part. Different operations send different parts, so that an
/// answer to another connection's request is a wrong answer.
const PATTERN_BYTES: usize = 1 << 16;

/// Most bytes of an HTTP response head.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;
/// Most fields of an HTTP response head.
const FIELDS_LIMIT: usize = 64;

/// The requests of a run. Made once; its bytes live as long as the process, as sends demand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    kind: Kind,
    pattern: &'static [u8],
    request_bytes: usize,
    response_bytes: Option<usize>,
    /// What the last request of a connection is instead, where it asks the server to close.
    asks_to_close: Option<&'static [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing is sent; any byte or the end is the answer.
    Any,
    /// The request comes back.
    Echo,
    /// So many bytes come back, whatever they are.
    Sized,
    Http,
}

impl Protocol {
    pub(super) fn new(plan: &Plan) -> Self {
        let response = plan.response_bytes;
        let kind = match plan.mode {
            Mode::Accept => Kind::Any,
            Mode::Http { .. } => Kind::Http,
            _ if response.is_none_or(|bytes| bytes == plan.request_bytes) => Kind::Echo,
            _ => Kind::Sized,
        };
        let bytes = match kind {
            Kind::Http => http_request(plan, ""),
            Kind::Any | Kind::Echo | Kind::Sized => pattern(plan.seed, plan.request_bytes),
        };
        let request_bytes = if kind == Kind::Http { bytes.len() } else { plan.request_bytes };
        let asks_to_close = (kind == Kind::Http && plan.close == CloseStyle::Server)
            .then(|| &*Vec::leak(http_request(plan, "Connection: close\r\n")));
        let pattern = Vec::leak(bytes);
        Self { kind, pattern, request_bytes, response_bytes: response, asks_to_close }
    }

    /// The request of the `number`-th operation, which may be the last one of its connection.
    pub(super) fn request_for(&self, number: u64, last: bool) -> &'static [u8] {
        self.asks_to_close.filter(|_| last).unwrap_or_else(|| self.request(number))
    }

    /// The request of the `number`-th operation; empty where nothing is sent.
    fn request(&self, number: u64) -> &'static [u8] {
        match self.kind {
            Kind::Any => &[],
            Kind::Http => self.pattern,
            Kind::Echo | Kind::Sized => {
                let start = (number.wrapping_mul(61) as usize) % PATTERN_BYTES;
                &self.pattern[start..start + self.request_bytes]
            }
        }
    }
}

fn pattern(seed: u64, request_bytes: usize) -> Vec<u8> {
    let mut source = fastrand::Rng::with_seed(seed);
    let once: Vec<u8> = (0..PATTERN_BYTES).map(|_| source.u8(..)).collect();
    once.iter().copied().cycle().take(PATTERN_BYTES + request_bytes).collect()
}

fn http_request(plan: &Plan, field: &str) -> Vec<u8> {
    let host = match &plan.target {
        Target::Tcp(address) => address.to_string(),
        Target::Unix(_) => "localhost".into(),
    };
    format!("GET {} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n", plan.http_path).into_bytes()
}

/// An answer on its way.
#[derive(Debug, Default)]
pub(super) struct Reply {
    received: usize,
    /// The beginning of an HTTP head whose end has not come.
    head: Vec<u8>,
    /// Bytes of the body that are missing, once the head is there.
    body_left: Option<u64>,
}

impl Reply {
    /// Whether nothing of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.received == 0
    }

    /// Takes what has come. True if the answer is complete.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(
        &mut self,
        protocol: &Protocol,
        number: u64,
        bytes: &[u8],
    ) -> Result<bool, Fault> {
        let start = self.received;
        self.received += bytes.len();
        match protocol.kind {
            Kind::Any => Ok(true),
            Kind::Http => self.take_http(protocol, bytes),
            Kind::Sized => {
                let expected = protocol.response_bytes.unwrap_or(protocol.request_bytes);
                complete(self.received, expected)
            }
            Kind::Echo => {
                let request = protocol.request(number);
                match request.get(start..self.received) {
                    Some(expected) if expected == bytes => complete(self.received, request.len()),
                    _ => Err(Fault::WrongBytes),
                }
            }
        }
    }

    fn take_http(&mut self, protocol: &Protocol, bytes: &[u8]) -> Result<bool, Fault> {
        let Some(left) = &mut self.body_left else { return self.take_head(protocol, bytes) };
        *left = left.checked_sub(bytes.len() as u64).ok_or(Fault::WrongBytes)?;
        Ok(*left == 0)
    }

    fn take_head(&mut self, protocol: &Protocol, bytes: &[u8]) -> Result<bool, Fault> {
        self.head.extend_from_slice(bytes);
        let Some((head_bytes, length)) = parse_head(&self.head)? else {
            let too_long = self.head.len() > HEAD_LIMIT_BYTES;
            return if too_long { Err(Fault::WrongBytes) } else { Ok(false) };
        };
        if protocol.response_bytes.is_some_and(|expected| expected as u64 != length) {
            return Err(Fault::WrongBytes);
        }
        let begun = (self.head.len() - head_bytes) as u64;
        self.head.clear();
        let left = length.checked_sub(begun).ok_or(Fault::WrongBytes)?;
        self.body_left = Some(left);
        Ok(left == 0)
    }
}

fn complete(received: usize, expected: usize) -> Result<bool, Fault> {
    if received > expected { Err(Fault::WrongBytes) } else { Ok(received == expected) }
}

/// Length of a whole head and of the body that it announces; `None` if its end has not come.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_LIMIT];
    let mut response = httparse::Response::new(&mut fields);
    let status = response.parse(bytes).map_err(|_| Fault::WrongBytes)?;
    let httparse::Status::Complete(head_bytes) = status else { return Ok(None) };
    if response.code != Some(200) {
        return Err(Fault::WrongStatus);
    }
    let length = response
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    // Without a length the end of the answer is not known; this client does not speak chunked.
    length.map(|length| Some((head_bytes, length))).ok_or(Fault::WrongBytes)
}

#[cfg(test)]
mod tests {
    use super::super::plan::testing::plan;
    use super::*;

    fn feed(protocol: &Protocol, pieces: &[&[u8]]) -> Result<bool, Fault> {
        let mut reply = Reply::default();
        let mut done = false;
        for piece in pieces {
            assert!(!done, "complete before {piece:?}");
            done = reply.take(protocol, 7, piece)?;
        }
        Ok(done)
    }

    #[test]
    fn an_echo_is_compared_byte_by_byte() {
        let protocol = Protocol::new(&plan(Mode::Crr));
        let request = protocol.request(7);
        assert_eq!(request.len(), 64);
        assert_eq!(feed(&protocol, &[request]), Ok(true));
        assert_eq!(feed(&protocol, &[&request[..9], &request[9..]]), Ok(true));
        assert_eq!(feed(&protocol, &[&request[..9]]), Ok(false));
        assert_eq!(feed(&protocol, &[&request[1..]]), Err(Fault::WrongBytes));
        assert_eq!(feed(&protocol, &[protocol.request(8)]), Err(Fault::WrongBytes));
        assert_eq!(
            feed(&protocol, &[request, b"!"].concat().chunks(65).collect::<Vec<_>>()),
            Err(Fault::WrongBytes)
        );
    }

    #[test]
    fn an_http_answer_is_checked_however_it_is_cut() {
        let protocol = Protocol::new(&plan(Mode::Http { requests_per_connection: None }));
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
        for cut in 1..answer.len() {
            assert_eq!(feed(&protocol, &[&answer[..cut], &answer[cut..]]), Ok(true), "at {cut}");
        }
        let table: [(&[u8], Fault); 4] = [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Fault::WrongStatus),
            (b"HTTP/1.1 200 OK\r\n\r\n", Fault::WrongBytes),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", Fault::WrongBytes),
            (b"garbage\r\n\r\n", Fault::WrongBytes),
        ];
        for (answer, fault) in table {
            assert_eq!(feed(&protocol, &[answer]), Err(fault));
        }
    }

    #[test]
    fn an_unexpected_length_is_wrong() {
        let mut plan = plan(Mode::Http { requests_per_connection: None });
        plan.response_bytes = Some(7);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
        assert_eq!(feed(&Protocol::new(&plan), &[answer]), Err(Fault::WrongBytes));
    }
}
