//! The options of `compare`.

use std::path::PathBuf;

use clap::Args;

use super::{Comparing, Options, Outputs, Sink, Task};

#[derive(Debug, Args)]
pub(super) struct CompareOptions {
    /// Baseline: the --json file of a run
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The --json file of the run to compare with it
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Seed for the confidence intervals of percentiles (bootstrap)
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the comparison as JSON; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<Sink>,
    /// Print only errors, no table
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

impl CompareOptions {
    pub(super) fn checked(self) -> Options {
        let Self { a, b, seed, json, quiet } = self;
        let outputs = Outputs { json, csv: None, hdr: None, svg: None, html: None, quiet };
        Options { task: Task::Compare(Comparing { a, b, seed }), outputs }
    }
}
