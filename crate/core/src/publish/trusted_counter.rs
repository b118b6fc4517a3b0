//! Says if time may be published from this machine's counter.

use crate::counter::CpuCounter;
use crate::counter::clocksource::kernel_lists_tsc;
use crate::error::Error;

pub(crate) fn require_trusted_counter() -> Result<(), Error> {
    let refuse = |reason: &'static str| {
        Err(Error::UntrustedCounter {
            reason,
            remedy: "publish a marker without time, or publish time all the same if you know that \
                     the counter is sound (--allow-untrusted-counter); otherwise the time can be \
                     wrong without notice",
        })
    };
    if !CpuCounter.facts().invariant {
        return refuse(
            "the CPU does not promise that its counter runs at one rate and never stops",
        );
    }
    if cfg!(target_arch = "x86_64") {
        match kernel_lists_tsc() {
            Some(true) => {}
            Some(false) => {
                return refuse(
                    "the kernel does not list `tsc` among its clock sources: it found the counter \
                     untrustworthy or was told not to use it",
                );
            }
            None => {
                return refuse(
                    "the kernel's list of clock sources cannot be read (is /sys mounted?), so \
                     whether it trusts the counter is unknown",
                );
            }
        }
    }
    Ok(())
}
