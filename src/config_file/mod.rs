//! The configuration file: TOML in, a [`Config`] out, or all that is wrong with where it stands; and a [`Config`]
//! as the file that says the same.
//!
//! - `tables.rs` has the keys, `kinds.rs`, `parsed.rs` and `names.rs` what their values may be;
//! - `files.rs` reads files and what they include, `document.rs` parses one and puts variables in;
//! - `backends_file.rs` reads a list of backends that is a file of its own, in JSON;
//! - `places.rs` keeps where values stand and which came from the environment, `differences.rs` compares two configurations;
//! - `build.rs`, with `process.rs`, `frontend.rs` and `upstream.rs`, goes from tables to a configuration, `print.rs` back;
//! - `warnings.rs` tells what is right and does nothing;
//! - `schema.rs` and `reference.rs` tell what a file may have.
//!
//! [`load`] can be called from any thread, as often as wanted; nothing is kept between two calls.

mod admission;
mod backends_file;
mod build;
mod differences;
mod document;
mod files;
mod frontend;
mod kinds;
mod names;
mod parsed;
mod places;
mod print;
mod problem;
mod process;
mod reader;
mod reference;
mod schema;
mod tables;
mod text;
mod upstream;
mod variables;
mod warnings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

pub use admission::{load_networks, networks};
pub use backends_file::{LoadedBackends, load_backends};
pub use build::default_buffer_bytes;
pub use differences::{KeyChange, Owner, Side, differences};
pub use files::{FILE_BYTES_MAX, FILES_MAX, INCLUDE_DEPTH_MAX};
pub use places::{Place, Places};
pub use print::print;
pub use problem::{Errors, Problem};
pub use reference::reference;
pub use schema::schema;
pub use variables::Environment;

use crate::config::upstream::SourceAddress;
use crate::config::{Config, LogFormat};

/// What a program that serves is told: what the server is, and how the program itself runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// What the server is told.
    pub config: Config,
    /// How the log is written.
    pub logging: Logging,
    /// Time between two lines of live figures; `None` is off.
    pub stats_interval: Option<Duration>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// Its form.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: LevelFilter,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// What the files say.
    pub settings: RunSettings,
    /// All files that were read, the first one first.
    pub files: Vec<PathBuf>,
    /// The names in them that are looked up at the start.
    pub lookups: Vec<Lookup>,
    /// The addresses in them that connections are to be made from, with where they stand.
    pub sources: Vec<Source>,
    /// Where values stand.
    pub places: Places,
    /// What is right and may not be what was meant.
    pub warnings: Vec<Problem>,
}

/// A name that is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// As a resolver takes it.
    pub name: String,
    /// That goes with it; 0 for a service.
    pub port: u16,
    /// Whether its SRV records are asked for.
    pub is_service: bool,
    /// Of a backend: from where it is connected to.
    sources: Vec<SourceAddress>,
    /// Where it stands, without a text.
    place: Problem,
}

impl Lookup {
    /// What is wrong if it cannot be resolved; `why` does not have the name in it, which may be a secret.
    pub fn failed(&self, why: &str) -> Problem {
        Problem { text: format!("the name cannot be resolved: {why}"), ..self.place.clone() }
    }

    /// What is to be told of the addresses that were found: that none of the sources is for one of them.
    pub fn unreached(&self, found: &[SocketAddr]) -> Option<Problem> {
        let why = SourceAddress::unreached(&self.sources, found)?;
        Some(Problem { text: format!("no source for it: {why}"), ..self.place.clone() })
    }
}

/// An address that connections are to be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: SourceAddress,
    /// Where it stands, without a text.
    place: Problem,
}

impl Source {
    /// What is wrong if it cannot be used; `why` does not have the address in it, which may be a secret.
    pub fn failed(&self, why: &str) -> Problem {
        Problem { text: why.to_owned(), ..self.place.clone() }
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            config: Config::default(),
            logging: Logging::default(),
            stats_interval: Some(Duration::from_secs(1)),
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: LevelFilter::INFO }
    }
}

/// Reads a file and what it includes, with variables from `environment`.
///
/// # Errors
/// All that is wrong, as far as one thing does not hide another: a file that is no TOML is judged no further.
pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Loaded, Errors> {
    let mut files = files::Files::new(environment);
    files.read(path);
    finish(files)
}

/// The same for a text that is in no file, so that it can name no other file relative to itself. Nothing is
/// read from the disk.
///
/// # Errors
/// As [`load`]; a text that names another file is wrong too.
pub fn load_text(text: &str, environment: &Environment<'_>) -> Result<Loaded, Errors> {
    let mut files = files::Files::new(environment);
    files.take(text.to_owned());
    finish(files)
}

fn finish(mut files: files::Files<'_>) -> Result<Loaded, Errors> {
    let build::Built { settings, lookups, sources, places, warnings } = build::settings(&mut files);
    files.problems.into_result(&files.paths)?;
    Ok(Loaded { settings, files: files.paths, lookups, sources, places, warnings })
}

#[cfg(test)]
mod tests;
