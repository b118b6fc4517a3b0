//! Watches a page: blocks until something happens to the machine or its clock.
//!
//! A watcher compares each look with the last state that it saw. So it reports every change that is
//! still visible on the page, however late the look comes. It reports the updates between two looks as
//! one change, with their number.
//!
//! If the kernel's driver notifies, the watcher waits in a `poll(2)` that an interrupt ends (the rules
//! are in `wait.rs`). Nobody notifies of a store to a regular file's mapping, and older drivers never
//! notify. There a timer ends the wait, and a look at an unchanged page costs one load.

mod change;
mod wait;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::abi::VMCLOCK_VERSION;
use crate::clock::{RetryDeadline, UPDATE_TIMEOUT, VmClock};
use crate::counter::CpuCounter;
use crate::error::Error;
use crate::page::Page;
use crate::seqlock::{self, Stuck};
use crate::snapshot::{Abi, Snapshot};

pub use change::{Change, Kinds, Watched};
pub use wait::Closer;
use wait::{Device, Waiter};

/// The default interval between two looks by the timer.
///
/// Code that must not act on a stale clock asks synchronously ([`VmClock::is_continuous`]). A watcher
/// serves the reaction to a change: new leases, new random state, a warning. A live migration stops the
/// machine for about this long, and a reader waits this long for a stuck page.
///
/// Ten looks per second cost about 30 µs each, mostly for the wake-up: 0.03 % of a CPU. A tenth of this
/// interval would cost ten times that in every process. It would save little, because the reaction also
/// takes a turn of the event loop and a network round trip.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

/// The permitted intervals.
pub const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// The time until the next look at a page that is being updated. An update takes less than a
/// microsecond, unless its writer loses its CPU.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);

/// The options of a [`Watcher`].
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// The time between two looks by the timer, within [`INTERVALS`]; the default is
    /// [`DEFAULT_INTERVAL`]. With a driver that notifies, the timer is used only after a notification
    /// failed to come.
    pub interval: Duration,
    /// The document that the page follows.
    pub abi: Abi,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            interval: DEFAULT_INTERVAL,
            abi: Abi::default(),
        }
    }
}

/// A report of a [`Watcher`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A watched figure changed.
    Change(Change),
    /// Another file is at the page's path, and its writer does not write the watched page. Reported
    /// once. Open a new clock.
    Replaced,
    /// The page cannot be read: [`Error::Timeout`] if an update began and did not end, or
    /// [`Error::VersionChanged`]. Reported once while it lasts. The watcher goes on, and reports the
    /// changes in the meantime when the page can be read again.
    Unreadable(Error),
}

/// Watches one page. It works only inside [`Watcher::wait`], so it needs a thread of its own.
#[derive(Debug)]
pub struct Watcher {
    page: Arc<Page>,
    abi: Abi,
    waiter: Waiter<Device>,
    closer: Closer,
    /// The page at the last successful look.
    last: Snapshot,
    /// The state at the previous report.
    reported: Watched,
    replaced: bool,
    /// The first of the successive looks that found an update in progress.
    busy_since: Option<Instant>,
    /// [`Notice::Unreadable`] was reported and still applies.
    is_unreadable: bool,
}

impl VmClock {
    /// Watches this clock's page. The watcher shares the clock's mapping and keeps it alive.
    ///
    /// # Errors
    ///
    /// Those of [`Watcher::new`].
    pub fn watch(&self, interval: Option<Duration>) -> Result<Watcher, Error> {
        let options = WatchOptions {
            interval: interval.unwrap_or(DEFAULT_INTERVAL),
            abi: self.abi(),
        };
        Watcher::new(Arc::clone(self.memory()), options)
    }
}

impl Watcher {
    /// Watches `page`, and reports every change after this call.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if the page is stuck in an update, [`Error::VersionChanged`],
    /// [`Error::InvalidArgument`], [`Error::System`].
    pub fn new(page: Arc<Page>, options: WatchOptions) -> Result<Self, Error> {
        if !INTERVALS.contains(&options.interval) {
            return Err(Error::invalid_argument(
                "the interval must be 1 ms to 1 hour",
            ));
        }
        let closer = Closer::new()?;
        let mut deadline = RetryDeadline::default();
        let last = snapshot(&page, options.abi, |_| deadline.allows_retry())
            .map_err(|Stuck { seq }| Error::Timeout { seq })?;
        require_version(&last)?;
        let device = Device {
            file: page.open_device(),
            closer: closer.clone(),
        };
        Ok(Self {
            page,
            abi: options.abi,
            waiter: Waiter::new(device, options.interval),
            closer,
            last,
            reported: Watched::from(&last),
            replaced: false,
            busy_since: None,
            is_unreadable: false,
        })
    }

