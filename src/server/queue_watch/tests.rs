//! What is seen of listeners.

use std::cell::Cell;

use super::*;
use crate::config::SocketOptions;
use crate::dispatch::ConnectionLimit;
use crate::listener::Sharing;

fn listener(sharing: Sharing, address: &str) -> Arc<Listener> {
    let address: ListenAddress = address.parse().unwrap();
    Arc::new(Listener::bind(&address, &SocketOptions::default(), sharing).unwrap())
}

#[test]
fn drops_are_added_up_beyond_the_kernels_width() {
    let mut socket = Socket::new(
        &listener(Sharing::Exclusive, "127.0.0.1:0"),
        SocketRecord::default(),
        Instant::now(),
    );
    assert_eq!(socket.take_drops(u32::MAX), u64::from(u32::MAX));
    assert_eq!(socket.take_drops(2), 3);
    assert_eq!(socket.drops.1, u64::from(u32::MAX) + 3);
}

fn frontend(listeners: &[&Arc<Listener>]) -> FrontendStatus {
    FrontendStatus {
        name: "web".to_owned(),
        service: "echo".to_owned(),
        state: FrontendState::Listening,
        addresses: Vec::new(),
        limit: Arc::new(ConnectionLimit::new(usize::MAX)),
        sources: Arc::default(),
        times: Arc::default(),
        listeners: listeners.iter().map(|it| Arc::downgrade(it)).collect(),
    }
}

fn watched() -> Watched {
    Watched {
        namespace: NamespaceChanges::default(),
        process: ProcessSeen::default(),
        sockets: Vec::new(),
        dropped_before: 0,
        known: BTreeMap::new(),
    }
}

fn overflows(count: u64) -> Option<NamespaceCounters> {
    Some(NamespaceCounters { listen_overflows: count, ..NamespaceCounters::default() })
}

/// A drain closes sockets, and a counter does not fall.
#[test]
fn drops_by_bans_of_closed_sockets_are_not_forgotten() {
    let [first, second] = [(); 2].map(|()| listener(Sharing::Exclusive, "127.0.0.1:0"));
    let mut watched = watched();
    watched.look(&[frontend(&[&first, &second])], ProcessSeen::default(), || None);
    watched.sockets[0].dropped_by_bans = 5;
    watched.sockets[1].dropped_by_bans = 7;
    let watch = QueueWatch(Mutex::new(watched));
    assert_eq!(watch.dropped_by_bans(), 12);
    let look = |all: &[&Arc<Listener>]| {
        let now = || (vec![frontend(all)], ProcessSeen::default());
        watch.look(now).len()
    };
    // Nobody names it any more, and it is still open.
    assert_eq!((look(&[&second]), watch.dropped_by_bans()), (1, 12));
    drop(first);
    assert_eq!((look(&[&second]), watch.dropped_by_bans()), (1, 12));
    drop(second);
    assert_eq!((look(&[]), watch.dropped_by_bans()), (0, 12));
}

#[test]
fn the_namespace_is_read_around_the_listeners() {
    let (listener, reads) = (listener(Sharing::Exclusive, "127.0.0.1:0"), Cell::new(0));
    let mut watched = watched();
    let read = || {
        reads.set(reads.get() + 1);
        overflows(reads.get())
    };
    let frontends = [frontend(&[&listener])];
    watched.look(&frontends, ProcessSeen::default(), read);
    assert_eq!((reads.get(), watched.namespace.before), (2, overflows(1)));
}

#[test]
fn a_socket_keeps_its_number_when_another_goes() {
    let first = listener(Sharing::Found, "127.0.0.1:0");
    let address = first.address().to_string();
    let [second, third] = [(); 2].map(|()| listener(Sharing::Join, &address));
    let other = listener(Sharing::Exclusive, "127.0.0.1:0");
    let mut watched = watched();
    let mut numbers = |listeners: &[&Arc<Listener>]| {
        let found = watched.look(&[frontend(listeners)], ProcessSeen::default(), || None);
        found.iter().map(|it| it.socket).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&[&first, &second, &third, &other]), [0, 1, 2, 0]);
    drop(first);
    assert_eq!(numbers(&[&third, &second, &other]), [2, 1, 0]);
    let fourth = listener(Sharing::Join, &address);
    assert_eq!(numbers(&[&fourth, &second, &third]), [0, 1, 2]);
}

#[test]
fn a_socket_keeps_its_number_in_the_next_process() {
    let first = listener(Sharing::Found, "127.0.0.1:0");
    let address = first.address().to_string();
    let [second, third, new] = [(); 3].map(|()| listener(Sharing::Join, &address));
    let mut old = watched();
    old.look(&[frontend(&[&first, &second, &third])], ProcessSeen::default(), || None);
    old.sockets[1].longest = 7;
    let told = QueueWatch(Mutex::new(old)).sockets();
    let watch = QueueWatch(Mutex::new(watched()));
    watch.know(told);
    drop(first);
    let now = watch.look(|| (vec![frontend(&[&new, &third, &second])], ProcessSeen::default()));
    let now: Vec<_> = now.iter().map(|it| (it.socket, it.longest)).collect();
    assert_eq!(now, [(0, 0), (2, 0), (1, 7)]);
}

#[test]
fn a_unix_listener_at_its_limit_is_paused_when_somebody_waits() {
    let name = format!("unix:@queue-watch-{}", std::process::id());
    let listener = listener(Sharing::Exclusive, &name);
    let limit = Arc::new(ConnectionLimit::new(0));
    let frontends = [FrontendStatus { limit, ..frontend(&[&listener]) }];
    let mut watched = watched();
    let process = ProcessSeen { connections: (0, 10), ..ProcessSeen::default() };
    let mut verdict = || watched.look(&frontends, process, || None)[0].verdict;
    assert_eq!(verdict(), Verdict::Healthy);
    let ListenAddress::Unix(unix) = listener.address() else { unreachable!() };
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let to = socket2::SockAddr::unix(unix.as_sun_path()).unwrap();
    client.as_ref().unwrap().connect(&to).unwrap();
    assert_eq!(verdict(), Verdict::AcceptingPaused(PauseCause::FrontendLimit));
}
