//! Answers of name servers: right, wrong, and anything at all.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use simple_dns::rdata::{A, AAAA, CNAME, SRV};
use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

use super::*;
use crate::config::upstream::{Backend, UpstreamConfig};
use crate::upstream::{Endpoint, Upstream, UpstreamRegistry};

const NAME: &str = "_web._tcp.example";

fn record(name: &str, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(Name::new(name).unwrap().into_owned(), CLASS::IN, 30, rdata)
}

fn srv((priority, weight, port): (u16, u16, u16), host: &str) -> ResourceRecord<'static> {
    let target = Name::new(host).unwrap().into_owned();
    record(NAME, RData::SRV(SRV { priority, weight, port, target }))
}

fn a(host: &str, address: [u8; 4]) -> ResourceRecord<'static> {
    record(host, RData::A(A { address: u32::from_be_bytes(address) }))
}

/// An answer with these records, compressed as name servers do.
fn answer(answers: Vec<ResourceRecord<'static>>, more: Vec<ResourceRecord<'static>>) -> Vec<u8> {
    let mut packet = Packet::new_reply(7);
    let (kind, class) = (QTYPE::TYPE(TYPE::SRV), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(Name::new(NAME).unwrap(), kind, class, false));
    (packet.answers, packet.additional_records) = (answers, more);
    packet.build_bytes_vec_compressed().unwrap()
}

/// What a service is found to be. Hosts that the answer does not bring along are 10.9.9.9.
fn found(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    let hosts = |name: &str, port| match name {
        "nobody.example" => Err(io::Error::other("nobody knows it")),
        _ => Ok(vec![SocketAddr::from(([10, 9, 9, 9], port))]),
    };
    let services = move |name: &str| {
        assert_eq!(name, NAME);
        Ok(bytes.clone())
    };
    let resolver = Resolver { services: Box::new(services), ..Resolver::new(Box::new(hosts)) };
    let told = |found: Found| {
        format!("{} {}", found.address, found.weight.map_or(0, |weight| weight.get()))
    };
    let all = look_up(&resolver, NAME).map_err(|error| error.to_string())?;
    Ok(all.into_iter().map(told).collect())
}

/// As a name server sent it: `_web._tcp.example SRV 0 5 8080 a.example`, with the address of `a.example`.
#[test]
fn an_answer_from_the_wire_is_read() {
    let bytes = b"\x12\x34\x85\x80\0\x01\0\x01\0\0\0\x01\
        \x04_web\x04_tcp\x07example\0\0\x21\0\x01\
        \xc0\x0c\0\x21\0\x01\0\0\0\x1e\0\x11\0\0\0\x05\x1f\x90\x01a\x07example\0\
        \xc0\x35\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01";
    assert_eq!(found(bytes.to_vec()).unwrap(), ["10.0.0.1:8080 5"]);
}

#[test]
fn the_lowest_priority_alone_counts() {
    let all = vec![
        srv((20, 1, 80), "backup.example"),
        srv((10, 3, 81), "a.example"),
        srv((10, 0, 82), "b.example"),
    ];
    let more = vec![a("A.Example", [10, 0, 0, 1]), a("backup.example", [10, 0, 0, 3])];
    // The second is not brought along.
    assert_eq!(found(answer(all, more)).unwrap(), ["10.0.0.1:81 3", "10.9.9.9:82 1"]);
}

#[test]
fn a_host_may_have_many_addresses_and_the_name_another() {
    let all = vec![
        record(NAME, RData::CNAME(CNAME(Name::new("real.example").unwrap().into_owned()))),
        srv((0, 1, 80), "a.example"),
    ];
    let six = RData::AAAA(AAAA { address: 1 });
    let more = vec![a("a.example", [10, 0, 0, 1]), record("a.example", six)];
    assert_eq!(found(answer(all, more)).unwrap(), ["10.0.0.1:80 1", "[::1]:80 1"]);
}

#[test]
fn weights_stay_in_proportion() {
    let table: [(&[u16], &[u32]); 5] = [
        (&[0, 0], &[1, 1]),
        (&[1, 256], &[1, 256]),
        (&[0, 100, 200], &[1, 100, 200]),
        (&[512, 1024], &[128, 256]),
        (&[65_535, 32_768, 1], &[256, 128, 1]),
    ];
    for (weights, expected) in table {
        let largest = *weights.iter().max().unwrap();
        let scaled: Vec<u32> =
            weights.iter().map(|&weight| scaled(weight, largest).get()).collect();
        assert_eq!(scaled, expected, "{weights:?}");
    }
}

