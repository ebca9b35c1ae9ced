//! The `loadgen` program: parse, run, report, exit code.

#[allow(dead_code)]
mod loadgen_options;

fn main() {
    let _options = loadgen_options::parse();
    std::process::exit(1);
}
