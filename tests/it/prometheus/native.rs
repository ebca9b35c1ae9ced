//! Native histograms: what a Prometheus that asks for them gets.

use super::*;

/// The number that a query finds, if it finds one.
fn number(prometheus: SocketAddr, query: &str) -> Option<f64> {
    let found = ask(prometheus, query);
    found.first()?["value"][1].as_str().expect("a number").parse().ok()
}

#[test]
fn a_prometheus_with_native_histograms_gets_them() {
    let (watched, folder) = (Watched::start(10), Folder::new());
    let feature = ["--enable-feature=native-histograms"];
    let started = prometheus(&folder, watched.admin, &feature);
    let Some((_prometheus, prometheus)) = started else { return };
    let deadline = Duration::from_secs(30);
    eventually(deadline, "it is ready", || get(prometheus, "/-/ready").contains("is Ready"));
    let clients: Vec<_> = (0..5).map(|_| connect(watched.echo())).collect();
    clients.iter().for_each(|client| expect_echo(client, b"hello"));
    std::thread::sleep(Duration::from_millis(50));
    drop(clients);
    let metric = "acceptor_frontend_lifetime_seconds{frontend=\"echo\"}";
    let count = format!("histogram_count({metric})");
    eventually(deadline, "all are in one histogram", || number(prometheus, &count) == Some(5.0));
    let sum = number(prometheus, &format!("histogram_sum({metric})")).expect("a sum");
    let longest = number(prometheus, &format!("histogram_quantile(1, {metric})")).expect("an end");
    let fraction = format!("histogram_fraction(0, 3600, {metric})");
    // To the millisecond.
    assert!(sum >= 5.0 * 0.048 && sum <= 5.0 * longest, "{sum} {longest}");
    assert_eq!(number(prometheus, &fraction), Some(1.0));
    let empty = "histogram_count(acceptor_frontend_lifetime_seconds{frontend=\"web\"})";
    assert_eq!(number(prometheus, empty), Some(0.0));
    // What has no buckets came in the same format.
    let accepted = number(prometheus, "acceptor_accepted_total");
    assert_eq!(accepted, Some(5.0));
    let built = ask(prometheus, "acceptor_build_info");
    assert_eq!(built[0]["metric"]["version"], env!("CARGO_PKG_VERSION"));
    watched.server.stop();
}
