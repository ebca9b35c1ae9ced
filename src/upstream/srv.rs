//! SRV records (RFC 2782): from the answer of a name server to the backends of a service.
//!
//! Of the records only those with the lowest priority count; their weights are kept in proportion, each from 1 to the
//! largest that a backend may have.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE};

use super::members::ENDPOINTS_MAX;
use super::resolver::{Found, Resolver};
use crate::config::upstream::{Target, Weight};
use crate::sys;

/// Most SRV records of one name.
const RECORDS_MAX: usize = 256;

/// A service on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    /// Without a dot at its end; empty for the root, which is no host.
    host: String,
}

/// What an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    records: Vec<Record>,
    /// The addresses of hosts that it brings along, by their names in small letters.
    addresses: HashMap<String, Vec<IpAddr>>,
}

/// What the name servers of this machine answer to a question for SRV records.
///
/// # Errors
/// Those of res_query(3).
pub(super) fn query_by_system(name: &str) -> io::Result<Vec<u8>> {
    let name = CString::new(name)?;
    sys::query(&name, sys::TYPE_SRV)
}

/// The addresses of a service, each with its weight. It may block.
///
/// # Errors
/// The name servers do not answer, or say that there is no such service; an answer that is wrong; a host that has no
/// address.
pub(super) fn look_up(resolver: &Resolver, name: &str) -> io::Result<Vec<Found>> {
    let Answer { records, addresses } = read(&(resolver.services)(name)?)?;
    let mut found = Vec::new();
    for (record, weight) in select(records)? {
        let addresses = locate(&record, &addresses, resolver).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("its host {}: {error}", record.host.escape_debug()),
            )
        })?;
        found.extend(addresses.into_iter().map(|address| Found { address, weight: Some(weight) }));
        if found.len() > ENDPOINTS_MAX {
            return Err(wrong(format!(
                "its hosts have more than {ENDPOINTS_MAX} addresses together"
            )));
        }
    }
    Ok(found)
}

/// Where a host is: what the answer brings along, else what its name resolves to.
fn locate(
    record: &Record,
    known: &HashMap<String, Vec<IpAddr>>,
    resolver: &Resolver,
) -> io::Result<Vec<SocketAddr>> {
    if let Some(addresses) = known.get(&record.host.to_ascii_lowercase()) {
        return Ok(addresses.iter().map(|&ip| SocketAddr::new(ip, record.port)).collect());
    }
    // It is checked as a name that somebody has written.
    match format!("{}:{}", record.host, record.port).parse() {
        Ok(Target::Name { name, port }) => (resolver.hosts)(&name, port.get()),
        Ok(Target::Socket(address)) => Ok(vec![address]),
        _ => Err(wrong("it is no host name")),
    }
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Reads an answer.
fn read(bytes: &[u8]) -> io::Result<Answer> {
    let packet =
        Packet::parse(bytes).map_err(|error| wrong(format!("the answer is malformed: {error}")))?;
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Err(wrong("the answer is cut; the name server gives no longer one over TCP"));
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such name"));
        }
        code => return Err(wrong(format!("the name server has answered {code:?}"))),
    }
    let mut answer = Answer::default();
    for record in &packet.answers {
        // A CNAME may stand before them, whose name they have then.
        let RData::SRV(srv) = &record.rdata else { continue };
        answer.records.push(Record {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            host: srv.target.to_string(),
        });
    }
    if answer.records.len() > RECORDS_MAX {
        let count = answer.records.len();
        return Err(wrong(format!(
            "it has {count} SRV records; there may be at most {RECORDS_MAX}"
        )));
    }
    for record in &packet.additional_records {
        let address: IpAddr = match &record.rdata {
            RData::A(it) => Ipv4Addr::from(it.address).into(),
            RData::AAAA(it) => Ipv6Addr::from(it.address).into(),
            _ => continue,
        };
        let host = record.name.to_string().to_ascii_lowercase();
        answer.addresses.entry(host).or_default().push(address);
    }
    Ok(answer)
}

/// The records that count, each with its weight.
fn select(records: Vec<Record>) -> io::Result<Vec<(Record, Weight)>> {
    let not_found = |text| io::Error::new(io::ErrorKind::NotFound, text);
    let lowest = records.iter().map(|record| record.priority).min();
    let lowest = lowest.ok_or_else(|| not_found("the name has no SRV records"))?;
    let chosen = records.into_iter().filter(|record| record.priority == lowest);
    let chosen: Vec<Record> = chosen.filter(|record| !record.host.is_empty()).collect();
    if chosen.is_empty() {
        return Err(not_found(
            "its SRV record says that there is no such service (the target is '.')",
        ));
    }
    if let Some(record) = chosen.iter().find(|record| record.port == 0) {
        return Err(wrong(format!("the SRV record of {} has port 0", record.host.escape_debug())));
    }
    let largest = chosen.iter().map(|record| record.weight).max().unwrap_or_default();
    let weighed = |record: Record| {
        let weight = scaled(record.weight, largest);
        (record, weight)
    };
    Ok(chosen.into_iter().map(weighed).collect())
}

/// A weight in proportion to the largest one. None is 0: that means seldom, and 1 is as seldom as it gets.
fn scaled(weight: u16, largest: u16) -> Weight {
    let (weight, largest) = (u32::from(weight), u32::from(largest));
    let most = *Weight::RANGE.end();
    let scaled = match largest > most {
        true => (weight * most + largest / 2) / largest,
        false => weight,
    };
    Weight::new(scaled.max(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
