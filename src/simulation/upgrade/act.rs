//! What each of the two servers does at each word.

use std::collections::HashSet;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::super::changes::{Changes, Frontend};
use super::super::driver::Driver;
use super::super::scenario::Accepting;
use super::super::thread::State;
use super::super::workload::Workload;
use super::counts::TELL_INTERVAL;
use super::{Resuming, Stage};
use crate::connection::suspended::{Place, Record, Suspended};
use crate::dispatch::{Done, FrontendId, ListenerId};
use crate::server::Phase;
use crate::server::command::{Command, Suspend};

/// How long the old server may take to end what has been accepted, and its threads to give connections.
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// A drain behind an upgrade ends nothing: what stays ends by itself.
const FOR_EVER: Duration = Duration::from_secs(3600 * 24);
/// How soon it is looked again whether threads have done what they were told.
const LOOK_INTERVAL: Duration = Duration::from_micros(50);

impl<P: Workload> Driver<P> {
    /// Says the next word, if it is time.
    pub(in super::super) fn upgrade(&mut self, now: Duration) {
        self.follow_counts(now);
        let due = match self.upgrades.next {
            Some(next) => next <= now,
            None => self.upgrades.stage == Stage::Rest && self.begins(now),
        };
        if !due {
            return;
        }
        let before = self.upgrades.stage;
        self.network.allow_drops(self.is_stopping());
        self.act(now);
        let stage = self.upgrades.stage;
        self.network.note("upgrade", || format!("{before:?}, then {stage:?}"));
        self.upgrades.next = None;
        if stage != Stage::Rest {
            // Who waits for threads looks now and then.
            let least = if stage == before { LOOK_INTERVAL } else { Duration::ZERO };
            let next = now + self.upgrades.pause().max(least);
            self.upgrades.next = Some(next);
            self.network.call_at(next, u32::MAX);
        } else if !self.upgrades.at.is_empty() {
            self.network.call_at(self.upgrades.at[0], u32::MAX);
        }
        self.poll_wakes();
    }

    fn begins(&mut self, now: Duration) -> bool {
        let is_due = self.upgrades.at.first().is_some_and(|at| *at <= now);
        if is_due {
            self.upgrades.at.remove(0);
        }
        is_due && self.is_serving(self.upgrades.old)
    }

    /// Whether threads of a server have not done yet what they were told.
    fn resumes(&self, server: usize) -> bool {
        self.upgrades.resuming.iter().any(|it| it.server == server)
    }

    fn is_serving(&self, server: usize) -> bool {
        self.servers[server].phase() == Phase::Serving
    }

    fn act(&mut self, now: Duration) {
        let (old, new) = (self.upgrades.old, self.upgrades.new);
        let stage = self.upgrades.stage;
        match stage {
            Stage::Rest => self.prepare(),
            Stage::Prepared | Stage::Stopping(_) | Stage::Begun if !self.is_serving(old) => {
                self.give_up();
            }
            Stage::Prepared => self.stop_accepting(now),
            Stage::Stopping(until) => self.stops_accepting(now, until),
            Stage::Begun if self.upgrades.fails() => self.fail(),
            Stage::Begun => self.listen(),
            Stage::Listens if !self.is_serving(old) || !self.is_serving(new) => self.commit(),
            Stage::Listens if self.upgrades.fails() => self.fail(),
            Stage::Listens => self.ask(now),
            Stage::Asked(until) => self.wait_for_threads(now, until),
            Stage::Offered if self.upgrades.fails() => self.fail(),
            Stage::Offered => self.answer(),
            Stage::Answered if self.upgrades.fails() => self.fail(),
            Stage::Answered => {
                self.upgrades.stage = Stage::Going { resumed: false, closed: false };
            }
            // Places at backends are taken by the threads.
            Stage::Going { resumed: true, closed: true } if self.resumes(new) => {}
            Stage::Going { resumed: true, closed: true } => {
                self.tell_counts(old, new);
                self.upgrades.stage = Stage::Listens;
            }
            Stage::Going { resumed, closed } => self.go(resumed, closed),
        }
    }

    /// Another server is there.
    fn prepare(&mut self) {
        let kinds = self.workload.kinds();
        let server = self.servers.len();
        let frontend = |kind: usize| {
            // Numbers mean nothing to another server.
            let id = (kinds - 1 - kind) as u16;
            Frontend { server, ..Frontend::new(id, kind, self.upgrades.habits.limits[kind]) }
        };
        let frontends = (0..kinds).rev().map(frontend).collect();
        let changes = Changes::with(frontends, &self.scenario, kinds);
        let workers = match self.scenario.accepting {
            Accepting::EachWorker => self.scenario.workers,
            _ => self.upgrades.rng.usize(1..=3),
        };
        self.add_server(changes, (workers, false));
        self.upgrades.new = server;
        self.upgrades.batches_left = self.upgrades.habits.batches;
        self.upgrades.stage = Stage::Prepared;
    }

