//! `[frontend.NAME]` and `[defaults]`: from a table to a frontend, and back.

use std::collections::HashMap;
use std::path::PathBuf;

use super::admission;
use super::document::Document;
use super::files::{BESIDE_NO_FILE, read_whole};
use super::names::ServiceName;
use super::problem::KeyPath;
use super::reader::{Keys, Reader};
use super::tables::{BODY_BYTES_MAX, FrontendTable};
use super::text::OneOrMany;
use crate::config::{
    AccessLogConfig, Frontend, HttpConfig, Listen, LogFormat, LogTarget, Protocol, ProxyConfig,
};
use crate::preread::routes::Pattern;

/// What each frontend has to say itself.
pub(super) const NOT_IN_DEFAULTS: [&str; 7] =
    ["listen", "service", "upstream", "routes", "body", "body_size", "body_file"];

/// What the services have of their own.
pub(super) const OF_HTTP: [&str; 6] =
    ["body", "body_size", "body_file", "header_timeout", "min_rate", "min_rate_grace"];
const BODIES: [&str; 3] = ["body", "body_size", "body_file"];
pub(super) const OF_PROXY: [&str; 10] = [
    "upstream",
    "routes",
    "retries",
    "queue",
    "queue_timeout",
    "connect_timeout",
    "half_closed_timeout",
    "lifetime",
    "proxy_protocol_out",
    "splice",
];

/// What a frontend is told, whatever its service.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    frontend: Frontend,
    http: HttpConfig,
    proxy: ProxyConfig,
    access_log: Option<LogTarget>,
    access_log_format: LogFormat,
    /// Files that were read for it.
    files: Vec<PathBuf>,
}

/// A frontend that was read, and what has to be compared with others.
pub(super) struct Read<'a> {
    pub(super) document: &'a Document,
    /// `None` if something was missing.
    pub(super) frontend: Option<Frontend>,
    pub(super) listen: Vec<(KeyPath, Listen)>,
    /// The upstreams that it names.
    pub(super) upstreams: Vec<(KeyPath, String)>,
    /// Other files that it names, which were read.
    pub(super) files: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frontend: Frontend::new("", Protocol::Echo),
            http: HttpConfig::default(),
            proxy: ProxyConfig::new(""),
            access_log: None,
            access_log_format: LogFormat::default(),
            files: Vec::new(),
        }
    }
}

impl Settings {
    pub(super) fn apply_defaults(&mut self, reader: &mut Reader<'_, '_>, table: &FrontendTable) {
        for key in NOT_IN_DEFAULTS.into_iter().filter(|key| reader.has(key)).collect::<Vec<_>>() {
            let text = format!("no default can be given for {key}; write it into each frontend");
            reader.wrong_key(&reader.path.key(key), text);
        }
        self.apply(reader, table);
    }

