//! Open connections by the client's address: made from the whole list, only when somebody asks.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connections::millis;
use crate::server::{ConnectionStatus, Handle};

/// The bits of an IPv6 address that are one client: what a site or a host is given.
const IPV6_PREFIX_BITS: u32 = 64;

/// Clients with most connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientList {
    /// How many connections there are.
    pub total: usize,
    /// How many clients they are from.
    pub clients_total: usize,
    /// The first of them, those with most connections first.
    pub clients: Vec<ClientEntry>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientEntry {
    /// An IPv4 address, or an IPv6 network of 64 bits; `None` for all of unix sockets.
    pub client: Option<String>,
    /// How many connections are open.
    pub connections: usize,
    /// Bytes from the client, of these connections.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Since the oldest of them was accepted.
    pub oldest_ms: u64,
}

impl ClientList {
    /// Asks the threads, each of which is left out if it has not answered in time. `None` if a change of the server takes
    /// longer than that.
    pub fn of(handle: &Handle, limit: usize, time: Duration) -> Option<Self> {
        Some(Self::from(&handle.connections(time)?, limit))
    }

    fn from(all: &[ConnectionStatus], limit: usize) -> Self {
        let mut clients = HashMap::<Option<IpAddr>, ClientEntry>::new();
        for ConnectionStatus { listed, .. } in all {
            let client = clients.entry(listed.client.map(|it| network(it.ip()))).or_default();
            client.connections += 1;
            client.bytes_in = client.bytes_in.saturating_add(listed.from_client);
            client.bytes_out = client.bytes_out.saturating_add(listed.to_client);
            client.oldest_ms = client.oldest_ms.max(millis(listed.age));
        }
        let mut clients: Vec<_> = clients.into_iter().collect();
        let clients_total = clients.len();
        clients.sort_by_key(|(address, it)| {
            (Reverse((it.connections, it.bytes_in.saturating_add(it.bytes_out))), *address)
        });
        clients.truncate(limit);
        let named = |(address, entry): (Option<IpAddr>, _)| ClientEntry {
            client: address.map(name),
            ..entry
        };
        Self { total: all.len(), clients_total, clients: clients.into_iter().map(named).collect() }
    }
}

/// What is one client: an IPv4 address, also as an IPv6 socket tells it, or the network of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        // All of its network are this machine.
        IpAddr::V6(address) if address.is_loopback() => IpAddr::V6(address),
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << (u128::BITS - IPV6_PREFIX_BITS));
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

fn name(network: IpAddr) -> String {
    match network {
        IpAddr::V6(address) if !address.is_loopback() => format!("{address}/{IPV6_PREFIX_BITS}"),
        address => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::connections::tests::status;

    #[test]
    fn clients_with_most_connections_come_first() {
        let mut all = Vec::new();
        for (client, bytes) in [
            ("192.0.2.1:1", 10),
            ("192.0.2.2:1", 5),
            ("[2001:db8::1]:1", 1),
            ("[2001:db8::2]:1", 2),
            ("[2001:db8:0:1::2]:1", 900),
            ("[::ffff:192.0.2.2]:2", 7),
            ("192.0.2.2:3", u64::MAX),
        ] {
            all.push(status(Some(client), |it| it.from_client = bytes));
        }
        all.push(status(None, |it| it.age = Duration::from_secs(9)));
        let list = ClientList::from(&all, 4);
        assert_eq!((list.total, list.clients_total), (8, 5));
        let shown =
            |it: &ClientEntry| (it.client.clone().unwrap_or_default(), it.connections, it.bytes_in);
        let expected = [
            ("192.0.2.2".to_owned(), 3, u64::MAX),
            ("2001:db8::/64".to_owned(), 2, 3),
            ("2001:db8:0:1::/64".to_owned(), 1, 900),
            ("192.0.2.1".to_owned(), 1, 10),
        ];
        assert_eq!(list.clients.iter().map(shown).collect::<Vec<_>>(), expected);
        let last = ClientList::from(&all, 9).clients.pop().unwrap();
        assert_eq!((last.client, last.oldest_ms), (None, 9000));
    }
}
