//! Reseeds OpenSSL after each restore, before it gives the next byte.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::GetRandomFlags;
use vmclock::counter::{Counter, CpuCounter};

use super::kernel;
use super::openssl::{self, Gate, OpenSsl, Refusal};
use super::restores::Restores;
use crate::entropy;

/// The origin of a reseed's entropy, besides what OpenSSL takes from the system itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entropy {
    /// The CPU's generator.
    Hardware,
    /// The kernel's generator, after it was known to have reseeded.
    Kernel,
    /// None that clones do not share, or that others cannot guess.
    None,
}

impl Entropy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Kernel => "kernel",
            Self::None => "none",
        }
    }
}

/// The protection of this process's OpenSSL.
pub(super) struct Randomness {
    openssl: OpenSsl,
    restores: &'static Restores,
    /// True if draws fail after a restore without entropy.
    is_strict: AtomicBool,
    /// The epoch for which OpenSSL is seeded; 0 for none.
    seeded_epoch: AtomicU32,
    reseeds: AtomicU64,
    last: Mutex<Option<Entropy>>,
}

/// The epoch for which OpenSSL was seeded when a draw began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seeded {
    For(u32),
    /// The page cannot be read, so OpenSSL was seeded for this one draw.
    Once,
}

static RANDOMNESS: OnceLock<Randomness> = OnceLock::new();

thread_local! {
    static DRAWS: Cell<u32> = const { Cell::new(0) };
}

/// Counts a draw of this thread.
fn count_draw() {
    // A thread that is ending has lost its count, and nobody asks for it.
    let _ = DRAWS.try_with(|draws| draws.set(draws.get().wrapping_add(1)));
}

/// Returns how often this thread has drawn through the hook; it wraps.
pub(super) fn draws() -> u32 {
    DRAWS.with(Cell::get)
}

/// Returns the protection, if it was begun.
pub(super) fn begun() -> Option<&'static Randomness> {
    RANDOMNESS.get()
}

/// Why there is no protection.
pub(super) enum Obstacle {
    /// The hook cannot be installed.
    Refused(Refusal),
    /// There is no entropy, and the caller asks for it.
    NoEntropy,
}

/// Seeds OpenSSL and installs the hook. A process that was once strict remains so.
pub(super) fn begin(
    restores: &'static Restores,
    is_strict: bool,
) -> Result<&'static Randomness, Obstacle> {
    let randomness = match begun() {
        Some(randomness) => randomness,
        None => {
            let openssl = OpenSsl::find().map_err(Obstacle::Refused)?;
            RANDOMNESS.get_or_init(|| Randomness::new(openssl, restores))
        }
    };
    if is_strict || !openssl::was_installed() {
        randomness.is_strict.store(is_strict, Ordering::Relaxed);
    }
    // Before the hook is installed: a draw must not fail for a process that was refused the protection.
    if !randomness.is_hook_installed() && randomness.settle().is_none() {
        return Err(Obstacle::NoEntropy);
    }
    randomness
        .openssl
        .install(randomness)
        .map_err(Obstacle::Refused)?;
    Ok(randomness)
}

