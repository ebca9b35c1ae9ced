//! What waits leaves: pieces are lent to the kernel, and go when it has taken them.

use super::{NONE, Node, Output, Piece, Pieces};
use crate::ring::{BufferPool, Bytes, GATHERED_MAX};

/// What one send brings on its way.
pub(crate) struct Leaving {
    pub(crate) bytes: Bytes,
    /// Whether nothing waits behind it.
    pub(crate) is_all: bool,
    /// Whether it is all of the last piece of it.
    pub(crate) is_whole: bool,
}

impl Piece {
    /// Bytes that are not in memory are sent by themselves.
    fn is_in_memory(&self) -> bool {
        matches!(self, Self::Static(_) | Self::Shared(_) | Self::Buffer { .. })
    }

    fn len(&self) -> usize {
        match self {
            Self::Static(bytes) => bytes.len(),
            Self::Shared(part) => part.len(),
            Self::File(part) => part.len(),
            Self::Buffer { range, .. } => range.len(),
            Self::Pipe { len, .. } => *len,
        }
    }

    /// Drops the first bytes of it.
    fn skip(&mut self, bytes: usize) {
        match self {
            Self::Static(rest) => *rest = &rest[bytes..],
            Self::Shared(part) => part.skip(bytes),
            Self::File(part) => part.skip(bytes),
            Self::Buffer { range, .. } => range.start += bytes,
            Self::Pipe { len, .. } => *len -= bytes,
        }
    }
}

impl Pieces {
    /// Lends the first of what waits to the kernel, until [`sent`](Self::sent): up to `limit` bytes of it.
    pub(crate) fn begin_single_send(
        &mut self,
        output: &Output,
        pool: &BufferPool,
        limit: usize,
    ) -> Leaving {
        let (bytes, is_whole) = self.front(output, pool, limit);
        let first = &mut self.nodes[output.first as usize];
        first.in_flight = true;
        Leaving { bytes, is_all: is_whole && first.next == NONE, is_whole }
    }

    /// The same, and with it as many of the next ones as are in memory and fit as a whole.
    pub(crate) fn begin_send(
        &mut self,
        output: &Output,
        pool: &BufferPool,
        limit: usize,
    ) -> Leaving {
        let leaving = self.begin_single_send(output, pool, limit);
        let Node { piece, next, .. } = &self.nodes[output.first as usize];
        let is_alone = !leaving.is_whole || !piece.as_ref().is_some_and(Piece::is_in_memory);
        if is_alone || !self.fits(*next, limit - leaving.bytes.len()) {
            return leaving;
        }
        self.gather(output, pool, (leaving.bytes, limit))
    }

    /// Whether there is a piece in this place that goes along with others, and there is room for it.
    fn fits(&self, index: u32, room: usize) -> bool {
        let piece = self.nodes.get(index as usize).and_then(|node| node.piece.as_ref());
        piece.is_some_and(|piece| piece.is_in_memory() && piece.len() <= room)
    }

    fn gather(
        &mut self,
        output: &Output,
        pool: &BufferPool,
        (bytes, limit): (Bytes, usize),
    ) -> Leaving {
        let mut room = limit - bytes.len();
        let mut gathered = vec![bytes];
        let mut index = self.nodes[output.first as usize].next;
        while gathered.len() < GATHERED_MAX && self.fits(index, room) {
            let Node { piece: Some(piece), next, in_flight } = &mut self.nodes[index as usize]
            else {
                break;
            };
            room -= piece.len();
            gathered.push(piece.first(pool, limit).0);
            *in_flight = true;
            index = *next;
        }
        let is_all = index == NONE;
        Leaving { bytes: Bytes::Gathered(gathered.into()), is_all, is_whole: true }
    }

    /// How many bytes of what waits were lent to the kernel with this limit.
    pub(crate) fn lent(&self, output: &Output, limit: usize) -> usize {
        let mut lent = 0;
        let mut index = output.first;
        while let Some(Node { piece: Some(piece), next, in_flight: true }) =
            self.nodes.get(index as usize)
        {
            lent += piece.len();
            index = *next;
        }
        lent.min(limit)
    }

    /// A send has ended, with which so many bytes went.
    pub(crate) fn sent(&mut self, output: &mut Output, pool: &mut BufferPool, mut bytes: usize) {
        let mut index = output.first;
        while let Some(node) = self.nodes.get_mut(index as usize).filter(|node| node.in_flight) {
            node.in_flight = false;
            index = node.next;
        }
        output.bytes -= bytes;
        while bytes > 0 {
            let node = &mut self.nodes[output.first as usize];
            let piece = node.piece.as_mut().expect("a queued node has a piece");
            let gone = bytes.min(piece.len());
            piece.skip(gone);
            bytes -= gone;
            if piece.len() == 0 {
                self.pop(output, pool);
            }
        }
    }

    /// Drops what waits, all but what is in flight.
    pub(crate) fn clear(&mut self, output: &mut Output, pool: &mut BufferPool) {
        let mut rest = *output;
        let mut last = NONE;
        while let Some(node) = self.nodes.get(rest.first as usize).filter(|node| node.in_flight) {
            (last, rest.first) = (rest.first, node.next);
        }
        match self.nodes.get_mut(last as usize) {
            Some(node) => {
                node.next = NONE;
                output.last = last;
            }
            None => *output = Output::default(),
        }
        while !rest.is_empty() {
            self.pop(&mut rest, pool);
        }
    }
}
