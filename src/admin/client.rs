//! The other end of an admin endpoint: one GET and its answer. Blocking, with a limit on everything.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{AdminAddress, ListenAddress};

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the whole of it may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of an answer that is read.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// The longest answer, in bytes. The status of 10,000 backends has some 8 MB.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Most header fields.
const FIELDS_MAX: usize = 64;

/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code of HTTP.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Nobody listens there, or not for us.
    #[error("no server can be reached at {address}: {error}")]
    Connect {
        /// Where.
        address: AdminAddress,
        /// What connect(2) said.
        error: io::Error,
    },
    /// It broke off, or took too long.
    #[error("the server at {address} has not answered: {text}")]
    Broken {
        /// Where.
        address: AdminAddress,
        /// In words.
        text: String,
    },
    /// What came is not HTTP.
    #[error("what listens at {0} does not speak HTTP")]
    NotHttp(AdminAddress),
}

/// Asks for `target` (`/status`), and waits for the answer: at most 10 s, and no more than 256 MB.
///
/// # Errors
/// There is no server, or no answer. Any status of HTTP is an answer.
pub fn get(address: &AdminAddress, target: &str) -> Result<Response, GetError> {
    let deadline = Instant::now() + TIMEOUT;
    let mut socket =
        connect(address).map_err(|error| GetError::Connect { address: address.clone(), error })?;
    let broken = |text| GetError::Broken { address: address.clone(), text };
    let bytes = exchange(&mut socket, target, deadline).map_err(|error| broken(told(&error)))?;
    match parse(&bytes) {
        Parsed::Whole(response) => Ok(response),
        Parsed::Partial => Err(broken("it has closed the connection before the end".to_owned())),
        Parsed::NotHttp => Err(GetError::NotHttp(address.clone())),
    }
}

fn connect(AdminAddress(address): &AdminAddress) -> io::Result<Socket> {
    let (domain, to) = match address {
        ListenAddress::Tcp(to) => (Domain::for_address(*to), SockAddr::from(*to)),
        ListenAddress::Unix(to) => (Domain::UNIX, SockAddr::unix(to.as_sun_path())?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.connect_timeout(&to, CONNECT_TIMEOUT)?;
    Ok(socket)
}

/// All that comes until it is whole or the connection ends.
fn exchange(socket: &mut Socket, target: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    socket.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let (mut bytes, mut piece) = (Vec::new(), vec![0; READ_BYTES]);
    let mut most = ANSWER_MAX_BYTES;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if most == ANSWER_MAX_BYTES {
            most = length(&bytes).unwrap_or(most);
        }
        match bytes.len() {
            all if all >= most && most < ANSWER_MAX_BYTES => return Ok(bytes),
            all if all >= ANSWER_MAX_BYTES => return Err(ErrorKind::FileTooLarge.into()),
            _ => {}
        }
    }
}

fn told(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("nothing whole came within {}s", TIMEOUT.as_secs())
        }
        ErrorKind::FileTooLarge => "its answer does not end".to_owned(),
        _ => error.to_string(),
    }
}

/// What bytes are.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Whole(Response),
    Partial,
    NotHttp,
}

/// The length of head and body, if the head is there and says so.
fn length(bytes: &[u8]) -> Option<usize> {
    let (head, length, _) = head(bytes).ok()??;
    head.checked_add(length?)
}

/// The length of the head, that of the body if it is said, and the status; `None` if the head has not come whole.
fn head(bytes: &[u8]) -> Result<Option<(usize, Option<usize>, u16)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(end) = response.parse(bytes)? else {
        // What has no end of its head by now is something else.
        let is_long = bytes.len() > HEAD_MAX_BYTES;
        return if is_long { Err(httparse::Error::TooManyHeaders) } else { Ok(None) };
    };
    let is_length = |it: &&httparse::Header<'_>| it.name.eq_ignore_ascii_case("content-length");
    let value = response.headers.iter().find(is_length).map(|it| it.value);
    let length = value.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    Ok(Some((end, length, response.code.unwrap_or_default())))
}

fn parse(bytes: &[u8]) -> Parsed {
    match head(bytes) {
        Err(_) => Parsed::NotHttp,
        Ok(None) if bytes.is_empty() => Parsed::Partial,
        Ok(None) if !b"HTTP/".starts_with(&bytes[..bytes.len().min(5)]) => Parsed::NotHttp,
        Ok(None) => Parsed::Partial,
        Ok(Some((end, length, status))) => match (&bytes[end..], length) {
            (body, Some(length)) if body.len() < length => Parsed::Partial,
            (body, length) => {
                let body = body[..length.unwrap_or(body.len())].to_vec();
                Parsed::Whole(Response { status, body })
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is made of a server that says this and closes.
    fn answered(answer: &'static [u8]) -> Result<Response, GetError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = AdminAddress(listener.local_addr().unwrap().into());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let got = get(&address, "/status");
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /status HTTP/1.1\r\nHost: "), "{request}");
        got
    }

    #[test]
    fn an_answer_ends_with_its_length_or_with_the_connection() {
        let response = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(response, Response { status: 200, body: b"{}".to_vec() });
        let response = answered(b"HTTP/1.0 404 Not Found\r\n\r\nno").unwrap();
        assert_eq!(response, Response { status: 404, body: b"no".to_vec() });
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let text = |answer| answered(answer).unwrap_err().to_string();
        assert!(text(b"SSH-2.0-OpenSSH_9.2\r\n").ends_with("does not speak HTTP"));
        assert!(text(b"SS").ends_with("does not speak HTTP"));
        for partial in [&b""[..], b"HTT", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"] {
            let text = text(partial);
            assert!(text.ends_with("has closed the connection before the end"), "{text}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_no_harm() {
        let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}";
        assert!(matches!(answered(huge), Err(GetError::Broken { .. })));
    }

    #[test]
    fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = AdminAddress(listener.local_addr().unwrap().into());
        drop(listener);
        let error = get(&address, "/status").unwrap_err();
        assert!(matches!(error, GetError::Connect { .. }), "{error}");
        let address = "unix:/nobody/listens/here".parse().unwrap();
        let error = get(&address, "/status").unwrap_err();
        assert!(
            error.to_string().starts_with("no server can be reached at unix:/nobody"),
            "{error}"
        );
    }
}
