//! What Prometheus makes of `/metrics`, and that deploy/alerts.yml, deploy/grafana.json and docs/METRICS.md name what is
//! there.

mod exposition;
mod native;
mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cli::expect_golden;
use crate::client::{connect, expect_echo};
use crate::folder::Folder;
use crate::foreign::{Foreign, free_address};
use crate::harness::{Launch, SOON, Server, eventually, skipped, source};
use exposition::{Exposition, Labels, classic};
use query::{Named, labels_in, named};

/// What Prometheus adds to each series.
const ADDED: [&str; 2] = ["job", "instance"];

fn read(path: &str) -> String {
    std::fs::read_to_string(source(path)).expect("it can be read")
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana.json")).expect("JSON")
}

/// A server that has everything that there are metrics of, with an admin endpoint on TCP: an echo, and a proxy with a
/// backend that nobody listens for.
struct Watched {
    _folder: Folder,
    server: Server,
    admin: SocketAddr,
}

impl Watched {
    /// With room for so many connections.
    fn start(max_connections: usize) -> Self {
        let folder = Folder::new();
        let text = format!(
            "[process]\nadmin = '127.0.0.1:0'\nengine = '{}'\nmax_connections = {max_connections}\nmax_per_source = 1000\n\
             [frontend.echo]\nlisten = '127.0.0.1:0'\nservice = 'echo'\n\
             [frontend.web]\nlisten = '127.0.0.1:0'\nservice = 'proxy'\nupstream = 'app'\nmax_connections = 1\n\
             max_per_source = 100\n\
             [upstream.app]\nbackends = ['127.0.0.1:1']\n",
            crate::ENGINE
        );
        let file = folder.write("acceptor.toml", &text);
        let server = Launch::from_file(&["run", "--config", &file], 2).start();
        let mut admin = None;
        eventually(SOON, "the endpoint's address is told", || {
            let log = server.stderr();
            let behind = log.split("the admin endpoint is on ").nth(1);
            admin = behind.and_then(|it| it.split_whitespace().next()?.parse().ok());
            admin.is_some()
        });
        Self { _folder: folder, server, admin: admin.expect("it was waited for") }
    }

    fn echo(&self) -> SocketAddr {
        let listening = self.server.listening();
        let echo = listening.iter().find(|it| it.service == "echo").expect("it listens");
        echo.address.parse().expect("an address")
    }

    fn metrics(&self) -> String {
        get(self.admin, "/metrics")
    }
}

/// The body of the answer.
#[track_caller]
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("it can be set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer that ends");
    answer.split_once("\r\n\r\n").expect("a head ends").1.to_owned()
}

/// The expressions of the rules, each under the name of its alert.
fn rules() -> BTreeMap<String, String> {
    let text = read("deploy/alerts.yml");
    let (mut rules, mut name, mut in_expression) = (BTreeMap::new(), "", false);
    for line in text.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            name = alert;
            rules.insert(name.to_owned(), String::new());
        }
        let begins = line == "expr: |";
        let is_over = line.starts_with("for: ") || line.starts_with("labels:");
        in_expression = begins || in_expression && !is_over;
        if in_expression && !begins {
            let _ = writeln!(rules.get_mut(name).expect("an alert"), "{line}");
        }
    }
    assert!(rules.len() > 5 && rules.values().all(|it| !it.is_empty()), "{rules:?}");
    rules
}

/// All queries in a dashboard, each with the text of its legend.
fn queries(value: &Value, found: &mut Vec<(String, String)>) {
    if let Some(query) = value["expr"].as_str() {
        let legend = value["legendFormat"].as_str().or(value["titleFormat"].as_str());
        found.push((query.to_owned(), legend.unwrap_or("").to_owned()));
    }
    match value {
        Value::Array(all) => all.iter().for_each(|it| queries(it, found)),
        Value::Object(all) => all.values().for_each(|it| queries(it, found)),
        _ => {}
    }
}

