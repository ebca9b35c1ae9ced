//! The tables of a file: each key with what it takes. Deserialized, written, and the source of the JSON Schema
//! and of docs/CONFIGURATION.md: the comment of a key is its description there.
//!
//! A key has the name of the option that does the same.

use std::path::PathBuf;

use indexmap::IndexMap;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::kinds::{
    Count, Flag, Keepalive, LONGEST, Name, OneOf, OrOff, Positive, StatsInterval, Time, Timeout,
    Whole, Words,
};
use super::names::{RefusalName, ServiceName};
use super::text::{OneOrMany, Text};
use crate::config::upstream::{
    Backend, Balance, CheckBytes, SourceAddress, Target, Weight, WhenAllOut,
};
use crate::config::{
    Acceptors, AdminAddress, CpuList, DispatchPolicy, Engine, Listen, LogFormat, LogTarget,
    OverloadAction, ProxyProtocolVersion, Rate, RequestLimits, RuleMode, SourceRules, UnixAddress,
};

/// Most of what the kernel counts in an int.
const INT_MAX: u32 = i32::MAX as u32;

/// Most bytes of a generated body: it stays in memory as long as the server runs.
pub(super) const BODY_BYTES_MAX: u32 = 64 * 1024 * 1024;

const MIN_RATE_MAX: u32 = RequestLimits::MIN_RATE_MAX;

/// Configuration of `acceptor run`
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "acceptor")]
pub(super) struct Root {
    /// Other files to read, relative to this one. Patterns such as `conf.d/*.toml` are read in the order of
    /// their names; one that matches no file is no error
    pub(super) include: Option<OneOrMany<PathBuf>>,
    /// Threads, limits and the log. In the first file only
    pub(super) process: Option<ProcessTable>,
    /// What holds for each frontend that does not say otherwise: any of its keys but `listen`, `service`,
    /// `upstream`, `routes` and the bodies. In the first file only
    pub(super) defaults: Option<FrontendTable>,
    /// What connections come in through, by its name
    #[serde(skip_serializing_if = "IndexMap::is_empty", default)]
    pub(super) frontend: IndexMap<String, FrontendTable>,
    /// Where a proxy forwards to, by its name; shared by all frontends that name it
    #[serde(skip_serializing_if = "IndexMap::is_empty", default)]
    pub(super) upstream: IndexMap<String, UpstreamTable>,
}

/// Threads, limits and the log
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProcessTable {
    /// Worker threads, which read and write. Unset: the CPUs this process may use
    pub(super) workers: Option<Text<Count<1024>>>,
    /// Threads that only accept; 0: each worker accepts for itself; auto: the first worker accepts
    /// for all; with more than 4 workers, a dedicated thread does
    pub(super) acceptors: Option<Text<Acceptors>>,
    /// Pin threads to these CPUs in turn, workers first. Unset: no pinning
    pub(super) cpus: Option<Text<CpuList>>,
    /// How connections are assigned to workers
    pub(super) dispatch: Option<Text<OneOf<DispatchPolicy>>>,
    /// Maximum open connections of all frontends together; more wait in the accept queue. Unset: from
    /// RLIMIT_NOFILE
    pub(super) max_connections: Option<Text<Count<{ u32::MAX }>>>,
    /// Maximum open connections of one source, of all frontends together. Unset: no limit
    pub(super) max_per_source: Option<Text<Positive<{ SourceRules::MAX_PER_SOURCE }>>>,
    /// Maximum new connections of one source in a time, of all frontends together. Unset: no limit
    pub(super) rate_per_source: Option<Text<Rate>>,
    /// Sources that are known at a time, of each frontend with a limit by source; 20 bytes each
    pub(super) sources: Option<Text<Whole<1024, 16_777_216>>>,
    /// Leading bits of an IPv4 address that make a source
    pub(super) ipv4_prefix: Option<Text<Whole<8, 32>>>,
    /// Leading bits of an IPv6 address that make a source
    pub(super) ipv6_prefix: Option<Text<Whole<32, 64>>>,
    /// Maximum time from the first signal until open sessions are cut off; 0s: at once
    pub(super) drain_timeout: Option<Text<Time<0, LONGEST>>>,
    /// In a drain, close idle connections (http, proxy) evenly over this time, so that not all clients reconnect
    /// at once. 0s: idle http connections at once, proxied ones not at all
    pub(super) drain_spread: Option<Text<Time<0, LONGEST>>>,
    /// I/O engine; auto: io_uring, or epoll where io_uring is unavailable
    pub(super) engine: Option<Text<OneOf<Engine>>>,
    /// Receive buffers of each worker. Unset: one per connection, up to 65535
    pub(super) buffers: Option<Text<Positive<65_535>>>,
    /// Receive buffer size in bytes. Unset: 16384, or 32768 if any frontend is a proxy
    pub(super) buffer_size: Option<Text<Whole<64, 32_768>>>,
    /// Completion queue entries of each io_uring. Unset: from the backlogs
    pub(super) cq_entries: Option<Text<Positive<65_536>>>,
    /// Submission queue entries of each io_uring
    pub(super) sq_entries: Option<Text<Whole<8, 32_768>>>,
    /// Least important messages that are logged
    pub(super) log_level: Option<Text<OneOf<LevelFilter>>>,
    /// Format of the log on stderr
    pub(super) log_format: Option<Text<OneOf<LogFormat>>>,
    /// Refresh interval of the live statistics on a terminal; 0s: none
    pub(super) stats_interval: Option<Text<StatsInterval>>,
    /// Where the control socket is. Unset: there is none
    pub(super) control: Option<Text<UnixAddress>>,
    /// Where metrics and the status are served over HTTP; a port alone is on 127.0.0.1. Unset: nowhere
    pub(super) admin: Option<Text<AdminAddress>>,
}