    /// What no other frontend and no upstream has a say in.
    fn apply(&mut self, reader: &mut Reader<'_, '_>, table: &FrontendTable) {
        let Frontend { socket, limits, timeouts, sources, overload, .. } = &mut self.frontend;
        self.files.extend(admission::apply(reader, table, sources));
        reader.take("rate", &table.rate, &mut limits.rate);
        reader.take("max_connections", &table.max_connections, &mut limits.max_connections);
        reader.take("send_queue", &table.send_queue, &mut limits.budget_bytes);
        reader.take("backlog", &table.backlog, &mut socket.backlog);
        reader.take("defer_accept", &table.defer_accept, &mut socket.defer_accept);
        reader.take("fast_open", &table.fast_open, &mut socket.fast_open);
        reader.take("keepalive", &table.keepalive, &mut socket.keepalive_idle);
        reader.take("user_timeout", &table.user_timeout, &mut socket.user_timeout);
        reader.take("v6_only", &table.v6_only, &mut socket.v6_only);
        let sample = &mut socket.queue_wait_sample;
        reader.take("queue_wait_sample", &table.queue_wait_sample, sample);
        if let Some(nagle) = reader.optional("nagle", &table.nagle) {
            socket.nodelay = !nagle;
        }
        reader.take("first_byte_timeout", &table.first_byte_timeout, &mut timeouts.first_byte);
        reader.take("idle_timeout", &table.idle_timeout, &mut timeouts.idle);
        reader.take("write_stall_timeout", &table.write_stall_timeout, &mut timeouts.write_stall);
        reader.take("linger_timeout", &table.linger_timeout, &mut timeouts.linger);
        reader.take("overload", &table.overload, &mut overload.action);
        reader.take("overload_target", &table.overload_target, &mut overload.target);
        reader.take("overload_interval", &table.overload_interval, &mut overload.interval);
        reader.take("patience", &table.patience, &mut overload.patience);
        reader.take("half_close", &table.half_close, &mut overload.half_close);
        if let Some(networks) = &table.proxy_protocol_in {
            let networks = reader.many("proxy_protocol_in", networks);
            self.frontend.trusted = networks.into_iter().map(|(_, network)| network).collect();
        }
        reader.take("access_log", &table.access_log, &mut self.access_log);
        reader.take("access_log_format", &table.access_log_format, &mut self.access_log_format);
        let limits = &mut self.http.limits;
        reader.take("header_timeout", &table.header_timeout, &mut limits.header_timeout);
        reader.take("min_rate", &table.min_rate, &mut limits.min_rate);
        reader.take("min_rate_grace", &table.min_rate_grace, &mut limits.grace);
        self.apply_proxy(reader, table);
    }

    fn apply_proxy(&mut self, reader: &mut Reader<'_, '_>, table: &FrontendTable) {
        let proxy = &mut self.proxy;
        if let Some(retries) = reader.optional("retries", &table.retries) {
            proxy.retries = u8::try_from(retries).unwrap_or(u8::MAX);
        }
        reader.take("queue", &table.queue, &mut proxy.queue);
        reader.take("queue_timeout", &table.queue_timeout, &mut proxy.queue_timeout);
        reader.take("connect_timeout", &table.connect_timeout, &mut proxy.connect_timeout);
        let half_closed = &mut proxy.half_closed_timeout;
        reader.take("half_closed_timeout", &table.half_closed_timeout, half_closed);
        reader.take("lifetime", &table.lifetime, &mut proxy.lifetime);
        reader.take("proxy_protocol_out", &table.proxy_protocol_out, &mut proxy.send_header);
        reader.take("splice", &table.splice, &mut proxy.splice);
    }

