//! What a proxy reads and writes in front of a connection.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uring_acceptor::preread::HostName;
use uring_acceptor::preread::client_hello::{self, Peeked};
use uring_acceptor::preread::proxy_protocol::{self, Endpoints, Parsed};
use uring_acceptor::preread::routes::{Pattern, Route, Routes};

const TCP4: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
const TCP6: &[u8] = b"PROXY TCP6 2001:db8:1:2:3:4:5:6 2001:db8::1 56324 443\r\n";

/// A real one, as `src/preread/testdata/` has it.
fn fixture(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    hex.trim().as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn proxy_protocol(criterion: &mut Criterion) {
    let v2 = fixture(include_str!("../src/preread/testdata/haproxy-v2-tcp4.hex"));
    let tlvs = fixture(include_str!("../src/preread/testdata/haproxy-v2-ssl.hex"));
    let mut group = criterion.benchmark_group("proxy protocol");
    for (name, bytes) in [
        ("read version 1, IPv4", TCP4),
        ("read version 1, IPv6", TCP6),
        ("read version 2, IPv4", v2.as_slice()),
        ("read version 2 with TLVs and a checksum", tlvs.as_slice()),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let parsed = proxy_protocol::parse(black_box(bytes));
                assert!(matches!(black_box(parsed), Ok(Parsed::Header { .. })));
            });
        });
    }
    let address = |text: &str| text.parse().expect("an address");
    let endpoints = Endpoints::Tcp {
        source: address("192.168.0.1:56324"),
        destination: address("10.0.0.1:443"),
    };
    let mut out = Vec::with_capacity(proxy_protocol::MAX_V1_BYTES);
    type Write = fn(&mut Vec<u8>, &Endpoints<'_>);
    let writers: [(&str, Write); 2] = [
        ("write version 1", proxy_protocol::write_v1),
        ("write version 2", proxy_protocol::write_v2),
    ];
    for (name, write) in writers {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write(&mut out, black_box(&endpoints));
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn client_hello(criterion: &mut Criterion) {
    let tls13 = fixture(include_str!("../src/preread/testdata/openssl-tls13.hex"));
    let split = fixture(include_str!("../src/preread/testdata/openssl-small-fragments.hex"));
    let mut group = criterion.benchmark_group("ClientHello");
    for (name, bytes) in [("of TLS 1.3", &tls13), ("in three records", &split)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let peeked = client_hello::peek(black_box(bytes));
                assert!(matches!(black_box(peeked), Ok(Peeked::Name(_))));
            });
        });
    }
    group.finish();
}

fn routes(criterion: &mut Criterion) {
    let name = |text: String| HostName::new(text.as_bytes()).expect("a name");
    let route = |index: usize| Route {
        pattern: Pattern::Below(name(format!("host{index}.example.org"))),
        target: index,
    };
    let table = Routes::new((0..1000).map(route), None).expect("no duplicates");
    let wanted = name("a.b.c.host777.example.org".to_owned());
    criterion.bench_function("routes: the fourth suffix of one name, among 1000", |bencher| {
        bencher.iter(|| assert_eq!(table.target(Some(black_box(&wanted))), Some(&777)));
    });
}

criterion_group!(benches, proxy_protocol, client_hello, routes);
criterion_main!(benches);
