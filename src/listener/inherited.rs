//! Listening sockets that this process was started with.
//!
//! Or that the process whose place it takes handed over.
//!
//! Those that somebody else has made, such as systemd for a socket unit, that one keeps open: they are never told to
//! refuse connections, and what waits in their queues when this process ends is accepted by the next. Those that a
//! process before this one has made and given away for safekeeping ([`OWN_PREFIX`]) are as good as its own.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use socket2::{Socket, Type};

use super::socket_file::{Identity, SocketFile};
use super::{BindError, Listener, QueueWaits, SynFilter, backlog, tcp, unix};
use crate::config::{ListenAddress, SocketOptions, UnixAddress};
use crate::sys;

/// What systemd calls a socket that its unit gives no name, after the unit.
const UNIT_SUFFIX: &str = ".socket";

/// What the name of a socket begins with that this program has made.
pub const OWN_PREFIX: &str = "acceptor@";

/// Sockets that may be listened on. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Inherited(Arc<Mutex<Vec<Passed>>>);

/// One of them.
#[derive(Debug)]
struct Passed {
    socket: Socket,
    /// `None` if it is no listening TCP or unix stream socket.
    address: Option<ListenAddress>,
    name: String,
    /// What it was in the process that handed it over, and its number there.
    origin: Option<(u32, Origin)>,
    /// Whether a listener has it. One that somebody else keeps is kept here, too: a frontend may listen there again.
    is_claimed: bool,
}

/// What a socket was in the process that hands it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// The frontend that listened on it.
    pub frontend: String,
    /// Where that was configured to listen. The port may have been chosen by the kernel.
    pub listen: String,
    /// Which of several equal entries of the frontend it was.
    pub entry: u32,
    /// Whether somebody else keeps it open too.
    pub is_kept: bool,
    /// The file of a unix socket: what is at its path may be another one. `None` if there is none, or the process is of a
    /// version that does not say.
    #[serde(default)]
    pub file: Option<Identity>,
}

/// A socket that is to be listened on.
#[derive(Debug)]
pub struct Given {
    socket: Socket,
    address: ListenAddress,
    is_kept: bool,
    /// Whether another process listens on it, and may go on to.
    is_handed_over: bool,
    /// The file of a unix socket that was handed over.
    file: Option<Identity>,
}

impl Inherited {
    /// Those that the environment names: sd_listen_fds(3). To be called before anything else opens descriptors.
    ///
    /// # Errors
    /// What the environment says is not so.
    pub fn from_environment() -> io::Result<Self> {
        Ok(Self::of(sys::listen_fds()?))
    }

    /// These, each with its name.
    pub fn of(sockets: Vec<(OwnedFd, String)>) -> Self {
        let passed = sockets.into_iter().map(|(socket, name)| {
            let socket = Socket::from(socket);
            let address = address(&socket);
            Passed { address, socket, name, origin: None, is_claimed: false }
        });
        Self(Arc::new(Mutex::new(passed.collect())))
    }

    /// Adds one that the process before this one hands over, under its number there.
    pub fn add(&self, number: u32, socket: OwnedFd, origin: Origin) {
        let socket = Socket::from(socket);
        let (address, is_claimed) = (address(&socket), false);
        let name = match origin.is_kept {
            true => origin.frontend.clone(),
            false => address.as_ref().map_or_else(|| OWN_PREFIX.to_owned(), own_name),
        };
        let origin = Some((number, origin));
        self.passed().push(Passed { socket, address, name, origin, is_claimed });
    }

    /// The numbers of those that were handed over and that nobody has claimed. They are closed, but for those that somebody
    /// else keeps: a frontend may listen there later.
    pub fn close_unclaimed(&self) -> Vec<u32> {
        let mut passed = self.passed();
        let unclaimed = passed.iter().filter(|it| !it.is_claimed);
        let numbers = unclaimed.filter_map(|it| it.origin.as_ref().map(|(number, _)| *number));
        let numbers = numbers.collect();
        passed.retain(|it| it.is_claimed || it.origin.is_none() || !it.is_own());
        numbers
    }