    fn tell(&mut self, thread: usize, command: Command<P::Service, super::SimulatedListener>) {
        let server = self.threads[thread].server;
        let first = self.first_thread(server);
        let sender = &self.servers[server].changes.senders[thread - first];
        sender.send(vec![command], &Done::new(1));
    }

    fn first_thread(&self, server: usize) -> usize {
        self.threads.iter().position(|thread| thread.server == server).unwrap_or(0)
    }

    fn threads_of(&self, server: usize) -> Vec<usize> {
        (0..self.threads.len()).filter(|place| self.threads[*place].server == server).collect()
    }

    /// Those that have connections.
    fn workers_of(&self, server: usize) -> Vec<usize> {
        let mut threads = self.threads_of(server);
        threads.retain(|place| self.threads[*place].worker.is_some());
        threads
    }

    fn stop_accepting(&mut self, now: Duration) {
        let old = self.upgrades.old;
        let frontends = self.servers[old].changes.frontends.iter();
        let sockets = frontends.flat_map(|frontend| &frontend.sockets);
        let sockets = sockets
            .filter_map(|(thread, listener, socket)| Some((*thread, *listener, socket.upgrade()?)));
        self.upgrades.sockets = sockets.collect();
        self.upgrades.holds = vec![old, self.upgrades.new];
        for server in &self.upgrades.holds {
            self.servers[*server].shared.lifecycle.hold(true);
        }
        for thread in self.threads_of(old) {
            self.tell(thread, Command::StopAccepting(Arc::clone(&self.upgrades.stops)));
        }
        self.upgrades.stage = Stage::Stopping(now + STEP_LIMIT);
    }

    fn stops_accepting(&mut self, now: Duration, until: Duration) {
        let (old, new) = (self.upgrades.old, self.upgrades.new);
        if Arc::strong_count(&self.upgrades.stops) == 1 {
            self.upgrades.before.push((new, old));
            self.upgrades.told_at = now + TELL_INTERVAL;
            self.network.call_at(self.upgrades.told_at, u32::MAX);
            self.tell_counts(old, new);
            self.upgrades.stage = Stage::Begun;
        } else if now >= until {
            self.give_up();
        }
    }

    /// The new server accepts.
    #[expect(clippy::arc_with_non_send_sync, reason = "real listeners are shared with handles")]
    fn listen(&mut self) {
        let new = self.upgrades.new;
        let first = self.first_thread(new);
        let workers = self.workers_of(new).len();
        let sockets = self.upgrades.sockets.clone();
        for (thread, listener, socket) in sockets {
            let thread = match self.scenario.accepting {
                Accepting::EachWorker => thread,
                Accepting::FirstWorker => 0,
                Accepting::Dedicated => workers,
            };
            let kind = self.kind_of(self.upgrades.old, listener.frontend);
            let socket = Arc::new(socket.of_another());
            let server = &mut self.servers[new];
            let frontends = &mut server.changes.frontends;
            let Some(frontend) = frontends.iter_mut().find(|it| it.kind == kind) else { continue };
            let listener = ListenerId { frontend: frontend.id, ..listener };
            frontend.sockets.push((thread, listener, Arc::downgrade(&socket)));
            server.shared.lifecycle.sockets().add(listener, 1);
            let listening = frontend.listening(listener, socket);
            self.tell(first + thread, Command::Listen(listening));
        }
        self.upgrades.stage = Stage::Listens;
    }

    fn kind_of(&self, server: usize, id: FrontendId) -> usize {
        let mut frontends = self.servers[server].changes.frontends.iter();
        frontends.find(|frontend| frontend.id == id).map_or(0, |frontend| frontend.kind)
    }

    /// Asks threads for connections, or has none to ask for any more.
    fn ask(&mut self, now: Duration) {
        let old = self.upgrades.old;
        if self.upgrades.batches_left == 0 || self.servers[old].loads() == 0 {
            return self.commit();
        }
        self.upgrades.batches_left -= 1;
        self.upgrades.held_since = Some(now);
        let of: Arc<HashSet<FrontendId>> =
            Arc::new(self.servers[old].changes.frontends.iter().map(|it| it.id).collect());
        for thread in self.workers_of(old) {
            let (to, from) = mpsc::channel();
            let most = self.upgrades.rng.usize(1..=self.upgrades.habits.most);
            self.tell(thread, Command::Suspend(Suspend { of: Arc::clone(&of), most, to }));
            self.upgrades.asked.push(from);
        }
        let hurries = self.upgrades.habits.hurries;
        let limit = if self.upgrades.happens(hurries) { Duration::ZERO } else { STEP_LIMIT };
        self.upgrades.stage = Stage::Asked(now + limit);
    }

