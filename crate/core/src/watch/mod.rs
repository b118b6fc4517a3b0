//! Watches a page: blocks until something happens to the machine or its clock.
//!
//! A watcher compares each look with the last state that it saw. So it reports every change that is
//! still visible on the page, however late the look comes. It reports the updates between two looks as
//! one change, with their number.
//!
//! A clock whose page the machine's device guards has both watched: the machine's disruptions and their
//! announcement come from the device, the clock's status from the page. A disruption is reported as soon as the
//! device shows it, with the marker that the page will have. The maker's update then changes nothing.
//!
//! If the kernel's driver notifies, the watcher waits in a `poll(2)` that an interrupt ends (the rules
//! are in `wait.rs`). Nobody notifies of a store to a regular file's mapping, and older drivers never
//! notify. There a timer ends the wait, and a look at an unchanged page costs one load.

mod change;
mod sight;
mod wait;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::guard::Guard;
use crate::clock::{RetryDeadline, UPDATE_TIMEOUT, VmClock};
use crate::error::Error;
use crate::page::Page;
use crate::seqlock::Stuck;
use crate::snapshot::Abi;

pub use change::{Change, Kinds, Watched};
use sight::{Sight, Watchpoint};
pub use wait::Closer;
use wait::{Device, LONGEST_POLL, Waiter};

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

/// The default age from which a page counts as stale. A publisher of this package updates its page at least once a
/// second.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(3);

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
    /// The age from which the page counts as stale, counted from its reference; the default is
    /// [`DEFAULT_STALE_AFTER`]. It applies to pages with time and an extension, which this package makes.
    pub stale_after: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            interval: DEFAULT_INTERVAL,
            abi: Abi::default(),
            stale_after: DEFAULT_STALE_AFTER,
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
    /// The page or the device that guards it cannot be read: [`Error::Timeout`] if an update began and did not
    /// end, [`Error::VersionChanged`], or [`Error::OtherBoot`]. Reported once while it lasts. The watcher goes
    /// on, and reports the changes in the meantime when both can be read again.
    Unreadable(Error),
    /// Nobody has updated the page for longer than [`WatchOptions::stale_after`]. Reported once while it lasts.
    Stale {
        /// The age of the page's reference, in nanoseconds.
        age_ns: u64,
    },
    /// The page is updated again.
    Fresh,
}

/// Watches one page. It works only inside [`Watcher::wait`], so it needs a thread of its own.
#[derive(Debug)]
pub struct Watcher {
    watched: Watchpoint,
    waiter: Waiter<Device>,
    closer: Closer,
    /// Page and guard at the last successful look.
    last: Sight,
    /// The state at the previous report.
    reported: Watched,
    replaced: bool,
    /// The first of the successive looks that found an update in progress.
    busy_since: Option<Instant>,
    /// [`Notice::Unreadable`] was reported and still applies.
    is_unreadable: bool,
    /// [`Notice::Stale`] was reported and still applies.
    is_stale: bool,
}

impl VmClock {
    /// Watches this clock's page and its guard. The watcher shares the clock's mappings and keeps them alive.
    ///
    /// # Errors
    ///
    /// Those of [`Watcher::new`].
    pub fn watch(&self, interval: Option<Duration>) -> Result<Watcher, Error> {
        let options = WatchOptions {
            interval: interval.unwrap_or(DEFAULT_INTERVAL),
            abi: self.abi(),
            stale_after: self.max_age().unwrap_or(DEFAULT_STALE_AFTER),
        };
        let page = Arc::clone(self.memory());
        Watcher::guarded(page, self.guard_parts().clone(), options)
    }
}

impl Watcher {
    /// Watches `page`, which reports its machine's disruptions itself, and reports every change after this
    /// call.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if the page is stuck in an update, [`Error::VersionChanged`],
    /// [`Error::InvalidArgument`], [`Error::System`].
    pub fn new(page: Arc<Page>, options: WatchOptions) -> Result<Self, Error> {
        Self::guarded(page, Guard::OWN, options)
    }

    /// Watches `page` and the device that guards it, and reports every change after this call.
    ///
    /// # Errors
    ///
    /// Those of [`Watcher::new`], also of the device, and [`Error::OtherBoot`].
    pub fn guarded(
        page: Arc<Page>,
        guard: Guard<Page>,
        options: WatchOptions,
    ) -> Result<Self, Error> {
        if !INTERVALS.contains(&options.interval) {
            return Err(Error::invalid_argument(
                "the interval must be 1 ms to 1 hour",
            ));
        }
        let closer = Closer::new()?;
        let device = guard.memory().unwrap_or(&page);
        let device = Device {
            file: device.open_device(),
            closer: closer.clone(),
        };
        // Nobody notifies of an update of a page in a file, so the timer looks at it all the same.
        let longest_poll = match guard.memory() {
            Some(_) => options.interval,
            None => LONGEST_POLL,
        };
        let watched = Watchpoint::new(page, guard, &options);
        let mut deadline = RetryDeadline::default();
        let last = watched
            .look(|| deadline.allows_retry())
            .map_err(|Stuck { seq }| Error::Timeout { seq })??;
        Ok(Self {
            watched,
            waiter: Waiter::new(device, options.interval, longest_poll),
            closer,
            reported: last.state,
            last,
            replaced: false,
            busy_since: None,
            is_unreadable: false,
            is_stale: false,
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
                let (watched, last) = (&self.watched, &self.last);
                self.waiter
                    .wait(last.notifies, || watched.is_unchanged(last));
            }
        }
    }