/// What connections come in through
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FrontendTable {
    /// Addresses to listen on, one or a list; port 0 picks a free one. Required
    pub(super) listen: Option<OneOrMany<Listen>>,
    /// What is done with its connections. Required
    pub(super) service: Option<Text<OneOf<ServiceName>>>,
    /// Maximum open connections of this frontend. Unset: that of the process
    pub(super) max_connections: Option<Text<Count<{ u32::MAX }>>>,
    /// Maximum new connections of this frontend in a time; what comes faster waits in the accept queue. Unset: no
    /// limit
    pub(super) rate: Option<Text<Rate>>,
    /// off: no rule by source holds; observe: what a rule is against is counted and comes in; enforce: it is refused
    pub(super) source_rules: Option<Text<OneOf<RuleMode>>>,
    /// Accept connections from these networks only, one or a list. An empty list is as good as none: it accepts all
    pub(super) allow: Option<OneOrMany<IpNet>>,
    /// The same in a file with a network in each line, relative to the configuration file; beside `allow`. A file without
    /// networks accepts none. It is watched: a change is applied at once
    pub(super) allow_file: Option<Text<PathBuf>>,
    /// Refuse connections from these networks, one or a list, even if they are in `allow`
    pub(super) deny: Option<OneOrMany<IpNet>>,
    /// The same in a file with a network in each line, relative to the configuration file; beside `deny`. It is
    /// watched: a change is applied at once
    pub(super) deny_file: Option<Text<PathBuf>>,
    /// No limit by source holds for these networks, one or a list
    pub(super) exempt: Option<OneOrMany<IpNet>>,
    /// Maximum open connections of one source (an IPv4 address or an IPv6 /64). Unset: no limit
    pub(super) max_per_source: Option<Text<Positive<{ SourceRules::MAX_PER_SOURCE }>>>,
    /// Maximum new connections of one source in a time. Unset: no limit
    pub(super) rate_per_source: Option<Text<Rate>>,
    /// An IPv6 /48 may have this many times as much as one source
    pub(super) site_factor: Option<Text<Whole<1, 65_536>>>,
    /// How a connection is refused that a rule by source is against: reset; close: a FIN; reply: `reply`, then a FIN;
    /// delay: above `rate_per_source` it is kept until its turn, for 5 s at most, and reset otherwise
    pub(super) refuse: Option<Text<OneOf<RefusalName>>>,
    /// Ban a source that `max_per_source` or `rate_per_source` has refused this many times (source_rules = enforce).
    /// Unset: never
    pub(super) ban_after: Option<Text<Positive<1_000_000>>>,
    /// For how long
    pub(super) ban_time: Option<Text<Timeout>>,
    /// What `refuse = "reply"` sends
    pub(super) reply: Option<Text<Words>>,
    /// The same in a file, relative to the configuration file
    pub(super) reply_file: Option<Text<PathBuf>>,
    /// Length of the accept queue. Unset: net.core.somaxconn
    pub(super) backlog: Option<Text<Positive<INT_MAX>>>,
    /// Accept a connection only once its first bytes have arrived (TCP_DEFER_ACCEPT)
    pub(super) defer_accept: Option<Text<Flag>>,
    /// Accept data in the SYN, with up to this many such connections pending (TCP_FASTOPEN). Unset: off
    pub(super) fast_open: Option<Text<Positive<INT_MAX>>>,
    /// Let the kernel coalesce small writes (no TCP_NODELAY)
    pub(super) nagle: Option<Text<Flag>>,
    /// Probe a peer after this long without traffic (SO_KEEPALIVE). Unset: off
    pub(super) keepalive: Option<Text<Keepalive>>,
    /// Drop a connection whose sent data stays unacknowledged this long (TCP_USER_TIMEOUT). Unset: the
    /// kernel decides
    pub(super) user_timeout: Option<Text<Timeout>>,
    /// An IPv6 wildcard accepts IPv6 only, not both families (IPV6_V6ONLY)
    pub(super) v6_only: Option<Text<Flag>>,
    /// Sample the accept-queue wait of one connection in so many; 0: none
    pub(super) queue_wait_sample: Option<Text<Whole<0, 1_000_000>>>,
    /// Maximum time from accept to the first byte
    pub(super) first_byte_timeout: Option<Text<Timeout>>,
    /// Maximum time without a byte in either direction, after the first
    pub(super) idle_timeout: Option<Text<Timeout>>,
    /// Maximum time with data to send to a peer that reads none. Unset: 30s; proxy: same as `idle_timeout`
    pub(super) write_stall_timeout: Option<Text<Timeout>>,
    /// Maximum time that a peer may go on sending after it was refused
    pub(super) linger_timeout: Option<Text<Timeout>>,
    /// What is done while connections wait too long: hold (nothing), shed (refuse who has waited too long), evict (close idle
    /// ones to make room) or lifo (serve the newest first)
    pub(super) overload: Option<Text<OneOf<OverloadAction>>>,
    /// How long a connection may wait until its thread takes it over
    pub(super) overload_target: Option<Text<Time<1, 60_000>>>,
    /// Overloaded if every connection within this time has waited longer than `overload_target`
    pub(super) overload_interval: Option<Text<Time<10, 60_000>>>,
    /// Close a connection unserved if it has waited longer than this and its client has gone. Unset: serve all
    pub(super) patience: Option<Text<Timeout>>,
    /// Clients may send FIN behind a request and wait for the answer; false: with `patience`, such a client has gone
    pub(super) half_close: Option<Text<Flag>>,
    /// Bytes that may be queued for a peer before it is no longer read from
    pub(super) send_queue: Option<Text<Whole<1024, { 16 * 1024 * 1024 }>>>,
    /// Expect a PROXY header (v1 or v2) on connections from these networks, one or a list
    pub(super) proxy_protocol_in: Option<OneOrMany<IpNet>>,
    /// http: body of every response. Without any of the three: hello and a newline
    pub(super) body: Option<Text<Words>>,
    /// http: respond with this many filler bytes instead
    pub(super) body_size: Option<Text<Whole<0, BODY_BYTES_MAX>>>,
    /// http: respond with what is in this file, relative to the configuration file
    pub(super) body_file: Option<Text<PathBuf>>,
    /// http: maximum time from the first byte of a request to the end of its header; `off`: only `idle_timeout`
    pub(super) header_timeout: Option<Text<OrOff<Timeout>>>,
    /// http: least bytes per second of a request body, and of a response that the client has not taken yet, on average
    /// beyond `min_rate_grace`; `off`: none
    pub(super) min_rate: Option<Text<OrOff<Positive<MIN_RATE_MAX>>>>,
    /// http: how long a request body, or taking a response, may take before `min_rate` is required
    pub(super) min_rate_grace: Option<Text<Timeout>>,
    /// proxy: the upstream of connections that no route takes. Required
    pub(super) upstream: Option<Text<Name>>,
    /// proxy: upstreams by TLS server name (SNI): `"www.example.org" = "NAME"`, or `"*.example.org"`
    pub(super) routes: Option<IndexMap<String, Text<Name>>>,
    /// proxy: other backends to try when a connect fails
    pub(super) retries: Option<Text<Whole<0, 100>>>,
    /// proxy: queue length, per thread, for connections that wait for a backend below its maximum
    pub(super) queue: Option<Text<Count<{ 1 << 20 }>>>,
    /// proxy: maximum time in the queue, for a backend below its maximum or for a file descriptor
    pub(super) queue_timeout: Option<Text<Timeout>>,
    /// proxy: timeout of a connect to a backend
    pub(super) connect_timeout: Option<Text<Timeout>>,
    /// proxy: idle timeout after one side has sent FIN
    pub(super) half_closed_timeout: Option<Text<Timeout>>,
    /// proxy: maximum lifetime of a connection; each gets 90 to 100 % of it. Unset: no limit
    pub(super) lifetime: Option<Text<Timeout>>,
    /// proxy: send backends the client's address in a PROXY header. Unset: none
    pub(super) proxy_protocol_out: Option<Text<OneOf<ProxyProtocolVersion>>>,
    /// proxy: use splice(2) for large transfers; false: copy them through buffers
    pub(super) splice: Option<Text<Flag>>,
    /// Log a line here for each connection when it ends: a file (a relative path is relative to the working
    /// directory), - for stdout, journald:, syslog:, syslog:PATH or syslog:IP:PORT (UDP). Unset: no log
    pub(super) access_log: Option<Text<LogTarget>>,
    /// Format of the access log
    pub(super) access_log_format: Option<Text<OneOf<LogFormat>>>,
}

