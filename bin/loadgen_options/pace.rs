//! Which options of the pace fit together, and what to use in place of those that do not.

use std::time::Duration;

use clap::ValueEnum;
use uring_acceptor::load::{Arrival, Mode, Pace};

use super::typed::{Crowd, KeptPace, PaceOptions};
use uring_acceptor::config::human::Human;

/// Connections at a time where nothing is said.
pub(super) const CONNECTIONS: usize = 64;

/// Operations in flight where nothing is said.
pub(super) const MAX_INFLIGHT: usize = 4096;

impl Crowd {
    pub(super) fn pace(&self) -> Pace {
        Pace::Closed { connections: self.connections }
    }
}

impl PaceOptions {
    /// The pace of `mode`, or which options cannot be together, and why.
    pub(super) fn pace(&self, mode: Mode) -> Result<Pace, String> {
        let Some(rate) = self.rate else { return self.closed() };
        let arrival = self.arrival.map_or(Arrival::Poisson, |arriving| arriving.0);
        match (self.connections, self.max_inflight) {
            (Some(connections), None) => {
                stay_open(mode, connections, rate)?;
                Ok(Pace::Fixed { connections, rate, arrival })
            }
            (None, max_inflight) => {
                let max_inflight = max_inflight.unwrap_or(MAX_INFLIGHT);
                Ok(Pace::Open { rate, arrival, max_inflight })
            }
            (Some(connections), Some(most)) => Err(format!(
                "--max-inflight {most} does not go with --connections {connections}: on a fixed number \
                 of connections operations wait for a free one; leave one of the two out"
            )),
        }
    }

    fn closed(&self) -> Result<Pace, String> {
        if let Some(most) = self.max_inflight {
            return Err(format!(
                "--max-inflight {most} needs --rate R; without it, --connections says how many are in \
                 flight"
            ));
        }
        if let Some(arriving) = self.arrival {
            let arrival = arriving.to_possible_value().expect("each has a name");
            let name = arrival.get_name();
            return Err(format!(
                "--arrival {name} needs --rate R: without it no starts are planned"
            ));
        }
        Ok(Pace::Closed { connections: self.connections.unwrap_or(CONNECTIONS) })
    }
}

/// Whether a connection of `mode` has more than one operation.
pub(super) fn stays_open(mode: Mode) -> bool {
    matches!(mode, Mode::Rr | Mode::Http { requests_per_connection: None | Some(2..) })
}

/// Whether the connections of `mode` can be a fixed number that stays open.
fn stay_open(mode: Mode, connections: usize, rate: f64) -> Result<(), String> {
    let instead = match mode {
        mode if stays_open(mode) => return Ok(()),
        Mode::Hold => {
            "give --count for the number of connections that are opened at the rate".to_owned()
        }
        _ => format!(
            "each operation makes a connection of its own; give --max-inflight {connections} to bound \
             them, or use rr or http, whose connections stay open"
        ),
    };
    Err(format!("--connections {connections} does not go with --rate {rate} here: {instead}"))
}

impl KeptPace {
    /// The pace of `mode` and the pause between two operations of a connection.
    pub(super) fn checked(&self, mode: Mode, pace: Pace) -> Result<(Pace, Duration), String> {
        let Some(think) = self.think else { return Ok((pace, Duration::ZERO)) };
        let refused = |why: &str| Err(format!("--think {think}: {why}"));
        if matches!(mode, Mode::Http { requests_per_connection: Some(1) }) {
            return refused("with --requests-per-connection 1 a connection has only one operation");
        }
        if matches!(pace, Pace::Open { .. }) {
            return refused(
                "starts are planned whatever connections do; give --connections N too, and no \
                 --max-inflight",
            );
        }
        let Human(think) = think;
        Ok((pace, think))
    }
}

/// Whether requests can wait behind each other on a connection.
pub(super) fn check_pipeline(
    pipeline: usize,
    mode: Mode,
    pace: Pace,
    think: Duration,
) -> Result<(), String> {
    let refused = |why: &str| Err(format!("--pipeline {pipeline}: {why}"));
    if pipeline == 1 {
        return Ok(());
    }
    if matches!(mode, Mode::Http { requests_per_connection: Some(1) }) {
        return refused("with --requests-per-connection 1 there is nothing to send ahead");
    }
    if matches!(pace, Pace::Open { .. }) {
        return refused(
            "starts are planned whatever connections do; give --connections N too, and no \
             --max-inflight",
        );
    }
    if !think.is_zero() {
        return refused(
            "--think pauses between an answer and the next request; leave one of the two out",
        );
    }
    Ok(())
}
