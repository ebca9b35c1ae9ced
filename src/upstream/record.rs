//! Upstreams as one process tells another of them that takes its place: what was done by hand, how their endpoints are,
//! and the addresses of names. Times are spans, since each process has a clock of its own.
//!
//! What was done by hand stays as long as the upstream is configured as it was; another configuration ends it, as that
//! of a reload does. How the endpoints are stays in any case, for those whose address is still one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::address::EndpointAddress;
use super::changes::settings;
use super::members::{Located, Member, Members};
use super::resolver::Found;
use super::standing::Forced;
use super::{Upstream, UpstreamConfig};
use crate::config::upstream::{Backend, Target, Weight};

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct UpstreamRecord {
    /// Its name.
    pub name: String,
    /// What it is configured with beside the backends.
    pub settings: BTreeMap<String, String>,
    /// The backends that are configured.
    pub configured: Vec<String>,
    /// The backends that it has.
    pub members: Vec<MemberRecord>,
    /// What was done by hand, in a sentence each.
    pub by_hand: Vec<String>,
    /// Its endpoints, those included that are gone and have connections.
    pub endpoints: Vec<EndpointRecord>,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MemberRecord {
    /// With its weight.
    pub backend: String,
    /// Whether it gets no new connections.
    pub draining: bool,
    /// `auto`, `up` or `down`.
    pub forced: String,
    /// Of a name: where it is.
    pub addresses: Vec<AddressRecord>,
}

/// The last answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NameRecord {
    /// The backend without its weight.
    pub target: String,
    /// Where it is.
    pub addresses: Vec<AddressRecord>,
}

/// An address that a name has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct AddressRecord {
    /// The address.
    pub address: String,
    /// Of its own; `None` is that of the backend.
    pub weight: Option<u32>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct EndpointRecord {
    /// Where it is.
    pub address: String,
    /// The backend that it is of, without its weight.
    pub target: String,
    /// What checks say; `None` if none has ended.
    pub is_up: Option<bool>,
    /// Checks in a row that say something else.
    pub in_a_row: u32,
    /// Connects that have failed since the last one that has not.
    pub failures: u32,
    /// Ejections since then.
    pub ejections: u32,
    /// For how long it is still ejected.
    pub ejected_for_ns: u64,
    /// Whether a connect or a check has ever succeeded.
    pub has_answered: bool,
    /// Since when it has been up or back: less than zero if its ejection is not over; `None` if it always was there.
    pub up_for_ns: Option<i64>,
    /// Connections.
    pub open: usize,
}

impl NameRecord {
    /// `None` if nothing of it makes sense here.
    pub(super) fn read(&self) -> Option<(Target, Vec<Found>)> {
        let found = found(&self.addresses);
        Some((self.target.parse().ok()?, found)).filter(|(_, found)| !found.is_empty())
    }
}

fn found(addresses: &[AddressRecord]) -> Vec<Found> {
    let found = |it: &AddressRecord| {
        let weight = it.weight.and_then(Weight::new);
        it.address.parse().ok().map(|address| Found { address, weight })
    };
    addresses.iter().filter_map(found).collect()
}

fn addresses(members: &Members, target: &Target) -> Vec<AddressRecord> {
    let found = members.addresses_of(target).filter(|_| target.is_looked_up());
    let record = |found: Found| AddressRecord {
        address: found.address.to_string(),
        weight: found.weight.map(Weight::get),
    };
    found.into_iter().flatten().map(record).collect()
}

impl Upstream {
    /// The addresses of its names.
    pub(crate) fn names(&self) -> Vec<NameRecord> {
        let members = self.members();
        let record = |target: &Target| NameRecord {
            target: target.to_string(),
            addresses: addresses(&members, target),
        };
        members.names().map(record).collect()
    }

    /// What another process is to know that takes the place of this one.
    pub(crate) fn record(&self, now: Instant) -> UpstreamRecord {
        let by_hand = self.differences().iter().map(ToString::to_string).collect();
        let (config, members) = (self.config(), self.members());
        let member = |member: &Member| MemberRecord {
            backend: member.backend.to_string(),
            draining: member.draining,
            forced: member.forced.to_string(),
            addresses: addresses(&members, &member.backend.target),
        };
        let now = self.common.since_start(now);
        let settings = settings(&config).into_iter();
        UpstreamRecord {
            name: self.name().to_owned(),
            settings: settings.map(|(key, value)| (key.to_owned(), value)).collect(),
            configured: config.backends.iter().map(ToString::to_string).collect(),
            members: members.backends().iter().map(member).collect(),
            by_hand,
            endpoints: members.all().iter().map(|endpoint| endpoint.record(now)).collect(),
        }
    }

    /// Becomes what another process has told, whose place this one takes. Returns what is to be told of that, a line
    /// each.
    pub(crate) fn restore(self: &Arc<Self>, record: &UpstreamRecord, now: Instant) -> Vec<String> {
        let mut members = self.members();
        let stays = record.is_of(&self.config());
        if stays {
            record.restore_members(&mut members);
        }
        // Nobody picks yet.
        let since_start = self.common.since_start(now);
        let (_, grown) = self.make_public(&mut members, since_start, true);
        let _ = grown.inspect_err(|error| tracing::error!("{error}"));
        for endpoint in &record.endpoints {
            let Some(address) = EndpointAddress::parse(&endpoint.address) else { continue };
            if let Some(known) = members.find(&address) {
                known.restore(endpoint, since_start);
            } else if let (Ok(target), 1..) = (endpoint.target.parse(), endpoint.open) {
                members.add_gone((target, address), &self.common).restore(endpoint, since_start);
            }
        }
        self.common.note_members(members.serving(), now);
        let kept = if stays { "still by hand" } else { "overruled by the configuration" };
        let told = |what: &String| format!("upstream {}: {kept}: {what}", self.name());
        record.by_hand.iter().map(told).collect()
    }
}

impl UpstreamRecord {
    /// Whether this is its configuration, as far as both versions of the program know it.
    fn is_of(&self, config: &UpstreamConfig) -> bool {
        let is_same = |(key, value): (&str, String)| {
            self.settings.get(key).is_none_or(|known| *known == value)
        };
        let backends = config.backends.iter().map(ToString::to_string);
        settings(config).into_iter().all(is_same) && backends.eq(self.configured.iter().cloned())
    }

    /// Does again what was done by hand.
    fn restore_members(&self, members: &mut Members) {
        let read = |it: &MemberRecord| Some((it.backend.parse::<Backend>().ok()?, it.clone()));
        let wanted: Vec<(Backend, MemberRecord)> = self.members.iter().filter_map(read).collect();
        let targets: HashSet<&Target> = wanted.iter().map(|(backend, _)| &backend.target).collect();
        let all: Vec<Backend> = wanted.iter().map(|(backend, _)| backend.clone()).collect();
        if UpstreamConfig::validate_backends(&all).is_err() {
            return;
        }
        members.keep(|target| targets.contains(target));
        for (backend, record) in &wanted {
            if members.member_mut(&backend.target).is_none() {
                let addresses = found(&record.addresses);
                members.add(Located { backend: backend.clone(), addresses });
            }
            let Some(member) = members.member_mut(&backend.target) else { continue };
            member.backend.weight = backend.weight;
            (member.draining, member.forced) = (record.draining, Forced::of(&record.forced));
        }
    }
}
