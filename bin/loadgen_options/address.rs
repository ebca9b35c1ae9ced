//! Where to, as it is typed: an address, a name, a socket file, or for `http` a URL.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use uring_acceptor::config::ListenAddress;
use uring_acceptor::load::Target;
use uring_acceptor::load::place::Place;
use uring_acceptor::load::request::Template;

/// Length of a host name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;

/// The names of interfaces are shorter than IFNAMSIZ.
const ZONE_BYTES_MAX: usize = 15;

/// `HOST:PORT`, `IP:PORT`, `[v6]:PORT`, `[v6%zone]:PORT` or `unix:PATH`.
pub(crate) fn place(text: &str) -> Result<Place, String> {
    if scheme(text).is_some() {
        return Err(refused("a URL is for the http command"));
    }
    if text.starts_with("unix:") {
        return match text.parse::<ListenAddress>().map_err(|error| error.to_string())? {
            ListenAddress::Unix(path) => Ok(Place::Known(Target::Unix(path))),
            ListenAddress::Tcp(address) => Ok(Place::Known(Target::Tcp(address))),
        };
    }
    if let Some(rest) = text.strip_prefix('[') {
        return in_brackets(rest);
    }
    let (name, digits) = text.rsplit_once(':').ok_or_else(|| refused("it has no port"))?;
    if name.contains(':') {
        return Err(refused("an IPv6 address stands in brackets, with a port behind them"));
    }
    let port = port(digits)?;
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(Place::Known(Target::Tcp(SocketAddr::new(ip, port))));
    }
    if !is_name(name) {
        return Err(refused(&format!("'{name}' is neither an address nor a name")));
    }
    Ok(Place::Named { name: name.to_owned(), port })
}

/// What is behind `[`. The name of an interface becomes its number when the address is looked up.
fn in_brackets(text: &str) -> Result<Place, String> {
    let (inside, behind) =
        text.split_once(']').ok_or_else(|| refused("there is no ] behind the ["))?;
    let digits =
        behind.strip_prefix(':').ok_or_else(|| refused("there is no port behind the ]"))?;
    let (address, zone) = match inside.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (inside, None),
    };
    let ip: Ipv6Addr =
        address.parse().map_err(|_| refused(&format!("'{address}' is no IPv6 address")))?;
    let port = port(digits)?;
    let known = |zone| Place::Known(Target::Tcp(SocketAddrV6::new(ip, port, 0, zone).into()));
    match zone {
        None if ip.is_unicast_link_local() => Err(format!(
            "{ip} is a link-local address, which each network has: name the interface, as in \
             [{ip}%eth0]:{port}"
        )),
        None => Ok(known(0)),
        Some(zone) if !ip.is_unicast_link_local() => Err(format!(
            "%{zone} names an interface, which only link-local addresses need (fe80::/10): \
             write [{ip}]:{port}"
        )),
        Some(zone) if !is_zone(zone) => {
            Err(format!("'{zone}' is no name of an interface; for example [{ip}%eth0]:{port}"))
        }
        Some(zone) => match zone.parse() {
            Ok(number) => Ok(known(number)),
            Err(_) => Ok(Place::Named { name: inside.to_owned(), port }),
        },
    }
}

/// What stands before `://`, and what behind.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.split_once("://").filter(|(scheme, _)| scheme.bytes().all(allowed))
}

fn port(digits: &str) -> Result<u16, String> {
    match digits.parse::<u16>() {
        Ok(0) => Err("a server has a port from 1 to 65535".into()),
        Ok(port) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ if digits.contains('/') => Err(refused("a path is for the http command")),
        _ => Err(refused(&format!("'{digits}' is no port"))),
    }
}

fn refused(why: &str) -> String {
    format!("{why}. Examples: localhost:7000, 127.0.0.1:7000, [::1]:7000, unix:/run/name.sock")
}

/// Whether it may be the name of a machine; the resolver knows more.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed)
}

fn is_zone(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'/';
    !text.is_empty() && text.len() <= ZONE_BYTES_MAX && text.bytes().all(allowed)
}

/// What `http` takes: an address, or a URL with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    /// Where to.
    pub(crate) place: Place,
    /// What the user calls the server, for the Host header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return Ok(Self { place: place(text)?, host: "localhost".into(), path: "/".into() });
        }
        match scheme(text) {
            Some((http, rest)) if http.eq_ignore_ascii_case("http") => Self::of_url(rest),
            Some((https, _)) if https.eq_ignore_ascii_case("https") => {
                Err("loadgen does not speak TLS yet; give an http:// URL".into())
            }
            Some((other, rest)) => {
                Err(format!("loadgen speaks http only, not {other}; for HTTP write http://{rest}"))
            }
            None => Self::of_address(text),
        }
    }
}

impl HttpAddress {
    fn of_address(text: &str) -> Result<Self, String> {
        if text.contains(['/', '?', '#']) {
            let rest = text.trim_start_matches("http:").trim_start_matches('/');
            return Err(format!("write http:// in front of an address with a path: http://{rest}"));
        }
        Ok(Self { place: place(text)?, host: without_zone(text), path: "/".into() })
    }

    /// `text` stands behind `http://`.
    fn of_url(text: &str) -> Result<Self, String> {
        /// What is behind a URL without a port.
        const DEFAULT_PORT: u16 = 80;
        let (host, path) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
        if host.contains('@') {
            return Err("a URL takes no user here; give -H 'Authorization: ...'".into());
        }
        // RFC 3986, section 3.2.3: a port may be empty.
        let host = host.strip_suffix(':').unwrap_or(host);
        if host.is_empty() {
            return Err("the URL has no host; write http://HOST:PORT/PATH".into());
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(name, _)| !name.starts_with('[') || name.ends_with(']'));
        // RFC 6874: the % of a zone is percent-encoded in a URL; most people write it as it is.
        let plain = host.replacen("%25", "%", 1);
        let plain = if plain.contains("%]") { host.to_owned() } else { plain };
        let place = match has_port {
            true => place(&plain)?,
            false => place(&format!("{plain}:{DEFAULT_PORT}"))?,
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Template::get("/").path(&path)?;
        Ok(Self { place, host: without_zone(host), path })
    }
}

/// An interface of this machine means nothing to the server (RFC 6874, section 4).
fn without_zone(host: &str) -> String {
    match (host.split_once('%'), host.rsplit_once(']')) {
        (Some((address, _)), Some((_, port))) => format!("{address}]{port}"),
        _ => host.to_owned(),
    }
}
