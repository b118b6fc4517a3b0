//! Fields into a page, under the seqlock. Knows nothing of clocks.
//!
//! The publisher writes this machine's page with it; whoever plays the hypervisor writes a guest's
//! page with it, at an offset inside the file that backs the guest's memory.
//!
//! # The rules of this room
//!
//! - A page has one writer at a time. Nothing here enforces that: the publisher holds a lock.
//! - A file that readers may have mapped is never truncated and never replaced in part. A new page
//!   is written whole under another name and renamed into place.
//! - What an update writes is computed before the sequence number is made odd. If the file's
//!   memory must be made writable again first (a file system does that after it has written the
//!   page to its disk), the fault is taken by the store of the odd number itself: readers see the
//!   page only before or after it.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::abi::{
    SIZE_FULL, SIZE_REGION, VMCLOCK_COUNTER_INVALID, VMCLOCK_MAGIC, VMCLOCK_VERSION, field,
};
use crate::error::Error;
use crate::no_bound::{self, NoBound};
use crate::open;
use crate::page::Mapping;
use crate::seqlock::{
    self, EXTENSION_WORDS, FIRST_WORD_OFFSET, SharedWords, SharedWordsMut, WORDS,
};
use crate::snapshot::RawFields;

/// Memory is backed by a file in steps of at least this many bytes on every architecture.
const SMALLEST_MEMORY_PAGE: u64 = 4096;

/// The first two fields of a page, which no update changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// `magic`: the bytes `VCLK`.
    pub magic: u32,
    /// `size`: bytes of the region that holds the structure.
    pub size: u32,
}

impl Default for PageHeader {
    fn default() -> Self {
        Self {
            magic: VMCLOCK_MAGIC,
            size: SIZE_REGION,
        }
    }
}

/// How the file of a new page is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Where in the file the page begins: a multiple of 8.
    pub page_offset: u64,
    /// The file's permission bits, whatever the umask is.
    pub mode: u32,
}

impl Default for PageLayout {
    fn default() -> Self {
        Self {
            file_bytes: u64::from(SIZE_REGION),
            page_offset: 0,
            mode: 0o644,
        }
    }
}

/// The fields of a page that describes nothing yet: version 1, no counter, status unknown.
#[must_use]
pub fn blank() -> RawFields {
    RawFields {
        version: VMCLOCK_VERSION,
        counter_id: VMCLOCK_COUNTER_INVALID,
        ..RawFields::default()
    }
}

/// A mapping that was made for writing, so that a store through it cannot fault.
#[derive(Debug)]
struct Writable(Mapping);

impl SharedWords for Writable {
    #[inline(always)]
    fn load_seq(&self) -> u32 {
        self.0.load_seq()
    }

    #[inline(always)]
    fn load_head(&self) -> u32 {
        self.0.load_head()
    }

    #[inline(always)]
    fn load_words(&self) -> [u64; WORDS] {
        self.0.load_words()
    }

    #[inline(always)]
    fn fence_acquire(&self) {
        self.0.fence_acquire();
    }
}

impl SharedWordsMut for Writable {
    #[inline(always)]
    fn store_seq(&self, seq: u32) {
        self.0
            .word32(field::SEQ_COUNT.offset)
            .store(seq, Ordering::Relaxed);
    }

    #[inline(always)]
    fn store_head(&self, head: u32) {
        self.0
            .word32(field::VERSION.offset)
            .store(head, Ordering::Relaxed);
    }

