//! `[process]`: from its table to settings, and back.

use std::time::Duration;

use super::RunSettings;
use super::reader::Reader;
use super::tables::ProcessTable;
use super::text::Text;
use crate::config::Process;

/// Returns the size of a buffer, whose default depends on the frontends.
pub(super) fn apply(
    reader: &mut Reader<'_, '_>,
    table: &ProcessTable,
    settings: &mut RunSettings,
) -> Option<u32> {
    let process = &mut settings.config.process;
    reader.take("workers", &table.workers, &mut process.threads.workers);
    reader.take("acceptors", &table.acceptors, &mut process.threads.acceptors);
    reader.take("cpus", &table.cpus, &mut process.threads.cpus);
    reader.take("dispatch", &table.dispatch, &mut process.dispatch);
    reader.take("max_connections", &table.max_connections, &mut process.max_connections);
    reader.take("max_per_source", &table.max_per_source, &mut process.max_per_source);
    reader.take("rate_per_source", &table.rate_per_source, &mut process.rate_per_source);
    reader.take("sources", &table.sources, &mut process.sources.table);
    reader.take("ipv4_prefix", &table.ipv4_prefix, &mut process.sources.ipv4_prefix);
    reader.take("ipv6_prefix", &table.ipv6_prefix, &mut process.sources.ipv6_prefix);
    reader.take("drain_timeout", &table.drain_timeout, &mut process.drain_timeout);
    reader.take("drain_spread", &table.drain_spread, &mut process.drain_spread);
    reader.take("engine", &table.engine, &mut process.engine);
    reader.take("buffers", &table.buffers, &mut process.ring.buffers);
    reader.take("cq_entries", &table.cq_entries, &mut process.ring.completion_entries);
    reader.take("sq_entries", &table.sq_entries, &mut process.ring.submission_entries);
    reader.take("control", &table.control, &mut process.control);
    reader.take("admin", &table.admin, &mut process.admin);
    reader.take("log_level", &table.log_level, &mut settings.logging.level);
    reader.take("log_format", &table.log_format, &mut settings.logging.format);
    if let Some(interval) = reader.optional("stats_interval", &table.stats_interval) {
        settings.stats_interval = Some(interval).filter(|interval| !interval.is_zero());
    }
    reader.optional("buffer_size", &table.buffer_size)
}

/// The table that says the same.
pub(super) fn table(settings: &RunSettings) -> ProcessTable {
    let Process {
        threads,
        dispatch,
        max_connections,
        sources,
        max_per_source,
        rate_per_source,
        drain_timeout,
        drain_spread,
        engine,
        ring,
        control,
        admin,
    } = &settings.config.process;
    ProcessTable {
        workers: threads.workers.as_ref().map(Text::of),
        acceptors: Some(Text::of(&threads.acceptors)),
        cpus: threads.cpus.as_ref().map(Text::of),
        dispatch: Some(Text::of(dispatch)),
        max_connections: max_connections.as_ref().map(Text::of),
        max_per_source: max_per_source.as_ref().map(Text::of),
        rate_per_source: rate_per_source.as_ref().map(Text::of),
        sources: Some(Text::of(&sources.table)),
        ipv4_prefix: Some(Text::of(&sources.ipv4_prefix)),
        ipv6_prefix: Some(Text::of(&sources.ipv6_prefix)),
        drain_timeout: Some(Text::of(drain_timeout)),
        drain_spread: Some(Text::of(drain_spread)),
        engine: Some(Text::of(engine)),
        buffers: ring.buffers.as_ref().map(Text::of),
        buffer_size: Some(Text::of(&ring.buffer_bytes)),
        cq_entries: ring.completion_entries.as_ref().map(Text::of),
        sq_entries: Some(Text::of(&ring.submission_entries)),
        log_level: Some(Text::of(&settings.logging.level)),
        log_format: Some(Text::of(&settings.logging.format)),
        stats_interval: Some(Text::of(&settings.stats_interval.unwrap_or(Duration::ZERO))),
        control: control.as_ref().map(Text::of),
        admin: admin.as_ref().map(Text::of),
    }
}
