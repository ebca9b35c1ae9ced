//! The list of everything that is counted.

/// A counter. Counts from the start of the server and never goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Connections taken from accept queues.
    Accepted,
    /// Times a listener stopped accepting for want of descriptors or memory.
    AcceptPauses,
    /// Accepts withdrawn because the server was near a limit.
    AcceptCancels,
    /// Connections that were gone before they were accepted (ECONNABORTED).
    AcceptAborted,
    /// Accepts interrupted by a signal (EINTR).
    AcceptInterrupted,
    /// Accepts that reported an error of the new connection (EPROTO, ENETDOWN and the others of accept(2)).
    AcceptNetwork,
    /// Accepts refused because the process has no descriptor left (EMFILE).
    AcceptProcessDescriptors,
    /// Accepts refused because the system has no file left (ENFILE).
    AcceptSystemDescriptors,
    /// Accepts refused for want of memory (ENOBUFS, ENOMEM).
    AcceptMemory,
    /// Connections that firewall rules forbid (EPERM).
    AcceptFirewall,
    /// Errors that end a listener (EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT).
    AcceptBroken,
    /// Accepts that failed with an errno that accept(2) does not list.
    AcceptUnknown,
    /// Connections refused by source rules as soon as they were accepted.
    AcceptRefused,
    /// Connections from a banned source that were reset as soon as they were accepted.
    AcceptBanned,
    /// Connections put into a worker's inbox.
    Dispatched,
    /// Looks of an acceptor that left connections held: all inboxes full, or no headroom.
    DispatchHeld,
    /// Tries to place a connection for which no worker's inbox had room.
    InboxesFull,
    /// Wakes of parked threads.
    WakesSent,
    /// Batches of connections for a worker that was awake.
    WakesSaved,
    /// Connections that a worker took over.
    Opened,
    /// Connections that ended with the peer's FIN.
    ClosedByPeer,
    /// Connections that the peer or the network broke.
    ClosedByReset,
    /// Connections that the service closed.
    ClosedByService,
    /// Connections that the service aborted.
    ClosedByAbort,
    /// Connections that were sent a file which could not be read, or was too short.
    ClosedByFile,
    /// Connections whose service panicked.
    ClosedByPanic,
    /// Connections whose service wrote more than an outbox holds.
    ClosedByOverflow,
    /// Connections that sent nothing in time.
    ClosedByFirstByteTimeout,
    /// Connections that were idle too long.
    ClosedByIdleTimeout,
    /// Connections whose peer took no bytes for too long.
    ClosedByWriteStall,
    /// Connections on which the head of a request did not come in time.
    ClosedByHeaderTimeout,
    /// Connections on which the body of a request came too slowly.
    ClosedBySlowBody,
    /// Connections whose peer took an answer too slowly.
    ClosedBySlowRead,
    /// Connections that were open when the server stopped.
    ClosedByStop,
    /// Proxied connections that were idle when the server drained.
    ClosedByDrain,
    /// An operator closed it.
    ClosedByOperator,
    /// Idle connections that made room in a frontend that was full.
    ClosedByEviction,
    /// Connections whose client had gone while they waited too long.
    ClosedDeadOnArrival,
    /// Connections that had waited too long while their frontend was overloaded.
    ClosedByShed,
    /// Proxied connections that ended with the backend's FIN.
    ClosedByBackend,
    /// Proxied connections that the backend or the network broke.
    ClosedByBackendReset,
    /// Proxied connections for which no backend was left.
    ClosedForNoBackend,
    /// Proxied connections whose last connect to a backend failed.
    ClosedByConnectFailure,
    /// Proxied connections whose last connect to a backend took too long.
    ClosedByConnectTimeout,
    /// Proxied connections for which neither a backend nor the queue had room.
    ClosedByQueueFull,
    /// Proxied connections that waited too long for a backend with room, or for a descriptor.
    ClosedByQueueTimeout,
    /// Connections whose trusted peer began with something else than a PROXY header.
    ClosedByBadProxyHeader,
    /// Connections whose PROXY header speaks for a client that a rule by source is against.
    ClosedByRule,
    /// Proxied connections whose client closed in the middle of its ClientHello.
    ClosedByBadClientHello,
    /// Proxied connections whose client closed before a byte of what has to come first.
    ClosedEarly,
    /// Proxied connections of which one direction was over and the other silent for too long.
    ClosedByHalfClosedTimeout,
    /// Proxied connections that were open for as long as they may be.
    ClosedByLifetime,
    /// Connects to backends that failed.
    ConnectFailures,
    /// Connects to another backend after one that failed.
    ConnectRetries,
    /// Proxied connections that waited for a backend with room.
    BackendQueued,
    /// Proxied connections that waited for a socket to the backend: no descriptor or no memory was left.
    BackendNoDescriptor,
    /// Proxied connections for which a backend had no local port left.
    BackendNoPort,
    /// Entries of the access log that are lost: it could not be written, or not as fast as they came.
    LogDropped,
    /// Bytes received.
    ReceivedBytes,
    /// Bytes received that splice(2) has moved, so that they were not copied.
    SplicedBytes,
    /// Bytes handed to the kernel.
    SentBytes,
    /// Receives that brought bytes.
    Receives,
    /// Sends that were completed.
    Sends,
    /// Receives that found no buffer (ENOBUFS).
    Starved,
    /// Completions for connections that no longer exist.
    Stale,
    /// Messages that sessions, or what they share, were told.
    Messages,
    /// Messages whose session had ended.
    MessagesUndelivered,
    /// Turns of event loops.
    Turns,
    /// Completions that event loops have handled.
    Completions,
    /// System calls of engines.
    SystemCalls,
    /// Turns in which the completion queue was full.
    CqOverflows,
}

