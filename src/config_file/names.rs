//! The words of the file for values of which there are a few.

use tracing::level_filters::LevelFilter;

use super::kinds::Named;
use crate::config::upstream::{Balance, WhenAllOut};
use crate::config::{
    DispatchPolicy, Engine, LogFormat, OverloadAction, ProxyProtocolVersion, RuleMode,
};

/// What is done with the connections of a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceName {
    Echo,
    Discard,
    Http,
    Proxy,
}

impl Named for ServiceName {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("echo", Self::Echo),
        ("discard", Self::Discard),
        ("http", Self::Http),
        ("proxy", Self::Proxy),
    ];
}

impl ServiceName {
    pub(super) fn word(self) -> &'static str {
        Self::NAMES.iter().find(|(_, named)| *named == self).map_or("", |(name, _)| name)
    }
}

impl Named for RuleMode {
    const NAMES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("observe", Self::Observe), ("enforce", Self::Enforce)];
}

/// How a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalName {
    Reset,
    Close,
    Reply,
    Delay,
}

impl Named for RefusalName {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("reset", Self::Reset),
        ("close", Self::Close),
        ("reply", Self::Reply),
        ("delay", Self::Delay),
    ];
}

impl Named for DispatchPolicy {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("least-connections", Self::LeastConnections),
        ("round-robin", Self::RoundRobin),
        ("source-hash", Self::SourceHash),
        ("incoming-cpu", Self::IncomingCpu),
    ];
}

impl Named for Engine {
    const NAMES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("uring", Self::Uring), ("epoll", Self::Epoll)];
}

impl Named for OverloadAction {
    const NAMES: &'static [(&'static str, Self)] = &[
        (Self::Hold.name(), Self::Hold),
        (Self::Shed.name(), Self::Shed),
        (Self::Evict.name(), Self::Evict),
        (Self::Lifo.name(), Self::Lifo),
    ];
}

impl Named for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Named for LevelFilter {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("error", Self::ERROR),
        ("warn", Self::WARN),
        ("info", Self::INFO),
        ("debug", Self::DEBUG),
        ("trace", Self::TRACE),
    ];
}

impl Named for Balance {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("least-connections", Self::LeastConnections),
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
        ("source-hash", Self::SourceHash),
    ];
}

impl Named for WhenAllOut {
    const NAMES: &'static [(&'static str, Self)] =
        &[("try-all", Self::TryAll), ("refuse", Self::Refuse)];
}

impl Named for ProxyProtocolVersion {
    const NAMES: &'static [(&'static str, Self)] = &[("v1", Self::V1), ("v2", Self::V2)];
}
