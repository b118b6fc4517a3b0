//! The state that a page's thread shares with its owner.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::extension::SourceKind;
use crate::no_bound::NoBound;
use crate::source::PassedOver;

/// The state that the thread shares with its owner.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wake: OwnedFd,
    pub(super) updates: AtomicU64,
    pub(super) cpu_time_ns: AtomicU64,
    pub(super) failure: Mutex<Option<String>>,
    /// As of the last update.
    pub(super) report: Mutex<Report>,
}

/// The report of a page's thread about its last update.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) no_bound: Option<NoBound>,
    pub(super) source: SourceKind,
    pub(super) passed_over: Vec<PassedOver>,
}

impl Shared {
    /// Ends the thread's wait.
    pub(super) fn wake(&self) {
        // This fails only if the thread is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// Locks what two threads share.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The value is always replaced whole, so that a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