    /// Those that somebody else keeps and that nobody listens on now, as a process is to have them that takes the place of
    /// this one: a frontend that was drained, or is out of the file, may listen there again.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn unlistened(&self, listened: &[ListenAddress]) -> io::Result<Vec<(Origin, OwnedFd)>> {
        let passed = self.passed();
        let unlistened = passed.iter().filter(|it| !it.is_own()).filter_map(|it| {
            let address = it.address.as_ref().filter(|address| !listened.contains(address))?;
            let frontend = it.name.clone();
            let (listen, is_kept) = (address.to_string(), true);
            let origin = Origin { frontend, listen, entry: 0, is_kept, file: None };
            Some(it.socket.try_clone().map(|socket| (origin, socket.into())))
        });
        unlistened.collect()
    }

    /// The process that handed sockets over has given them up: whoever listens on one of them from now on changes its
    /// options.
    pub fn make_own(&self) {
        self.passed().iter_mut().for_each(|it| it.origin = None);
    }

    /// Closes all: another process has them.
    pub fn give_away(&self) {
        self.passed().clear();
    }

    /// The names of those that this program has made.
    pub fn own_names(&self) -> Vec<String> {
        let passed = self.passed();
        passed.iter().filter(|it| it.is_own()).map(|it| it.name.clone()).collect()
    }

    /// Closes those of this program that can serve nobody any more, since their process ended while it drained, and
    /// returns their names.
    pub fn drop_unusable(&self) -> Vec<String> {
        let mut passed = self.passed();
        let unusable = passed.extract_if(.., |it| it.is_own() && !it.can_serve());
        unusable.map(|it| it.name).collect()
    }

    /// Where those that are left listen.
    pub fn addresses(&self) -> Vec<ListenAddress> {
        self.passed().iter().filter_map(|it| it.address.clone()).collect()
    }

    /// Takes those of an address, in the order in which they were passed.
    pub fn claim_address(&self, address: &ListenAddress) -> Vec<Given> {
        self.claim(|passed| passed.address.as_ref() == Some(address))
    }

    /// Takes those that were handed over by a frontend of this name that was configured to listen there too: of
    /// several equal entries the first that is left.
    pub fn claim_entry(&self, frontend: &str, listen: &str) -> Vec<Given> {
        let is_it = |passed: &Passed| match &passed.origin {
            Some((_, it)) => it.frontend == frontend && it.listen == listen && !passed.is_claimed,
            None => false,
        };
        let first = {
            let passed = self.passed();
            let entries = passed.iter().filter(|it| is_it(it)).filter_map(Passed::entry);
            entries.min()
        };
        self.claim(|passed| is_it(passed) && passed.entry() == first)
    }

    /// Takes those of a name that listen somewhere.
    pub fn claim_name(&self, name: &str) -> Vec<Given> {
        self.claim(|passed| passed.name.strip_suffix(UNIT_SUFFIX).unwrap_or(&passed.name) == name)
    }

    /// Closes those that nobody has claimed, and says for each what it was. Those stay that a process before this one has
    /// handed over and that somebody else keeps.
    pub fn close_rest(&self) -> Vec<String> {
        let mut passed = self.passed();
        let is_left = |it: &mut Passed| !it.is_claimed && (it.origin.is_none() || it.is_own());
        passed.extract_if(.., is_left).map(|it| it.description()).collect()
    }

    fn claim(&self, is_wanted: impl Fn(&Passed) -> bool) -> Vec<Given> {
        let mut passed = self.passed();
        let given = passed.iter_mut().filter(|it| is_wanted(it)).filter_map(Passed::give).collect();
        passed.retain(|it| !(it.is_own() && it.is_claimed));
        given
    }

    fn passed(&self) -> MutexGuard<'_, Vec<Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passed {
    fn entry(&self) -> Option<u32> {
        self.origin.as_ref().map(|(_, origin)| origin.entry)
    }

    fn is_own(&self) -> bool {
        self.name.starts_with(OWN_PREFIX)
    }

    /// False for one that was told to refuse connections and cannot take that back, and for one whose file is gone.
    fn can_serve(&self) -> bool {
        match &self.address {
            None => false,
            Some(ListenAddress::Tcp(_)) => sys::admit_syns(self.socket.as_fd()).unwrap_or(false),
            Some(ListenAddress::Unix(name)) => name.file().is_none_or(Path::exists),
        }
    }

    fn give(&mut self) -> Option<Given> {
        let address = self.address.clone()?;
        let socket = self.socket.try_clone().ok()?;
        self.is_claimed = true;
        let (is_kept, is_handed_over) = (!self.is_own(), self.origin.is_some());
        let file = self.origin.as_ref().and_then(|(_, origin)| origin.file);
        Some(Given { socket, address, is_kept, is_handed_over, file })
    }

    fn description(&self) -> String {
        match &self.address {
            Some(address) => format!("'{}' on {address}", self.name),
            None => format!("'{}', which is no listening stream socket", self.name),
        }
    }
}

