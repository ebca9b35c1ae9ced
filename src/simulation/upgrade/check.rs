//! What holds while connections move: each is in one place, and counted where it is.

use std::sync::mpsc::TryRecvError;

use super::super::driver::Driver;
use super::super::thread::State;
use super::super::workload::Workload;
use super::Stage;
use crate::connection::suspended::{Record, Suspended};

impl<P: Workload> Driver<P> {
    /// After a step of a thread: what it has sent, and whether it does what it was told.
    pub(in super::super) fn follow_upgrade(&mut self) -> Result<(), String> {
        self.collect();
        self.collect_late();
        let mut refused = 0;
        let Self { upgrades, workload, .. } = self;
        upgrades.resuming.retain(|resuming| {
            workload.takes_over(resuming.server);
            match resuming.back.try_recv() {
                Ok(_) => {
                    refused += 1;
                    true
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Disconnected) => false,
            }
        });
        if self.upgrades.is_unfair {
            return Err("no thread is left for connections that come back to a server".to_owned());
        }
        if refused > 0 {
            return Err(format!("{refused} connections could not go on"));
        }
        let now = self.network.elapsed();
        if let Some(since) = self.upgrades.held_since {
            self.upgrades.held += now - since;
            let is_on = !matches!(self.upgrades.stage, Stage::Rest | Stage::Listens)
                || !self.upgrades.resuming.is_empty()
                || !self.upgrades.late.is_empty();
            self.upgrades.held_since = is_on.then_some(now);
        }
        Ok(())
    }

    fn collect(&mut self) {
        let Self { upgrades, network, .. } = self;
        let taken = &mut upgrades.taken;
        upgrades.asked.retain(|from| {
            loop {
                match from.try_recv() {
                    Ok(suspended) => {
                        suspended.sockets.iter().for_each(|socket| network.take_off(socket));
                        taken.push(suspended);
                    }
                    Err(error) => return error == TryRecvError::Empty,
                }
            }
        });
    }

