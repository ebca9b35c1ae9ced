//! Plants bugs one at a time: the simulator has to find each.
//!
//! Prints a line for each that is found: its name, the seed, how it showed. Exits with 1 if one is missed.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;

use uring_acceptor::planted::{Bug, plant};
use uring_acceptor::service::Echo;
use uring_acceptor::simulation::{
    EchoTalk, MessageSimulation, MixedSimulation, ProxySimulation, Simulation,
};

/// Seeds within which each bug has to be found.
const SEEDS: u64 = 300;

/// In the acceptor, the dispatcher and the worker.
const BUGS: &[Bug] = &[
    Bug::AcceptNotRearmed,
    Bug::LastAcceptDropped,
    Bug::RejectedLeaked,
    Bug::NoPause,
    Bug::WakeLost,
    Bug::AcceptorWakeLost,
    Bug::CancelDropped,
    Bug::CloseBeforeJoin,
    Bug::ClosedTwice,
    Bug::SpinWithoutBuffers,
    Bug::BufferFreedInFlight,
    Bug::TwoSends,
    Bug::BufferLeaked,
    Bug::GenerationIgnored,
    Bug::NoDeadlines,
    Bug::LimitExceeded,
    Bug::SpinAfterDrain,
    Bug::StarvedForgotten,
    Bug::InboxKept,
];

/// In the proxy and what it reads first, and in the upstreams.
const PROXY_BUGS: &[Bug] = &[
    Bug::FinTooEarly,
    Bug::LeaseKept,
    Bug::RetriedAfterBytes,
    Bug::ConnectCancelDropped,
    Bug::WaitingForgotten,
    Bug::ResetMadeFin,
    Bug::WrittenInFlight,
    Bug::AskedWhileJoining,
    Bug::StarvedMadeFin,
    Bug::PairsStarved,
    Bug::PipeFilledTwice,
    Bug::SplicedSentTwice,
    Bug::StallNotForgotten,
    Bug::HeaderRestLost,
    Bug::HeaderByteKept,
    Bug::StatementsRefused,
    Bug::GarbageForwarded,
    Bug::HeaderNotTold,
    Bug::RouteIgnored,
    Bug::HelloCutShort,
    Bug::DripIsProgress,
    Bug::DrainingPicked,
    Bug::DownPicked,
    Bug::RiseIgnored,
    Bug::SourceIgnored,
    Bug::ResetUntrusted,
    Bug::EjectionForgotten,
];

/// In what changes a server that runs.
const CHANGE_BUGS: &[Bug] = &[
    Bug::HeldNotMoved,
    Bug::LimitNotMoved,
    Bug::RetiredEarly,
    Bug::QueueDropped,
    Bug::CommandWakeLost,
    Bug::VersionFreedOpen,
];

/// Where sessions and pairs meet: with either alone nothing is wrong.
const MIXED_BUGS: &[Bug] = &[Bug::StarvedOfOneKind, Bug::DeadlinesOfOneKind];

/// In what hands sessions over to another server, and lets it accept.
const UPGRADE_BUGS: &[Bug] = &[
    Bug::UnsentLost,
    Bug::ReceiveNotCancelled,
    Bug::CancelledSendRepeated,
    Bug::ResumedUnarmed,
    Bug::DeadlinesLost,
    Bug::IdleIsAge,
    Bug::PlaceGivenBackTwice,
    Bug::PlaceKept,
    Bug::NotReleased,
    Bug::UnheardDropped,
    Bug::HeldAbandoned,
    Bug::EndsThoughHeld,
    Bug::CommandsKept,
];

/// The same for pairs.
const UPGRADE_PROXY_BUGS: &[Bug] =
    &[Bug::ShareKept, Bug::ShareNotNarrowed, Bug::FinInvented, Bug::LeaseNotTaken];

/// In what asks rules by source, and in what is counted for them.
const RULE_BUGS: &[Bug] = &[
    Bug::SiteKept,
    Bug::ReleasedByRules,
    Bug::NotWithdrawn,
    Bug::RefusedCounted,
    Bug::RateNotGivenBack,
    Bug::OneMoreOfSource,
    Bug::DelayedEarly,
    Bug::DelayedForgotten,
    Bug::ReplyCutShort,
    Bug::WatchedDelays,
    Bug::WatchedSpares,
    Bug::SourceKept,
];

