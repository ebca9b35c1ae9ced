//! How a ring is made, and why a machine refuses one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use io_uring::{IoUring, Submitter};

use super::super::Sizes;
use super::super::refusal::Refusal;
use super::locked;
use super::provided::ProvidedBuffers;
use crate::sys::{self, Errno, KernelRelease, Probe};

/// The first kernel that needs no array of indices between the tail of the submission queue and its entries.
const NO_SQARRAY_FROM: KernelRelease = KernelRelease { major: 6, minor: 6 };

/// Whether io_uring may be called here. A child process asks, so that a filter which kills whoever
/// calls it does not end this process. What only a whole ring can show, [`Uring::new`](super::Uring::new) tells.
///
/// # Errors
/// Why this machine refuses.
pub fn probe() -> Result<(), Refusal> {
    let probe = sys::probe_io_uring().map_err(|error| refused("a child that probes", &error))?;
    match probe {
        Probe::Works => Ok(()),
        Probe::Killed(signal) => Err(Refusal::Killed(signal)),
        Probe::Refused(step, errno) => {
            Err(Refusal::from_errno(step, errno, sys::io_uring_disabled()))
        }
    }
}

pub(super) fn setup(sizes: &Sizes, kernel: KernelRelease) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    if kernel >= NO_SQARRAY_FROM {
        builder.setup_no_sqarray();
    }
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(sizes.completion_entries)
        .setup_clamp()
        .build(locked::submission_entries(sizes))
}

pub(super) fn register(
    submitter: &mut Submitter<'_>,
    window: usize,
) -> Result<ProvidedBuffers, Refusal> {
    submitter.register_ring_fd().map_err(|error| refused("IORING_REGISTER_RING_FDS", &error))?;
    ProvidedBuffers::register(submitter, window)
        .map_err(|error| refused("IORING_REGISTER_PBUF_RING", &error))
}

pub(super) fn duplicate(ring: &IoUring) -> io::Result<OwnedFd> {
    // SAFETY: the ring is borrowed, so its descriptor is open.
    unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }.try_clone_to_owned()
}

pub(super) fn refused(step: &'static str, error: &io::Error) -> Refusal {
    Refusal::from_errno(step, Errno::of(error), sys::io_uring_disabled())
}
