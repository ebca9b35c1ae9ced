//! The acceptor.

mod options;

fn main() {
    let options = options::parse();
    let options::Options { service, config, logging, stats_interval } = options;
    let options::Logging { format, level } = logging;
    eprintln!("no server yet: {service:?} {config:?} {format:?} {level} {stats_interval:?}");
    std::process::exit(1);
}
