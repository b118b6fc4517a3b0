//! One live publisher a page.
//!
//! The lock is a file beside the page, not the page itself: whoever may read the page could lock it
//! and so keep its publisher out. `flock(2)` belongs to the open file, so that a second publisher
//! in the same process is kept out too, and it ends with its process, however that ends.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::writer::failed;

/// The right to publish a page, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// How often another publisher may remove the lock file under our hands before that is called
    /// busy.
    const TRIES: usize = 16;

    /// Takes the lock of the page at `page`.
    pub(super) fn take(page: &Path) -> Result<Self, Error> {
        let mut name = page.file_name().map(OsString::from).ok_or_else(|| {
            Error::InvalidArgument("the path of a page ends in the name of a file".to_owned())
        })?;
        name.push(".lock");
        let path = page.with_file_name(name);
        let busy = || Error::Busy {
            path: page.to_path_buf(),
        };
        for _ in 0..Self::TRIES {
            let flags = OFlags::RDWR
                | OFlags::CREATE
                | OFlags::CLOEXEC
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK;
            let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
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
                        "this lock file belongs to user {}, who could hold it for ever; remove it, \
                         or publish in a folder of your own",
                        opened.uid()
                    ),
                });
            }
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(busy()),
                Err(errno) => return Err(failed("flock", &path, errno.into())),
            }
            // The one who held it may have removed it meanwhile: then this locks a file that nobody
            // else will find.
            let current = std::fs::symlink_metadata(&path);
            if current.is_ok_and(|at| at.dev() == opened.dev() && at.ino() == opened.ino()) {
                file.set_permissions(Permissions::from_mode(0o600))
                    .map_err(|error| failed("fchmod", &path, error))?;
                return Ok(Self { file, path });
            }
        }
        Err(busy())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody can hold the name that is removed. If that
        // fails, the file stays and does no harm: an unlocked one is free to take.
        let _ = std::fs::remove_file(&self.path);
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}
