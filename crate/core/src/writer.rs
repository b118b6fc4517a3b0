//! Writes fields into a page, under the seqlock. It does no clock arithmetic.
//!
//! The publisher writes this machine's page with it. A program in the role of the hypervisor writes a guest's
//! page with it, at an offset in the file that backs the guest's memory.
//!
//! # Rules
//!
//! - A page has one writer at a time. This module does not enforce that: the publisher holds a lock.
//! - A file that readers may have mapped is never truncated and never replaced in part. A new page is
//!   written whole under another name and renamed into place.
//! - The words of an update are computed before the sequence number is made odd.
//! - A file system makes memory read-only again after it wrote it to disk, so that the next store faults.
//!   That store is the one of the odd sequence number. Readers see the page only before or after the fault.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::abi::{
    SIZE_FULL, SIZE_REGION, VMCLOCK_COUNTER_INVALID, VMCLOCK_MAGIC, VMCLOCK_VERSION, field,
};
use crate::error::Error;
use crate::extension::Extension;
use crate::open;
use crate::page::Mapping;
use crate::seqlock::{
    self, EXTENSION_WORDS, FIRST_SEQ, FIRST_WORD_OFFSET, SharedWords, SharedWordsMut, WORDS,
};
use crate::snapshot::RawFields;

/// The smallest memory page of all architectures, in bytes. A file backs memory in steps of memory pages.
const SMALLEST_MEMORY_PAGE: u64 = 4096;

/// The first two fields of a page. No update changes them.
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

/// The size and mode of a new page's file, and the place of the page in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Offset of the page in the file, a multiple of 8.
    pub page_offset: u64,
    /// The file's permission bits. The umask does not change them.
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

/// Returns the fields of a page without content: version 1, no counter, status unknown.
#[must_use]
pub fn blank() -> RawFields {
    RawFields {
        version: VMCLOCK_VERSION,
        counter_id: VMCLOCK_COUNTER_INVALID,
        ..RawFields::default()
    }
}

/// A mapping that was made for writing, so that stores are allowed.
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
        // Pairs with the readers' acquire fences: `seqlock` explains which with which.
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
    /// Makes a new page at `path`. It is written whole under another name in the same directory, and then
    /// renamed into place. A previous file at `path` is not changed: programs that have it open or mapped
    /// continue with it. The sequence number begins at [`FIRST_SEQ`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the layout cannot hold a page, [`Error::NoDirectory`],
    /// [`Error::WriteAccess`], [`Error::System`]. On an error no file is left behind.
    pub fn create(
        path: &Path,
        layout: &PageLayout,
        header: PageHeader,
        fields: &RawFields,
    ) -> Result<Self, Error> {
        check_layout(layout)?;
        check_size_limit(layout.file_bytes, path)?;
        let directory = directory_of(path);
        let file = tempfile::Builder::new()
            .prefix(".vmclock-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(directory)
            .map_err(|error| failed("open", path, error))?;
        file.as_file()
            .set_len(layout.file_bytes)
            .map_err(|error| failed("ftruncate", path, error))?;
        // Allocates the file's memory while a lack of it is an error. A store into a mapped file that gets no
        // memory ends the process (SIGBUS).
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
        writer.store_unguarded(header, fields, FIRST_SEQ);
        // After the creation, because the umask applies to that.
        file.as_file()
            .set_permissions(Permissions::from_mode(layout.mode & 0o7777))
            .map_err(|error| failed("fchmod", path, error))?;
        file.persist(path)
            .map_err(|error| failed("rename", path, error.error))?;
        Ok(writer)
    }

    /// Opens the page at `page_offset`, a multiple of 8, in the file at `path`, which must be a regular file
    /// and no symbolic link. It changes no byte, and does not check that the bytes are a page:
    /// [`PageWriter::header`] returns the magic number.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::WriteAccess`], [`Error::Untrusted`] if it is no regular file,
    /// [`Error::TooSmall`], [`Error::InvalidArgument`], [`Error::System`].
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

    /// Does as [`PageWriter::open`] with a file that is open for reading and writing.
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

    /// Makes a new page in memory of this process. `name` stands for its path in errors.
    pub(crate) fn in_memory(name: &Path, fields: &RawFields) -> Result<Self, Error> {
        let mut writer = Self {
            memory: Writable(Mapping::private()?),
            fields: *fields,
            path: name.to_path_buf(),
        };
        writer.store_unguarded(PageHeader::default(), fields, FIRST_SEQ);
        Ok(writer)
    }

    /// Returns the memory of the page, for readers in this process.
    pub(crate) fn mapping(&self) -> Mapping {
        self.memory.0.clone()
    }

    /// Returns the fields as this writer wrote them last, or as they were when it opened the page.
    #[must_use]
    pub fn fields(&self) -> RawFields {
        self.fields
    }

    /// Returns the page's first two fields as they are now.
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

    /// Returns the extension as it is now; `None` if the page has none of its last complete update.
    pub(crate) fn extension(&self) -> Option<Extension> {
        let words = self.memory.0.load_extension()?;
        Extension::from_words(&words, self.seq_count())
    }

    /// Returns the sequence number as it is now. An odd one means that an update was begun and not ended.
    #[must_use]
    pub fn seq_count(&self) -> u32 {
        self.memory.load_seq()
    }

    /// Changes fields in one update, which readers see whole or not at all. It also ends an update that a
    /// dead writer did not finish: `seq = (seq | 1) + 1`.
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(&mut RawFields)) {
        change(&mut self.fields);
        let (head, words) = self.fields.to_words();
        seqlock::write(&self.memory, head, &words);
    }

    /// Writes all fields in one update, together with the extension if the file has one.
    pub fn publish(&mut self, fields: &RawFields, extension: &Extension) {
        self.fields = *fields;
        let (head, words) = self.fields.to_words();
        seqlock::write_extended(&self.memory, head, &words, |seq| extension.to_words(seq));
    }

    /// Begins an update: the sequence number is odd until [`PageWriter::end`] or the next
    /// [`PageWriter::update`]. For tests, and for writers that cannot compute all fields beforehand.
    pub fn begin(&mut self) {
        seqlock::begin(&self.memory);
    }

    /// Ends the update that [`PageWriter::begin`] began: the sequence number becomes the next even one.
    pub fn end(&mut self) {
        let odd = self.memory.load_seq() | 1;
        seqlock::end(&self.memory, odd);
    }

    /// Writes all fields without the seqlock protocol: readers may see a part of them. For tests that need a
    /// state which the protocol never produces, and for pages without readers.
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

    /// Returns the path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the directory that the last name of a path is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Returns how many bytes of a page are mapped: with the extension if the file holds it.
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

