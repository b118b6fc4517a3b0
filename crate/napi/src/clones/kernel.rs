//! Knows whether the kernel's random generator has reseeded since the machine was restored.
//!
//! `uevents` and callers of `notifyRestored` report it, and `randomness` asks before it counts the kernel's
//! generator as entropy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a draw waits for the kernel to say that it has reseeded. It waits if the CPU has no generator and the
/// kernel has a VMGENID device. Public reports give some ten milliseconds.
const PATIENCE: Duration = Duration::from_millis(1000);

/// The last epochs of two events; 0 for none.
struct Epochs {
    /// The kernel was known to have reseeded.
    reseeded: u32,
    /// A draw waited for that: one wait an epoch, not one a draw.
    awaited: u32,
}

static EPOCHS: Mutex<Epochs> = Mutex::new(Epochs {
    reseeded: 0,
    awaited: 0,
});
static RESEEDED: Condvar = Condvar::new();
/// True if the machine has a VMGENID device, and a thread of this process hears the kernel's uevents.
static IS_HEARD: AtomicBool = AtomicBool::new(false);

pub(super) fn set_heard(is_heard: bool) {
    IS_HEARD.store(is_heard, Ordering::Release);
}

/// Returns whether this process would hear of a reseed.
pub(super) fn is_heard() -> bool {
    IS_HEARD.load(Ordering::Acquire)
}

/// Notes that the kernel has reseeded its generator in this epoch.
pub(super) fn reseeded_in(epoch: u32) {
    epochs().reseeded = epoch;
    RESEEDED.notify_all();
}

/// Waits until the kernel is known to have reseeded in this epoch. Returns false at once if this process hears no
/// uevents, or if a draw has waited in this epoch already.
pub(super) fn has_reseeded_in(epoch: u32) -> bool {
    let mut epochs = epochs();
    if epochs.reseeded == epoch {
        return true;
    }
    if !is_heard() || epochs.awaited == epoch {
        return false;
    }
    epochs.awaited = epoch;
    let (epochs, _) = RESEEDED
        .wait_timeout_while(epochs, PATIENCE, |epochs| epochs.reseeded != epoch)
        .unwrap_or_else(PoisonError::into_inner);
    epochs.reseeded == epoch
}

fn epochs() -> MutexGuard<'static, Epochs> {
    // Every statement leaves the epochs consistent, so a panic elsewhere does no harm.
    EPOCHS.lock().unwrap_or_else(PoisonError::into_inner)
}
