//! The view of sources, and what else tells of rules, bans and overload.

use uring_acceptor::control::{Queue, SourceSort};

use super::super::sources::Choice;
use super::*;

/// Two of the three frontends have rules by source.
fn ruled(seconds: u64) -> Status {
    let mut status = status(seconds);
    status["frontends"][1]["source_rules"] = json!([
        {"rule": "deny", "action": "refused", "connections": 0},
        {"rule": "max_per_source", "action": "refused", "connections": 100 + 7 * seconds},
    ]);
    status["source_rules"] =
        json!([{"rule": "rate_per_source", "action": "refused", "connections": 5}]);
    status["frontends"][1]["networks_files"] =
        json!([{"path": "/etc/denied", "error": "/etc/denied:3: 'nobody': it must be a network"}]);
    status["bans"] =
        json!({"at": "kernel", "text": "in the kernel", "active": 3, "active_at_accept": 1});
    serde_json::from_value(status).unwrap()
}

fn known() -> Value {
    json!({"frontend": "api", "known": 812, "capacity": 65_536, "sources": [
        {"source": "192.0.2.7", "open": 12, "rate_whole_in_ms": 400, "refused": 31},
        {"source": "2001:db8::/64", "open": 3, "rate_whole_in_ms": 2500, "refused": 0},
    ]})
}

fn screen_of(list: List) -> Screen {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    for seconds in [0, 1] {
        let list = Some(list.clone());
        model.take(Sample { status: ruled(seconds), list, ..sample(start, seconds, None) });
    }
    Screen::new(model, "127.0.0.1:9100".to_owned(), View::Sources, Order::Bytes)
}

#[test]
fn sources_are_listed_with_rules_and_bans() {
    let choice = Choice { place: 0, sort: SourceSort::Refused };
    let list = List::Sources(choice, Some(serde_json::from_value(known()).unwrap()));
    let lines = drawn(&mut screen_of(list), 80, 24);
    assert_eq!(lines[2], "2 listeners: accept_queue_overflow 1; 3 bans");
    let expected = [
        "api: 2 of 812 sources, those most often refused first; room for 65536",
        "SOURCE         OPEN  RATE WHOLE IN  REFUSED",
        "192.0.2.7        12          400ms       31",
        "2001:db8::/64     3           2.5s        0",
        "",
        "RULES OF       RULE             ACTION   PER SECOND  TOTAL",
        "api            deny             refused           0      0",
        "api            max_per_source   refused           7    107",
        "all frontends  rate_per_source  refused           0      5",
        "api: /etc/denied:3: 'nobody': it must be a network",
        "",
        "bans: 3, in the kernel; at accept: 1",
    ];
    assert_eq!(lines[4..16], expected, "{}", lines.join("\n"));
    let keys = "1-7 Tab view  sort: o open r rate x refused  f frontend  up down scroll  q quit";
    assert_eq!(lines[23], keys);
}

#[test]
fn who_has_no_limit_has_no_sources() {
    let list = json!({"frontend": null, "capacity": 0});
    let list = List::Sources(Choice::default(), Some(serde_json::from_value(list).unwrap()));
    let lines = drawn(&mut screen_of(list), 80, 24);
    assert_eq!(lines[4], "all frontends: no limit by source, so none is known");
    let mut nobody = screen_with(View::Sources, Wanted::Sources(Choice::default()));
    let lines = drawn(&mut nobody, 80, 24);
    assert_eq!(lines[4..7], ["no rules by source", "", "bans: none; they would be"]);
}

#[test]
fn one_after_another_is_asked_for() {
    let status = ruled(0);
    let asked = |place, sort| Choice { place, sort }.target(&status).unwrap();
    assert_eq!(asked(0, SourceSort::Open), "/sources?sort=open&limit=10&frontend=api");
    assert_eq!(asked(1, SourceSort::Rate), "/sources?sort=rate&limit=10");
    assert_eq!(asked(2, SourceSort::Refused), "/sources?sort=refused&limit=10&frontend=api");
    let nobody: Status = serde_json::from_value(super::status(0)).unwrap();
    assert_eq!(Choice::default().target(&nobody), None);
}

#[test]
fn keys_choose_sources() {
    let mut screen = screen(View::Listeners);
    let mut press = |key| {
        let event = Event::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE));
        (react(&mut screen, &event), screen.view, screen.list())
    };
    let listed =
        |place, sort| (Reaction::Ask, View::Sources, Some(Wanted::Sources(Choice { place, sort })));
    assert_eq!(press('7'), listed(0, SourceSort::Open));
    assert_eq!(press('x'), listed(0, SourceSort::Refused));
    assert_eq!(press('f'), listed(1, SourceSort::Refused));
    press('1');
    assert_eq!(press('r'), listed(1, SourceSort::Rate));
    assert_eq!(press('o'), listed(1, SourceSort::Open));
}

#[test]
fn what_is_done_about_an_overload_is_told() {
    let (mut model, start) = (Model::new(Times::Recent, SECOND), Instant::now());
    let overloaded = |queue: &mut Queue, shed| {
        queue.verdict = "overloaded".to_owned();
        queue.overload = "shed".to_owned();
        queue.overloaded_since = Some("2026-11-30T10:00:00Z".to_owned());
        queue.shed = shed;
    };
    for seconds in [0, 1] {
        let mut sample = sample(start, seconds, None);
        overloaded(&mut sample.status.frontends[1].queues[0], 40 * seconds);
        model.take(sample);
    }
    let mut screen = Screen::new(model, "a".to_owned(), View::Listeners, Order::Bytes);
    let lines = drawn(&mut screen, 200, 24);
    assert!(lines[4].contains("drops 130, overload = shed, shed 40: "), "{}", lines.join("\n"));
    let row = lines.iter().find(|line| line.starts_with("overloaded ")).expect("its row");
    let cells: Vec<&str> = row.split_whitespace().rev().take(3).collect();
    assert_eq!(cells, ["40", "17", "30"], "SHED/s, LONGEST, DROPS/s: {row}");
}