/// Fails if this process may not make a file of this size. The kernel would end it by SIGXFSZ.
fn check_size_limit(file_bytes: u64, path: &Path) -> Result<(), Error> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < file_bytes => {
            Err(Error::system("ftruncate", Some(path), Errno::FBIG))
        }
        _ => Ok(()),
    }
}

/// Returns whether memory backs a mapping of the whole structure. Bytes between the end of a file and the
/// end of its last memory page can be loaded and stored, but the file does not keep them.
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

/// Makes the error for a failed creation or write.
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

    /// Outside tests each reader has its own mapping. Here both sides share one, because a thread sanitizer
    /// identifies memory by its address and so sees the accesses of both.
    #[test]
    fn writer_and_readers_of_one_mapping_use_atomics_only_and_tear_nothing() {
        const UPDATES: u32 = 2000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
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

    #[test]
    fn fields_and_extension_are_of_one_update() {
        const UPDATES: u8 = 200;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let (layout, header) = (PageLayout::default(), PageHeader::default());
        let mut writer = PageWriter::create(&path, &layout, header, &blank()).unwrap();
        let page = crate::page::Page::open(&path, &[]).unwrap();
        let mut publish = |updates_left: u8| {
            let fields = RawFields {
                disruption_marker: updates_left.into(),
                ..blank()
            };
            let extension = Extension {
                void_after_ns: updates_left.into(),
                ..Extension::default()
            };
            writer.publish(&fields, &extension);
        };
        publish(0);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let seen = seqlock::read(&page, &CpuCounter, |_| true).unwrap();
                    let extension = Extension::from_words(&seen.extension.unwrap(), seen.seq);
                    let updates_left = extension.unwrap().void_after_ns;
                    assert_eq!(seen.words[0], updates_left, "TORN");
                    if updates_left == UPDATES.into() {
                        break;
                    }
                }
            });
            while !reader.is_finished() {
                (1..=UPDATES).for_each(&mut publish);
                // The reader ends at the last one.
                thread::yield_now();
            }
        });
    }
}
