//! Publishes a page in a file: its lock, its takeover and its end.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::lock::Lock;
use super::maker::{Maker, Making, check};
use super::takeover::{Found, take_over};
use super::worker::Published;
use super::{Cause, PublishOptions};
use crate::device::Unavailable;
use crate::error::Error;
use crate::extension::SourceKind;
use crate::no_bound::NoBound;
use crate::open;
use crate::page::PUBLISHED_PATH;
use crate::snapshot::Maintenance;
use crate::source::PassedOver;
use crate::writer::{PageHeader, PageLayout, PageWriter, directory_of, failed};

/// A page that a thread of its own keeps up to date, until it is closed.
///
/// Closing it marks the page unreliable and releases the lock; so do dropping it, and a failure of the thread.
/// The page itself stays. Readers that have it mapped see the mark, later readers get an error that gives the
/// reason, and the next publisher takes the page over in place. A caller that created a
/// directory for the page removes it.
///
/// In a forked child it publishes nothing and does nothing: the page remains the parent's. But the child shares
/// the parent's lock, which is free again when both have ended.
#[derive(Debug)]
pub struct Publisher {
    making: Making,
}

impl Publisher {
    /// Publishes a page at `path`, and returns when the page shows its first time. That takes some 10 ms, to
    /// measure the counter's rate.
    ///
    /// A valid page at `path` is taken over in place, and its readers carry on. Its marker changes only if its
    /// time and the present disagree beyond their bounds, or if its last publisher died in the middle of an
    /// update. If there is none, a whole page is put there. The parent directory is created only for the default
    /// path.
    ///
    /// # Errors
    ///
    /// - [`Error::Busy`] while another live publisher holds the page, by this name of its file or another
    /// - [`Error::Untrusted`] if the path is another user's file, or no regular file
    /// - [`Error::BadMagic`] if it is a file of another kind
    /// - [`Error::UntrustedCounter`], [`Error::InvalidArgument`], [`Error::NoDirectory`],
    ///   [`Error::WriteAccess`], [`Error::System`]
    pub fn create(path: &Path, options: PublishOptions) -> Result<Self, Error> {
        // Before anything is created.
        check(&options)?;
        if path == Path::new(PUBLISHED_PATH) {
            create_default_directory(path)?;
        }
        let mut lock = Lock::take(path)?;
        let found = take_over(path)?;
        if let Some(found) = &found {
            let file = found
                .file
                .try_clone()
                .map_err(|error| failed("fcntl", path, error))?;
            lock.hold(file, path)?;
        }
        let mode = options.mode;
        let old = found.as_ref().map(|found| found.page);
        let mut maker = Maker::new(Some(path), options, old)?;
        let fields = maker.settle()?;
        let writer = match found {
            Some(Found { writer, file, .. }) => {
                file.set_permissions(Permissions::from_mode(mode))
                    .map_err(|error| failed("fchmod", path, error))?;
                writer
            }
            None => {
                let layout = PageLayout {
                    mode,
                    ..PageLayout::default()
                };
                let writer = PageWriter::create(path, &layout, PageHeader::default(), &fields)?;
                let file =
                    open::for_writing(path).map_err(|errno| failed("open", path, errno.into()))?;
                lock.hold(file, path)?;
                writer
            }
        };
        let mut page = Published::in_file(writer, lock);
        page.write(&fields, &maker.extension());
        let making = maker.start(page)?;
        Ok(Self { making })
    }

    /// Changes the disruption marker, as a live migration does. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the publisher is closed or had to stop.
    pub fn disrupt(&self) -> Result<(), Error> {
        self.making.command(Cause::Disrupt)
    }

    /// Changes the generation counter, as a restore from a snapshot does. Returns when the page
    /// shows it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] on a page without one ([`PublishOptions::generation`]);
    /// [`Error::Stopped`].
    pub fn bump_generation(&self) -> Result<(), Error> {
        self.making.command(Cause::BumpGeneration)
    }

    /// Announces maintenance, or withdraws the announcement. Returns when the page shows it.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`].
    pub fn set_maintenance(&self, maintenance: Maintenance) -> Result<(), Error> {
        self.making.command(Cause::Maintenance(maintenance))
    }

    /// Returns the page's path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.making.path()
    }

    /// Returns why this process cannot look at the machine's vmclock device, so that it notices no migration.
    /// `None` if it can, or if the machine has no device.
    #[must_use]
    pub fn unavailable(&self) -> Option<&Unavailable> {
        self.making.unavailable()
    }

    /// Returns how often the page has been written.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.making.updates()
    }

    /// Returns the CPU time that the publisher's thread has used until its last update, in nanoseconds.
    #[must_use]
    pub fn cpu_time_ns(&self) -> u64 {
        self.making.cpu_time_ns()
    }

    /// Returns why the thread had to stop; `None` while it publishes. A page whose thread stopped is marked
    /// unreliable.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.making.failure()
    }

    /// Returns why the page states no bound on its time, as of its last update; `None` if it states one, or has
    /// no time.
    #[must_use]
    pub fn no_bound(&self) -> Option<NoBound> {
        self.making.no_bound()
    }

    /// Returns the source of the page's time, as of its last update. Unknown for a page without time.
    #[must_use]
    pub fn source(&self) -> SourceKind {
        self.making.source()
    }

    /// Returns the better sources that the page's time does not come from, and why, as of its last update.
    #[must_use]
    pub fn passed_over(&self) -> Vec<PassedOver> {
        self.making.passed_over()
    }

    /// Marks the page unreliable, releases the lock and ends the thread. Closing again does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the publisher had already stopped by itself, with the reason.
    pub fn close(&self) -> Result<(), Error> {
        self.making.close()
    }
}

fn create_default_directory(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o755).create(directory_of(path)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("mkdir", path, error)),
    }
}