    #[inline(always)]
    fn store_words(&self, words: &[u64; WORDS]) {
        for (index, word) in words.iter().enumerate() {
            self.0
                .word64(FIRST_WORD_OFFSET + 8 * index)
                .store(*word, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn store_extension(&self, words: &[u64; EXTENSION_WORDS]) {
        for (at, word) in self.0.extension().into_iter().flatten().zip(words) {
            at.store(*word, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn fence_release(&self) {
        // Pairs with the readers' acquire fences; `seqlock` says which with which.
        fence(Ordering::Release);
    }
}

/// The only writer of a page.
#[derive(Debug)]
pub struct PageWriter {
    memory: Writable,
    fields: RawFields,
    path: PathBuf,
}

impl PageWriter {
    /// Makes a new page at `path`: written whole under another name in the same folder, then
    /// renamed into place. A file that stood there is left to those who have it open or mapped,
    /// unchanged. The sequence number begins at 0.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] where the layout cannot hold a page, [`Error::NoDirectory`],
    /// [`Error::WriteAccess`], [`Error::System`]. No file is left behind then.
    pub fn create(
        path: &Path,
        layout: &PageLayout,
        header: PageHeader,
        fields: &RawFields,
    ) -> Result<Self, Error> {
        check_layout(layout)?;
        let folder = folder_of(path);
        let file = tempfile::Builder::new()
            .prefix(".vmclock-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(|error| failed("open", path, error))?;
        file.as_file()
            .set_len(layout.file_bytes)
            .map_err(|error| failed("ftruncate", path, error))?;
        // Memory for it, now that its lack is an error: a store into a mapped file that gets none
        // ends the process (SIGBUS).
        let within_file = layout.file_bytes.saturating_sub(layout.page_offset);
        let page = [0; SIZE_FULL as usize];
        let within_page = usize::try_from(within_file).unwrap_or(usize::MAX);
        file.as_file()
            .write_all_at(page.get(..within_page).unwrap_or(&page), layout.page_offset)
            .map_err(|error| failed("pwrite", path, error))?;
        let bytes = mapped_bytes(layout.file_bytes, layout.page_offset);
        let memory = Mapping::writable(file.as_file(), layout.page_offset, bytes)
            .map_err(|error| failed("mmap", path, error))?;
        let mut writer = Self {
            memory: Writable(memory),
            fields: *fields,
            path: path.to_path_buf(),
        };
        writer.store_unguarded(header, fields, 0);
        // After the creation, so that the umask has no say.
        file.as_file()
            .set_permissions(Permissions::from_mode(layout.mode & 0o7777))
            .map_err(|error| failed("fchmod", path, error))?;
        file.persist(path)
            .map_err(|error| failed("rename", path, error.error))?;
        Ok(writer)
    }

    /// Opens the page that stands `page_offset` bytes (a multiple of 8) into the file at `path`, a
    /// regular file and no symbolic link. Changes no byte of it, and takes whatever stands there
    /// for a page: [`PageWriter::header`] says whether it is one.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::WriteAccess`], [`Error::Untrusted`] where it is no regular
    /// file, [`Error::TooSmall`], [`Error::InvalidArgument`], [`Error::System`].
    pub fn open(path: &Path, page_offset: u64) -> Result<Self, Error> {
        let file = open::for_writing(path).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::NotFound {
                path: path.to_path_buf(),
            },
            Errno::LOOP | Errno::ISDIR | Errno::NXIO => no_regular_file(path),
            other => failed("open", path, other.into()),
        })?;
        Self::from_file(&file, path, page_offset)
    }

    /// As [`PageWriter::open`], with a file that is open for reading and writing.
    pub(crate) fn from_file(file: &File, path: &Path, page_offset: u64) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(file).map_err(|errno| failed("fstat", path, errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(no_regular_file(path));
        }
        check_offset(page_offset)?;
        let available_bytes = stat.st_size.max(0).cast_unsigned();
        if !holds_structure(available_bytes, page_offset) {
            return Err(Error::TooSmall {
                path: path.to_path_buf(),
                declared_bytes: 0,
                available_bytes: available_bytes.saturating_sub(page_offset),
            });
        }
        let bytes = mapped_bytes(available_bytes, page_offset);
        let memory = Mapping::writable(file, page_offset, bytes)
            .map_err(|error| failed("mmap", path, error))?;
        let fields = RawFields::from_words(memory.load_head(), &memory.load_words());
        Ok(Self {
            memory: Writable(memory),
            fields,
            path: path.to_path_buf(),
        })
    }

    /// The fields as this writer wrote them last, or found them when it opened the page.
    #[must_use]
    pub fn fields(&self) -> RawFields {
        self.fields
    }

    /// The page's first two fields as they stand.
    #[must_use]
    pub fn header(&self) -> PageHeader {
        PageHeader {
            magic: self
                .memory
                .0
                .word32(field::MAGIC.offset)
                .load(Ordering::Relaxed),
            size: self
                .memory
                .0
                .word32(field::SIZE.offset)
                .load(Ordering::Relaxed),
        }
    }

    /// The sequence number as it stands. Odd: an update was begun and not ended.
    #[must_use]
    pub fn seq_count(&self) -> u32 {
        self.memory.load_seq()
    }

    /// Changes fields in one update that readers see whole or not at all. An update that a dead
    /// writer left unfinished ends with it: `seq = (seq | 1) + 1`.
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(&mut RawFields)) {
        change(&mut self.fields);
        let (head, words) = self.fields.to_words();
        seqlock::write(&self.memory, head, &words);
    }

    /// Writes all fields, and the extension where the file holds one, in one update.
    pub(crate) fn publish(&mut self, fields: &RawFields, no_bound: Option<NoBound>) {
        self.fields = *fields;
        let (head, words) = self.fields.to_words();
        seqlock::write_extended(&self.memory, head, &words, |seq| {
            no_bound::to_extension(no_bound, seq)
        });
    }

    /// Begins an update and leaves it open: the sequence number is odd until [`PageWriter::end`]
    /// or the next [`PageWriter::update`]. For tests, and for writers that cannot compute all
    /// fields beforehand.
    pub fn begin(&mut self) {
        seqlock::begin(&self.memory);
    }

    /// Ends the update that [`PageWriter::begin`] began: the next even sequence number.
    pub fn end(&mut self) {
        let odd = self.memory.load_seq() | 1;
        seqlock::end(&self.memory, odd);
    }

    /// Writes everything as it is given, without the protocol: readers may see a part of it. For
    /// tests that need a page in a state that no protocol leads to, and for pages nobody reads yet.
    pub fn store_unguarded(&mut self, header: PageHeader, fields: &RawFields, seq_count: u32) {
        self.fields = *fields;
        let (head, words) = fields.to_words();
        self.memory
            .0
            .word32(field::MAGIC.offset)
            .store(header.magic, Ordering::Relaxed);
        self.memory
            .0
            .word32(field::SIZE.offset)
            .store(header.size, Ordering::Relaxed);
        self.memory.store_head(head);
        self.memory.store_words(&words);
        self.memory.store_seq(seq_count);
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder that a path's last name stands in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The bytes of a page that are mapped: its extension too, where the file holds one.
fn mapped_bytes(file_bytes: u64, page_offset: u64) -> usize {
    let has_extension = file_bytes.saturating_sub(page_offset) >= u64::from(SIZE_REGION);
    let bytes = if has_extension {
        SIZE_REGION
    } else {
        SIZE_FULL
    };
    bytes as usize
}

fn check_offset(page_offset: u64) -> Result<(), Error> {
    if page_offset.is_multiple_of(8) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "a page begins at a multiple of 8 bytes, and {page_offset} is none"
    )))
}

fn check_layout(layout: &PageLayout) -> Result<(), Error> {
    check_offset(layout.page_offset)?;
    if holds_structure(layout.file_bytes, layout.page_offset) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "a file of {} bytes does not hold a page at offset {}: a page has {SIZE_FULL} bytes",
        layout.file_bytes, layout.page_offset
    )))
}

