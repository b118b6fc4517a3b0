//! Keeps a page's file to one live publisher, whatever names the file has.
//!
//! The lock of [`super::lock`] lies beside the page's name. A hard link, a bind mount, or the removal of that lock
//! file would let a second publisher in. This lock lies on the page's file itself. It is a write lock of an open
//! file (`F_OFD_SETLK`, `fcntl_locking(2)`), which needs a file that is open for writing, so no reader can take it.
//! A reader can take a read lock, which hinders a write lock. Such a reader does not keep the publisher out: it then
//! goes on with the other lock alone.

#![allow(
    unsafe_code,
    reason = "the libraries that this crate uses have locks of processes, and none of open files"
)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::Error;

/// The exclusive right to write a page's file, held until it is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock of a file that is open for writing.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if another publisher has it.
    pub(super) fn take(file: File, path: &Path) -> Result<Self, Error> {
        // A file system without such locks has the lock beside the page alone.
        if !set_lock(&file, libc::F_WRLCK) && has_other_write_lock(&file) {
            return Err(Error::Busy {
                path: path.to_path_buf(),
            });
        }
        Ok(Self { file })
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // A process that another thread has just forked keeps the open file until it starts its program. Closing the
        // file here would leave the lock to that process.
        set_lock(&self.file, libc::F_UNLCK);
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        // The kinds are 0 to 2.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        // To the end of the file, however long it becomes.
        l_len: 0,
        // Locks of open files want 0 here.
        l_pid: 0,
    }
}

fn set_lock(file: &File, kind: libc::c_int) -> bool {
    let lock = whole_file(kind);
    // SAFETY: the descriptor is open, and the kernel reads one `flock` that this function owns.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) == 0 }
}

/// Returns whether another open file has a write lock. A read lock conflicts with nothing else.
fn has_other_write_lock(file: &File) -> bool {
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is open, and the kernel writes one `flock` that this function owns.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    result == 0 && i32::from(lock.l_type) == libc::F_WRLCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_although_a_forked_process_has_the_file_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let open = || {
            let mut options = File::options();
            options.create(true).truncate(false).read(true).write(true);
            options.open(&path).unwrap()
        };
        let file = open();
        // As a fork does, this makes another descriptor of the same open file.
        let forked = file.try_clone().unwrap();
        let lock = FileLock::take(file, &path).unwrap();
        assert!(matches!(
            FileLock::take(open(), &path),
            Err(Error::Busy { .. })
        ));
        drop(lock);
        assert!(FileLock::take(open(), &path).is_ok());
        drop(forked);
    }
}
