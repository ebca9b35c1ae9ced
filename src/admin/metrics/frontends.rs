//! Metrics of frontends.

use std::fmt;

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::rows_of;
use crate::admin::writer::Writer;
use crate::metrics::{Durations, FrontendTimes};
use crate::server::FrontendStatus;
use crate::sources::{Action, Rule, Sources};

/// Of each frontend.
pub(super) fn frontends(writer: &mut Writer<'_>, all: &[FrontendStatus]) -> fmt::Result {
    let named = |frontend: &FrontendStatus| [("frontend", frontend.name.clone())];
    let names: Vec<_> = all.iter().map(named).collect();
    let mut info =
        writer.0.encode_descriptor("frontend", "What a frontend does.", None, MetricType::Info)?;
    for frontend in all {
        let labels = [("frontend", frontend.name.as_str()), ("service", &frontend.service)];
        info.encode_info(&labels)?;
    }
    let rows = rows_of(&names).zip(all.iter().map(|it| it.open() as f64));
    writer.gauges(
        ("frontend_open_connections", "Connections of a frontend that are open.", None),
        rows,
    )?;
    let mut times = |name, help, which: fn(&FrontendTimes) -> &Durations| {
        let rows = rows_of(&names).zip(all.iter().map(|it| which(it.times()).get()));
        writer.histograms((name, help, Some(Unit::Seconds)), rows)
    };
    times("frontend_dispatch", "Hand-over from accept(2) to a worker.", |it| &it.dispatch)?;
    times("frontend_connect", "Connects to a backend that succeeded.", |it| &it.connect)?;
    let help = "From a worker to the backend's first byte; without a backend, to the client's.";
    times("frontend_first_byte", help, |it| &it.first_byte)?;
    times(
        "frontend_lifetime",
        "Connection lifetime, from the hand-over to a worker to the end.",
        |it| &it.lifetime,
    )?;
    source_rules(writer, all)?;
    let limits = all.iter().map(FrontendStatus::max_connections);
    let rows = rows_of(&names).zip(limits).filter_map(|(name, it)| Some((name, it? as f64)));
    let help = "How many connections of a frontend may be open; without this metric, as many as of the process.";
    writer.gauges(("frontend_max_connections", help, None), rows)
}

/// How often rules by source were against a connection; nothing where no rule is set.
fn source_rules(writer: &mut Writer<'_>, all: &[FrontendStatus]) -> fmt::Result {
    let rows = all.iter().flat_map(|frontend| {
        frontend.sources().counts().map(|(rule, action, count)| {
            let name = ("frontend", frontend.name.clone());
            let labels =
                [name, ("rule", rule.name().to_owned()), ("action", action.name().to_owned())];
            (labels, count)
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let help = "Connections that a rule by source was against, and what became of them.";
    writer.counters(("frontend_source_rule", help, None), rows)
}

/// The same of the rules of the process.
pub(super) fn source_rules_of_process(writer: &mut Writer<'_>, sources: &Sources) -> fmt::Result {
    let row = |(rule, action, count): (Rule, Action, u64)| {
        ([("rule", rule.name().to_owned()), ("action", action.name().to_owned())], count)
    };
    let rows: Vec<_> = sources.counts().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let help =
        "Connections that a limit by source of the process was against, and what became of them.";
    writer.counters(("source_rule", help, None), rows)
}