/// Whether a mapping of the whole structure is backed by memory: what lies between a file's end and
/// the end of its last memory page can be loaded and stored, and is not kept.
fn holds_structure(file_bytes: u64, page_offset: u64) -> bool {
    let end = page_offset.checked_add(u64::from(SIZE_FULL));
    let backed = file_bytes.checked_next_multiple_of(SMALLEST_MEMORY_PAGE);
    file_bytes > page_offset && end.zip(backed).is_some_and(|(end, backed)| end <= backed)
}

fn no_regular_file(path: &Path) -> Error {
    Error::Untrusted {
        path: path.to_path_buf(),
        reason: "a page to be written is a regular file, and this is a directory, a link, a \
                 device or a pipe"
            .to_owned(),
        remedy: "give the page's own path".to_owned(),
    }
}

/// What a refused creation or write means.
pub(crate) fn failed(syscall: &'static str, path: &Path, error: io::Error) -> Error {
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, Some(errno)) => {
            Error::WriteAccess {
                path: path.to_path_buf(),
                syscall,
                errno,
            }
        }
        (ErrorKind::NotFound | ErrorKind::NotADirectory, _) => Error::NoDirectory {
            path: path.to_path_buf(),
        },
        (ErrorKind::IsADirectory, _) => no_regular_file(path),
        _ => Error::system(syscall, Some(path), error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::counter::CpuCounter;

    /// Outside tests readers have a mapping of their own. In this one a thread sanitizer, which tells
    /// memory by its address, sees what both sides do.
    #[test]
    fn a_writer_and_readers_of_one_mapping_meet_in_atomics_only_and_tear_nothing() {
        const UPDATES: u32 = 2000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let writer = PageWriter::create(&path, &layout, header, &blank()).unwrap();
        let memory = &writer.memory;
        let update = |number: u32| seqlock::write(memory, number, &[number.into(); WORDS]);
        update(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let seen = seqlock::read(memory, &CpuCounter, |_| true).unwrap();
                        assert_eq!(seen.words, [seen.head.into(); WORDS], "TORN");
                        if seen.head == UPDATES {
                            break;
                        }
                    }
                });
            }
            for number in 1..=UPDATES {
                update(number);
            }
        });
    }
}
