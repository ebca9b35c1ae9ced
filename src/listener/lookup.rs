//! From what was typed to listening sockets: names are resolved, and where this machine has no IPv6 what
//! stands for all addresses is listened on for IPv4.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::{BindError, Given, Inherited, Listener, Sharing};
use crate::config::{Listen, ListenAddress, SocketOptions, localhost};

/// How often a port that the kernel has chosen for the first address of a name is taken at another, until
/// that is an error.
const PORT_TRIES: usize = 3;

/// The addresses of one [`Listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    listen: Listen,
    addresses: Vec<ListenAddress>,
}

/// What is listened on for one [`Listen`]: at least one socket.
#[derive(Debug)]
pub struct Bound {
    /// One for each address, with the same port.
    pub listeners: Vec<Listener>,
    /// For the operator: what of IPv6 is not listened on, and why.
    pub notice: Option<String>,
}

impl Wanted {
    /// Resolves a name, which may take as long as the resolver likes.
    ///
    /// # Errors
    /// The name does not resolve.
    pub fn look_up(listen: &Listen) -> Result<Self, BindError> {
        let addresses = match listen {
            Listen::Address(address) => vec![address.clone()],
            Listen::All { port } => vec![Listen::all(*port)],
            Listen::Name { name, port } => resolve(name, *port)?,
        };
        Ok(Self { listen: listen.clone(), addresses })
    }

    #[cfg(test)]
    pub(super) fn made_up(listen: Listen, addresses: Vec<ListenAddress>) -> Self {
        Self { listen, addresses }
    }

    /// Each once.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Takes the sockets of these addresses from those that this process was given, and says what is left to be bound
    /// to. What stands for all addresses may be IPv4 alone there.
    pub fn claim(&self, inherited: &Inherited) -> (Vec<Given>, Option<Self>) {
        let claim = |address: &ListenAddress| inherited.claim_address(address);
        let mut given: Vec<_> = self.addresses.iter().flat_map(claim).collect();
        if let (Listen::All { port }, true) = (&self.listen, given.is_empty()) {
            given = claim(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)).into());
            if !given.is_empty() {
                return (given, None);
            }
        }
        let is_left = |address: &&ListenAddress| !given.iter().any(|it| it.address() == *address);
        let addresses: Vec<_> = self.addresses.iter().filter(is_left).cloned().collect();
        let left = (!addresses.is_empty()).then(|| Self { listen: self.listen.clone(), addresses });
        (given, left)
    }

    /// Listens on all of them, or on none. Blocks as [`Listener::bind`] does.
    ///
    /// # Errors
    /// The reason why one of them cannot be listened on.
    pub fn bind(&self, options: &SocketOptions, sharing: Sharing) -> Result<Bound, BindError> {
        let mut tries = if self.listen.any_port() { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match self.try_bind(options, sharing) {
                Err(BindError::InUse { .. }) if tries > 0 => {}
                result => return result,
            }
        }
    }

    fn try_bind(&self, options: &SocketOptions, sharing: Sharing) -> Result<Bound, BindError> {
        let mut listeners: Vec<Listener> = Vec::new();
        let mut missing = None;
        for address in &self.addresses {
            let address = match listeners.first() {
                Some(first) => with_port_of(address, first.address()),
                None => address.clone(),
            };
            match Listener::bind(&address, options, sharing) {
                Ok(listener) => listeners.push(listener),
                Err(error) if self.does_without(&error) => missing = Some((address, error)),
                Err(error) => return Err(error),
            }
        }
        let notice = match missing {
            None => None,
            Some((address, error)) => {
                let notice = self.notice(&address, &error);
                if listeners.is_empty() {
                    listeners.push(self.instead(&address, options, sharing).ok_or(error)??);
                }
                Some(notice)
            }
        };
        Ok(Bound { listeners, notice })
    }

    /// Whether it is an address of a family that this machine does not have, and that nobody asked for.
    fn does_without(&self, error: &BindError) -> bool {
        let unasked = !matches!(self.listen, Listen::Address(_));
        unasked
            && match error {
                BindError::NoIpv6 { .. } => true,
                BindError::NotLocal { address } => {
                    let ip = address.ip();
                    ip.is_ipv6() && (ip.is_unspecified() || ip.is_loopback())
                }
                _ => false,
            }
    }

    /// All IPv4 addresses, where all addresses were asked for.
    fn instead(
        &self,
        missing: &ListenAddress,
        options: &SocketOptions,
        sharing: Sharing,
    ) -> Option<Result<Listener, BindError>> {
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into();
        matches!(self.listen, Listen::All { .. })
            .then(|| Listener::bind(&with_port_of(&all, missing), options, sharing))
    }

    pub(super) fn notice(&self, missing: &ListenAddress, error: &BindError) -> String {
        let listen = &self.listen;
        let why = match error {
            BindError::NotLocal { address } if address.ip().is_loopback() => {
                "its interface has no IPv6 address (is lo down, or net.ipv6.conf.lo.disable_ipv6 set?)"
            }
            BindError::NotLocal { .. } => "IPv6 is disabled here (net.ipv6.conf.all.disable_ipv6)",
            _ => "this kernel has no IPv6",
        };
        format!("{listen} is listened on for IPv4 only, not on {missing}: {why}")
    }
}

/// The same address with the port of another.
fn with_port_of(address: &ListenAddress, other: &ListenAddress) -> ListenAddress {
    match (address, other) {
        (ListenAddress::Tcp(address), ListenAddress::Tcp(other)) => {
            ListenAddress::Tcp(SocketAddr::new(address.ip(), other.port()))
        }
        (address, _) => address.clone(),
    }
}

/// Each address once, in the order of the resolver (getaddrinfo(3)); localhost also where that does not
/// know it.
fn resolve(name: &str, port: u16) -> Result<Vec<ListenAddress>, BindError> {
    let unresolved = |why| BindError::Unresolved { name: name.to_owned(), port, why };
    let found = (name, port).to_socket_addrs().map(Iterator::collect);
    let found = localhost::or_loopback(name, port, found);
    let found = found.map_err(|error| unresolved(error.to_string()))?;
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for address in found.into_iter().map(ListenAddress::Tcp) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(unresolved("it has no address".to_owned())),
        false => Ok(addresses),
    }
}
