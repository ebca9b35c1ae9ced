//! Cancels: everything waits here, so none of them loses a race.

use super::super::Completion;
use super::super::operation::Kind;
use super::super::tag::Key;
use super::Epoll;
use crate::sys::Errno;

impl Epoll {
    pub(super) fn cancel(&mut self, key: Key, kind: Kind, out: &mut Vec<Completion>) {
        const CANCELLED: Errno = Errno::ECANCELED;
        match kind {
            Kind::Accept => self.cancel_accepts(key, out),
            Kind::Receive => {
                let mine = |receive: &super::table::Receiving| receive.key == key;
                for fd in self.table.find(|socket| socket.receive.as_ref().is_some_and(mine)) {
                    self.end_receive(fd, Err(CANCELLED), out);
                }
            }
            Kind::Send => {
                if let Some(fd) = self.waiting.get(&key) {
                    self.end_send(*fd, Err(CANCELLED), out);
                }
            }
            Kind::Connect => {
                let mine = |connect: &super::table::Connecting| connect.key == key;
                for fd in self.table.find(|socket| socket.connect.as_ref().is_some_and(mine)) {
                    self.end_connect(fd, Err(CANCELLED), out);
                }
            }
            // Never in flight when a cancel starts.
            Kind::Open | Kind::Close | Kind::Cancel | Kind::Wake | Kind::Poll | Kind::SendKept => {}
        }
    }
}
