//! What a connection of a backend hears before the stream of a client.

use std::rc::Rc;

/// What comes first: the PROXY header of the proxy, and what it passes on of a client's preamble. Of
/// which client it is shows only in the stream, so it is compared with those of all.
///
/// None is the beginning of another, or there is an empty one, and no stream begins as another does.
#[derive(Debug)]
pub(super) struct ExpectedPrefix {
    all: Rc<[Vec<u8>]>,
    heard: Vec<u8>,
    is_whole: bool,
}

impl ExpectedPrefix {
    pub(super) fn one_of(all: Rc<[Vec<u8>]>) -> Self {
        Self { all, heard: Vec::new(), is_whole: false }
    }

    /// A client hears the stream of its backend at once.
    pub(super) fn none() -> Self {
        Self { all: Rc::new([]), heard: Vec::new(), is_whole: true }
    }

    /// Takes more of it. Returns what stands behind it.
    ///
    /// # Errors
    /// It is that of no client.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if self.is_whole {
            return Ok(bytes.to_vec());
        }
        self.heard.extend_from_slice(bytes);
        let heard = self.heard.as_slice();
        let is_possible = |one: &&Vec<u8>| one.starts_with(heard) || heard.starts_with(one);
        let longest = self.all.iter().filter(is_possible).map(Vec::len).max();
        let Some(len) = longest else {
            let heard = heard.escape_ascii();
            return Err(format!("what it hears first is what no client may send: {heard}"));
        };
        if heard.len() < len {
            return Ok(Vec::new());
        }
        self.is_whole = true;
        Ok(self.heard.split_off(len))
    }

    /// Whether it was this one.
    pub(super) fn was(&self, one: &[u8]) -> bool {
        self.is_whole && self.heard == one
    }
}
