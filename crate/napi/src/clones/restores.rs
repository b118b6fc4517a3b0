//! Notices that the machine was restored or cloned, once for all threads of the process.
//!
//! Each noticed restore begins a new *epoch*, a number that differs from all earlier ones. A look returns the
//! epoch now. Two things begin one: the page's generation (its disruption marker, if it has no generation)
//! changed, or somebody *notified* this process, by a call or by the kernel's uevent.
//!
//! A look compares the page's sequence number and the number of notices with those for which the epoch is known.
//! If both are unchanged, so is the epoch. Otherwise the page is read, under a lock, by the core's clock.

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vmclock::counter::CpuCounter;
use vmclock::device::{Device, Unavailable};
use vmclock::page::Page;
use vmclock::seqlock::SharedWords;
use vmclock::{Error, Options, VmClock};

use super::kernel;

/// The epoch before the first restore. 0 is none.
const FIRST_EPOCH: u32 = 1;

/// The process's view of its machine.
pub(super) struct Restores {
    page: Option<Arc<Page>>,
    /// Why there is no page, on a machine that has one.
    unavailable: Option<Unavailable>,
    /// How often somebody notified this process.
    notices: AtomicU32,
    epoch: AtomicU32,
    /// The page's sequence number (low half) and the notices (high half) for which `epoch` is known.
    known: AtomicU64,
    slow: Mutex<Slow>,
}

struct Slow {
    /// Reads `page`.
    clock: Option<VmClock>,
    identity: Option<Identity>,
    notices: u32,
}

/// The page's statement about the machine's restores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Identity {
    NoPage,
    Generation(u64),
    Marker(u64),
}

/// The epoch, and the words for which it is known. While they are unchanged, so is the epoch.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) epoch: u32,
    pub(super) seq: u32,
    pub(super) notices: u32,
}

static RESTORES: OnceLock<Restores> = OnceLock::new();

/// Returns the process's view, if it was begun.
pub(super) fn begun() -> Option<&'static Restores> {
    RESTORES.get()
}

/// Begins to look at the page at `path`, or at the machine's device. The first call decides for the process.
pub(super) fn begin(path: Option<&Path>, trusted_uids: &[u32]) -> Result<&'static Restores, Error> {
    // One at a time, so that no second page is opened.
    static BEGINNING: Mutex<()> = Mutex::new(());
    let _beginning = BEGINNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(restores) = begun() {
        let begun = restores.path();
        return match path {
            Some(path) if begun != Some(path) => Err(Error::InvalidArgument {
                reason: format!(
                    "this process already looks for restores at {}, not at {}",
                    begun.map_or("no page".into(), |path| format!("{}", path.display())),
                    path.display()
                ),
                remedy: Some("give the path where the process first asks for it, and only there"),
            }),
            _ => Ok(restores),
        };
    }
    let (page, unavailable) = match path {
        Some(path) => (Some(Page::open(path, trusted_uids)?), None),
        None => match Device::find(None) {
            Device::None => (None, None),
            Device::Open(page) => (Some(page), None),
            Device::Unavailable(unavailable) => (None, Some(unavailable)),
        },
    };
    let restores = Restores::new(page, unavailable);
    // An unreadable page has no epoch yet, and so nothing could be compared with it later.
    restores.look()?;
    Ok(RESTORES.get_or_init(|| restores))
}

impl Restores {
    fn new(page: Option<Page>, unavailable: Option<Unavailable>) -> Self {
        let page = page.map(Arc::new);
        let clock = page.as_ref().map(|page| {
            let size_bytes = page.size_bytes();
            VmClock::new(Arc::clone(page), size_bytes, CpuCounter, Options::default())
        });
        Self {
            page,
            unavailable,
            notices: AtomicU32::new(0),
            epoch: AtomicU32::new(FIRST_EPOCH - 1),
            // An odd sequence number, which no look finds in a readable page.
            known: AtomicU64::new(1),
            slow: Mutex::new(Slow {
                clock,
                identity: None,
                notices: 0,
            }),
        }
    }

    pub(super) fn page(&self) -> Option<&Page> {
        self.page.as_deref()
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.page()?.path()
    }

    pub(super) fn unavailable(&self) -> Option<&Unavailable> {
        self.unavailable.as_ref()
    }

    /// Returns the count of notices, for JavaScript to look at. It lives as long as the process.
    pub(super) fn notices(&self) -> &AtomicU32 {
        &self.notices
    }

    /// Returns the epoch now.
    ///
    /// # Errors
    ///
    /// Those of reading the page. The epoch is then unknown: a caller must not take it for unchanged.
    #[inline]
    pub(super) fn look(&self) -> Result<u32, Error> {
        // Pairs with the release store in `look_closer`: the epoch is at least as new as these words.
        let known = self.known.load(Ordering::Acquire);
        // The hypervisor changes the page before the machine runs again, so every load after that sees it.
        if self.words() == known {
            return Ok(self.epoch.load(Ordering::Relaxed));
        }
        Ok(self.look_closer()?.epoch)
    }

    /// Returns the epoch now with the words for which it is known.
    ///
    /// # Errors
    ///
    /// As [`Restores::look`].
    #[cold]
    pub(super) fn look_closer(&self) -> Result<Known, Error> {
        let mut slow = self.lock();
        // Before the page is read, so that a later change of them is not missed.
        let words = self.words();
        let [seq, notices] = halves(words);
        let identity = match &mut slow.clock {
            Some(clock) => {
                let token = clock.continuity_token()?;
                match token.vm_generation {
                    Some(generation) => Identity::Generation(generation),
                    None => Identity::Marker(token.disruption_marker),
                }
            }
            None => Identity::NoPage,
        };
        let mut epoch = self.epoch.load(Ordering::Relaxed);
        if slow.identity != Some(identity) || slow.notices != notices {
            slow.identity = Some(identity);
            slow.notices = notices;
            epoch = match epoch.wrapping_add(1) {
                0 => FIRST_EPOCH,
                next => next,
            };
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        // Pairs with the acquire load in `look`.
        self.known.store(words, Ordering::Release);
        Ok(Known {
            epoch,
            seq,
            notices,
        })
    }

    /// Begins a new epoch, because somebody knows of a restore that the page does not show.
    pub(super) fn notify(&self) {
        self.notices.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that the kernel has reseeded its generator in the epoch now. If that is unknown, so is the reseed.
    pub(super) fn kernel_reseeded(&self) {
        if let Ok(epoch) = self.look() {
            kernel::reseeded_in(epoch);
        }
    }

    /// Returns whether the page is the hypervisor's, which shows a restore before the machine runs again.
    pub(super) fn is_synchronous(&self) -> bool {
        self.page()
            .is_some_and(|page| page.device_number().is_some())
    }

    /// Returns whether the page itself shows restores by a generation.
    pub(super) fn has_generation(&self) -> bool {
        matches!(self.lock().identity, Some(Identity::Generation(_)))
    }

    #[inline]
    fn words(&self) -> u64 {
        let seq = self.page.as_ref().map_or(0, |page| page.load_seq());
        u64::from(self.notices.load(Ordering::Acquire)) << 32 | u64::from(seq)
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        // Every statement leaves `Slow` consistent, so a panic elsewhere does no harm.
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn halves(words: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = words.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}
