//! Bans of a running server: what is kept, handed over, told.

use super::*;
use crate::server::Server;
use crate::service::Echo;
use crate::sources::BANS_MAX;

fn handle() -> (Server, Handle) {
    let server = Server::builder(Echo).listen("127.0.0.1:0".parse().unwrap()).start().unwrap();
    let handle = server.handle();
    (server, handle)
}

fn stop((server, handle): (Server, Handle)) {
    handle.stop();
    server.join().unwrap();
}

fn network(number: u32) -> Network {
    Network::of(std::net::Ipv4Addr::from_bits(0x0A00_0000 + 3 * number).into())
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn bans_by_a_limit_are_made_in_one_go() {
    let (server, handle) = handle();
    let many: Vec<Network> = (0..BANS_MAX as u32 + 5).map(network).collect();
    assert_eq!(handle.ban_by_limit(&many[..10], MINUTE), 0);
    assert_eq!(handle.bans.state().version, 1);
    assert!(handle.bans().bans.iter().all(|it| it.ban.by == BannedBy::Limit));
    // They take each other's places.
    assert_eq!(handle.ban_by_limit(&many, MINUTE), 0);
    assert_eq!((handle.ban_counts().0, handle.bans.state().version), (BANS_MAX, 2));
    for network in &many[..BANS_MAX] {
        handle
            .bans
            .state()
            .bans
            .add(Ban { network: *network, until: Instant::now() + MINUTE, by: BannedBy::Operator })
            .unwrap();
    }
    assert_eq!(handle.ban_by_limit(&many, MINUTE), 5);
    assert_eq!(handle.ban(many[BANS_MAX], MINUTE, BannedBy::Operator), Err(NoRoom));
    stop((server, handle));
}

/// A limit does not change what an operator has banned, or what ends later, and the log does not say so either.
#[test]
fn what_is_told_of_bans_by_a_limit_is_what_holds() {
    let (server, handle) = handle();
    handle.ban(network(1), 60 * MINUTE, BannedBy::Operator).unwrap();
    handle.ban_by_limit(&[network(2)], 2 * MINUTE);
    let all: Vec<Network> = (1..=4).map(network).collect();
    let told = |networks: &[Network]| {
        let done = handle.add_by_limit(networks, MINUTE);
        // As if all of it had taken no time.
        let start = done.were_banned.iter().map(|ban| match ban.by {
            BannedBy::Operator => ban.until - 60 * MINUTE,
            BannedBy::Limit => ban.until - 2 * MINUTE,
        });
        let now = start.max().unwrap_or_else(Instant::now);
        done.lines(MINUTE, now)
    };
    let why = "refused too often by a limit by source";
    assert_eq!(told(&all[2..3]), [format!("{} is banned for 1m: {why}", network(3))]);
    let expected = [
        format!("{} and 1 more are banned for 1m: {why}", network(3)),
        format!("{} stays banned by an operator, for 1h more: {why}", network(1)),
        format!("{} stays banned by a limit, for 2m more: {why}", network(2)),
    ];
    assert_eq!(told(&all), expected);
    let many = (0..5).map(network).chain((0..5).map(network)).collect::<Vec<_>>();
    let ban = |network| Ban { network, until: Instant::now(), by: BannedBy::Operator };
    let were_banned = many.into_iter().map(ban).collect();
    let done = ByLimit { were_banned, without_room: 2, ..ByLimit::default() };
    let lines = done.lines(MINUTE, Instant::now());
    assert_eq!(
        lines[TOLD_MAX..],
        [
            format!("7 more stay banned as they were: {why}"),
            format!("2 sources have no room among the bans: {why}"),
        ]
    );
    stop((server, handle));
}

#[test]
fn another_process_knows_the_bans_of_this_one() {
    let (old, new) = (handle(), handle());
    old.1.ban(network(1), MINUTE, BannedBy::Operator).unwrap();
    old.1.ban_by_limit(&[network(2)], 2 * MINUTE);
    let records = old.1.ban_records();
    let written = serde_json::to_string(&records).unwrap();
    new.1.restore_bans(&serde_json::from_str::<Vec<BanRecord>>(&written).unwrap());
    let told = |(_, handle): &(Server, Handle)| -> Vec<_> {
        handle.bans().bans.iter().map(|it| (it.ban.network, it.ban.by)).collect()
    };
    assert_eq!(told(&new), [(network(2), BannedBy::Limit), (network(1), BannedBy::Operator)]);
    assert_eq!(told(&new), told(&old));
    let left = new.1.bans().bans[1].ban.until - Instant::now();
    assert!(left <= MINUTE && left > MINUTE / 2, "{left:?}");
    // What a later version has that is not known here.
    let unknown = BanRecord { by: "somebody".to_owned(), ..records[0].clone() };
    new.1.restore_bans(&[unknown]);
    assert_eq!(told(&new).len(), 2);
    stop(old);
    stop(new);
}

#[test]
fn bans_are_lifted_for_a_process_that_would_not_know_of_them_and_are_back_if_it_fails() {
    let (server, handle) = handle();
    handle.ban(network(1), MINUTE, BannedBy::Operator).unwrap();
    let attached = || handle.listeners().iter().all(|listener| listener.drops_syns().0);
    if !attached() {
        eprintln!("SKIPPED: a packet filter wants CAP_NET_ADMIN");
        return stop((server, handle));
    }
    handle.lift_bans();
    handle.look_after_bans();
    assert!(!attached(), "nothing is attached as long as it may have the sockets");
    assert_eq!(handle.ban_counts(), (1, 0));
    handle.renew_bans();
    assert!(attached());
    assert!(handle.unban(network(1)) && !attached());
    stop((server, handle));
}
