//! How long accepting stood still, by cause: [workers, descriptors, frontend, process].

use super::*;

#[test]
fn at_the_limit_of_the_process_every_listener_stands_still() {
    let mut bench = Bench::new(Setup { listeners: 2, limit: 1, ..Setup::default() });
    bench.turn();
    bench.connection(0, false);
    bench.pass(5);
    assert_eq!(bench.paused(0), [0; 5], "accepts are armed");
    bench.turn();
    bench.error(1, Errno::ECANCELED);
    bench.turn();
    bench.pass(30);
    assert_eq!((bench.paused(0), bench.paused(1)), ([0, 0, 0, 30, 0], [0, 0, 0, 30, 0]));
    bench.connection_limit.release(1);
    bench.turn();
    bench.pass(100);
    assert_eq!((bench.paused(0), bench.paused(1)), ([0, 0, 0, 30, 0], [0, 0, 0, 30, 0]));
}

#[test]
fn at_the_limit_of_its_frontend_one_listener_stands_still() {
    let mut bench = Bench::new(Setup { listeners: 2, ..Setup::default() });
    bench.frontend_limits[0].set_limit(1);
    bench.turn();
    bench.connection(0, false);
    bench.turn();
    bench.pass(20);
    assert_eq!((bench.paused(0), bench.paused(1)), ([0, 0, 20, 0, 0], [0; 5]));
    // The server is full too, with the connections of another: that is what has to be mended first.
    bench.connection_limit.set_limit(1);
    bench.turn();
    bench.pass(7);
    assert_eq!((bench.paused(0), bench.paused(1)), ([0, 0, 20, 7, 0], [0, 0, 0, 7, 0]));
}

#[test]
fn without_descriptors_it_stands_still_while_it_rests() {
    let mut bench = Bench::armed();
    bench.error(0, Errno::EMFILE);
    bench.turn();
    bench.pass(10);
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    bench.pass(4);
    assert_eq!(bench.paused(0), [0, 10, 0, 0, 0]);
}

#[test]
fn with_full_inboxes_it_stands_still_for_the_workers() {
    let mut bench = Bench::new(Setup { capacity: 2, ..Setup::default() });
    bench.turn();
    bench.connections(0, 3);
    bench.turn();
    bench.pass(8);
    assert_eq!(bench.paused(0), [8, 0, 0, 0, 0]);
    bench.error(0, Errno::ECANCELED);
    assert_eq!(bench.descriptors().len(), 2);
    assert_eq!(bench.turn(), [Asked::Many(0)]);
    bench.pass(8);
    assert_eq!(bench.paused(0), [8, 0, 0, 0, 0]);
}

#[test]
fn a_listener_that_is_closed_does_not_stand_still() {
    let mut bench = Bench::new(Setup { limit: 1, ..Setup::default() });
    bench.turn();
    bench.connection(0, false);
    bench.turn();
    bench.pass(3);
    bench.close();
    bench.turn();
    bench.pass(50);
    assert_eq!(bench.paused(0), [0, 0, 0, 3, 0]);
}
