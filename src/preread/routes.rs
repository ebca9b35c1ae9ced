//! From the name that a client asks for to a target.
//!
//! A route is `NAME=TARGET` or `*.NAME=TARGET`. For a name, the route with exactly that name comes
//! first, then the one with the longest wildcard, then the default. A wildcard stands for one label
//! or more: `*.example.org` takes `www.example.org` and `a.b.example.org`, and not `example.org`
//! itself. nginx and Envoy do the same; that certificates take it for one label only is for the
//! backend to see, which has the certificate.
//!
//! ```
//! use std::net::SocketAddr;
//! use uring_acceptor::preread::HostName;
//! use uring_acceptor::preread::routes::{Route, Routes};
//!
//! let routes: [Route<SocketAddr>; 2] =
//!     ["*.example.org=10.0.0.1:443", "www.example.org=10.0.0.2:443"].map(|r| r.parse().unwrap());
//! let routes = Routes::new(routes, None).unwrap();
//! let target = |name: &[u8]| routes.target(Some(&HostName::new(name).unwrap()));
//! assert_eq!(target(b"WWW.example.org"), Some(&"10.0.0.2:443".parse().unwrap()));
//! assert_eq!(target(b"a.b.example.org"), Some(&"10.0.0.1:443".parse().unwrap()));
//! assert_eq!(target(b"example.org"), None);
//! ```

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use super::{HostName, InvalidName};

/// The names that a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// This one.
    Exact(HostName),
    /// All below this one.
    Below(HostName),
}

/// Where to go for which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<T> {
    /// The names.
    pub pattern: Pattern,
    /// Where to.
    pub target: T,
}

/// What is wrong with a route or with several.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// There is no `=` in it.
    #[error("'{0}' is no route; write NAME=ADDRESS, as in www.example.org=10.0.0.1:443")]
    NoTarget(String),
    /// The name is none.
    #[error("'{name}' cannot be routed: {reason}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        reason: InvalidName,
    },
    /// A wildcard that is not `*.` at the start.
    #[error("'{0}' cannot be routed: a wildcard is '*.' at the start, as in *.example.org")]
    Wildcard(String),
    /// `*` alone, which would be every name.
    #[error("'*' cannot be routed; clients with any other name or none go to the default")]
    Everything,
    /// An IP address, which TLS clients do not send as a name.
    #[error("'{0}' cannot be routed: for an IP address a TLS client sends no name")]
    IpAddress(String),
    /// What stands behind the `=`.
    #[error("the target of '{route}' is wrong: {reason}")]
    Target {
        /// As it was given.
        route: String,
        /// What the type of the target says.
        reason: String,
    },
    /// Two routes for the same names.
    #[error("there are two routes for '{0}'; leave one")]
    Duplicate(String),
}

impl FromStr for Pattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        if text == "*" {
            return Err(RouteError::Everything);
        }
        if text.parse::<IpAddr>().is_ok() || text.starts_with('[') {
            return Err(RouteError::IpAddress(text.to_owned()));
        }
        let below = text.strip_prefix("*.");
        let name = below.unwrap_or(text);
        if name.contains('*') {
            return Err(RouteError::Wildcard(text.to_owned()));
        }
        let name = HostName::new(name.as_bytes())
            .map_err(|reason| RouteError::Name { name: text.to_owned(), reason })?;
        Ok(if below.is_some() { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(formatter),
            Self::Below(name) => write!(formatter, "*.{name}"),
        }
    }
}

impl<T> FromStr for Route<T>
where
    T: FromStr,
    T::Err: Display,
{
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (pattern, target) =
            text.split_once('=').ok_or_else(|| RouteError::NoTarget(text.to_owned()))?;
        let pattern = pattern.parse()?;
        let target = target.parse().map_err(|reason: T::Err| RouteError::Target {
            route: text.to_owned(),
            reason: reason.to_string(),
        })?;
        Ok(Self { pattern, target })
    }
}

/// Finds the target for a name. Made once, then only read.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    exact: HashMap<Box<str>, T>,
    below: HashMap<Box<str>, T>,
    default: Option<T>,
}

impl<T> Routes<T> {
    /// A table of these routes; `default` is for clients that send another name or none.
    ///
    /// # Errors
    /// Two routes with the same pattern.
    pub fn new(
        routes: impl IntoIterator<Item = Route<T>>,
        default: Option<T>,
    ) -> Result<Self, RouteError> {
        let mut table = Self { exact: HashMap::new(), below: HashMap::new(), default };
        for Route { pattern, target } in routes {
            let (map, name) = match pattern {
                Pattern::Exact(name) => (&mut table.exact, name),
                Pattern::Below(name) => (&mut table.below, name),
            };
            if map.insert(name.as_str().into(), target).is_some() {
                return Err(RouteError::Duplicate(pattern.to_string()));
            }
        }
        Ok(table)
    }

    /// Where a client goes that asks for this name, or for none. At most one look-up per label.
    pub fn target(&self, name: Option<&HostName>) -> Option<&T> {
        name.and_then(|name| self.named(name.as_str())).or(self.default.as_ref())
    }

    fn named(&self, name: &str) -> Option<&T> {
        let exact = self.exact.get(name);
        // From the first dot on the suffix is longest.
        let dots = || name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        exact.or_else(|| dots().find_map(|suffix| self.below.get(suffix)))
    }
}

#[cfg(test)]
mod tests;