/// Where a proxy forwards to
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamTable {
    /// Backends: a list of addresses, or of tables of `address` and `weight`. Required, or `backends_file`
    pub(super) backends: Option<Vec<BackendEntry>>,
    /// JSON file with the list of backends, relative to the configuration file. It is watched: a change is
    /// applied at once. In place of `backends`
    pub(super) backends_file: Option<Text<PathBuf>>,
    /// Local addresses to connect from, one or a list, each in turn: every one of them gives as many connections to a
    /// backend as there are local ports. Checks use them too. Unset: the kernel chooses
    pub(super) source: Option<OneOrMany<SourceAddress>>,
    /// Load-balancing policy
    pub(super) balance: Option<Text<OneOf<Balance>>>,
    /// Maximum connections per backend; excess is queued. Unset: no limit
    pub(super) max_connections: Option<Text<Count<{ u32::MAX }>>>,
    /// DNS re-resolution interval of backends given by name
    pub(super) resolve_interval: Option<Text<Time<100, 86_400_000>>>,
    /// Health check interval: connect to each backend this often. Unset: no checks
    pub(super) check_interval: Option<Text<Time<10, 3_600_000>>>,
    /// Send this with each check, then wait for `check_expect`. Unset: nothing is sent
    pub(super) check_send: Option<Text<CheckBytes>>,
    /// What the response to a check must contain. Unset: a connect is enough
    pub(super) check_expect: Option<Text<CheckBytes>>,
    /// Timeout of a check
    pub(super) check_timeout: Option<Text<Time<1, 60_000>>>,
    /// Consecutive successful checks that mark a backend up
    pub(super) rise: Option<Text<Positive<100>>>,
    /// Consecutive failed checks that mark a backend down
    pub(super) fall: Option<Text<Positive<100>>>,
    /// Consecutive failed connects after which a backend is temporarily ejected; 0: never
    pub(super) eject_after: Option<Text<Whole<0, 1000>>>,
    /// First ejection; each one after it, without a success between, is twice as long
    pub(super) eject_time: Option<Text<Time<1, 3_600_000>>>,
    /// Longest ejection
    pub(super) eject_time_max: Option<Text<Time<1, 3_600_000>>>,
    /// How many of the backends may be ejected at one time, in percent, rounded down
    pub(super) eject_percent_max: Option<Text<Whole<0, 100>>>,
    /// Ramp-up time of a backend that has come up, until it gets its full share; 0s: none
    pub(super) slow_start: Option<Text<Time<0, 86_400_000>>>,
    /// When no backend is healthy: try-all (treat all as healthy) or refuse
    pub(super) when_all_out: Option<Text<OneOf<WhenAllOut>>>,
}

/// One backend: its address, or a table
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "an address, or { address = \"IP:PORT\", weight = N }")]
#[schemars(inline)]
pub(super) enum BackendEntry {
    Address(Text<Backend>),
    Table(BackendTable),
}

/// A backend with its weight
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub(super) struct BackendTable {
    /// Where it is. Required
    pub(super) address: Option<Text<Target>>,
    /// How many connections it gets for each one that a backend of weight 1 gets
    pub(super) weight: Option<Text<Weight>>,
}
