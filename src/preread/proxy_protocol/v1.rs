//! Version 1: one line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Endpoints, Header, Invalid, MAX_V1_BYTES, Parsed, Tlvs, expect_signature};

/// `255.255.255.255`
const MAX_V4_BYTES: usize = 15;
/// `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`; an IPv4-mapped address with dots is shorter.
const MAX_V6_BYTES: usize = 39;
const MAX_PORT_BYTES: usize = 5;

const SIGNATURE: &[u8] = b"PROXY ";

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
    Unknown,
}

/// In the order in which they are tried; none is the beginning of another.
const FAMILIES: [(&[u8], Family); 3] =
    [(b"TCP4 ", Family::V4), (b"TCP6 ", Family::V6), (b"UNKNOWN", Family::Unknown)];

/// Why the line cannot be read to its end.
enum Stop {
    /// It has not come yet.
    Short,
    Invalid(Invalid),
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Invalid> {
    let line = &bytes[..bytes.len().min(MAX_V1_BYTES)];
    expect_signature(line, SIGNATURE)?;
    if line.len() < SIGNATURE.len() {
        return Ok(Parsed::Incomplete);
    }
    let mut reader = Reader { line, at: SIGNATURE.len() };
    match reader.endpoints() {
        Ok(endpoints) => {
            let header = Header { endpoints, tlvs: Tlvs::default() };
            Ok(Parsed::Header { header, len: reader.at })
        }
        Err(Stop::Short) if line.len() == MAX_V1_BYTES => Err(Invalid::LineTooLong),
        Err(Stop::Short) => Ok(Parsed::Incomplete),
        Err(Stop::Invalid(invalid)) => Err(invalid),
    }
}

/// What a field may look like.
struct Field {
    name: &'static str,
    /// Bytes.
    most: usize,
    allowed: fn(u8) -> bool,
    /// What stands behind it.
    end: u8,
}

/// Takes one field after the other. A field is judged when what ends it is there; until then by its
/// length and its characters, so that what is no address is refused long before the line ends.
struct Reader<'a> {
    line: &'a [u8],
    /// Where the next field begins.
    at: usize,
}

impl<'a> Reader<'a> {
    fn endpoints(&mut self) -> Result<Endpoints<'a>, Stop> {
        match self.family()? {
            Family::V4 => self.tcp(|reader, name| reader.v4(name)),
            Family::V6 => self.tcp(|reader, name| reader.v6(name)),
            Family::Unknown => self.ignored().map(|()| Endpoints::Unknown),
        }
    }

    fn family(&mut self) -> Result<Family, Stop> {
        let rest = self.rest();
        for (word, family) in FAMILIES {
            let len = rest.len().min(word.len());
            if rest[..len] == word[..len] {
                self.at += len;
                return if len == word.len() { Ok(family) } else { Err(Stop::Short) };
            }
        }
        Err(self.wrong("protocol"))
    }

    fn tcp(
        &mut self,
        address: impl Fn(&mut Self, &'static str) -> Result<IpAddr, Stop>,
    ) -> Result<Endpoints<'a>, Stop> {
        let source = address(self, "source address")?;
        let destination = address(self, "destination address")?;
        let source = SocketAddr::new(source, self.port("source port", b' ')?);
        let destination = SocketAddr::new(destination, self.port("destination port", b'\r')?);
        self.line_feed()?;
        Ok(Endpoints::Tcp { source, destination })
    }

    fn v4(&mut self, name: &'static str) -> Result<IpAddr, Stop> {
        let allowed = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        let field = Field { name, most: MAX_V4_BYTES, allowed, end: b' ' };
        self.field(field, |text| text.parse().ok().map(|address: Ipv4Addr| address.into()))
    }

    fn v6(&mut self, name: &'static str) -> Result<IpAddr, Stop> {
        let allowed = |byte: u8| byte.is_ascii_hexdigit() || b":.".contains(&byte);
        let field = Field { name, most: MAX_V6_BYTES, allowed, end: b' ' };
        self.field(field, |text| text.parse().ok().map(|address: Ipv6Addr| address.into()))
    }

    fn port(&mut self, name: &'static str, end: u8) -> Result<u16, Stop> {
        let allowed = |byte: u8| byte.is_ascii_digit();
        self.field(Field { name, most: MAX_PORT_BYTES, allowed, end }, |text| {
            let leading_zero = text.len() > 1 && text.starts_with('0');
            text.parse().ok().filter(|_| !leading_zero)
        })
    }

    /// One field and the byte that ends it.
    fn field<T>(&mut self, field: Field, value: fn(&str) -> Option<T>) -> Result<T, Stop> {
        let rest = self.rest();
        let len = rest.iter().take_while(|&&byte| (field.allowed)(byte)).count();
        if len > field.most {
            return Err(self.wrong(field.name));
        }
        let Some(&end) = rest.get(len) else { return Err(Stop::Short) };
        let text = str::from_utf8(&rest[..len]).ok().filter(|_| end == field.end);
        let value = text.and_then(value).ok_or_else(|| self.wrong(field.name))?;
        self.at += len + 1;
        Ok(value)
    }

    /// What stands behind UNKNOWN: the end of the line, or a space and anything.
    fn ignored(&mut self) -> Result<(), Stop> {
        if self.rest().first().is_some_and(|byte| !b" \r".contains(byte)) {
            return Err(self.wrong("protocol"));
        }
        let rest = self.rest();
        let len = rest.iter().position(|byte| b"\r\n".contains(byte)).ok_or(Stop::Short)?;
        self.at += len;
        if rest[len] == b'\n' {
            return Err(self.wrong("end of the line"));
        }
        self.at += 1;
        self.line_feed()
    }

    fn line_feed(&mut self) -> Result<(), Stop> {
        match self.rest().first() {
            None => Err(Stop::Short),
            Some(b'\n') => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.wrong("end of the line")),
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    fn wrong(&self, field: &'static str) -> Stop {
        Stop::Invalid(Invalid::Field { field, at: self.at })
    }
}
