//! Hears the kernel's VMGENID uevents, in one thread of the process, which never ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use vmclock::machine::vmgenid::{self, Event, Listener};

use super::restores::Restores;
use super::{kernel, listeners};

/// True if the kernel has sent one: not every kernel with the driver does.
static SEEN: AtomicBool = AtomicBool::new(false);

/// Starts the thread on a machine with a VMGENID device, once.
pub(super) fn hear(restores: &'static Restores) {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if kernel::is_heard() || !vmgenid::is_present() {
        return;
    }
    // A sandbox may forbid netlink. Then there is no such signal, which the protection's state shows.
    let Ok(listener) = Listener::open() else {
        return;
    };
    let started = std::thread::Builder::new()
        .name("vmclock-vmgenid".to_owned())
        .spawn(move || {
            while let Ok(event) = listener.wait() {
                note(restores, event);
            }
            kernel::set_heard(false);
        });
    kernel::set_heard(started.is_ok());
}

pub(super) fn were_seen() -> bool {
    SEEN.load(Ordering::Acquire)
}

fn note(restores: &Restores, event: Event) {
    // A device's page has shown the restore already, before the machine ran again.
    if !restores.is_synchronous() {
        restores.notify();
    }
    if event == Event::Reseeded {
        SEEN.store(true, Ordering::Release);
        restores.kernel_reseeded();
    }
    listeners::wake_all();
}
