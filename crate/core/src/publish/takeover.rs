//! Finds the page of an earlier publisher, and checks that the present time agrees with it.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::abi::{self, SIZE_FULL, VMCLOCK_MAGIC, VMCLOCK_VERSION};
use crate::error::Error;
use crate::extension::Extension;
use crate::open;
use crate::snapshot::{RawFields, tai_minus_utc_sec};
use crate::source::Sample;
use crate::time::{NS_PER_SEC, fixed, period};
use crate::writer::{PageWriter, failed};

/// The difference of two clocks that counts as a jump, beyond all that is accounted for.
const JUMP_NS: u128 = 1_000_000;
/// The fastest slew of the kernel's clock since the page was left.
const UNKNOWN_SLEW_PPB: u128 = 600_000;

/// A page that is to go on.
#[derive(Clone, Copy, Debug)]
pub struct OldPage {
    /// Its fields.
    pub fields: RawFields,
    /// The extension that belongs to them, if there is one.
    pub extension: Option<Extension>,
    /// Its last writer died in the middle of an update, so that the fields may be of two updates.
    pub is_torn: bool,
}

/// A valid page to take over.
pub(super) struct Found {
    pub(super) file: File,
    pub(super) writer: PageWriter,
    pub(super) page: OldPage,
}

/// Opens the page at `path` to continue it.
///
/// Returns `None` if there is no page, or if it is too small, has another version, or is writable by others (so
/// that readers refuse it).
///
/// # Errors
///
/// [`Error::Untrusted`] for a file of another user and for anything but a regular file, [`Error::BadMagic`] for
/// a file that is no page, [`Error::WriteAccess`], [`Error::System`].
pub(super) fn take_over(path: &Path) -> Result<Option<Found>, Error> {
    let mut file = match open::for_writing(path) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            return Err(no_regular_file(
                path,
                "a directory, a link, a device or a pipe",
            ));
        }
        Err(errno) => return Err(failed("open", path, errno.into())),
    };
    let metadata = file
        .metadata()
        .map_err(|error| failed("fstat", path, error))?;
    check_owner(path, &metadata)?;
    if !has_magic(&mut file, path, &metadata)?
        || metadata.len() < u64::from(SIZE_FULL)
        || metadata.mode() & 0o022 != 0
    {
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
    let page = OldPage {
        fields,
        extension: writer.extension(),
        is_torn: writer.seq_count() & 1 == 1,
    };
    Ok(Some(Found { file, writer, page }))
}

/// Refuses what is no regular file of the caller's.
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    if !metadata.is_file() {
        return Err(no_regular_file(path, "a device or a pipe"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Untrusted {
            path: path.to_path_buf(),
            reason: format!("this file belongs to user {}", metadata.uid()),
            remedy: "publish to a path of your own".to_owned(),
        });
    }
    Ok(())
}

fn no_regular_file(path: &Path, kind: &str) -> Error {
    Error::Untrusted {
        path: path.to_path_buf(),
        reason: format!("a page is published to a regular file, and this is {kind}"),
        remedy: "give another path".to_owned(),
    }
}

/// Returns whether the file begins like a page; `false` if it is empty. A file of another kind is an error: it is
/// never replaced, because the path may be a mistake.
fn has_magic(file: &mut File, path: &Path, metadata: &Metadata) -> Result<bool, Error> {
    let mut magic = Vec::new();
    file.take(4)
        .read_to_end(&mut magic)
        .map_err(|error| failed("read", path, error))?;
    if magic == VMCLOCK_MAGIC.to_le_bytes() {
        return Ok(true);
    }
    if metadata.len() == 0 {
        return Ok(false);
    }
    magic.resize(4, 0);
    let found = magic
        .iter()
        .rev()
        .fold(0, |word, byte| (word << 8) | u32::from(*byte));
    Err(Error::BadMagic {
        path: path.to_path_buf(),
        found,
    })
}

/// Returns whether a page states how far its time may be off, at its reference and later. Readers need both.
pub(super) fn states_bound(fields: &RawFields) -> bool {
    let both = abi::VMCLOCK_FLAG_TIME_MAXERROR_VALID | abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID;
    fields.flags & both == both
}

/// Returns the second of UTC at a page's reference.
pub(super) fn page_utc_sec(fields: &RawFields) -> i128 {
    i128::from(fields.time_sec) - i128::from(page_shift_sec(fields))
}

/// Returns the seconds from UTC to the page's own time.
fn page_shift_sec(fields: &RawFields) -> i16 {
    if fields.time_type == abi::VMCLOCK_TIME_TAI {
        let is_flagged = fields.flags & abi::VMCLOCK_FLAG_TAI_OFFSET_VALID != 0;
        tai_minus_utc_sec(fields.tai_offset_sec, is_flagged).unwrap_or(0)
    } else {
        0
    }
}

/// Returns whether a sample of the present agrees with an older page, carried on by the counter. A page without
/// time agrees with every sample.
pub(super) fn is_consistent_with(
    old: &RawFields,
    now: &Sample,
    counter_id: u8,
    now_error_ns: Option<u128>,
) -> bool {
    if old.counter_period_frac_sec == 0 || old.time_sec == 0 {
        return true;
    }
    let ticks = fixed::distance_ticks(now.counter, old.counter_value);
    let (frac, shift) = (old.counter_period_frac_sec, old.counter_period_shift);
    if old.counter_id != counter_id || shift > fixed::MAX_SHIFT || ticks < 0 {
        return false;
    }
    let elapsed = fixed::elapsed_frac(ticks, frac, shift);
    let then_ns = fixed::time_ns(old.time_sec, old.time_frac_sec, elapsed)
        - i128::from(page_shift_sec(old)) * NS_PER_SEC;
    // Without its flag the figure may be anything.
    let growth_ns = if old.flags & abi::VMCLOCK_FLAG_PERIOD_MAXERROR_VALID == 0 {
        0
    } else {
        fixed::growth_ns(ticks, old.counter_period_maxerror_rate_frac_sec, shift)
    };
    let allowed_ns = match (states_bound(old), now_error_ns) {
        (true, Some(now_error_ns)) => {
            u128::from(old.time_maxerror_nanosec) + growth_ns + now_error_ns + 2
        }
        // One side does not know its error. Then the two may differ by what the kernel can have slewed
        // meanwhile. A clock that was set while nobody published looks like a counter that jumped: a marker
        // that changes needlessly does less harm than one that does not.
        _ => {
            let elapsed_ns = fixed::time_ns(0, 0, elapsed);
            growth_ns + period::share(elapsed_ns.unsigned_abs(), UNKNOWN_SLEW_PPB) + JUMP_NS
        }
    };
    (then_ns - now.realtime_ns).unsigned_abs() <= allowed_ns
}
