//! HTTP requests: as somebody describes them, and as bytes.

use std::fmt::Write as _;

mod file;
#[cfg(test)]
mod tests;

pub use file::parse as parse_file;

/// What requests say of themselves, unless told otherwise.
pub const USER_AGENT: &str = concat!("uring-acceptor-loadgen/", env!("CARGO_PKG_VERSION"));

/// In which order a run sends its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other, in each thread, from the first one again and again.
    InTurn,
    /// Drawn by the seed of the run.
    Random,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, a token.
    pub name: String,
    /// Its value; an empty one takes a default field out.
    pub value: String,
}

impl Field {
    /// From `Name: value`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("'{text}' is no header; write it as 'Name: value'"))?;
        Self::new(name, value)
    }

    /// A field of this name and value.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(name: &str, value: &str) -> Result<Self, String> {
        if !is_token(name) {
            return Err(format!("'{name}' is no name of a header"));
        }
        if ["content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own))
        {
            return Err(format!("{name} cannot be given: it follows from the body"));
        }
        // RFC 9110, section 5.5: CR, LF and NUL end or cut fields.
        match value.chars().find(|c| c.is_ascii_control() && *c != '\t') {
            Some(bad) => Err(format!("the value of {name} has {bad:?} in it")),
            None => Ok(Self { name: name.to_owned(), value: value.trim().to_owned() }),
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

/// A request as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    method: String,
    path: String,
    fields: Vec<Field>,
    body: Vec<u8>,
}

impl Template {
    /// `GET path`, with the default fields.
    ///
    /// # Panics
    /// If `path` is not one; see [`path`](Self::path).
    pub fn get(path: &str) -> Self {
        let request =
            Self { method: "GET".into(), path: "/".into(), fields: Vec::new(), body: Vec::new() };
        request.path(path).expect("a path")
    }

    /// With another method.
    ///
    /// # Errors
    /// It is no token, or CONNECT, which asks for a tunnel.
    pub fn method(self, method: &str) -> Result<Self, String> {
        if method == "CONNECT" {
            return Err("CONNECT asks for a tunnel, which loadgen does not speak".into());
        }
        if !is_token(method) {
            return Err(format!("'{method}' is no method; for example GET, HEAD, POST"));
        }
        Ok(Self { method: method.to_owned(), ..self })
    }

    /// With another path and query.
    ///
    /// # Errors
    /// It does not begin with a slash, or has what would break the request line.
    pub fn path(self, path: &str) -> Result<Self, String> {
        if !path.starts_with('/') && path != "*" {
            return Err(format!("the path '{path}' does not begin with /"));
        }
        match path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            Some(bad) => Err(format!("the path has {bad:?} in it; write it percent-encoded")),
            None => Ok(Self { path: path.to_owned(), ..self }),
        }
    }

    /// With fields that replace the defaults of their names; the same name may come more than once.
    pub fn fields(mut self, fields: Vec<Field>) -> Self {
        self.fields
            .retain(|own| fields.iter().all(|new| !own.name.eq_ignore_ascii_case(&new.name)));
        self.fields.extend(fields);
        self
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        &self.path
    }

    /// With this body.
    pub fn body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// The bytes, for a server that is called `host`. Where connections end after a number of
    /// requests and the server shall close them, the last one `asks_to_close`.
    pub fn render(&self, host: &str, asks_to_close: bool) -> Request {
        let bytes: &'static [u8] = Vec::leak(self.bytes(host, false));
        let closing = if asks_to_close { Vec::leak(self.bytes(host, true)) } else { bytes };
        let text = |text: &str| -> &'static str { String::leak(text.to_owned()) };
        Request { bytes, closing, method: text(&self.method), path: text(&self.path) }
    }

    fn bytes(&self, host: &str, closes: bool) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let given =
            |name: &str| self.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        for (name, value) in [("Host", host), ("User-Agent", USER_AGENT)] {
            if !given(name) {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        for Field { name, value } in &self.fields {
            let gives_way = value.is_empty() || (closes && name.eq_ignore_ascii_case("connection"));
            if !gives_way {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        if closes {
            head.push_str("Connection: close\r\n");
        }
        // RFC 9110, section 8.6: a method with a meaning for a body says so even if it is empty.
        if !self.body.is_empty() || ["POST", "PUT", "PATCH"].contains(&self.method.as_str()) {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// A request that can be sent. Its bytes live as long as the process, since sends name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    bytes: &'static [u8],
    /// The same, asking the server to close.
    closing: &'static [u8],
    method: &'static str,
    path: &'static str,
}

impl Request {
    /// Its bytes; as the last one of its connection it may ask the server to close.
    pub fn bytes(&self, is_last: bool) -> &'static [u8] {
        if is_last { self.closing } else { self.bytes }
    }

    /// Its method.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Path and query.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Whether the answer has no body whatever its head says.
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Whether it may be sent again when nobody knows if the server has acted on it (RFC 9110,
    /// section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&self.method)
    }
}
