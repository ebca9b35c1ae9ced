//! Plans for machines of all sizes.

use super::*;
use crate::config::{NetworksFile, Refusal};

fn machine() -> Machine {
    Machine { cpus: vec![0, 1, 4, 5], nofile: 20_000 }
}

fn plan(change: impl FnOnce(&mut Config)) -> Result<Plan, String> {
    let mut config = Config::default();
    change(&mut config);
    Plan::new(&config, &machine(), Descriptors::ONE_EACH).map_err(|error| error.to_string())
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.roles.iter().map(|role| role.name.as_str()).collect()
}

#[test]
fn by_default_each_cpu_has_a_worker_and_the_first_accepts_for_all() {
    let plan = plan(|_| ()).unwrap();
    assert_eq!(names(&plan), ["worker-0", "worker-1", "worker-2", "worker-3"]);
    let accepts: Vec<bool> = plan.roles.iter().map(|role| role.accepts).collect();
    assert_eq!(accepts, [true, false, false, false]);
    assert_eq!((plan.acceptors(), plan.max_connections), (1, 20_000 - 24 - 16 - 1));
    assert!(plan.roles.iter().all(|role| role.cpu.is_none()));
}

#[test]
fn many_workers_have_a_thread_that_accepts_for_them() {
    let plan = plan(|config| config.process.threads.workers = NonZeroUsize::new(5)).unwrap();
    assert_eq!((plan.roles.len(), plan.acceptors()), (6, 1));
    assert_eq!((plan.roles[5].name.as_str(), plan.roles[5].works), ("acceptor-0", false));
}

#[test]
fn every_worker_may_accept_for_itself() {
    let plan = plan(|config| config.process.threads.acceptors = Acceptors::Inline).unwrap();
    assert!(plan.roles.iter().all(|role| role.accepts && role.works));
}

#[test]
fn a_single_worker_accepts_for_itself() {
    let plan = plan(|config| config.process.threads.workers = NonZeroUsize::new(1)).unwrap();
    assert_eq!((names(&plan), plan.acceptors()), (vec!["worker-0"], 1));
}

#[test]
fn threads_are_pinned_workers_first() {
    let plan = plan(|config| {
        config.process.threads.workers = NonZeroUsize::new(2);
        config.process.threads.acceptors = Acceptors::Dedicated(NonZeroUsize::new(2).unwrap());
        config.process.threads.cpus = Some("5,1,0".parse().unwrap());
    });
    let cpus: Vec<_> = plan.unwrap().roles.iter().map(|role| role.cpu.unwrap()).collect();
    assert_eq!(cpus, [5, 1, 0, 5]);
}

#[test]
fn what_the_machine_cannot_give_is_named() {
    let cpus = plan(|config| config.process.threads.cpus = Some("0,2".parse().unwrap()));
    assert!(cpus.unwrap_err().contains("CPU 2"));
    let poor = Machine { nofile: 40, ..machine() };
    let error =
        Plan::new(&Config::default(), &poor, Descriptors::ONE_EACH).unwrap_err().to_string();
    assert!(error.contains("RLIMIT_NOFILE) is 40"), "{error}");
}

/// Whoever does what he is told has to do it once.
#[test]
fn too_few_descriptors_name_the_least_that_are_enough() {
    let works = |nofile, descriptors| {
        Plan::new(&Config::default(), &Machine { nofile, ..machine() }, descriptors)
    };
    let kinds = [(1, 0, 0), (2, 0, 0), (2, 64, 0), (2, 64, 300), (1, 4, 7)];
    for (per_connection, per_worker, beside) in kinds {
        let descriptors = Descriptors { per_connection, per_worker, beside };
        let error = works(8, descriptors).unwrap_err().to_string();
        let least = error.split_once("at least ").unwrap().1.split(',').next().unwrap();
        let least = least.parse().unwrap();
        assert_eq!(works(least, descriptors).unwrap().max_connections, 1, "{error}");
        let error = works(least - 1, descriptors).unwrap_err().to_string();
        assert!(error.contains(&format!("at least {least},")), "{error}");
    }
}

