//! Watching a page: blocks until something happened to the machine or its clock.
//!
//! A watcher keeps the last state that it saw and compares each look with that, so whatever is still
//! visible on the page is told, however late the look comes. Updates that follow one another between
//! two looks are told as one change, with their number.
//!
//! Where the kernel's driver notifies, the wait is a `poll(2)` that an interrupt ends (the
//! file `wait.rs` has the rules). Regular files and older drivers have nobody to notify of a store to a shared mapping; there
//! a timer looks, which costs one load where nothing changed.

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

/// How often a timer looks at the page unless told otherwise.
///
/// Whoever must not act on a stale clock asks synchronously ([`VmClock::is_continuous`]); a watcher
/// is for what is done *about* a change: new leases, new random state, a warning. A tenth of a second
/// is what a live migration stops a machine for anyway, and what a reader waits for a stuck page. Ten
/// looks a second cost some thirty microseconds each, most of them the wake-up: 0.03 % of a CPU.
/// Ten times as often would cost ten times that in every process of a fleet, to shorten a reaction that
/// has an event loop's turn and a network's round trip behind it.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

/// The intervals that there may be.
pub const INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// How soon to look again at a page that is being updated, which takes less than a microsecond unless
/// its writer lost its CPU.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// How often a timer looks, within [`INTERVALS`]; [`DEFAULT_INTERVAL`] unless told otherwise.
    /// Where the driver notifies: how often to look after it was found not to.
    pub interval: Duration,
    /// Which document the page follows.
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

/// What a watcher tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Something happened.
    Change(Change),
    /// Another file stands at the page's path: whoever writes that one does not write the page that
    /// is being watched. Told once; open a new clock.
    Replaced,
    /// The page cannot be read: [`Error::Timeout`] where an update was begun and did not end,
    /// [`Error::VersionChanged`]. Told once while it lasts; the watcher goes on looking, and tells
    /// what changed meanwhile once the page can be read again.
    Trouble(Error),
}

/// Watches one page. It does nothing but in [`Watcher::wait`], so it wants a thread of its own.
#[derive(Debug)]
pub struct Watcher {
    page: Arc<Page>,
    abi: Abi,
    waiter: Waiter<Device>,
    closer: Closer,
    last: Snapshot,
    told: Watched,
    replaced: bool,
    /// Since when every look found an update in progress.
    busy_since: Option<Instant>,
    /// A trouble was told and is not over.
    in_trouble: bool,
}

impl VmClock {
    /// Watches this clock's page, by way of the same mapping and for as long as the watcher lives.
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
    /// Watches `page` from now on: what changes after this returns is told.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] where the page is stuck in an update, [`Error::VersionChanged`],
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
            told: Watched::from(&last),
            replaced: false,
            busy_since: None,
            in_trouble: false,
        })
    }

    /// What ends [`Watcher::wait`].
    #[must_use]
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Blocks until there is something to tell; `None` once the watcher is closed.
    pub fn wait(&mut self) -> Option<Notice> {
        loop {
            if self.closer.is_closed() {
                return None;
            }
            if let Some(notice) = self.look() {
                return Some(notice);
            }
            if self.in_trouble {
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

    fn look(&mut self) -> Option<Notice> {
        if !self.replaced && self.page.is_replaced() {
            self.replaced = true;
            return Some(Notice::Replaced);
        }
        if seqlock::unchanged(&*self.page, self.last.seq_count) {
            self.busy_since = None;
            self.in_trouble = false;
            return None;
        }
        let mut deadline = RetryDeadline::default();
        let now = match snapshot(&self.page, self.abi, |_| deadline.allows_spin()) {
            Ok(now) => now,
            Err(Stuck { seq }) => {
                let since = *self.busy_since.get_or_insert_with(Instant::now);
                let lasts = since.elapsed() >= UPDATE_TIMEOUT;
                return (lasts && self.begin_trouble())
                    .then_some(Notice::Trouble(Error::Timeout { seq }));
            }
        };
        self.busy_since = None;
        if let Err(error) = require_version(&now) {
            return self.begin_trouble().then_some(Notice::Trouble(error));
        }
        self.in_trouble = false;
        self.waiter.saw_update();
        let last = Watched::from(&std::mem::replace(&mut self.last, now));
        let state = Watched::from(&now);
        let change = Change::between(&self.told, &last, &state)?;
        self.told = state;
        Some(Notice::Change(change))
    }

    /// Whether this is the beginning of a trouble, and not its continuation.
    fn begin_trouble(&mut self) -> bool {
        !std::mem::replace(&mut self.in_trouble, true)
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
    fn a_trouble_is_told_once_while_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let layout = PageLayout::default();
        let mut writer =
            PageWriter::create(&path, &layout, PageHeader::default(), &blank()).unwrap();
        let page = Arc::new(Page::open(&path, &[]).unwrap());
        let mut watcher = Watcher::new(page, WatchOptions::default()).unwrap();
        let mut told = || loop {
            if let Some(notice) = watcher.look() {
                break (notice, watcher.look());
            }
        };
        writer.begin();
        assert!(matches!(
            told(),
            (Notice::Trouble(Error::Timeout { .. }), None)
        ));
        writer.update(|page| page.version = 2);
        // Another one, but the page could not be read in between either.
        assert!(watcher.look().is_none());
        writer.update(|page| page.version = 1);
        assert!(watcher.look().is_none());
        writer.update(|page| page.version = 2);
        assert!(matches!(
            watcher.look(),
            Some(Notice::Trouble(Error::VersionChanged { found: 2 }))
        ));
        assert!(watcher.look().is_none());
    }
}
