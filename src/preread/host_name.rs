//! The name of a host, as it stands in DNS.

use std::fmt;

use thiserror::Error;

/// Longest name in text form, in bytes (RFC 1035, 2.3.4: 255 on the wire).
pub const MAX_NAME_BYTES: usize = 253;

/// Longest label, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL_BYTES: usize = 63;

/// The name of a host: dot-separated labels of ASCII letters, digits, hyphens and underscores, in
/// lower case, without the final dot. Held in place, so making one allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostName {
    len: u8,
    /// Zero from `len` on.
    bytes: [u8; MAX_NAME_BYTES],
}

/// Why something is no name of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Nothing, or only a dot.
    #[error("a host name is empty")]
    Empty,
    /// More than [`MAX_NAME_BYTES`].
    #[error("a host name has {0} bytes; the most is {MAX_NAME_BYTES}")]
    TooLong(usize),
    /// Two dots in a row, or one at the start.
    #[error("a host name has an empty label")]
    EmptyLabel,
    /// More than 63 bytes between two dots.
    #[error("a label of a host name has {0} bytes; the most is {MAX_LABEL_BYTES}")]
    LabelTooLong(usize),
    /// Not a letter, digit, hyphen or underscore of ASCII.
    #[error("a host name has the byte {0:#04x}; other scripts are written in punycode (xn--...)")]
    Byte(u8),
}

impl HostName {
    /// Checks a name and takes it over in lower case. One final dot is dropped: it makes the name
    /// absolute, which it is anyhow.
    ///
    /// Underscores are no letters of host names, but names with them are in use and every TLS
    /// library takes them.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn new(name: &[u8]) -> Result<Self, InvalidName> {
        let name = name.strip_suffix(b".").unwrap_or(name);
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(InvalidName::TooLong(name.len()));
        }
        for label in name.split(|&byte| byte == b'.') {
            check_label(label)?;
        }
        let mut bytes = [0; MAX_NAME_BYTES];
        bytes[..name.len()].copy_from_slice(name);
        bytes.make_ascii_lowercase();
        let len = name.len() as u8;
        Ok(Self { len, bytes })
    }

    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len.into()]).expect("only ASCII was let in")
    }
}

fn check_label(label: &[u8]) -> Result<(), InvalidName> {
    if label.is_empty() {
        return Err(InvalidName::EmptyLabel);
    }
    if label.len() > MAX_LABEL_BYTES {
        return Err(InvalidName::LabelTooLong(label.len()));
    }
    match label.iter().find(|&&byte| !(byte.is_ascii_alphanumeric() || b"-_".contains(&byte))) {
        Some(&byte) => Err(InvalidName::Byte(byte)),
        None => Ok(()),
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_over_in_lower_case() {
        let label = "x".repeat(MAX_LABEL_BYTES);
        let longest = format!("{label}.{label}.{label}.{}", &label[2..]);
        assert_eq!(longest.len(), MAX_NAME_BYTES);
        let table = [
            ("example.org", "example.org"),
            ("WWW.Example.ORG", "www.example.org"),
            ("example.org.", "example.org"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_dmarc.example.org", "_dmarc.example.org"),
            ("r3---sn-4g5.example.org", "r3---sn-4g5.example.org"),
            ("1.2.3.4.in-addr.arpa", "1.2.3.4.in-addr.arpa"),
            (&longest, &longest),
            (&format!("{longest}."), &longest),
        ];
        for (given, expected) in table {
            let name = HostName::new(given.as_bytes()).map(|name| name.to_string());
            assert_eq!(name.as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let label = "x".repeat(MAX_LABEL_BYTES + 1);
        let long = "a.".repeat(MAX_NAME_BYTES / 2) + "ab";
        let table = [
            ("", InvalidName::Empty),
            (".", InvalidName::Empty),
            ("..", InvalidName::EmptyLabel),
            (".example.org", InvalidName::EmptyLabel),
            ("example..org", InvalidName::EmptyLabel),
            ("example.org..", InvalidName::EmptyLabel),
            (&label, InvalidName::LabelTooLong(64)),
            (&long, InvalidName::TooLong(254)),
            ("b\u{fc}cher.example", InvalidName::Byte(0xC3)),
            ("a b", InvalidName::Byte(b' ')),
            ("a\0b", InvalidName::Byte(0)),
            ("*.example.org", InvalidName::Byte(b'*')),
            ("example.org:443", InvalidName::Byte(b':')),
            ("[::1]", InvalidName::Byte(b'[')),
        ];
        for (given, expected) in table {
            assert_eq!(HostName::new(given.as_bytes()), Err(expected), "{given}");
        }
    }

    #[test]
    fn names_are_equal_whatever_their_case() {
        assert_eq!(HostName::new(b"A.b."), HostName::new(b"a.B"));
        assert_ne!(HostName::new(b"a.b"), HostName::new(b"a.bc"));
    }
}
