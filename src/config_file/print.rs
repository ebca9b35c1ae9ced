//! A configuration as the file that says the same. What is the default is left out.

use toml::{Table, Value};

use super::admission;
use super::kinds::Words;
use super::names::ServiceName;
use super::tables::{FrontendTable, Root, UpstreamTable};
use super::text::{Kind, OneOrMany, Text};
use super::variables::escaped;
use super::{RunSettings, default_buffer_bytes, process, upstream};
use crate::config::upstream::UpstreamConfig;
use crate::config::{
    AccessLogConfig, ConfigError, Frontend, HttpConfig, LogTarget, Protocol, ProxyConfig,
    RequestLimits,
};

/// From how many bytes on a body of filler bytes is written as their number.
const FILLER_MIN: usize = 64;

/// The file that says what `settings` do.
///
/// # Errors
/// Something that cannot stand in a file: a service that a program brings, or a body or path that is no text.
pub fn print(settings: &RunSettings) -> Result<String, ConfigError> {
    let config = &settings.config;
    let mut defaults = RunSettings::default();
    defaults.config.process.ring.buffer_bytes = default_buffer_bytes(config);
    let process = without(&process::table(settings), &process::table(&defaults))?;
    let mut frontends = Table::new();
    for frontend in &config.frontends {
        let (table, defaults) = (table(frontend)?, default_table(frontend));
        frontends.insert(frontend.name.clone(), Value::Table(without(&table, &defaults)?));
    }
    let mut upstreams = Table::new();
    for upstream in &config.upstreams {
        let defaults = upstream::table(&UpstreamConfig::new(Vec::new()));
        let table = without(&upstream::table(upstream), &defaults)?;
        upstreams.insert(upstream.name.clone(), Value::Table(table));
    }
    let mut root = Table::new();
    for (name, table) in [("process", process), ("frontend", frontends), ("upstream", upstreams)] {
        if !table.is_empty() {
            root.insert(name.to_owned(), Value::Table(table));
        }
    }
    toml::to_string(&root).map_err(|error| ConfigError::new(error.to_string()))
}

/// The entries of a table that differ from those of another.
fn without<T: serde::Serialize>(table: &T, defaults: &T) -> Result<Table, ConfigError> {
    let made = |table| Table::try_from(table).map_err(|error| ConfigError::new(error.to_string()));
    let (table, defaults) = (made(table)?, made(defaults)?);
    let differs = |(key, value): &(String, Value)| defaults.get(key) != Some(value);
    Ok(table.into_iter().filter(differs).map(|(key, value)| (key, quoted(value))).collect())
}

/// With dollar signs as they have to be written.
fn quoted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(&text)),
        Value::Array(values) => Value::Array(values.into_iter().map(quoted).collect()),
        Value::Table(table) => {
            Value::Table(table.into_iter().map(|(key, value)| (key, quoted(value))).collect())
        }
        other => other,
    }
}

/// What a frontend of the same service has that says no more than it must.
fn default_table(frontend: &Frontend) -> FrontendTable {
    let protocol = match &frontend.protocol {
        Protocol::Http(_) => Protocol::Http(HttpConfig::default()),
        Protocol::Proxy(_) => Protocol::Proxy(Box::new(ProxyConfig::new(""))),
        other => other.clone(),
    };
    let table = table(&Frontend::new("", protocol)).unwrap_or_default();
    FrontendTable { service: None, ..table }
}

