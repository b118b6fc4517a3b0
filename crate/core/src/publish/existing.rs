//! The page that stands where one is to be published.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::abi::{SIZE_FULL, VMCLOCK_MAGIC, VMCLOCK_VERSION};
use crate::error::Error;
use crate::open;
use crate::snapshot::RawFields;
use crate::writer::{PageWriter, failed};

/// A valid page to take over.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) writer: PageWriter,
    pub(super) fields: RawFields,
    /// Its last writer died in the middle of an update.
    pub(super) torn: bool,
}

/// Opens the page at `path` to go on with it. `None` where there is none, or one that is not worth
/// going on with: too small, another version, or open to others, whom readers refuse.
pub(super) fn take_over(path: &Path) -> Result<Option<Found>, Error> {
    let untrusted = |reason: String, remedy: &str| Error::Untrusted {
        path: path.to_path_buf(),
        reason,
        remedy: remedy.to_owned(),
    };
    let mut file = match open::for_writing(path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Err(untrusted(
                "a page is published to a regular file, and this is a directory, a link, a device \
                 or a pipe"
                    .to_owned(),
                "give another path",
            ));
        }
        Err(errno) => return Err(failed("open", path, errno.into())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| failed("fstat", path, error))?;
    if !metadata.is_file() {
        return Err(untrusted(
            "a page is published to a regular file, and this is a device or a pipe".to_owned(),
            "give another path",
        ));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(untrusted(
            format!("this file belongs to user {}", metadata.uid()),
            "publish to a path of your own",
        ));
    }
    let mut magic = Vec::new();
    (&mut file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(|error| failed("read", path, error))?;
    if magic != VMCLOCK_MAGIC.to_le_bytes() {
        if metadata.len() == 0 {
            return Ok(None);
        }
        // Never replace what is not a page: somebody mistyped a path.
        magic.resize(4, 0);
        let found = magic
            .iter()
            .rev()
            .fold(0, |word, byte| (word << 8) | u32::from(*byte));
        return Err(Error::BadMagic {
            path: path.to_path_buf(),
            found,
        });
    }
    if metadata.len() < u64::from(SIZE_FULL) || metadata.mode() & 0o022 != 0 {
        return Ok(None);
    }
    let writer = PageWriter::from_file(&file, path, 0)?;
    let header = writer.header();
    let fields = writer.fields();
    if header.size < SIZE_FULL
        || u64::from(header.size) > metadata.len()
        || fields.version != VMCLOCK_VERSION
    {
        return Ok(None);
    }
    let torn = writer.seq_count() & 1 == 1;
    Ok(Some(Found {
        file,
        writer,
        fields,
        torn,
    }))
}