    fn wait_for_threads(&mut self, now: Duration, until: Duration) {
        if !self.upgrades.asked.is_empty() && now < until {
            return;
        }
        let left = std::mem::take(&mut self.upgrades.asked);
        // Nobody may listen to what they still send, either: then they keep it.
        if self.upgrades.rng.bool() {
            let old = self.upgrades.old;
            for from in left {
                self.servers[old].shared.lifecycle.hold(true);
                self.upgrades.late.push((old, from));
            }
        }
        let Self { upgrades, network, .. } = self;
        let copy = |taken: &Suspended| Suspended {
            frontend: taken.frontend,
            record: as_sent(&taken.record),
            sockets: taken.sockets.iter().map(|socket| network.copy(socket)).collect(),
            place: Place::default(),
        };
        upgrades.offered = upgrades.taken.iter().map(copy).collect();
        upgrades.stage = if upgrades.taken.is_empty() { Stage::Listens } else { Stage::Offered };
    }

    /// The new server says what it takes. What it does not take it closes, and the old one goes on with it.
    fn answer(&mut self) {
        let serves = self.is_serving(self.upgrades.new);
        let refuses = self.upgrades.habits.refuses;
        let (mut refused, mut left) = (Vec::new(), Vec::new());
        let taken = std::mem::take(&mut self.upgrades.taken);
        let offered = std::mem::take(&mut self.upgrades.offered);
        for (taken, offered) in taken.into_iter().zip(offered) {
            if serves && !self.upgrades.happens(refuses) {
                left.push(taken);
                self.upgrades.offered.push(offered);
            } else {
                self.close_copies(vec![offered]);
                refused.push(taken);
            }
        }
        self.upgrades.taken = left;
        self.resume(self.upgrades.old, refused);
        self.upgrades.stage = Stage::Answered;
    }

    /// The new server goes on with what it has got, and the old one closes it, in any order.
    fn go(&mut self, resumed: bool, closed: bool) {
        let resumes = !resumed && (closed || self.upgrades.rng.bool());
        if resumes {
            let new = self.upgrades.new;
            let offered = std::mem::take(&mut self.upgrades.offered);
            self.upgrades.moved += offered.len();
            let places = offered.into_iter().map(|offered| self.place(new, offered));
            let placed = places.collect();
            self.resume(new, placed);
        } else {
            for Suspended { sockets, place, .. } in std::mem::take(&mut self.upgrades.taken) {
                sockets.into_iter().for_each(|socket| self.network.drop_copy(socket));
                place.give_away();
            }
        }
        self.upgrades.stage =
            Stage::Going { resumed: resumed || resumes, closed: closed || !resumes };
    }

    /// Takes a place for a connection that comes from another server, as it comes.
    fn place(&self, server: usize, suspended: Suspended) -> Suspended {
        let kind = self.kind_of(self.upgrades.old, suspended.frontend);
        let mut frontends = self.servers[server].changes.frontends.iter();
        let frontend = frontends.find(|frontend| frontend.kind == kind).expect("it has all kinds");
        let process = &self.servers[server].shared.connection_limit;
        frontend.limit.take(1);
        process.take(1);
        let mut place = Place::counted(&frontend.limit);
        place.and_counted(process);
        Suspended { frontend: frontend.id, place, ..suspended }
    }

    /// Has threads of a server go on with these.
    pub(super) fn resume(&mut self, server: usize, connections: Vec<Suspended>) {
        let mut workers = self.workers_of(server);
        workers.retain(|place| self.threads[*place].state != State::Ended);
        if workers.is_empty() {
            return self.lose(connections);
        }
        let mut shares: Vec<Vec<Suspended>> = workers.iter().map(|_| Vec::new()).collect();
        for suspended in connections {
            suspended.sockets.iter().for_each(|socket| self.network.hand_on(socket));
            let worker = self.upgrades.rng.usize(0..workers.len());
            shares[worker].push(suspended);
        }
        let shares = workers.into_iter().zip(shares);
        for (thread, share) in shares.filter(|(_, share)| !share.is_empty()) {
            let count = share.len();
            let (refused, back) = mpsc::channel();
            self.upgrades.resuming.push(Resuming { server, count, back });
            self.tell(thread, Command::Resume(share, refused));
        }
        self.poll_wakes();
    }