    /// Returns a handle that closes the watcher and ends [`Watcher::wait`].
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Blocks until there is a notice, and returns it; `None` once the watcher is closed.
    pub fn wait(&mut self) -> Option<Notice> {
        loop {
            if self.closer.is_closed() {
                return None;
            }
            if let Some(notice) = self.look() {
                return Some(notice);
            }
            if self.is_unreadable {
                self.waiter.rest();
            } else if self.busy_since.is_some() {
                self.waiter.sleep(BUSY_INTERVAL);
            } else {
                let (page, seq) = (&*self.page, self.last.seq_count);
                self.waiter.wait(self.last.has_notification(), || {
                    seqlock::unchanged(page, seq)
                });
            }
        }
    }

    /// Looks at the page once.
    fn look(&mut self) -> Option<Notice> {
        if !self.replaced && self.page.is_replaced() {
            self.replaced = true;
            return Some(Notice::Replaced);
        }
        if seqlock::unchanged(&*self.page, self.last.seq_count) {
            self.busy_since = None;
            self.is_unreadable = false;
            return None;
        }
        let mut deadline = RetryDeadline::default();
        let now = match snapshot(&self.page, self.abi, |_| deadline.allows_spin()) {
            Ok(now) => now,
            Err(Stuck { seq }) => {
                let since = *self.busy_since.get_or_insert_with(Instant::now);
                if since.elapsed() < UPDATE_TIMEOUT {
                    return None;
                }
                return self.unreadable(Error::Timeout { seq });
            }
        };
        self.busy_since = None;
        if let Err(error) = require_version(&now) {
            return self.unreadable(error);
        }
        self.is_unreadable = false;
        self.waiter.saw_update();
        let last = Watched::from(&std::mem::replace(&mut self.last, now));
        let state = Watched::from(&now);
        let change = Change::between(&self.reported, &last, &state)?;
        self.reported = state;
        Some(Notice::Change(change))
    }

    /// Notes that the page cannot be read, and returns the notice at the first time only.
    fn unreadable(&mut self, error: Error) -> Option<Notice> {
        let is_first = !std::mem::replace(&mut self.is_unreadable, true);
        is_first.then_some(Notice::Unreadable(error))
    }
}

impl Iterator for Watcher {
    type Item = Notice;

    fn next(&mut self) -> Option<Notice> {
        self.wait()
    }
}

fn snapshot(
    page: &Page,
    abi: Abi,
    allows_retry: impl FnMut(u32) -> bool,
) -> Result<Snapshot, Stuck> {
    let seen = seqlock::read(page, &CpuCounter, allows_retry)?;
    Ok(Snapshot::new(&seen, page.size_bytes(), abi))
}

fn require_version(snapshot: &Snapshot) -> Result<(), Error> {
    match snapshot.raw.version {
        VMCLOCK_VERSION => Ok(()),
        found => Err(Error::VersionChanged { found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{PageHeader, PageLayout, PageWriter, blank};

    #[test]
    fn an_unreadable_page_is_reported_once_while_it_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let layout = PageLayout::default();
        let mut writer =
            PageWriter::create(&path, &layout, PageHeader::default(), &blank()).unwrap();
        let page = Arc::new(Page::open(&path, &[]).unwrap());
        let mut watcher = Watcher::new(page, WatchOptions::default()).unwrap();
        let mut notice_and_next = || loop {
            if let Some(notice) = watcher.look() {
                break (notice, watcher.look());
            }
        };
        writer.begin();
        assert!(matches!(
            notice_and_next(),
            (Notice::Unreadable(Error::Timeout { .. }), None)
        ));
        writer.update(|page| page.version = 2);
        // Another reason, but the page could not be read in between either.
        assert!(watcher.look().is_none());
        writer.update(|page| page.version = 1);
        assert!(watcher.look().is_none());
        writer.update(|page| page.version = 2);
        assert!(matches!(
            watcher.look(),
            Some(Notice::Unreadable(Error::VersionChanged { found: 2 }))
        ));
        assert!(watcher.look().is_none());
    }
}