/// The identities of all data sources in a dashboard.
fn datasources<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    found.extend(value["datasource"]["uid"].as_str());
    match value {
        Value::Array(all) => all.iter().for_each(|it| datasources(it, found)),
        Value::Object(all) => all.values().for_each(|it| datasources(it, found)),
        _ => {}
    }
}

/// What a query names that is not there; `samples` are the metrics that are.
fn missing(
    query: &str,
    legend: &BTreeSet<&str>,
    samples: &BTreeMap<String, Labels>,
) -> Vec<String> {
    let (mut missing, mut current, mut all) = (Vec::new(), Labels::new(), BTreeSet::from(ADDED));
    let names = named(query);
    for name in &names {
        match name {
            Named::Metric(metric) => match samples.get(metric) {
                Some(labels) => {
                    current.clone_from(labels);
                    all.extend(labels.keys().map(String::as_str));
                }
                None => missing.push(metric.clone()),
            },
            Named::Matcher(label, _) if ADDED.contains(&label.as_str()) => {}
            Named::Matcher(label, values) => match current.get(label) {
                Some(there) => {
                    let lost = values.iter().filter(|value| !there.contains(*value));
                    missing.extend(lost.map(|value| format!("{label}=\"{value}\"")));
                }
                None => missing.push(format!("{label}=")),
            },
            Named::Grouping(_) => {}
        }
    }
    let groupings = names.iter().filter_map(|name| match name {
        Named::Grouping(label) => Some(label.as_str()),
        _ => None,
    });
    let used = groupings.chain(legend.iter().copied());
    missing.extend(used.filter(|label| !all.contains(label)).map(str::to_owned));
    missing
}

#[test]
fn the_metrics_are_as_written_down() {
    let watched = Watched::start(10);
    let exposition = Exposition::parse(&watched.metrics());
    expect_golden("metrics.txt", &exposition.list());
    watched.server.stop();
}

/// Prometheus would count a start at each change.
#[test]
fn the_start_is_told_the_same_each_time() {
    let watched = Watched::start(10);
    let start = |text: String| {
        let line = text.lines().find(|line| line.starts_with("acceptor_start_time_seconds "));
        line.expect("it is there").to_owned()
    };
    let all: BTreeSet<String> = (0..20).map(|_| start(watched.metrics())).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    watched.server.stop();
}

/// Each way: a metric that is not in the document, and one that is only there.
#[test]
fn the_document_names_what_is_there_with_its_type() {
    let watched = Watched::start(10);
    let exposition = Exposition::parse(&watched.metrics());
    let text = read("docs/METRICS.md");
    let is_name = |word: &&str| word.starts_with("acceptor_") || word.starts_with("process_");
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').filter(is_name);
    let in_document: BTreeSet<&str> = words.collect();
    let there: BTreeSet<&str> = exposition.metrics.keys().map(String::as_str).collect();
    assert_eq!(in_document, there);
    for line in text.lines().filter(|line| line.starts_with("| `acceptor_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        for name in cells[1].split('`').filter(is_name) {
            assert_eq!(exposition.metrics[name].kind, cells[2], "{name}");
        }
    }
    watched.server.stop();
}

