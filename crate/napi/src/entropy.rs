//! Entropy from the CPU, which two clones of a machine do not share.
//!
//! The generator of RDSEED, RDRAND, RNDRRS and RNDR is in the CPU, outside of what a snapshot saves. The
//! system's own random numbers, the counter and the time are no such entropy: a clone starts with a copy of the
//! kernel's generator, and others can guess the rest.
//!
//! # References
//!
//! - Intel, "Digital Random Number Generator (DRNG) Software Implementation Guide", sections 4.2.1 (RDRAND) and
//!   4.3.1 (RDSEED): success is the carry flag; ten immediate retries of RDRAND; RDSEED may fail for longer,
//!   and is retried with PAUSE.
//! - Arm, "Arm Architecture Reference Manual", RNDR and RNDRRS: failure is the flag Z; both may fail, and
//!   RNDRRS reseeds the generator first.

/// How many 64-bit words a sample has: 384 bits, as many as OpenSSL's AES-256 generator takes as a seed.
pub(crate) const WORDS: usize = 6;

/// How often an instruction that reseeds, or has a true source behind it, is tried for one word.
const PATIENT_TRIES: u32 = 1024;
/// How often an instruction with a generator behind it is tried for one word.
const QUICK_TRIES: u32 = 10;

/// Returns a sample of the CPU's generator; `None` if the CPU has none, or if it does not work.
pub(crate) fn from_cpu() -> Option<[u64; WORDS]> {
    cpu::INSTRUCTIONS
        .iter()
        .filter(|instruction| (instruction.is_present)())
        .find_map(sample)
}

/// An instruction that gives a random word.
struct Instruction {
    is_present: fn() -> bool,
    /// Returns a word, or `None` if the generator had none ready. Called only if the CPU has the instruction.
    draw: fn() -> Option<u64>,
    tries: u32,
}

fn sample(instruction: &Instruction) -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = (0..instruction.tries).find_map(|_| {
            let drawn = (instruction.draw)();
            if drawn.is_none() {
                std::hint::spin_loop();
            }
            drawn
        })?;
    }
    is_plausible(&words).then_some(words)
}

/// Returns false for a generator that repeats itself. Some CPUs return one value, all ones, for ever and report
/// success, for example after a suspend.
fn is_plausible(words: &[u64; WORDS]) -> bool {
    words
        .iter()
        .enumerate()
        .all(|(index, word)| !words.iter().take(index).any(|earlier| earlier == word))
}

#[cfg(target_arch = "x86_64")]
mod cpu {
    use core::arch::x86_64::{_rdrand64_step, _rdseed64_step};

    use super::{Instruction, PATIENT_TRIES, QUICK_TRIES};

    pub(super) const INSTRUCTIONS: [Instruction; 2] = [
        Instruction {
            is_present: || std::arch::is_x86_feature_detected!("rdseed"),
            draw: rdseed,
            tries: PATIENT_TRIES,
        },
        Instruction {
            is_present: || std::arch::is_x86_feature_detected!("rdrand"),
            draw: rdrand,
            tries: QUICK_TRIES,
        },
    ];

    fn rdseed() -> Option<u64> {
        let mut word = 0;
        // SAFETY: `from_cpu` found that the CPU has the instruction.
        let is_ready = unsafe { _rdseed64_step(&mut word) };
        (is_ready == 1).then_some(word)
    }

    fn rdrand() -> Option<u64> {
        let mut word = 0;
        // SAFETY: as in `rdseed`.
        let is_ready = unsafe { _rdrand64_step(&mut word) };
        (is_ready == 1).then_some(word)
    }
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    use core::arch::asm;

    use super::{Instruction, PATIENT_TRIES, QUICK_TRIES};

    pub(super) const INSTRUCTIONS: [Instruction; 2] = [
        Instruction {
            is_present: || std::arch::is_aarch64_feature_detected!("rand"),
            draw: rndrrs,
            tries: PATIENT_TRIES,
        },
        Instruction {
            is_present: || std::arch::is_aarch64_feature_detected!("rand"),
            draw: rndr,
            tries: QUICK_TRIES,
        },
    ];

    fn rndrrs() -> Option<u64> {
        let (word, failed): (u64, u64);
        // SAFETY: `from_cpu` found that the CPU has the register. Reading it changes nothing but the flags.
        unsafe {
            asm!("mrs {word}, s3_3_c2_c4_1", "cset {failed}, eq", word = out(reg) word,
                failed = out(reg) failed, options(nostack));
        }
        (failed == 0).then_some(word)
    }

    fn rndr() -> Option<u64> {
        let (word, failed): (u64, u64);
        // SAFETY: as in `rndrrs`.
        unsafe {
            asm!("mrs {word}, s3_3_c2_c4_0", "cset {failed}, eq", word = out(reg) word,
                failed = out(reg) failed, options(nostack));
        }
        (failed == 0).then_some(word)
    }
}
