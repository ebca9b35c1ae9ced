//! The plan as it is echoed in a report.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::request::Order;
use crate::load::{Arrival, CloseStyle, ExpectBody, HttpPlan, Mode, Pace, Plan, Sources};

/// What was to be done: by one run, or by all that were merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanReport {
    /// Where to: `127.0.0.1:7000`, `unix:/path`. More than one after merging.
    pub targets: Vec<String>,
    /// What one operation was.
    #[serde(with = "ModeForm")]
    pub mode: Mode,
    /// When operations started; added up when merged.
    #[serde(with = "PaceForm")]
    pub pace: Pace,
    /// Who closed, and how.
    #[serde(with = "CloseForm")]
    pub close: CloseStyle,
    /// Bytes of a request.
    pub request_bytes: usize,
    /// Bytes of a response; not for HTTP.
    pub response_bytes: Option<usize>,
    /// HTTP only.
    pub http: Option<HttpReport>,
    /// Pause of a connection between two of its operations, nanoseconds.
    pub think_ns: u64,
    /// The window that was to be measured, nanoseconds.
    pub duration_ns: u64,
    /// Not measured, before the window, nanoseconds.
    pub warm_up_ns: u64,
    /// Would end the run early after so many operations.
    pub count: Option<u64>,
    /// Threads, each with a ring; added up when merged.
    pub threads: usize,
    /// Limit of a handshake, nanoseconds.
    pub connect_timeout_ns: u64,
    /// Limit of a response, nanoseconds.
    pub response_timeout_ns: u64,
    /// Local addresses in turn; empty where the kernel chose.
    pub sources: Vec<String>,
    /// Seed of each run.
    pub seeds: Vec<u64>,
}

impl From<&Plan> for PlanReport {
    fn from(plan: &Plan) -> Self {
        Self {
            targets: plan.targets.iter().map(ToString::to_string).collect(),
            mode: plan.mode,
            pace: plan.pace,
            close: plan.close,
            request_bytes: plan.request_bytes,
            response_bytes: plan.response_bytes,
            http: plan.http.as_ref().map(HttpReport::from),
            think_ns: ns(plan.think),
            duration_ns: ns(plan.duration),
            warm_up_ns: ns(plan.warm_up),
            count: plan.count,
            threads: plan.threads,
            connect_timeout_ns: ns(plan.timeouts.connect),
            response_timeout_ns: ns(plan.timeouts.response),
            sources: sources(&plan.sources),
            seeds: vec![plan.seed],
        }
    }
}

/// What HTTP requests were sent, and which answers were right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpReport {
    /// Method of the first request.
    pub method: String,
    /// Path and query of the first request.
    pub path: String,
    /// How many different ones there were.
    pub requests: usize,
    /// How they followed each other.
    #[serde(with = "OrderForm")]
    pub order: Order,
    /// Requests that could wait for their answers on one connection.
    pub pipeline: usize,
    /// Statuses that were right.
    pub expect_status: String,
    /// The size that bodies had to have; null: any.
    pub expect_body_bytes: Option<u64>,
    /// Bodies had to have the size of the first one.
    pub verify: bool,
}

impl From<&HttpPlan> for HttpReport {
    fn from(plan: &HttpPlan) -> Self {
        let first = plan.requests.first();
        let expect_body_bytes = match plan.expect_body {
            ExpectBody::Bytes(bytes) => Some(bytes),
            ExpectBody::Any | ExpectBody::LikeTheFirst => None,
        };
        Self {
            method: first.map_or("", |request| request.method()).to_owned(),
            path: first.map_or("", |request| request.path()).to_owned(),
            requests: plan.requests.len(),
            order: plan.order,
            pipeline: plan.pipeline,
            expect_status: plan.expect_status.to_string(),
            expect_body_bytes,
            verify: plan.expect_body == ExpectBody::LikeTheFirst,
        }
    }
}

/// How an [`Order`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Order", rename_all = "kebab-case")]
enum OrderForm {
    InTurn,
    Random,
}

fn sources(sources: &Sources) -> Vec<String> {
    match sources {
        Sources::Kernel => Vec::new(),
        Sources::Rotate(addresses) => addresses.iter().map(ToString::to_string).collect(),
    }
}

/// Nanoseconds of a duration; 584 years is where it ends.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How a [`Mode`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase", deny_unknown_fields)]
enum ModeForm {
    Accept,
    Crr,
    Rr,
    Http { requests_per_connection: Option<u32> },
    Hold,
    Stream { echo: bool },
    Storm,
}

/// How a [`Pace`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Pace", rename_all = "lowercase", deny_unknown_fields)]
enum PaceForm {
    Closed {
        connections: usize,
    },
    Open {
        #[serde(rename = "rate_per_second")]
        rate: f64,
        #[serde(with = "ArrivalForm")]
        arrival: Arrival,
        max_inflight: usize,
    },
    Fixed {
        connections: usize,
        #[serde(rename = "rate_per_second")]
        rate: f64,
        #[serde(with = "ArrivalForm")]
        arrival: Arrival,
    },
}

/// How an [`Arrival`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Arrival", rename_all = "lowercase")]
enum ArrivalForm {
    Poisson,
    Uniform,
}

/// How a [`CloseStyle`] is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "CloseStyle", rename_all = "lowercase")]
enum CloseForm {
    Fin,
    Rst,
    Server,
    Half,
}