    /// Reads one frontend.
    pub(super) fn read<'a>(
        mut self,
        reader: &mut Reader<'a, '_>,
        name: &str,
        keys: &Keys<FrontendTable>,
    ) -> Read<'a> {
        if let Err(error) = Frontend::validate_name(name) {
            reader.wrong_key(&reader.path.clone(), error.to_string());
        }
        let document = reader.document;
        let mut read = Read {
            document,
            frontend: None,
            listen: Vec::new(),
            upstreams: Vec::new(),
            files: Vec::new(),
        };
        let Some(table) = reader.table::<FrontendTable>(keys) else { return read };
        self.apply(reader, &table);
        if let Some(listen) = &table.listen {
            read.listen = reader.many("listen", listen);
        }
        let service = reader.optional("service", &table.service);
        let nowhere = matches!(&table.listen, Some(OneOrMany::Many(list)) if list.is_empty());
        missing(reader, "listen", nowhere || !reader.has("listen"));
        missing(reader, "service", !reader.has("service"));
        let Some(service) = service else { return read };
        out_of_place(reader, service);
        if let Err(error) = self.frontend.overload.validate() {
            reader.wrong_key(&reader.path.key("overload_target"), error.to_string());
        }
        let protocol = self.protocol(reader, (service, &table), &mut read);
        self.frontend.name = name.to_owned();
        self.frontend.listen = read.listen.iter().map(|(_, listen)| listen.clone()).collect();
        read.files.append(&mut self.files);
        let format = self.access_log_format;
        self.frontend.access_log = self.access_log.map(|target| AccessLogConfig { target, format });
        read.frontend = Some(Frontend { protocol, ..self.frontend });
        read
    }

    fn protocol(
        &mut self,
        reader: &mut Reader<'_, '_>,
        (service, table): (ServiceName, &FrontendTable),
        read: &mut Read<'_>,
    ) -> Protocol {
        match service {
            ServiceName::Echo => Protocol::Echo,
            ServiceName::Discard => Protocol::Discard,
            ServiceName::Http => {
                read.files.extend(self.apply_body(reader, table));
                Protocol::Http(self.http.clone())
            }
            ServiceName::Proxy => {
                self.apply_upstreams(reader, table, read);
                Protocol::Proxy(Box::new(self.proxy.clone()))
            }
        }
    }

    /// Returns the file, if the body is in one.
    fn apply_body(
        &mut self,
        reader: &mut Reader<'_, '_>,
        table: &FrontendTable,
    ) -> Option<PathBuf> {
        let mut given = BODIES.into_iter().filter(|key| reader.has(key));
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let text = format!("{first} is given already; leave one of them");
            reader.wrong_key(&reader.path.key(second), text);
        }
        if let Some(body) = reader.optional("body", &table.body) {
            self.http.body = body.into_bytes();
        }
        if let Some(size) = reader.optional("body_size", &table.body_size) {
            self.http.body = vec![b'x'; size as usize];
        }
        let file = reader.optional("body_file", &table.body_file)?;
        let Some(folder) = reader.document.folder() else {
            reader.wrong(&reader.path.key("body_file"), BESIDE_NO_FILE.to_owned());
            return None;
        };
        let path = folder.join(&file);
        match read_whole(&path, u64::from(BODY_BYTES_MAX)) {
            Ok(body) => self.http.body = body,
            Err(why) => reader.wrong(&reader.path.key("body_file"), why),
        }
        Some(path)
    }

    fn apply_upstreams(
        &mut self,
        reader: &mut Reader<'_, '_>,
        table: &FrontendTable,
        read: &mut Read<'_>,
    ) {
        missing(reader, "upstream", !reader.has("upstream"));
        let path = reader.path.key("upstream");
        if let Some(name) = reader.optional("upstream", &table.upstream) {
            self.proxy.upstream.clone_from(&name);
            read.upstreams.push((path, name));
        }
        let mut seen = HashMap::new();
        for (pattern, name) in table.routes.iter().flatten() {
            let path = reader.path.key("routes").key(pattern);
            let Some(name) = reader.value(&path, name) else { continue };
            match pattern.parse::<Pattern>() {
                Err(error) => reader.wrong_key(&path, error.to_string()),
                Ok(parsed) => {
                    if let Some(first) = seen.insert(parsed, pattern) {
                        let text = format!("'{first}' is a route for the same names; leave one");
                        reader.wrong_key(&path, text);
                    }
                    self.proxy.routes.push((parsed.to_string(), name.clone()));
                    read.upstreams.push((path, name));
                }
            }
        }
    }
}

fn missing(reader: &mut Reader<'_, '_>, key: &str, is_missing: bool) {
    let example = match key {
        "listen" => "\":7000\"",
        "service" => "\"echo\"",
        _ => "\"NAME\"",
    };
    if is_missing {
        let text = format!("it has no {key}; add one, such as {key} = {example}");
        reader.wrong_key(&reader.path.clone(), text);
    }
}

/// Keys that only other services have.
fn out_of_place(reader: &mut Reader<'_, '_>, service: ServiceName) {
    let of = [(ServiceName::Http, &OF_HTTP[..]), (ServiceName::Proxy, &OF_PROXY[..])];
    for (owner, keys) in of.into_iter().filter(|(owner, _)| *owner != service) {
        for key in keys {
            if reader.has(key) {
                let text = format!(
                    "only service = \"{}\" has it, and this is service = \"{}\"",
                    owner.word(),
                    service.word()
                );
                reader.wrong_key(&reader.path.key(key), text);
            }
        }
    }
}
