//! Opens files without effects on files of other kinds.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::Error;

/// Opens the file at `path` for reading, and returns it with its status.
///
/// `check` refuses files of other kinds. It runs before the open, because opening a FIFO releases its
/// writer, and opening a watchdog starts it. It runs again on the open file, because another file may be
/// at the path by then. `refusal` makes the error of a failed open.
pub(crate) fn for_reading(
    path: &Path,
    check: impl Fn(&Stat) -> Result<(), Error>,
    refusal: impl FnOnce(Errno) -> Error,
) -> Result<(OwnedFd, Stat), Error> {
    // If this `stat` fails, the `open` fails for the same reason.
    if let Ok(stat) = rustix::fs::stat(path) {
        check(&stat)?;
    }
    // Without O_NONBLOCK the open of a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(refusal)?;
    let stat =
        rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", Some(path), errno))?;
    check(&stat)?;
    Ok((file, stat))
}

/// Opens the file at `path`, which must be no symbolic link, for reading and writing.
pub(crate) fn for_writing(path: &Path) -> Result<File, Errno> {
    // Without O_NONBLOCK the open of some devices would wait.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}
