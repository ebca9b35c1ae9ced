//! The backlog and what waits in the queue.

use std::num::NonZeroU32;

use super::*;

fn with_backlog(asked: u32) -> SocketOptions {
    SocketOptions { backlog: NonZeroU32::new(asked), ..SocketOptions::default() }
}

#[test]
fn a_backlog_within_the_limit_is_given_in_full() {
    let listener = listen("127.0.0.1:0", &with_backlog(7));
    assert_eq!(listener.backlog(), Backlog { asked: 7, effective: 7 });
    assert_eq!(listener.queue().unwrap().limit, 7);
}

#[test]
fn the_default_backlog_is_the_limit_of_the_kernel() {
    let somaxconn = sys::somaxconn().unwrap();
    let listener = listen_plainly("127.0.0.1:0");
    assert_eq!(listener.backlog(), Backlog { asked: somaxconn, effective: somaxconn });
    assert_eq!(listener.backlog().warning(), None);
}

#[test]
fn a_backlog_above_the_limit_is_seen_to_be_cut() {
    let effective = sys::somaxconn().unwrap();
    let asked = effective.checked_add(1_000_000).unwrap();
    let directory = unix::directory("backlog");
    let path = directory.join("listener.sock");
    for address in ["127.0.0.1:0", "[::1]:0", &format!("unix:{}", path.display())] {
        let backlog = listen(address, &with_backlog(asked)).backlog();
        assert_eq!(backlog, Backlog { asked, effective }, "{address}");
        let warning = backlog.warning().unwrap();
        for part in [asked.to_string(), effective.to_string(), "net.core.somaxconn".into()] {
            assert!(warning.contains(&part), "{part}: {warning}");
        }
    }
}

#[test]
fn what_nobody_accepts_waits() {
    let listener = listen_plainly("127.0.0.1:0");
    assert_eq!(listener.queue().unwrap().waiting, Some(0));
    let _clients: Vec<_> = (0..5).map(|_| connect(&listener)).collect();
    wait_for(&listener, 5);
    accept(&listener);
    wait_for(&listener, 4);
    assert_eq!(listener.queue().unwrap().drops, Some(0));
}

/// The queue holds one more than its limit; the client after that meets silence.
#[test]
fn an_overflow_counts_as_a_drop() {
    let listener = listen("127.0.0.1:0", &with_backlog(1));
    let _clients = [connect(&listener), connect(&listener)];
    wait_for(&listener, 2);
    TcpStream::connect_timeout(&tcp_address(&listener), REFUSAL).unwrap_err();
    assert!(listener.queue().unwrap().drops.unwrap() > 0);
}
