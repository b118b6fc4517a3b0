//! The page that this process makes for its own clocks.
//!
//! One calibrator makes it, for the clocks of all threads that made the same choice. The first clock starts the
//! calibrator, and the last one that is closed ends it. The calibrator is a publisher's thread whose page is private
//! memory instead of a file. Such a thread keeps no process alive.
//!
//! A fork copies the memory and not the thread. So the kernel gives the child zeros in place of the page, and a
//! clock of the child finds a sequence number that no page has. It then asks [`Renew`] for a page that the child
//! makes itself.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::maker::{Maker, Making};
use super::shared::locked;
use super::trusted_counter::require_trusted_counter;
use super::worker::Published;
use super::{Cause, From, PublishOptions};
use crate::error::Error;
use crate::page::{Mapping, Page, Renew};
use crate::seqlock::SharedWords;
use crate::writer::PageWriter;

/// The name of the page in errors.
const NAME: &str = "the page of this process";

/// Returns the page that this process makes from a source of time. The first call starts the calibrator, which
/// takes some 10 ms to measure the counter's rate. Dropping the last page ends it.
///
/// # Errors
///
/// - [`Error::UntrustedCounter`] for a counter that CPUID does not call invariant, or that the kernel does not
///   trust, unless `allow_untrusted_counter`
/// - the error of the source that `from` names
/// - [`Error::OutOfRange`] if the kernel's clock shows a time before 1970
/// - [`Error::System`]
pub fn process_page(
    allow_untrusted_counter: bool,
    from: From,
    host_error_ns: Option<u64>,
) -> Result<Page, Error> {
    if !allow_untrusted_counter {
        require_trusted_counter().map_err(|error| {
            instead_of_publishing(
                error,
                "open the clock with allowUntrustedCounter if you know that the counter is sound; \
                 otherwise the time can be wrong without notice",
            )
        })?;
    }
    let calibrator = Calibrator::of_this_process((from, host_error_ns))?;
    let mapping = calibrator.mapping.clone();
    let share = Share {
        allow_untrusted_counter,
        from,
        host_error_ns,
        _calibrator: calibrator,
    };
    Ok(Page::in_memory(mapping, Arc::new(share)))
}

/// Tells the pages that this process makes that its machine was restored or cloned. Returns when they show it: a new
/// generation, and no time until the counter's rate is measured again.
pub fn notify_restored() {
    let all: Vec<_> = locked(&Process::this().calibrators)
        .iter()
        .filter_map(|(_, calibrator)| calibrator.upgrade())
        .collect();
    for calibrator in all {
        // A calibrator that has stopped has marked its page: it shows no time any more.
        let _ = calibrator.making.command(Cause::Restored);
    }
}

/// Replaces the remedy of a publisher.
fn instead_of_publishing(error: Error, remedy: &'static str) -> Error {
    match error {
        Error::UntrustedCounter { reason, .. } => Error::UntrustedCounter { reason, remedy },
        other => other,
    }
}

/// A choice of callers that needs a calibrator of its own: the source, and the stated error of the host's clock.
type Choice = (From, Option<u64>);

/// One page's share in the calibrator.
#[derive(Debug)]
struct Share {
    allow_untrusted_counter: bool,
    from: From,
    host_error_ns: Option<u64>,
    _calibrator: Arc<Calibrator>,
}

impl Renew for Share {
    fn renew(&self) -> Result<Page, Error> {
        process_page(self.allow_untrusted_counter, self.from, self.host_error_ns)
    }
}

/// The memory of the page, and the thread that keeps it up to date.
#[derive(Debug)]
struct Calibrator {
    // Dropped in this order: the thread writes to the memory.
    making: Making,
    mapping: Mapping,
}

impl Calibrator {
    /// Returns the running calibrator of this choice, or starts one.
    fn of_this_process(choice: Choice) -> Result<Arc<Self>, Error> {
        let mut all = locked(&Process::this().calibrators);
        all.retain(|(_, calibrator)| calibrator.strong_count() != 0);
        let of_choice = all.iter().find(|(one, _)| *one == choice);
        let running = of_choice.and_then(|(_, calibrator)| calibrator.upgrade());
        if let Some(running) = running.filter(|found| found.is_running()) {
            return Ok(running);
        }
        let started = Arc::new(Self::start(choice)?);
        all.retain(|(one, _)| *one != choice);
        all.push((choice, Arc::downgrade(&started)));
        Ok(started)
    }

    fn start((from, host_error_ns): Choice) -> Result<Self, Error> {
        let options = PublishOptions {
            from,
            host_error_ns,
            // Each clock checks the counter by its own options.
            allow_untrusted_counter: true,
            // Each clock decides by its own options whether a page counts whose device nobody looks at.
            allow_unguarded: true,
            ..PublishOptions::default()
        };
        let mut maker = Maker::new(None, options, None)?;
        maker.hear_restores();
        let fields = maker.settle().map_err(|error| {
            instead_of_publishing(error, "use the system's clock on this machine")
        })?;
        let writer = PageWriter::in_memory(Path::new(NAME), &fields)?;
        let mapping = writer.mapping();
        let mut page = Published::in_memory(writer);
        page.write(&fields, &maker.extension());
        let making = maker.start(page)?;
        Ok(Self { making, mapping })
    }

    /// Returns whether the thread runs in this process.
    fn is_running(&self) -> bool {
        self.mapping.load_seq() != 0 && self.making.failure().is_none()
    }
}

/// A process's place for its calibrators, one for each choice of a source.
///
/// A forked child does not use its parent's. Another thread of the parent may have held the lock at the fork, and
/// then nothing unlocks it in the child.
struct Process {
    /// The process; 0 before the first use.
    id: AtomicU32,
    calibrators: Mutex<Vec<(Choice, Weak<Calibrator>)>>,
    /// The place of a forked child.
    child: OnceLock<Box<Process>>,
}

impl Process {
    const fn new(id: u32) -> Self {
        Self {
            id: AtomicU32::new(id),
            calibrators: Mutex::new(Vec::new()),
            child: OnceLock::new(),
        }
    }

    fn this() -> &'static Self {
        static FIRST: Process = Process::new(0);
        let id = std::process::id();
        let mut process = &FIRST;
        let _ = process
            .id
            .compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
        while process.id.load(Ordering::Relaxed) != id {
            process = process.child.get_or_init(|| Box::new(Self::new(id)));
        }
        process
    }
}