impl Randomness {
    fn new(openssl: OpenSsl, restores: &'static Restores) -> Self {
        Self {
            openssl,
            restores,
            is_strict: AtomicBool::new(true),
            seeded_epoch: AtomicU32::new(0),
            reseeds: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    pub(super) fn openssl(&self) -> &OpenSsl {
        &self.openssl
    }

    pub(super) fn is_hook_installed(&self) -> bool {
        self.openssl.is_installed()
    }

    pub(super) fn is_strict(&self) -> bool {
        self.is_strict.load(Ordering::Relaxed)
    }

    /// Returns how often OpenSSL was reseeded, and with what the last time.
    pub(super) fn history(&self) -> (u64, Option<Entropy>) {
        (self.reseeds.load(Ordering::Relaxed), *locked(&self.last))
    }

    /// Reseeds OpenSSL if the machine was restored since it was last seeded. `None` if there is no entropy and
    /// the caller asked for it, or if OpenSSL does not reseed: no draw may follow.
    #[inline]
    fn settle(&self) -> Option<Seeded> {
        match self.restores.look() {
            Ok(epoch) if epoch == self.seeded_epoch.load(Ordering::Acquire) => {
                Some(Seeded::For(epoch))
            }
            _ => self.reseed(),
        }
    }

    /// Returns whether nothing happened since `settle` returned `seeded`.
    #[inline]
    fn is_still(&self, seeded: Seeded) -> bool {
        match seeded {
            Seeded::For(epoch) => self.restores.look().is_ok_and(|now| now == epoch),
            Seeded::Once => true,
        }
    }

    /// Reseeds, while all other threads that want to draw wait.
    #[cold]
    fn reseed(&self) -> Option<Seeded> {
        let mut last = locked(&self.last);
        loop {
            let epoch = self.restores.look().ok();
            if epoch == Some(self.seeded_epoch.load(Ordering::Acquire)) {
                return epoch.map(Seeded::For);
            }
            let entropy = self.mix_in(epoch);
            *last = entropy.or(*last);
            match entropy {
                None => return None,
                Some(Entropy::None) if self.is_strict() => return None,
                Some(_) => {}
            }
            self.reseeds.fetch_add(1, Ordering::Relaxed);
            let Some(epoch) = epoch else {
                return Some(Seeded::Once);
            };
            // Pairs with the acquire loads: a thread that sees the epoch sees the reseeded generator.
            self.seeded_epoch.store(epoch, Ordering::Release);
            // Another restore may have come meanwhile, so the loop looks again.
        }
    }

    /// Reseeds OpenSSL from everything that there is. `None` if OpenSSL refuses.
    fn mix_in(&self, epoch: Option<u32>) -> Option<Entropy> {
        let mut cpu = entropy::from_cpu();
        let entropy = match cpu {
            Some(_) => Entropy::Hardware,
            None if self.kernel_has_reseeded(epoch) => Entropy::Kernel,
            None => Entropy::None,
        };
        let mut seed = Vec::with_capacity(128);
        for word in cpu.iter().flatten() {
            seed.extend_from_slice(&word.to_le_bytes());
        }
        // The rest makes clones differ. It does no harm if others know it, and never counts as entropy.
        let mut system = [0_u8; 32];
        fill_from_kernel(&mut system);
        seed.extend_from_slice(&system);
        seed.extend_from_slice(&CpuCounter.read().to_le_bytes());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        seed.extend_from_slice(&since_1970.unwrap_or_default().as_nanos().to_le_bytes());
        let is_seeded = self.openssl.reseed(&seed);
        // A later reader of this memory must not learn the seed.
        seed.fill(0);
        system.fill(0);
        if let Some(words) = &mut cpu {
            words.fill(0);
        }
        std::hint::black_box((&seed, &system, &cpu));
        is_seeded.then_some(entropy)
    }

    /// Returns whether the kernel's generator counts as entropy in this epoch; waits once for it to say so.
    fn kernel_has_reseeded(&self, epoch: Option<u32>) -> bool {
        let Some(epoch) = epoch else {
            return false;
        };
        // No restore is known yet, and the kernel will be asked at each.
        let is_first = self.seeded_epoch.load(Ordering::Relaxed) == 0;
        (is_first && kernel::is_heard()) || kernel::has_reseeded_in(epoch)
    }
}

impl Gate for Randomness {
    fn draw(&self, draw: &mut dyn FnMut() -> bool) -> bool {
        count_draw();
        loop {
            let Some(seeded) = self.settle() else {
                return false;
            };
            // A machine that was saved during the draw may have drawn the same in another clone.
            if !draw() {
                return false;
            }
            if self.is_still(seeded) {
                return true;
            }
        }
    }

    fn is_open(&self) -> bool {
        self.settle().is_some()
    }
}

/// Fills `out` from the kernel's generator, as far as that can be had without waiting.
fn fill_from_kernel(out: &mut [u8]) {
    // The result is ignored: the bytes are an addition, and zeros do no harm.
    let _ = rustix::rand::getrandom(out, GetRandomFlags::NONBLOCK);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every statement leaves the value consistent, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