#[test]
fn alerts_and_dashboard_name_what_is_there() {
    let watched = Watched::start(10);
    let mut samples = Exposition::parse(&watched.metrics()).samples;
    let job = Labels::from([("job".to_owned(), BTreeSet::from(["acceptor".to_owned()]))]);
    // Prometheus itself makes it.
    samples.insert("up".to_owned(), job);
    for (alert, query) in rules() {
        let missing = missing(&query, &BTreeSet::new(), &samples);
        assert!(missing.is_empty(), "{alert}: {missing:?}");
    }
    let alerts = read("deploy/alerts.yml");
    let labels: BTreeSet<&str> =
        samples.values().flat_map(Labels::keys).map(String::as_str).chain(ADDED).collect();
    let used = labels_in(&alerts, "$labels.");
    assert!(used.len() > 3 && used.is_subset(&labels), "{used:?}");

    let dashboard = dashboard();
    let mut all = Vec::new();
    queries(&dashboard, &mut all);
    assert!(all.len() > 30, "{}", all.len());
    for (query, legend) in &all {
        let missing = missing(query, &labels_in(legend, "{{"), &samples);
        assert!(missing.is_empty(), "{query} {legend}: {missing:?}");
    }
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    for variable in variables.iter().filter(|it| it["type"] == "query") {
        let text = variable["query"]["query"].as_str().expect("a query");
        let text = text.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
        let (query, label) =
            text.and_then(|it| it.rsplit_once(", ")).expect("a metric and a label");
        let missing = missing(query, &BTreeSet::from([label]), &samples);
        assert!(missing.is_empty(), "{query}: {missing:?}");
    }
    watched.server.stop();
}

/// Whoever imports it has a Prometheus of another name than ours.
#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("a list");
    assert_eq!(
        (&variables[0]["name"], &variables[0]["type"]),
        (&"datasource".into(), &"datasource".into())
    );
    assert!(dashboard["id"].is_null() && dashboard["schemaVersion"].as_u64() >= Some(39));
    let panels = dashboard["panels"].as_array().expect("a list");
    let ids: BTreeSet<u64> = panels.iter().map(|it| it["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), panels.len(), "each has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|it| panel["gridPos"][it].as_u64().expect("a number"));
        let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        assert!(x + w <= 24 && cells.clone().all(|cell| taken.insert(cell)), "{}", panel["title"]);
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().expect("a list");
        assert!(!targets.is_empty() && panel["description"].is_string(), "{}", panel["title"]);
    }
    let mut sources = BTreeSet::new();
    datasources(&dashboard, &mut sources);
    assert_eq!(sources, BTreeSet::from(["${datasource}", "-- Grafana --"]));
    assert_eq!(panels[0]["title"], "Verdicts", "they stand on top");
}

/// What it prints. `None`, said loudly, where it is not installed.
#[track_caller]
fn run(program: &str, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skipped(&format!("{program} is not installed"));
        return None;
    };
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it is read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(output.status.success(), "{program} {arguments:?}: {stdout}{stderr}");
    Some(stdout.into_owned())
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    let [alerts, tests] = ["alerts", "alerts_test"]
        .map(|it| source(format!("deploy/{it}.yml")).to_str().expect("text").to_owned());
    if let Some(found) = run("promtool", &["check", "rules", &alerts], "") {
        assert!(found.contains(&format!("{} rules found", rules().len())), "{found}");
        run("promtool", &["test", "rules", &tests], "");
    }
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let watched = Watched::start(10);
    run("promtool", &["check", "metrics"], &classic(&watched.metrics()));
    watched.server.stop();
}

/// Prometheus' own library for Python, which refuses what is not OpenMetrics.
#[test]
fn an_independent_parser_reads_the_same() {
    const PROGRAM: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.samples, family.name
    ending = {'counter': '_total', 'info': '_info'}.get(family.type, '')
    labels = {label for sample in family.samples for label in sample.labels} - {'le'}
    print(family.name + ending, family.type, ','.join(sorted(labels)))
";
    let has_library = |python: &&str| {
        let import = Command::new(python).args(["-c", "import prometheus_client"]).output();
        import.is_ok_and(|it| it.status.success())
    };
    // Debian's package is for Debian's Python.
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_library) else {
        skipped("Python's prometheus_client is not installed");
        return;
    };
    let watched = Watched::start(10);
    let text = watched.metrics();
    let found = run(python, &["-c", PROGRAM], &text).expect("it has just been there");
    let mut found: Vec<&str> = found.lines().map(str::trim).collect();
    found.sort_unstable();
    let list = Exposition::parse(&text).list();
    let mut expected: Vec<&str> = list.lines().collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    watched.server.stop();
}

