//! The `loadgen` program: parse, run, report, exit code.

fn main() {
    std::process::exit(2);
}