impl Given {
    /// Where it listens.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Listens on it, with these options. Whether an IPv6 wildcard takes IPv4 stays as it is. One that another process
    /// still listens on is left as it is until that has given it up.
    ///
    /// # Errors
    /// Those of setsockopt(2) and listen(2), with what was tried.
    pub fn listen(self, options: &SocketOptions) -> Result<Listener, BindError> {
        let Self { socket, address, is_kept, is_handed_over, file } = self;
        let file = match &address {
            ListenAddress::Unix(name) if !is_kept => {
                name.file().and_then(|path| file_at(path, file))
            }
            _ => None,
        };
        file.iter().for_each(|file| file.give_away(is_handed_over));
        let configured = match address {
            _ if is_handed_over => Ok(backlog::expected(options)),
            ListenAddress::Tcp(_) => tcp::configure(&socket, options),
            ListenAddress::Unix(_) => unix::configure(&socket, options),
        };
        // Bans end with the process that has made them.
        if !is_handed_over
            && matches!(address, ListenAddress::Tcp(_))
            && sys::forget_syn_filter(socket.as_fd()).unwrap_or(false)
        {
            tracing::info!("{address}: bans that another process has left are taken away");
        }
        let backlog = Mutex::new(configured.map_err(|failure| failure.at(&address))?);
        let waits = match address {
            ListenAddress::Tcp(_) => Arc::new(QueueWaits::new(options.queue_wait_sample)),
            ListenAddress::Unix(_) => Arc::default(),
        };
        let drops_before = sys::socket_drops(socket.as_fd()).unwrap_or(0);
        Ok(Listener {
            file,
            is_kept: AtomicBool::new(is_kept || is_handed_over),
            is_of_others: is_kept,
            is_handed_over,
            is_given_away: AtomicBool::new(false),
            drops_before,
            socket,
            address,
            backlog,
            waits,
            pauses: Arc::default(),
            syn_filter: SynFilter::default(),
            pressure: Arc::default(),
        })
    }
}

/// The file that a socket was bound to: the one that is known, or whatever is there.
fn file_at(path: &Path, known: Option<Identity>) -> Option<SocketFile> {
    match known {
        Some(known) => SocketFile::known(path, known).ok(),
        None => SocketFile::of(path).ok(),
    }
}

/// What a supervisor calls the sockets of an address of this program: printable ASCII without a colon, at most 255 bytes.
pub fn own_name(address: &ListenAddress) -> String {
    const NAME_MAX: usize = 255;
    let plain = |c: char| if c.is_ascii_graphic() && c != ':' { c } else { '_' };
    format!("{OWN_PREFIX}{address}").chars().map(plain).take(NAME_MAX).collect()
}

/// Where a socket listens.
fn address(socket: &Socket) -> Option<ListenAddress> {
    let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
    let listens = is_stream && socket.is_listener().is_ok_and(|listens| listens);
    let address = socket.local_addr().ok().filter(|_| listens)?;
    if let Some(tcp) = address.as_socket() {
        return Some(ListenAddress::Tcp(tcp));
    }
    let path = address.as_pathname().map(|path| UnixAddress::from(path.to_owned()));
    let name = || address.as_abstract_namespace().map(OsStr::from_bytes);
    path.or_else(|| name().map(UnixAddress::of_abstract)).map(ListenAddress::Unix)
}