/// In what tells sessions something, and in what they wait for.
const MESSAGE_BUGS: &[Bug] = &[
    Bug::TimerKept,
    Bug::MailboxLeftOpen,
    Bug::MailOverlooked,
    Bug::MailWakeLost,
    Bug::ToWhoeverIsThere,
    Bug::UndeliveredDropped,
    Bug::LocalTwice,
    Bug::HeldInputDropped,
    Bug::InputDuringPause,
    Bug::FinBeforeHeldInput,
    Bug::MoreWithoutRoom,
];

/// How the simulator finds some bugs: how a seed shows that something is wrong.
type Run = fn(u64) -> Option<String>;

const GROUPS: &[(&[Bug], Run)] = &[
    (BUGS, echo),
    (PROXY_BUGS, proxy),
    (CHANGE_BUGS, changes),
    (MIXED_BUGS, mixed),
    (UPGRADE_BUGS, upgrades),
    (UPGRADE_PROXY_BUGS, proxy_upgrades),
    (RULE_BUGS, rules),
    (MESSAGE_BUGS, messages),
];

fn echo(seed: u64) -> Option<String> {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk);
    simulation.run(seed).err().map(|broken| broken.what)
}

fn proxy(seed: u64) -> Option<String> {
    ProxySimulation::default().run(seed).err().map(|broken| broken.what)
}

fn changes(seed: u64) -> Option<String> {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk).with_changes();
    simulation.run(seed).err().map(|broken| broken.what)
}

fn mixed(seed: u64) -> Option<String> {
    MixedSimulation::default().run(seed).err().map(|broken| broken.what)
}

fn upgrades(seed: u64) -> Option<String> {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk).with_upgrades();
    simulation.run(seed).err().map(|broken| broken.what)
}

fn proxy_upgrades(seed: u64) -> Option<String> {
    ProxySimulation::with_upgrades().run(seed).err().map(|broken| broken.what)
}

fn rules(seed: u64) -> Option<String> {
    let simulation = Simulation::new(Arc::new(Echo), EchoTalk).with_rules();
    simulation.run(seed).err().map(|broken| broken.what)
}

fn messages(seed: u64) -> Option<String> {
    MessageSimulation::with_changes().run(seed).err().map(|broken| broken.what)
}

/// Where the search begins: for those that are rare, shortly before a seed that finds it.
fn first_seed(bug: Bug) -> u64 {
    match bug {
        Bug::InboxKept => 11_400,
        Bug::StarvedMadeFin => 200,
        Bug::EjectionForgotten => 2_290,
        Bug::StallNotForgotten => 3_700,
        Bug::DeadlinesOfOneKind => 400,
        Bug::EndsThoughHeld => 800,
        Bug::WatchedSpares => 400,
        Bug::UndeliveredDropped => 600,
        Bug::ToWhoeverIsThere => 2_300,
        _ => 1,
    }
}

/// Whether some seed finds it.
fn is_found(bug: Bug, run: Run) -> bool {
    let mut seeds = first_seed(bug)..first_seed(bug) + SEEDS;
    match plant(bug, || seeds.find_map(|seed| Some((seed, run(seed)?)))) {
        Some((seed, what)) => println!("{bug:?} | {seed} | {what}"),
        None => {
            eprintln!("{bug:?} is not found within {SEEDS} seeds from {}", first_seed(bug));
            return false;
        }
    }
    true
}

/// One that is in no list would be looked for by nobody.
fn is_listed_once(bug: Bug) -> bool {
    let listed = GROUPS.iter().flat_map(|(bugs, _)| *bugs).filter(|each| **each == bug).count();
    if listed != 1 {
        eprintln!("{bug:?} is in {listed} lists, not in one");
    }
    listed == 1
}

fn main() -> ExitCode {
    // Many of them show by a panic, which the simulator catches.
    std::panic::set_hook(Box::new(|_| {}));
    let mut well = Bug::ALL.iter().fold(true, |well, bug| is_listed_once(*bug) && well);
    let all = GROUPS.iter().flat_map(|(bugs, run)| bugs.iter().map(move |bug| (*bug, *run)));
    let left = Mutex::new(all);
    let next = || left.lock().expect("nothing panics under it").next();
    let search =
        || std::iter::from_fn(next).fold(true, |well, (bug, run)| is_found(bug, run) && well);
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        for thread in threads {
            well &= thread.join().unwrap_or(false);
        }
    });
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
