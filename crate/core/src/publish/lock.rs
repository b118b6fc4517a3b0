//! Keeps a page to one live publisher.
//!
//! The lock is a file beside the page. If it were the page itself, every reader could lock it and keep its
//! publisher out. `flock(2)` belongs to the open file, so that it also excludes a second publisher in the same
//! process, and it ends with its process, however that ends.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::file_lock::FileLock;
use crate::error::Error;
use crate::writer::{directory_of, failed};

/// The remedy for a lock file that is not the caller's own.
const REMEDY: &str = "remove the lock file, or publish in a directory of your own";

/// The right to publish a page, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The lock file's directory, held open: it stays valid if the process changes its directory, or if this one
    /// is renamed.
    directory: OwnedFd,
    name: OsString,
    /// The page's name in the same directory.
    page_name: OsString,
    /// The page's path from the root, by which readers find it; `None` if the current directory has no path.
    whole_path: Option<PathBuf>,
    /// The page's file, once it is known.
    page: Option<Held>,
}

/// The page's file, which this publisher holds.
#[derive(Debug)]
struct Held {
    file: FileLock,
    /// The file's size when it was taken, in bytes.
    size_bytes: i64,
}

impl Lock {
    /// How many times to try again if another publisher removes the lock file meanwhile.
    const TRIES: usize = 16;

    /// Takes the lock of the page at `page`.
    pub(super) fn take(page: &Path) -> Result<Self, Error> {
        let page_name = page.file_name().map(OsString::from).ok_or_else(|| {
            Error::invalid_argument("the path of a page must end in the name of a file")
        })?;
        let mut name = page_name.clone();
        name.push(".lock");
        let path = page.with_file_name(&name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory_of(page), flags, Mode::empty())
            .map_err(|errno| failed("open", page, errno.into()))?;
        let busy = || Error::Busy {
            path: page.to_path_buf(),
        };
        for _ in 0..Self::TRIES {
            let flags = OFlags::RDWR
                | OFlags::CREATE
                | OFlags::CLOEXEC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK;
            let file = rustix::fs::openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                // The caller gave the page's name, and not this one.
                .map_err(|errno| failed("open", page, errno.into()))?;
            let opened = file
                .metadata()
                .map_err(|error| failed("fstat", &path, error))?;
            let caller = rustix::process::geteuid().as_raw();
            if opened.uid() != caller || !opened.is_file() {
                return Err(Error::Untrusted {
                    path,
                    reason: format!(
                        "this lock file belongs to user {}, who could hold it for ever",
                        opened.uid()
                    ),
                    remedy: REMEDY.to_owned(),
                });
            }
            if opened.nlink() > 1 {
                // Another user may have linked a file of the caller's here. It would be locked, closed to others
                // and unlinked.
                return Err(Error::Untrusted {
                    path,
                    reason: "this lock file has another name too, so it is no lock file of a \
                             publisher"
                        .to_owned(),
                    remedy: REMEDY.to_owned(),
                });
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(busy()),
                Err(errno) => return Err(failed("flock", &path, errno.into())),
            }
            // Its last holder may have removed it meanwhile. Then this lock is on a file that nobody else will
            // find.
            if is_still(&directory, &name, &file) {
                file.set_permissions(Permissions::from_mode(0o600))
                    .map_err(|error| failed("fchmod", &path, error))?;
                return Ok(Self {
                    file,
                    directory,
                    name,
                    page_name,
                    whole_path: std::path::absolute(page).ok(),
                    page: None,
                });
            }
        }
        Err(busy())
    }

    /// Takes the page's file too, which is open for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if a publisher has it under another name.
    pub(super) fn hold(&mut self, file: File, page: &Path) -> Result<(), Error> {
        let file = FileLock::take(file, page)?;
        let stat =
            rustix::fs::fstat(file.file()).map_err(|errno| failed("fstat", page, errno.into()))?;
        self.page = Some(Held {
            file,
            size_bytes: stat.st_size,
        });
        Ok(())
    }

    /// Returns why readers no longer find the page at its path; `None` if they do.
    pub(super) fn lost_name(&self) -> Option<&'static str> {
        let Held { file, size_bytes } = self.page.as_ref()?;
        let open = rustix::fs::fstat(file.file()).ok()?;
        if open.st_size < *size_bytes {
            return Some("the page's file was shortened");
        }
        let is_page = |named: &Stat| is_same(named, &open);
        match rustix::fs::statat(&self.directory, &self.page_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if is_page(&named) => {}
            Ok(_) => return Some("another file is at its path"),
            Err(_) => return Some("the page's file was removed from its path"),
        }
        // The directory held open is the page's even if it has another path by now.
        match rustix::fs::lstat(self.whole_path.as_ref()?) {
            Ok(named) if !is_page(&named) => Some("another file is at its path"),
            Err(Errno::NOENT | Errno::NOTDIR) => Some("the page's directory was moved or removed"),
            // A publisher that may not look at the path any more learns nothing from it.
            Ok(_) | Err(_) => None,
        }
    }

    /// Returns whether the page's file has no bytes left. Access to its mapping would end the process by SIGBUS.
    pub(super) fn is_emptied(&self) -> bool {
        self.page
            .as_ref()
            .and_then(|page| rustix::fs::fstat(page.file.file()).ok())
            .is_some_and(|stat| stat.st_size == 0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file is removed while it is locked, so that nobody else holds the name that is removed. If that
        // fails, the file stays and does no harm: without a lock on it, the next publisher takes it.
        if is_still(&self.directory, &self.name, &self.file) {
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Returns whether the name in the directory still means the open file.
fn is_still(directory: &OwnedFd, name: &OsString, file: &File) -> bool {
    let named = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let open = rustix::fs::fstat(file);
    named
        .ok()
        .zip(open.ok())
        .is_some_and(|(named, open)| is_same(&named, &open))
}

/// Returns whether two looks are at the same file.
fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