/// Each counter in the order of the values, with the name under which it is exported and what it counts.
#[rustfmt::skip]
const LIST: [(Counter, &str, &str); 71] = [
    (Counter::Accepted, "accepted", "Connections taken from accept queues."),
    (Counter::AcceptPauses, "accept_pauses", "Times a listener stopped accepting for want of descriptors or memory."),
    (Counter::AcceptCancels, "accept_cancels", "Accepts withdrawn because the server was near a limit."),
    (Counter::AcceptAborted, "accept_econnaborted", "Connections that were gone before they were accepted (ECONNABORTED)."),
    (Counter::AcceptInterrupted, "accept_eintr", "Accepts interrupted by a signal (EINTR)."),
    (Counter::AcceptNetwork, "accept_network_errors", "Accepts that reported an error of the new connection (EPROTO, ENETDOWN and the others of accept(2))."),
    (Counter::AcceptProcessDescriptors, "accept_emfile", "Accepts refused because the process has no descriptor left (EMFILE)."),
    (Counter::AcceptSystemDescriptors, "accept_enfile", "Accepts refused because the system has no file left (ENFILE)."),
    (Counter::AcceptMemory, "accept_no_memory", "Accepts refused for want of memory (ENOBUFS, ENOMEM)."),
    (Counter::AcceptFirewall, "accept_eperm", "Connections that firewall rules forbid (EPERM)."),
    (Counter::AcceptBroken, "accept_broken", "Errors that end a listener (EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT)."),
    (Counter::AcceptUnknown, "accept_unknown", "Accepts that failed with an errno that accept(2) does not list."),
    (Counter::AcceptRefused, "accept_refused", "Connections refused by rules by source as soon as they were accepted."),
    (Counter::AcceptBanned, "accept_banned", "Connections from a banned source that were reset as soon as they were accepted."),
    (Counter::Dispatched, "dispatched", "Connections put into a worker's inbox."),
    (Counter::DispatchHeld, "dispatch_held", "Times an acceptor held connections back: all inboxes full, or a limit reached."),
    (Counter::InboxesFull, "inboxes_full", "Tries to place a connection for which no worker's inbox had room."),
    (Counter::WakesSent, "wakes_sent", "Wakes of parked threads."),
    (Counter::WakesSaved, "wakes_saved", "Batches of connections for a worker that was awake."),
    (Counter::Opened, "opened", "Connections that a worker took over."),
    (Counter::ClosedByPeer, "closed_by_peer", "Connections that ended with the peer's FIN."),
    (Counter::ClosedByReset, "closed_by_reset", "Connections that the peer or the network broke."),
    (Counter::ClosedByService, "closed_by_service", "Connections that the service closed."),
    (Counter::ClosedByAbort, "closed_by_abort", "Connections that the service aborted."),
    (Counter::ClosedByFile, "closed_by_file", "Connections whose file could not be read."),
    (Counter::ClosedByPanic, "closed_by_panic", "Connections whose service panicked."),
    (Counter::ClosedByOverflow, "closed_by_overflow", "Connections whose service wrote more than an outbox holds."),
    (Counter::ClosedByFirstByteTimeout, "closed_by_first_byte_timeout", "Connections that sent nothing in time."),
    (Counter::ClosedByIdleTimeout, "closed_by_idle_timeout", "Connections that were idle too long."),
    (Counter::ClosedByWriteStall, "closed_by_write_stall", "Connections whose peer took no bytes for too long."),
    (Counter::ClosedByHeaderTimeout, "closed_by_header_timeout", "Connections on which the head of a request did not come in time."),
    (Counter::ClosedBySlowBody, "closed_by_slow_body", "Connections on which the body of a request came too slowly."),
    (Counter::ClosedBySlowRead, "closed_by_slow_read", "Connections whose peer took a response too slowly."),
    (Counter::ClosedByStop, "closed_by_stop", "Connections that were open when the server stopped."),
    (Counter::ClosedByDrain, "closed_by_drain", "Proxied connections that were idle when the server drained."),
    (Counter::ClosedByOperator, "closed_by_operator", "Connections that an operator closed."),
    (Counter::ClosedByEviction, "closed_by_eviction", "Idle connections that made room in a frontend that was full."),
    (Counter::ClosedDeadOnArrival, "closed_dead_on_arrival", "Connections whose client had gone while they waited too long."),
    (Counter::ClosedByShed, "closed_by_shed", "Connections not served because they had waited too long in an overload."),
    (Counter::ClosedByBackend, "closed_by_backend", "Proxied connections that ended with the backend's FIN."),
    (Counter::ClosedByBackendReset, "closed_by_backend_reset", "Proxied connections that the backend or the network broke."),
    (Counter::ClosedForNoBackend, "closed_for_no_backend", "Proxied connections for which no backend was left."),
    (Counter::ClosedByConnectFailure, "closed_by_connect_failure", "Proxied connections whose last connect to a backend failed."),
    (Counter::ClosedByConnectTimeout, "closed_by_connect_timeout", "Proxied connections whose last connect to a backend took too long."),
    (Counter::ClosedByQueueFull, "closed_by_queue_full", "Proxied connections for which neither a backend nor the queue had room."),
    (Counter::ClosedByQueueTimeout, "closed_by_queue_timeout", "Proxied connections that waited too long for a backend with room, or for a descriptor."),
    (Counter::ClosedByBadProxyHeader, "closed_by_bad_proxy_header", "Connections whose trusted peer began with something else than a PROXY header."),
    (Counter::ClosedByRule, "closed_by_rule", "Connections whose PROXY header speaks for a client that a rule by source is against."),
    (Counter::ClosedByBadClientHello, "closed_by_bad_client_hello", "Proxied connections whose client closed in the middle of its ClientHello."),
    (Counter::ClosedEarly, "closed_early", "Proxied connections whose client closed before a byte of what has to come first."),
    (Counter::ClosedByHalfClosedTimeout, "closed_by_half_closed_timeout", "Proxied connections of which one direction was over and the other silent for too long."),
    (Counter::ClosedByLifetime, "closed_by_lifetime", "Proxied connections that were open for as long as they may be."),
    (Counter::ConnectFailures, "connect_failures", "Connects to backends that failed."),
    (Counter::ConnectRetries, "connect_retries", "Connects to another backend after one that failed."),
    (Counter::BackendQueued, "backend_queued", "Proxied connections that waited for a backend with room."),
    (Counter::BackendNoDescriptor, "backend_no_descriptor", "Proxied connections that waited for a socket to the backend: no descriptor or no memory was left."),
    (Counter::BackendNoPort, "backend_no_port", "Proxied connections that found no local port, or whose source is not a local address."),
    (Counter::LogDropped, "log_dropped", "Entries of the access log that are lost: it could not be written, or not as fast as they came."),
    (Counter::ReceivedBytes, "received_bytes", "Bytes received."),
    (Counter::SplicedBytes, "spliced_bytes", "Bytes received that were not copied."),
    (Counter::SentBytes, "sent_bytes", "Bytes handed to the kernel."),
    (Counter::Receives, "receives", "Receives that brought bytes."),
    (Counter::Sends, "sends", "Sends that were completed."),
    (Counter::Starved, "starved", "Receives that found no buffer (ENOBUFS)."),
    (Counter::Stale, "stale", "Completions for connections that no longer exist."),
    (Counter::Messages, "messages", "Messages that sessions, or what they share, were told."),
    (Counter::MessagesUndelivered, "messages_undelivered", "Messages whose session had ended."),
    (Counter::Turns, "turns", "Iterations of event loops."),
    (Counter::Completions, "completions", "Completions that event loops have handled."),
    (Counter::SystemCalls, "system_calls", "System calls that move connections and their bytes: those of the engine."),
    (Counter::CqOverflows, "cq_overflows", "System calls that left completions in the kernel because the completion queue was full (io_uring)."),
];

impl Counter {
    /// All counters, in the order of their values.
    pub const ALL: [Self; LIST.len()] = {
        let mut all = [Self::Accepted; LIST.len()];
        let mut place = 0;
        while place < LIST.len() {
            all[place] = LIST[place].0;
            assert!(LIST[place].0 as usize == place, "the list is in the order of the values");
            place += 1;
        }
        all
    };

    /// The name under which it is exported.
    pub fn name(self) -> &'static str {
        LIST[self as usize].1
    }

    /// What it counts, in a sentence.
    pub fn help(self) -> &'static str {
        LIST[self as usize].2
    }
}