/// The table that says the same as a frontend.
pub(super) fn table(frontend: &Frontend) -> Result<FrontendTable, ConfigError> {
    let Frontend {
        name: _,
        listen,
        socket,
        trusted,
        sources,
        limits,
        timeouts,
        overload,
        access_log,
        protocol,
    } = frontend;
    let mut table = FrontendTable {
        listen: Some(OneOrMany::of(listen)),
        max_connections: limits.max_connections.as_ref().map(Text::of),
        rate: limits.rate.as_ref().map(Text::of),
        send_queue: Some(Text::of(&limits.budget_bytes)),
        backlog: socket.backlog.as_ref().map(Text::of),
        defer_accept: Some(Text::of(&socket.defer_accept)),
        fast_open: socket.fast_open.as_ref().map(Text::of),
        nagle: Some(Text::of(&!socket.nodelay)),
        keepalive: socket.keepalive_idle.as_ref().map(Text::of),
        user_timeout: socket.user_timeout.as_ref().map(Text::of),
        v6_only: Some(Text::of(&socket.v6_only)),
        queue_wait_sample: Some(Text::of(&socket.queue_wait_sample)),
        overload: Some(Text::of(&overload.action)),
        overload_target: Some(Text::of(&overload.target)),
        overload_interval: Some(Text::of(&overload.interval)),
        patience: overload.patience.as_ref().map(Text::of),
        half_close: Some(Text::of(&overload.half_close)),
        first_byte_timeout: Some(Text::of(&timeouts.first_byte)),
        idle_timeout: Some(Text::of(&timeouts.idle)),
        write_stall_timeout: timeouts.write_stall.as_ref().map(Text::of),
        linger_timeout: Some(Text::of(&timeouts.linger)),
        proxy_protocol_in: (!trusted.is_empty()).then(|| OneOrMany::of(trusted)),
        ..FrontendTable::default()
    };
    admission::print(&mut table, sources)?;
    if let Some(log) = access_log {
        print_access_log(&mut table, log)?;
    }
    let service = match protocol {
        Protocol::Echo => ServiceName::Echo,
        Protocol::Discard => ServiceName::Discard,
        Protocol::Http(http) => {
            print_body(&mut table, &http.body)?;
            print_limits(&mut table, &http.limits);
            ServiceName::Http
        }
        Protocol::Proxy(proxy) => {
            print_proxy(&mut table, proxy)?;
            ServiceName::Proxy
        }
        Protocol::Service => {
            let text = "a service that a program brings cannot stand in a file";
            return Err(ConfigError::new(text));
        }
    };
    table.service = Some(Text::of(&service));
    Ok(table)
}

fn print_body(table: &mut FrontendTable, body: &[u8]) -> Result<(), ConfigError> {
    if body.len() >= FILLER_MIN && body.iter().all(|&byte| byte == b'x') {
        table.body_size = Some((body.len()).to_string().into());
        return Ok(());
    }
    let text = std::str::from_utf8(body).map_err(|_| {
        ConfigError::new("a body that is no text cannot stand in a file; use body_file")
    })?;
    table.body = Some(Words::write(&text.to_owned()).into());
    Ok(())
}

fn print_limits(table: &mut FrontendTable, limits: &RequestLimits) {
    table.header_timeout = Some(Text::of(&limits.header_timeout));
    table.min_rate = Some(Text::of(&limits.min_rate));
    table.min_rate_grace = Some(Text::of(&limits.grace));
}

fn print_proxy(table: &mut FrontendTable, proxy: &ProxyConfig) -> Result<(), ConfigError> {
    table.upstream = Some(proxy.upstream.clone().into());
    if !proxy.routes.is_empty() {
        let route = |(pattern, name): &(String, String)| (pattern.clone(), name.clone().into());
        table.routes = Some(proxy.routes.iter().map(route).collect());
    }
    table.retries = Some(Text::of(&u32::from(proxy.retries)));
    table.queue = Some(Text::of(&proxy.queue));
    table.queue_timeout = Some(Text::of(&proxy.queue_timeout));
    table.connect_timeout = Some(Text::of(&proxy.connect_timeout));
    table.half_closed_timeout = Some(Text::of(&proxy.half_closed_timeout));
    table.lifetime = proxy.lifetime.as_ref().map(Text::of);
    table.proxy_protocol_out = proxy.send_header.as_ref().map(Text::of);
    table.splice = Some(Text::of(&proxy.splice));
    Ok(())
}

fn print_access_log(
    table: &mut FrontendTable,
    AccessLogConfig { target, format }: &AccessLogConfig,
) -> Result<(), ConfigError> {
    if let LogTarget::File(path) | LogTarget::Syslog(path) = target
        && path.to_str().is_none()
    {
        let text = "the path of an access log that is no text cannot stand in a file";
        return Err(ConfigError::new(text));
    }
    table.access_log = Some(Text::of(target));
    table.access_log_format = Some(Text::of(format));
    Ok(())
}

/// Every key that has a default, with it.
pub(super) fn defaults() -> Root {
    let proxy = Frontend::new("NAME", Protocol::Proxy(Box::new(ProxyConfig::new(""))));
    let upstream = UpstreamTable {
        backends: None,
        backends_file: None,
        ..upstream::table(&UpstreamConfig::new(Vec::new()))
    };
    let mut frontend = table(&proxy).unwrap_or_default();
    (frontend.listen, frontend.service, frontend.upstream) = (None, None, None);
    print_limits(&mut frontend, &RequestLimits::default());
    frontend.access_log_format = Some(Text::of(&crate::config::LogFormat::default()));
    let mut process = process::table(&RunSettings::default());
    process.buffer_size = None;
    Root {
        process: Some(process),
        frontend: [("NAME".to_owned(), frontend)].into_iter().collect(),
        upstream: [("NAME".to_owned(), upstream)].into_iter().collect(),
        ..Root::default()
    }
}
