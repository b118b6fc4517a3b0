//! One live publisher a page.
//!
//! The lock is a file beside the page, not the page itself: whoever may read the page could lock it
//! and so keep its publisher out. `flock(2)` belongs to the open file, so that a second publisher
//! in the same process is kept out too, and it ends with its process, however that ends.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::writer::{directory_of, failed};

/// What to do about a lock file that is not the caller's own.
const REMEDY: &str = "remove the lock file, or publish in a directory of your own";

/// The right to publish a page, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// The folder that the lock file is in, wherever this process goes from here and whatever
    /// becomes of the folder's name.
    folder: OwnedFd,
    name: OsString,
}

impl Lock {
    /// How often another publisher may remove the lock file under our hands before that is called
    /// busy.
    const TRIES: usize = 16;

    /// Takes the lock of the page at `page`.
    pub(super) fn take(page: &Path) -> Result<Self, Error> {
        let mut name = page.file_name().map(OsString::from).ok_or_else(|| {
            Error::invalid_argument("the path of a page must end in the name of a file")
        })?;
        name.push(".lock");
        let path = page.with_file_name(&name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(directory_of(page), flags, Mode::empty())
            .map_err(|errno| failed("open", &path, errno.into()))?;
        let busy = || Error::Busy {
            path: page.to_path_buf(),
        };
        for _ in 0..Self::TRIES {
            let flags = OFlags::RDWR
                | OFlags::CREATE
                | OFlags::CLOEXEC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK;
            let file = rustix::fs::openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR)
                .map(File::from)
                .map_err(|errno| failed("open", &path, errno.into()))?;
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
                // Somebody else's link to a file of the caller's, which would be locked, closed to
                // others and unlinked here.
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
            // The one who held it may have removed it meanwhile: then this locks a file that nobody
            // else will find.
            if is_still(&folder, &name, &file) {
                file.set_permissions(Permissions::from_mode(0o600))
                    .map_err(|error| failed("fchmod", &path, error))?;
                return Ok(Self { file, folder, name });
            }
        }
        Err(busy())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody can hold the name that is removed. If that
        // fails, the file stays and does no harm: an unlocked one is free to take.
        if is_still(&self.folder, &self.name, &self.file) {
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Whether the name in the folder still means the open file.
fn is_still(folder: &OwnedFd, name: &OsString, file: &File) -> bool {
    let named = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    let open = rustix::fs::fstat(file);
    named
        .ok()
        .zip(open.ok())
        .is_some_and(|(named, open)| (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
}
