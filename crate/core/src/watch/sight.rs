//! One look at a page and the device that guards it, without waiting.

use std::sync::Arc;

use super::{WatchOptions, Watched};
use crate::abi::VMCLOCK_VERSION;
use crate::clock::guard::{self, Guard, LastLook, Look};
use crate::counter::{Counter, CpuCounter};
use crate::error::Error;
use crate::no_bound::NoBound;
use crate::page::Page;
use crate::seqlock::{self, Cached, Stuck};
use crate::snapshot::{Abi, Snapshot};
use crate::time::fixed;

/// The places that a watcher looks at.
#[derive(Debug)]
pub(super) struct Watchpoint {
    page: Arc<Page>,
    guard: Guard<Page>,
    abi: Abi,
    stale_after_ns: u64,
}

/// Page and guard as one look found them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) state: Watched,
    /// The sequence number of the device that guards the page, or the page's own.
    guard_seq: u32,
    /// The device promises to notify.
    pub(super) notifies: bool,
    /// The reference, for the page's age. `None` where the page has none, or is none of this package's.
    aging: Option<Aging>,
    /// The maker has not followed a disruption yet, so the counter may not be the reference's.
    is_followed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Aging {
    counter: u64,
    period: u64,
    shift: u8,
    stale_ticks: u64,
}

/// The age of a page's reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    pub(super) ns: u64,
    pub(super) is_stale: bool,
}

impl Watchpoint {
    pub(super) fn new(page: Arc<Page>, guard: Guard<Page>, options: &WatchOptions) -> Self {
        let stale_after_ns = u64::try_from(options.stale_after.as_nanos()).unwrap_or(u64::MAX);
        Self {
            page,
            guard,
            abi: options.abi,
            stale_after_ns,
        }
    }

    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    fn device(&self) -> &Page {
        self.guard.memory().unwrap_or(&self.page)
    }

    fn cached(&self, last: &Sight) -> [Cached<'_, Page>; 2] {
        let page = Cached {
            memory: &*self.page,
            seq: last.state.seq_count,
        };
        let guard = Cached {
            memory: self.device(),
            seq: last.guard_seq,
        };
        [page, guard]
    }

    /// Returns whether page and guard are as the last look found them.
    pub(super) fn is_unchanged(&self, last: &Sight) -> bool {
        let [page, guard] = self.cached(last);
        seqlock::both_unchanged(&page, &guard)
    }

    /// Returns the page's age now. `None` if it is unknown, or if page or guard changed since `last`.
    pub(super) fn age(&self, last: &Sight) -> Option<Age> {
        let [page, guard] = self.cached(last);
        let counter = seqlock::counter_if_unchanged(&page, &guard, &CpuCounter)?;
        if !last.is_followed {
            return None;
        }
        let Some(aging) = last.aging else {
            return Some(Age {
                ns: 0,
                is_stale: false,
            });
        };
        let d = fixed::distance_ticks(counter, aging.counter).max(0);
        let elapsed = fixed::elapsed_frac(d, aging.period, aging.shift);
        Some(Age {
            ns: u64::try_from(fixed::time_ns(0, 0, elapsed)).unwrap_or(u64::MAX),
            is_stale: d.unsigned_abs() > aging.stale_ticks,
        })
    }

    /// Looks at page and guard, as of one instant. The inner error is for fields that have no known meaning here.
    ///
    /// # Errors
    ///
    /// [`Stuck`] if one of them was being updated at every try that `again` allowed.
    pub(super) fn look(
        &self,
        mut again: impl FnMut() -> bool,
    ) -> Result<Result<Sight, Error>, Stuck> {
        let (page, device) = if self.guard.memory().is_some() {
            let read =
                seqlock::read_guarded(&*self.page, self.device(), &CpuCounter, |_, _| again())?;
            (read.page, Some(read.guard?))
        } else {
            (seqlock::read(&*self.page, &CpuCounter, |_| again())?, None)
        };
        let snapshot = Snapshot::new(&page, self.page.size_bytes(), self.abi);
        let found = snapshot.raw.version;
        if found != VMCLOCK_VERSION {
            return Ok(Err(Error::VersionChanged { found }));
        }
        let device = device.map(|seen| {
            let snapshot = Snapshot::new(&seen, self.device().size_bytes(), Abi::Uapi);
            (self.guard.look(&Ok(seen)), snapshot)
        });
        Ok(self.sight(&snapshot, device))
    }

    fn sight(&self, page: &Snapshot, device: Option<(Look, Snapshot)>) -> Result<Sight, Error> {
        let look = device.map_or(Look::None, |(look, _)| look);
        // A stuck device is none to look at, so no memory of a last look is needed.
        let mut last: Option<LastLook> = None;
        let verdict = guard::judge(page, &self.guard, look, false, &mut last);
        if let Some(doubt) = verdict.doubt {
            return Err(doubt.error());
        }
        let machine = device.map_or(*page, |(_, snapshot)| snapshot);
        Ok(Sight {
            state: Watched {
                disruption_marker: verdict.continuity.disruption_marker,
                vm_generation: verdict.continuity.vm_generation,
                maintenance: machine.maintenance(),
                ..Watched::from(page)
            },
            guard_seq: look.seq().unwrap_or(page.seq_count),
            notifies: machine.has_notification(),
            aging: self.aging(page),
            is_followed: verdict.no_bound != Some(NoBound::NotFollowed),
        })
    }

    fn aging(&self, page: &Snapshot) -> Option<Aging> {
        page.extension.as_ref()?;
        let raw = &page.raw;
        let has_time = page.covers_time()
            && raw.counter_id == CpuCounter.id()
            && raw.counter_period_frac_sec != 0
            && raw.counter_period_shift <= fixed::MAX_SHIFT;
        has_time.then(|| {
            let (period, shift) = (raw.counter_period_frac_sec, raw.counter_period_shift);
            Aging {
                counter: raw.counter_value,
                period,
                shift,
                stale_ticks: fixed::ticks_in(self.stale_after_ns, period, shift),
            }
        })
    }
}