    /// No thread of a server is left to go on with these: it has ended meanwhile.
    fn lose(&mut self, connections: Vec<Suspended>) {
        self.upgrades.lost += connections.len();
        self.upgrades.is_unfair |= !self.is_stopping();
        self.workload.dies();
        self.network.crash(&[], || drop(connections));
    }

    fn close_copies(&self, connections: Vec<Suspended>) {
        for Suspended { sockets, place, .. } in connections {
            sockets.into_iter().for_each(|socket| self.network.drop_copy(socket));
            drop(place);
        }
    }

    /// Nothing more moves: the old server drains.
    fn commit(&mut self) {
        let (old, new) = (self.upgrades.old, self.upgrades.new);
        let sockets = std::mem::take(&mut self.upgrades.sockets);
        sockets.iter().for_each(|(_, _, socket)| socket.give_away());
        self.leave(old);
        self.upgrades.done.0 += 1;
        self.rest();
        self.upgrades.old = new;
    }

    fn rest(&mut self) {
        for server in std::mem::take(&mut self.upgrades.holds) {
            self.servers[server].shared.lifecycle.hold(false);
        }
        self.upgrades.stage = Stage::Rest;
    }

    /// A server drains for as long as it takes.
    fn leave(&mut self, server: usize) {
        self.servers[server].shared.lifecycle.set_drain_timeout(FOR_EVER);
        self.enter_one(server, Phase::Draining);
    }

    /// The new server dies, or gives up.
    fn fail(&mut self) {
        let dies = self.upgrades.habits.dies;
        if self.upgrades.happens(dies) {
            let offered = std::mem::take(&mut self.upgrades.offered);
            self.close_copies(offered);
            self.crash(self.upgrades.new);
            self.go_back();
        } else {
            self.give_up();
        }
    }

    /// The new server drains what it has.
    fn give_up(&mut self) {
        let new = self.upgrades.new;
        let offered = std::mem::take(&mut self.upgrades.offered);
        self.close_copies(offered);
        let frontends = self.servers[new].changes.frontends.iter();
        let sockets = frontends.flat_map(|frontend| &frontend.sockets);
        sockets.filter_map(|(_, _, socket)| socket.upgrade()).for_each(|socket| socket.give_away());
        self.upgrades.alone.push(new);
        self.leave(new);
        self.go_back();
    }

    /// The old server goes on with what nobody else has, and accepts again.
    fn go_back(&mut self) {
        let (old, new) = (self.upgrades.old, self.upgrades.new);
        self.upgrades.before.retain(|(server, _)| *server != new);
        self.reserve(new, None);
        self.workload.ends_sharing(old);
        let taken = std::mem::take(&mut self.upgrades.taken);
        self.resume(old, taken);
        let sockets = std::mem::take(&mut self.upgrades.sockets);
        let first = self.first_thread(old);
        for (thread, listener, socket) in sockets {
            if !self.is_serving(old) {
                // Nobody is left to accept them.
                while let Some(waiting) = socket.listener.take_remote() {
                    waiting.reset();
                }
                continue;
            }
            let server = &self.servers[old];
            let mut frontends = server.changes.frontends.iter();
            let Some(frontend) = frontends.find(|it| it.id == listener.frontend) else { continue };
            server.shared.lifecycle.sockets().add(listener, 1);
            let listening = frontend.listening(listener, socket);
            self.tell(first + thread, Command::Listen(listening));
        }
        self.upgrades.done.1 += 1;
        self.rest();
    }

    /// A process dies with all that it has.
    fn crash(&mut self, server: usize) {
        self.network.note("upgrade", || format!("server {server} dies"));
        let of = self.threads_of(server);
        let mut loops = Vec::new();
        for place in of {
            self.threads[place].state = State::Ended;
            loops.extend(self.threads[place].event_loop.take());
        }
        let rings: Vec<usize> = loops.iter_mut().map(|it| it.ring().0.number()).collect();
        self.network.crash(&rings, || drop(loops));
        self.upgrades.any_died = true;
        self.upgrades.resuming.retain(|it| it.server != server);
        self.servers[server].is_dead = true;
        self.workload.dies();
    }
}

/// A record as the other process reads it.
fn as_sent(record: &Record) -> Record {
    let mut bytes = Vec::new();
    ciborium::into_writer(record, &mut bytes).expect("a record can be written");
    ciborium::from_reader(&bytes[..]).expect("what was written can be read")
}