/// A Prometheus that looks at this endpoint each second, with these rules in a hurry.
fn prometheus(folder: &Folder, target: SocketAddr, more: &[&str]) -> Option<(Foreign, SocketAddr)> {
    let hurry = |line: &str| match line.split_once("for: ") {
        Some((indent, _)) => format!("{indent}for: 1s\n"),
        None => format!("{line}\n"),
    };
    let rules: String = read("deploy/alerts.yml").lines().map(hurry).collect();
    let rules = folder.write("alerts.yml", &rules);
    let text = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: ['{rules}']\n\
         scrape_configs: [{{ job_name: acceptor, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    let file = folder.write("prometheus.yml", &text);
    let address = free_address();
    let arguments = [
        format!("--config.file={file}"),
        format!("--storage.tsdb.path={}", folder.file("data")),
        format!("--web.listen-address={address}"),
        "--log.level=warn".to_owned(),
    ];
    let arguments = [&arguments.each_ref().map(String::as_str), more].concat();
    let log = folder.file("prometheus.log");
    let started = Foreign::start_into(&log, "prometheus", &arguments, address)?;
    Some((started, address))
}

/// The result of a query at the present moment: its series.
fn ask(prometheus: SocketAddr, query: &str) -> Vec<Value> {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = get(prometheus, &format!("/api/v1/query?query={encoded}"));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    answer["data"]["result"].as_array().expect("a list").clone()
}

/// The alerts that fire for this address.
fn firing(prometheus: SocketAddr, address: SocketAddr) -> BTreeSet<String> {
    let answer: Value =
        serde_json::from_str(&get(prometheus, "/api/v1/alerts")).unwrap_or_default();
    let all = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
    let own =
        |it: &&Value| it["state"] == "firing" && it["labels"]["address"] == address.to_string();
    let name = |it: &Value| it["labels"]["alertname"].as_str().expect("a name").to_owned();
    all.iter().filter(own).map(name).collect()
}

/// Every query of the dashboard finds something, but those that leave out what is 0.
fn expect_a_full_dashboard(prometheus: SocketAddr) {
    let mut all = Vec::new();
    queries(&dashboard(), &mut all);
    for (query, _) in all {
        let mut text = query.replace("$__rate_interval", "1m").replace("$__range", "1m");
        for variable in ["$job", "$instance", "$frontend", "$upstream"] {
            text = text.replace(variable, ".*");
        }
        if query.ends_with(" > 0") {
            ask(prometheus, &text);
        } else {
            eventually(SOON, &text, || !ask(prometheus, &text).is_empty());
        }
    }
}

#[test]
fn a_prometheus_scrapes_it_and_its_alert_fires() {
    let watched = Watched::start(1);
    let folder = Folder::new();
    let Some((_prometheus, prometheus)) = prometheus(&folder, watched.admin, &[]) else { return };
    let deadline = Duration::from_secs(30);
    eventually(deadline, "it is ready", || get(prometheus, "/-/ready").contains("is Ready"));
    eventually(deadline, "it was scraped", || {
        ask(prometheus, "up").first().is_some_and(|it| it["value"][1] == "1")
    });
    let address = watched.echo();
    assert!(firing(prometheus, address).is_empty());
    let open = connect(address);
    expect_echo(&open, b"x");
    let waiting = connect(address);
    let query = "acceptor_listener_verdict{frontend=\"echo\", verdict=\"accepting_paused\"} == 1";
    eventually(deadline, "a query says so", || ask(prometheus, query).len() == 1);
    let expected = BTreeSet::from(["AcceptorAcceptingPaused".to_owned()]);
    eventually(deadline, "the alert fires", || firing(prometheus, address) == expected);
    expect_a_full_dashboard(prometheus);
    drop(open);
    expect_echo(&waiting, b"x");
    drop(waiting);
    eventually(deadline, "the alert is over", || firing(prometheus, address).is_empty());
    watched.server.stop();
}
