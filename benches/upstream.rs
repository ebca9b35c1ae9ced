//! What a pick costs, and what it costs to apply a configuration of 1,000 upstreams with 10 backends each.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use uring_acceptor::config::upstream::{Balance, UpstreamConfig};
use uring_acceptor::upstream::{Prepared, UpstreamRegistry};

/// Upstreams with 10 backends of a weight.
fn configs(count: usize, weight: u32) -> Vec<UpstreamConfig> {
    let one = |number: usize| {
        let backend =
            |host| format!("10.{}.{}.{host}:80,weight={weight}", number / 256, number % 256);
        let backends = (1..=10).map(|host| backend(host).parse().expect("it is a backend"));
        let mut config = UpstreamConfig::new(backends.collect());
        config.name = format!("upstream-{number}");
        config
    };
    (0..count).map(one).collect()
}

fn prepared(registry: &UpstreamRegistry, configs: &[UpstreamConfig]) -> Prepared {
    registry.prepare(configs).expect("it is right")
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply/1000x10");
    group.sample_size(10);
    let (first, second) = (configs(1000, 1), configs(1000, 2));
    let new = || {
        let registry = UpstreamRegistry::new();
        let prepared = prepared(&registry, &first);
        (registry, prepared)
    };
    let run = |(registry, prepared): (UpstreamRegistry, Prepared)| {
        let changes = registry.apply(prepared);
        (registry, changes)
    };
    group.bench_function("new", |bench| bench.iter_batched(new, run, BatchSize::PerIteration));
    let other = |configs: &[UpstreamConfig]| {
        let (registry, _) = run(new());
        let prepared = prepared(&registry, configs);
        (registry, prepared)
    };
    let change = || other(&second);
    group.bench_function("weights", |bench| {
        bench.iter_batched(change, run, BatchSize::PerIteration)
    });
    let same = || other(&first);
    group.bench_function("same", |bench| bench.iter_batched(same, run, BatchSize::PerIteration));
    let none = || other(&[]);
    group.bench_function("none", |bench| bench.iter_batched(none, run, BatchSize::PerIteration));
    group.bench_function("prepare", |bench| {
        let registry = UpstreamRegistry::new();
        bench.iter(|| prepared(&registry, &first));
    });
    group.finish();
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick/10");
    for balance in [Balance::LeastConnections, Balance::RoundRobin, Balance::Random] {
        let mut config = configs(1, 1);
        config[0].balance = balance;
        let registry = UpstreamRegistry::new();
        let _ = registry.apply(prepared(&registry, &config));
        let mut view = registry.get("upstream-0").expect("it is there").view();
        let pick = |bench: &mut criterion::Bencher<'_>| {
            bench.iter(|| black_box(view.pick(None, &[])).map(drop));
        };
        group.bench_function(balance.to_string(), pick);
    }
    group.finish();
}

criterion_group!(benches, apply, pick);
criterion_main!(benches);