#[test]
fn what_is_no_service_is_told() {
    let many = (0..=RECORDS_MAX).map(|number| srv((0, 1, 1), &format!("h{number}.example")));
    let mut cut = answer(vec![srv((0, 1, 80), "a.example")], Vec::new());
    cut[2] |= 0x02;
    let mut refused = answer(Vec::new(), Vec::new());
    refused[3] |= 0x05;
    let mut unknown = answer(Vec::new(), Vec::new());
    unknown[3] |= 0x03;
    let table = [
        (answer(Vec::new(), Vec::new()), "the name has no SRV records"),
        (answer(vec![srv((0, 0, 0), ".")], Vec::new()), "there is no such service (the target is"),
        (answer(vec![srv((0, 1, 0), "a.example")], Vec::new()), "of a.example has port 0"),
        (
            answer(vec![srv((0, 1, 1), "nobody.example")], Vec::new()),
            "nobody.example: nobody knows",
        ),
        (answer(vec![srv((0, 1, 1), "a b.example")], Vec::new()), "it is no host name"),
        (answer(many.collect(), Vec::new()), "it has 257 SRV records; there may be at most 256"),
        (cut, "the answer is cut"),
        (refused, "the name server has answered Refused"),
        (unknown, "there is no such name"),
        (b"\0\0".to_vec(), "the answer is malformed"),
        (Vec::new(), "the answer is malformed"),
    ];
    for (bytes, text) in table {
        let told = found(bytes).unwrap_err();
        assert!(told.contains(text), "{told}");
    }
}

/// A name that points at itself ends nowhere.
#[test]
fn names_that_point_in_circles_are_malformed() {
    for pointer in [0x0c_u8, 0x0d, 0x0e, 0x20, 0xff] {
        let mut bytes = b"\0\x01\x80\0\0\x01\0\0\0\0\0\0".to_vec();
        bytes.extend([0xc0, pointer, 0, 33, 0, 1]);
        assert!(found(bytes).unwrap_err().contains("the answer is malformed"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_more_than_wrong(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = found(bytes);
    }

    /// Nearly right ones reach further.
    #[test]
    fn no_damaged_answer_is_more_than_wrong(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let more = vec![a("a.example", [10, 0, 0, 1]), a("b.example", [10, 0, 0, 2])];
        let all = vec![srv((0, 1, 80), "a.example"), srv((1, 2, 81), "b.example")];
        let mut bytes = answer(all, more);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(length.index(bytes.len()) + bytes.len() / 2);
        let _ = found(bytes);
    }
}

/// A name server for [`NAME`] alone, whose answer can be changed.
type Zone = Arc<Mutex<io::Result<Vec<u8>>>>;

fn registry(zone: &Zone) -> UpstreamRegistry {
    let zone = Arc::clone(zone);
    let services = move |_: &str| match &*zone.lock().unwrap() {
        Ok(bytes) => Ok(bytes.clone()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    };
    let hosts = |_: &str, port| Ok(vec![SocketAddr::from(([10, 9, 9, 9], port))]);
    UpstreamRegistry::with(Resolver {
        services: Box::new(services),
        ..Resolver::new(Box::new(hosts))
    })
}

fn endpoints(upstream: &Upstream) -> Vec<String> {
    let told = |it: &Arc<Endpoint>| format!("{} {}", it.address(), it.weight());
    upstream.members().serving().iter().map(told).collect()
}

#[test]
fn a_service_is_looked_up_again_and_its_endpoints_stay() {
    let more = || vec![a("a.example", [10, 0, 0, 1]), a("b.example", [10, 0, 0, 2])];
    let first = answer(vec![srv((0, 2, 80), "a.example"), srv((1, 1, 80), "b.example")], more());
    let zone: Zone = Arc::new(Mutex::new(Ok(first)));
    let registry = registry(&zone);
    let target: Target = format!("srv:{NAME}").parse().unwrap();
    let backends = vec![Backend::new(target.clone(), Weight::default()).unwrap()];
    let mut config = UpstreamConfig::new(backends);
    // Nobody but this test looks it up.
    config.resolve_interval = std::time::Duration::from_secs(3600);
    let _ = registry.apply(registry.prepare(&[config]).unwrap());
    let upstream = registry.get("default").unwrap();
    assert_eq!(endpoints(&upstream), ["10.0.0.1:80 2"]);
    let id = upstream.endpoints()[0].id();
    assert!(upstream.endpoints()[0].to_string().starts_with("srv:_web._tcp.example (10.0.0.1:80)"));

    let second = answer(vec![srv((0, 5, 80), "a.example"), srv((0, 1, 81), "b.example")], more());
    *zone.lock().unwrap() = Ok(second);
    upstream.refresh_name(&target);
    assert_eq!(endpoints(&upstream), ["10.0.0.1:80 5", "10.0.0.2:81 1"]);
    assert_eq!(upstream.endpoints()[0].id(), id, "it is the same endpoint");
    for wrong in [Ok(b"?".to_vec()), Err(io::Error::other("no name server has answered"))] {
        *zone.lock().unwrap() = wrong;
        upstream.refresh_name(&target);
        assert_eq!(endpoints(&upstream), ["10.0.0.1:80 5", "10.0.0.2:81 1"], "they stay");
    }
    assert_eq!(upstream.lookup_failures(), 2);
    let error = upstream.set_weight(&target, Weight::new(3).unwrap()).unwrap_err().to_string();
    assert!(error.contains("takes no other; leave the weight out"), "{error}");
}
