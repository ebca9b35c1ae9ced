//! Where the values of a configuration stand in its files, and which of them came from the environment: for what goes
//! wrong with them later, and for what a reload says.

use std::collections::{HashMap, HashSet};

use super::document::Document;
use super::problem::{KeyPath, Problem};
use crate::config::upstream::Target;
use crate::config::{Listen, LogTarget};

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// With nothing that is wrong.
    problem: Problem,
    is_secret: bool,
}

impl Place {
    fn new(document: &Document, path: &KeyPath, is_secret: bool) -> Self {
        Self::at(document.wrong_value(path, ""), is_secret)
    }

    /// There, with nothing that is wrong.
    pub(super) fn at(problem: Problem, is_secret: bool) -> Self {
        Self { problem, is_secret }
    }

    /// Whether something of the environment is in the value, so that it is shown as it is written.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// The value as it is written.
    pub fn written(&self) -> &str {
        let value = self.problem.value.as_deref().unwrap_or_default();
        value.trim_matches(['"', '\''])
    }

    /// What is wrong with it, behind the value as it is written.
    pub fn wrong_as_written(&self, text: impl Into<String>) -> Problem {
        Problem { text: text.into(), ..self.problem.clone() }
    }

    /// What is wrong with it. The value itself is shown if it is not in `text`, as it is written.
    pub fn wrong(&self, text: impl Into<String>) -> Problem {
        let value = self.problem.value.clone().filter(|_| self.is_secret);
        Problem { value, text: text.into(), ..self.problem.clone() }
    }
}

/// See the module. Empty for a configuration that is in no file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    pub(super) listens: HashMap<(String, Listen), Place>,
    pub(super) backends: HashMap<Target, Place>,
    /// Backends with a weight from the environment.
    pub(super) weights: HashSet<Target>,
    pub(super) access_logs: HashMap<LogTarget, Place>,
    pub(super) control: Option<Place>,
    pub(super) admin: Option<Place>,
    /// Whether the size of buffers is given, and not the default for these frontends.
    pub(super) has_buffer_size: bool,
    /// Ways to values with something of the environment in them, and all that these lie in.
    secret: HashSet<KeyPath>,
    /// Names and values of what came from the environment.
    variables: Vec<(String, String)>,
}

impl Places {
    /// Notes what of a file came from the environment.
    pub(super) fn add(&mut self, document: &Document) {
        for path in document.secrets() {
            let prefixes = (1..=path.0.len()).map(|length| KeyPath(path.0[..length].to_vec()));
            self.secret.extend(prefixes);
        }
        self.variables.extend(document.variables().iter().cloned());
        // One value may be a part of another.
        self.variables.sort_unstable_by(|one, other| {
            other.1.len().cmp(&one.1.len()).then_with(|| one.cmp(other))
        });
        self.variables.dedup();
    }

    /// The place of a value in a file that has been noted.
    pub(super) fn place(&self, document: &Document, path: &KeyPath) -> Place {
        Place::new(document, path, self.is_secret(path))
    }

    /// An address that a frontend listens on.
    pub fn listen(&self, frontend: &str, listen: &Listen) -> Option<&Place> {
        self.listens.get(&(frontend.to_owned(), listen.clone()))
    }

    /// The first place of a backend.
    pub fn backend(&self, target: &Target) -> Option<&Place> {
        self.backends.get(target)
    }

    /// Whether something of the environment is in a backend or in its weight.
    pub fn hides_weight(&self, target: &Target) -> bool {
        self.weights.contains(target) || self.backend(target).is_some_and(Place::is_secret)
    }

    /// The first place of an access log.
    pub fn access_log(&self, target: &LogTarget) -> Option<&Place> {
        self.access_logs.get(target)
    }

    /// The address of the control socket.
    pub fn control(&self) -> Option<&Place> {
        self.control.as_ref()
    }

    /// The address of the admin endpoint.
    pub fn admin(&self) -> Option<&Place> {
        self.admin.as_ref()
    }

    /// The address of the admin endpoint is another than that in the file.
    pub fn forget_admin(&mut self) {
        self.admin = None;
    }

    /// The address of the control socket is another than that in the file.
    pub fn forget_control(&mut self) {
        self.control = None;
    }

    /// Whether the size of buffers is given, and not the default for these frontends.
    pub fn has_buffer_size(&self) -> bool {
        self.has_buffer_size
    }

    /// Whether something of the environment is in the value of a key.
    pub(super) fn is_secret(&self, path: &KeyPath) -> bool {
        self.secret.contains(path)
    }

    /// A text with the names of variables in place of their values.
    pub fn hide(&self, text: impl Into<String>) -> String {
        without(&self.variables, text.into())
    }
}

/// A text in which nothing stands any more that came from the environment.
pub(super) fn without(variables: &[(String, String)], mut text: String) -> String {
    for (name, value) in variables {
        if !value.is_empty() {
            text = text.replace(value, &format!("${{{name}}}"));
        }
    }
    text
}