    /// What comes too late goes back.
    fn collect_late(&mut self) {
        let mut left = std::mem::take(&mut self.upgrades.late);
        left.retain(|(server, from)| {
            loop {
                match from.try_recv() {
                    Ok(suspended) => {
                        suspended.sockets.iter().for_each(|socket| self.network.take_off(socket));
                        self.resume(*server, vec![suspended]);
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => break,
                }
            }
            self.servers[*server].shared.lifecycle.hold(false);
            self.poll_wakes();
            false
        });
        self.upgrades.late = left;
    }

    /// Connections of a server that are on none of its threads, and counted.
    pub(in super::super) fn off_threads(&self, server: usize) -> usize {
        let of = self.threads.iter().filter(|thread| thread.server == server);
        let loops = of.filter_map(|thread| thread.event_loop.as_ref());
        let leaving: usize = loops.map(|event_loop| event_loop.releasing()).sum();
        let taken = if server == self.upgrades.old { self.upgrades.taken.len() } else { 0 };
        let told = self.upgrades.resuming.iter().filter(|resuming| resuming.server == server);
        leaving + taken + told.map(|resuming| resuming.count).sum::<usize>()
    }

    /// Connections that have both a place with the old server and one with the new one.
    fn counted_twice(&self) -> &[Suspended] {
        match self.upgrades.stage {
            Stage::Going { resumed: true, closed: false } => &self.upgrades.taken,
            _ => &[],
        }
    }

    /// Whether limits hold for all servers together.
    pub(in super::super) fn check_limits(&self) -> Result<(), String> {
        let counts =
            |place: &usize| !self.servers[*place].is_dead && !self.upgrades.alone.contains(place);
        let live: Vec<usize> = (0..self.servers.len()).filter(counts).collect();
        let leases = self.counted_twice().iter().filter_map(|it| it.place.lease.as_ref());
        self.workload.check_places(&live, &leases.collect::<Vec<_>>())?;
        let live = || live.iter().map(|place| &self.servers[*place]);
        let own = |open: usize, reserved: usize| open as isize - reserved as isize;
        let twice = self.counted_twice().len() as isize;
        let open: isize =
            live().map(|it| own(it.shared.connection_limit.open(), it.reserved.process)).sum();
        if open - twice > self.scenario.max_connections as isize {
            let limit = self.scenario.max_connections;
            return Err(format!(
                "{open} connections are open on all servers, the limit is {limit}"
            ));
        }
        for (kind, limit) in self.upgrades.habits.limits.iter().enumerate() {
            let of_kind = |it: &super::super::server::Server<P::Service>| {
                let reserved = it.reserved.frontends.get(kind).copied().unwrap_or_default();
                let mut frontends = it.changes.frontends.iter();
                let frontend = frontends.find(|frontend| frontend.kind == kind);
                frontend.map_or(0, |frontend| own(frontend.limit.open(), reserved))
            };
            let open: isize = live().map(of_kind).sum();
            if open - twice > *limit as isize && *limit < usize::MAX {
                return Err(format!(
                    "{open} connections of a frontend on all servers, not {limit}"
                ));
            }
        }
        Ok(())
    }

    /// When all threads wait: each connection is in one place.
    pub(in super::super) fn check_owners(&self) -> Result<(), String> {
        if self.servers.len() == 1 || self.is_stopping() {
            return Ok(());
        }
        let loops = self.threads.iter().filter_map(|thread| thread.event_loop.as_ref());
        let mut owned: usize = loops
            .map(|it| {
                it.connections().open() + it.inbox().len() + it.acceptor().held() + it.releasing()
            })
            .sum();
        owned += match self.upgrades.stage {
            Stage::Going { resumed: true, .. } => 0,
            Stage::Going { .. } => self.upgrades.offered.len(),
            _ => self.upgrades.taken.len(),
        };
        owned += self.upgrades.resuming.iter().map(|resuming| resuming.count).sum::<usize>();
        let served = self.network.served();
        if served == owned {
            return Ok(());
        }
        Err(format!("{served} connections are open, and {owned} are owned by somebody"))
    }

    /// Pairs that are on no thread and have a place at a backend.
    pub(in super::super) fn pairs_off_threads(&self, server: usize) -> usize {
        let leased = |suspended: &&Suspended| {
            matches!(suspended.record, Record::Pair(_)) && suspended.place.lease.is_some()
        };
        let told = self.upgrades.resuming.iter().filter(|resuming| resuming.server == server);
        let told: usize = told.map(|resuming| resuming.count).sum();
        let taken = if server == self.upgrades.old { &self.upgrades.taken[..] } else { &[] };
        told + taken.iter().filter(leased).count()
    }

    /// Nothing of an upgrade may be left.
    pub(in super::super) fn check_upgrades_end(&self) -> Result<(), String> {
        let on_their_way = self.upgrades.taken.len() + self.upgrades.offered.len();
        if on_their_way > 0 {
            return Err(format!("{on_their_way} connections are still on their way"));
        }
        for (place, server) in self.servers.iter().enumerate().filter(|(_, it)| !it.is_dead) {
            let (process, reserved) =
                (server.shared.connection_limit.open(), server.reserved.process);
            if process != reserved {
                return Err(format!(
                    "server {place} counts {process} connections, {reserved} for another"
                ));
            }
            for frontend in &server.changes.frontends {
                let reserved =
                    server.reserved.frontends.get(frontend.kind).copied().unwrap_or_default();
                let open = frontend.limit.open();
                if open != reserved {
                    return Err(format!("server {place} counts {open} connections of a frontend"));
                }
            }
        }
        Ok(())
    }

    /// Whether some server has died with what it has counted.
    pub(in super::super) fn any_died(&self) -> bool {
        self.upgrades.any_died
    }

    /// Whether a thread is of a server that another one accepts for.
    pub(in super::super) fn is_accepted_for(&self, thread: usize) -> bool {
        let is_old = self.threads[thread].server == self.upgrades.old;
        let is_on = !matches!(self.upgrades.stage, Stage::Rest | Stage::Prepared);
        is_old && is_on && self.threads[thread].state != State::Ended
    }
}
