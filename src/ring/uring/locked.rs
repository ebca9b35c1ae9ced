//! What a ring takes of the locked memory (RLIMIT_MEMLOCK): recent kernels (seen on 6.18; io_create_region)
//! charge its queues and its buffer ring to the user, over all processes, unless the process has
//! CAP_IPC_LOCK. From 5.12 until then only the control group was charged.

use io_uring::types::BufRingEntry;
use io_uring::{cqueue, squeue};

use super::{Sizes, WINDOW_BUFFERS};
use crate::sys;

/// struct io_rings, which stands in front of the completion queue.
const HEADER_BYTES: u64 = 320;
/// An index for each submission, behind the completion queue.
const INDEX_BYTES: u64 = size_of::<u32>() as u64;

/// The smallest queues that are worth it: with pages of 4 KiB each of the three parts is one page.
const LEAST_SUBMISSIONS: u32 = 64;
const LEAST_COMPLETIONS: u32 = 128;

/// Most buffers that lie with the kernel at a time. Half stays with us even of a small pool, for answers
/// that have to be written, and what one turn brings has to fit into the completion queue.
pub(super) fn window(buffers: usize, completion_entries: u32) -> usize {
    let completions = completion_entries.max(LEAST_COMPLETIONS) as usize;
    buffers.div_ceil(2).min(WINDOW_BUFFERS).min(completions)
}

/// Entries of the submission queue: the kernel wants no fewer completion than submission entries.
pub(super) fn submission_entries(sizes: &Sizes) -> u32 {
    sizes.submission_entries.min(sizes.completion_entries)
}

/// Bytes of locked memory that a ring of these sizes takes.
pub fn locked_bytes(sizes: &Sizes) -> u64 {
    let entries = |count: u32| u64::from(count.next_power_of_two());
    let submissions = entries(submission_entries(sizes));
    let completions = entries(sizes.completion_entries);
    let window = window(sizes.buffers.max(1), sizes.completion_entries);
    let queue =
        HEADER_BYTES + completions * size_of::<cqueue::Entry>() as u64 + submissions * INDEX_BYTES;
    pages(queue)
        + pages(submissions * size_of::<squeue::Entry>() as u64)
        + pages((window.next_power_of_two() * size_of::<BufRingEntry>()) as u64)
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(sys::page_bytes())
}

/// The largest queues, up to these, that take at most `budget_bytes` of locked memory; the smallest
/// if none does.
pub fn within(sizes: &Sizes, budget_bytes: u64) -> Sizes {
    let mut sizes = *sizes;
    sizes.submission_entries = submission_entries(&sizes);
    while locked_bytes(&sizes) > budget_bytes {
        let Sizes { submission_entries, completion_entries, .. } = &mut sizes;
        // What takes more goes first: a submission is four times as large as a completion.
        let much = *completion_entries / 4 <= *submission_entries;
        if much && *submission_entries > LEAST_SUBMISSIONS {
            *submission_entries /= 2;
        } else if *completion_entries > LEAST_COMPLETIONS {
            *completion_entries /= 2;
        } else {
            break;
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Sizes = Sizes {
        submission_entries: 1024,
        completion_entries: 4096,
        buffers: 2048,
        buffer_bytes: 16 * 1024,
    };

    #[test]
    fn what_fits_stays_as_it_is() {
        assert_eq!(within(&WORKER, locked_bytes(&WORKER)), WORKER);
    }

    #[test]
    fn what_does_not_fit_gets_smaller_until_it_does_or_is_smallest() {
        let full = locked_bytes(&WORKER);
        for part in [1, 2, 3, 5, 8] {
            let sizes = within(&WORKER, full - full / part / 2);
            assert!(locked_bytes(&sizes) <= full - full / part / 2, "{sizes:?}");
            assert!(sizes.submission_entries <= sizes.completion_entries, "{sizes:?}");
            assert_eq!(sizes.buffers, WORKER.buffers);
        }
        let smallest = within(&WORKER, 0);
        assert_eq!((smallest.submission_entries, smallest.completion_entries), (64, 128));
        assert_eq!(locked_bytes(&smallest), 3 * sys::page_bytes());
    }

    #[test]
    fn small_queues_are_left_alone() {
        let tiny = Sizes { submission_entries: 8, completion_entries: 4, ..WORKER };
        let same = within(&tiny, 0);
        assert_eq!((same.submission_entries, same.completion_entries), (4, 4));
    }
}