#[test]
fn more_threads_than_cpus_are_a_warning() {
    let five = NonZeroUsize::new(5).unwrap();
    let many = plan(|config| config.process.threads.workers = Some(five)).unwrap();
    assert_eq!(many.roles.len(), 5 + 1);
    assert!(many.crowded.unwrap().starts_with("workers is 5, but this process may use 4"));
    let acceptors = plan(|config| config.process.threads.acceptors = Acceptors::Dedicated(five));
    assert!(acceptors.unwrap().crowded.unwrap().starts_with("acceptors is 5"));
    let enough = plan(|config| config.process.threads.workers = NonZeroUsize::new(4)).unwrap();
    assert_eq!(enough.crowded, None);
}

#[test]
fn what_the_work_takes_is_kept_free() {
    let config = Config::default();
    let descriptors = Descriptors { per_connection: 2, per_worker: 100, beside: 0 };
    let plan = Plan::new(&config, &machine(), descriptors).unwrap();
    assert_eq!(
        (plan.per_worker, plan.max_connections),
        (100, (20_000 - 24 - 16 - 1 - 4 * 100) / 2)
    );
    let poor = Machine { nofile: 256, ..machine() };
    let plan = Plan::new(&config, &poor, descriptors).unwrap();
    assert_eq!((plan.per_worker, plan.max_connections), (4, (256 - 24 - 16 - 1 - 4 * 4) / 2));
    // So is what the threads beside the workers take, up to a share.
    for (beside, kept) in [(10, 10), (1000, 256 / 16)] {
        let plan = Plan::new(&config, &poor, Descriptors { beside, ..descriptors }).unwrap();
        assert_eq!(plan.max_connections, (256 - 24 - 16 - 1 - 4 * 4 - kept) / 2);
    }
}

/// Those of the acceptor that keeps refused or delayed connections, and of the thread that watches lists.
#[test]
fn what_source_rules_take_is_kept_free() {
    let beside = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        Descriptors::of(&config, 0).beside
    };
    let refuse = |refusal: Refusal| {
        beside(&move |config| config.frontends[0].sources.refuse = refusal.clone())
    };
    assert_eq!([Refusal::Reset, Refusal::Close].map(refuse), [0, 0]);
    let [delayed, replied] = [Refusal::Delay, Refusal::Reply(b"no".into())].map(refuse);
    assert!(delayed >= 1024 && replied >= 256, "{delayed} {replied}");
    let listed = beside(&|config| {
        let file = NetworksFile { path: "denied".into(), networks: [].into() };
        config.frontends[0].sources.deny.file = Some(file);
    });
    assert_eq!(listed, LIST_DESCRIPTORS);
}

#[test]
fn more_connections_than_descriptors_are_lowered_with_a_warning() {
    let mut config = Config::default();
    config.process.max_connections = NonZeroUsize::new(20_000);
    let two = Descriptors { per_connection: 2, ..Descriptors::ONE_EACH };
    let room = 20_000 - 24 - 16 - 1;
    for (descriptors, most, each) in [
        (Descriptors::ONE_EACH, room, "one descriptor each"),
        (two, room / 2, "2 descriptors each"),
    ] {
        let plan = Plan::new(&config, &machine(), descriptors).unwrap();
        assert_eq!(plan.max_connections, most);
        let warning = plan.warning.unwrap();
        let lowered = format!("max-connections is lowered from 20000 to {most}: the limit");
        for part in [&*lowered, "(RLIMIT_NOFILE) of 20000", each, "ulimit -n"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }
    let poor = Machine { nofile: 40, ..machine() };
    let error = Plan::new(&config, &poor, Descriptors::ONE_EACH).unwrap_err().to_string();
    assert!(error.contains("RLIMIT_NOFILE) is 40"), "{error}");
}

#[test]
fn queues_are_sized_for_the_backlogs() {
    let sizes = RingSizes::default();
    assert_eq!(completion_entries(&sizes, false, [100].into_iter()), 256);
    assert_eq!(completion_entries(&sizes, true, [4096, 4096].into_iter()), 16_384);
    assert_eq!(completion_entries(&sizes, true, [u32::MAX - 1].into_iter()), 65_536);
    assert_eq!((buffers(&sizes, 10), buffers(&sizes, 1 << 20)), (1034, 65_535));
}