    /// Looks at page and guard once.
    fn look(&mut self) -> Option<Notice> {
        if !self.replaced && self.watched.page().is_replaced() {
            self.replaced = true;
            return Some(Notice::Replaced);
        }
        if self.watched.is_unchanged(&self.last) {
            self.busy_since = None;
            self.is_unreadable = false;
            return self.freshness();
        }
        let mut deadline = RetryDeadline::default();
        let now = match self.watched.look(|| deadline.allows_spin()) {
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
        let now = match now {
            Ok(now) => now,
            Err(error) => return self.unreadable(error),
        };
        self.is_unreadable = false;
        self.waiter.saw_update();
        let last = std::mem::replace(&mut self.last, now).state;
        let state = self.last.state;
        let Some(change) = Change::between(&self.reported, &last, &state) else {
            return self.freshness();
        };
        self.reported = state;
        Some(Notice::Change(change))
    }

    /// Compares the page's age with the limit. Returns a notice when that begins and ends to be above.
    fn freshness(&mut self) -> Option<Notice> {
        let age = self.watched.age(&self.last)?;
        if age.is_stale == self.is_stale {
            return None;
        }
        self.is_stale = age.is_stale;
        let age_ns = age.ns;
        Some(if age.is_stale {
            Notice::Stale { age_ns }
        } else {
            Notice::Fresh
        })
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::clock::guard::GuardDevice;
    use crate::counter::{Counter, CpuCounter};
    use crate::extension::{DeviceRecord, DeviceState, Extension};
    use crate::snapshot::RawFields;
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

    /// A migration moves the counter, so the age from before says nothing.
    #[test]
    fn no_page_counts_as_stale_before_its_maker_has_followed_a_migration() {
        let directory = tempfile::tempdir().unwrap();
        let create = |name: &str| {
            let path = directory.path().join(name);
            let layout = PageLayout::default();
            let writer = PageWriter::create(&path, &layout, PageHeader::default(), &blank());
            (writer.unwrap(), Arc::new(Page::open(&path, &[]).unwrap()))
        };
        let ((mut writer, page), (mut device_writer, device)) = (create("page"), create("device"));
        let mut publish = |device_marker, age_sec: u64| {
            let extension = Extension {
                boot_id: 7,
                device: DeviceRecord::Seen(DeviceState {
                    number: 1,
                    disruption_marker: device_marker,
                    vm_generation: None,
                }),
                ..Extension::default()
            };
            writer.publish(&taken_ago(age_sec), &extension);
        };
        publish(0, 0);
        let guard = Guard {
            boot_id: Some(7),
            device: GuardDevice::Open {
                memory: device,
                number: 1,
                size_bytes: 0x1000,
                path: PathBuf::new(),
            },
        };
        let options = WatchOptions {
            stale_after: Duration::from_secs(3600),
            ..WatchOptions::default()
        };
        let mut watcher = Watcher::guarded(page, guard, options).unwrap();
        publish(0, 7200);
        device_writer.update(|device| device.disruption_marker = 1);
        assert!(matches!(watcher.look(), Some(Notice::Change(_))));
        assert!(watcher.look().is_none());
        publish(1, 7200);
        let notices = [watcher.look(), watcher.look()];
        assert!(
            matches!(
                notices,
                [Some(Notice::Change(_)), Some(Notice::Stale { .. })]
            ),
            "{notices:?}"
        );
    }

    fn taken_ago(age_sec: u64) -> RawFields {
        RawFields {
            counter_id: CpuCounter.id(),
            counter_value: CpuCounter.read().wrapping_sub(age_sec << 30),
            counter_period_frac_sec: 1 << 34,
            ..blank()
        }
    }

    /// A watcher may find an update at every look.
    #[test]
    fn the_look_that_finds_an_update_reports_the_end_of_a_stale_page() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let layout = PageLayout::default();
        let header = PageHeader::default();
        let mut writer = PageWriter::create(&path, &layout, header, &blank()).unwrap();
        let page = Arc::new(Page::open(&path, &[]).unwrap());
        let options = WatchOptions {
            stale_after: Duration::from_secs(3600),
            ..WatchOptions::default()
        };
        let mut watcher = Watcher::new(page, options).unwrap();
        for _ in 0..2 {
            writer.publish(&taken_ago(7200), &Extension::default());
            assert!(matches!(watcher.look(), Some(Notice::Stale { .. })));
            writer.publish(&taken_ago(0), &Extension::default());
            assert!(matches!(watcher.look(), Some(Notice::Fresh)));
        }
    }

    /// A hypervisor may update its page rarely, and writes no extension.
    #[test]
    fn a_page_without_an_extension_does_not_become_stale() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let layout = PageLayout::default();
        let old = taken_ago(7200);
        let mut writer = PageWriter::create(&path, &layout, PageHeader::default(), &old).unwrap();
        let page = Arc::new(Page::open(&path, &[]).unwrap());
        let mut watcher = Watcher::new(page, WatchOptions::default()).unwrap();
        assert!(watcher.look().is_none());
        writer.publish(&old, &Extension::default());
        assert!(matches!(watcher.look(), Some(Notice::Stale { .. })));
    }
}
