//! Services by byte slices, and the outbox that they answer into.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uring_acceptor::service::http::{Http, Session};
use uring_acceptor::service::{Action, Input, Outbox, Prepared, Responder};

const BODY: &[u8] = b"hello\n";
const PIPELINED: usize = 16;

const SHORT: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// As a browser sends it.
const LONG: &str = "GET /index.html?x=1 HTTP/1.1\r\nHost: localhost:7000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nPriority: u=0, i\r\n\r\n";

fn http(criterion: &mut Criterion) {
    let (http, mut outbox) = (Http::new(BODY), Outbox::default());
    let mut group = criterion.benchmark_group("http");
    for (name, request, count) in [
        ("a short request", SHORT, 1),
        ("a short request, pipelined", SHORT, PIPELINED),
        ("a long request", LONG, 1),
        ("a long request, pipelined", LONG, PIPELINED),
    ] {
        let (mut session, input) = (Session::default(), request.repeat(count));
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{name}: {count}"), |bencher| {
            bencher.iter(|| {
                outbox.clear();
                let input = Input::new(black_box(input.as_bytes()));
                let action = http.data(&mut session, &input, &mut outbox);
                assert_eq!(black_box(action), Action::Continue);
            });
        });
        let answers = String::from_utf8(outbox.render(&[])).expect("answers are text");
        assert_eq!(answers.matches("200 OK").count(), count);
    }
    group.finish();
}

fn outbox(criterion: &mut Criterion) {
    let mut outbox = Outbox::default();
    let prepared = Prepared::new(BODY);
    let piece = [7; 64];
    let mut group = criterion.benchmark_group(format!("outbox, {PIPELINED} pieces"));
    let mut bench = |name: &str, piece: &dyn Fn(&mut Outbox, usize)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                outbox.clear();
                (0..PIPELINED).for_each(|index| piece(&mut outbox, index));
                black_box(outbox.items().len())
            });
        });
    };
    bench("echo", &|outbox, index| outbox.echo(index * 64..(index + 1) * 64));
    bench("write", &|outbox, _| outbox.write(black_box(&piece)));
    bench("prepared", &|outbox, _| outbox.send_prepared(&prepared));
    group.finish();
}

criterion_group!(benches, http, outbox);
criterion_main!(benches);
