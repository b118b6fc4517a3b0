//! Opens, checks, maps and unmaps a page. All memory mappings of the crate are made here.
//!
//! # Rules
//!
//! - Other programs write to a mapped page at any time. The only references into it are therefore to
//!   atomics, each made from a raw pointer to one word.
//! - A mapping of a file is shared and closed on exec. A reader's mapping of it is read-only.
//! - A page that this process makes for itself is private memory, which its writer and its readers share. The
//!   kernel gives a forked child zeros in its place.
//! - Only offsets below [`SIZE_FULL`] from the start of the page are accessed, and those of the extension in
//!   mappings of at least [`SIZE_REGION`] bytes. All of them are within one memory page.
//! - The extension is read from regular files and from private memory, never from a device.
//! - A mapping is at least one memory page long. The bytes after the end of a short file, up to the end of
//!   its last memory page, read as zero. An access faults (SIGBUS) only if the file shrinks to nothing after
//!   it was mapped. This is why a file that others may write is refused.

#![allow(
    unsafe_code,
    reason = "maps memory that others write, and loads from it"
)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::abi::{
    SIZE_FULL, SIZE_MIN, SIZE_REGION, VMCLOCK_MAGIC, VMCLOCK_VERSION, extension, field,
};
use crate::error::Error;
use crate::open;
use crate::seqlock::{EXTENSION_WORDS, FIRST_WORD_OFFSET, SharedWords, WORDS};

/// The first device that the kernel's driver registers.
pub const DEVICE_PATH: &str = "/dev/vmclock0";
/// The default path of this package's publisher.
pub const PUBLISHED_PATH: &str = "/run/vmclock/page";

/// Mapped memory that holds a page. Words are addressed by their offset from the start of the page. Clones
/// share the memory, and the last one unmaps it.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    start: Start,
    map: Arc<MmapRaw>,
}

/// The first byte of mapped memory. It lies beside the mapping's owner, so that a timestamp loads one address.
#[derive(Clone, Copy, Debug)]
struct Start(*mut u8);

// SAFETY: the memory stays where it is, whichever thread has the address. All accesses to it are atomic.
unsafe impl Send for Start {}
// SAFETY: as for `Send`.
unsafe impl Sync for Start {}

impl Mapping {
    fn new(map: MmapRaw) -> Self {
        Self {
            start: Start(map.as_mut_ptr()),
            map: Arc::new(map),
        }
    }

    /// Maps a file for reading, or returns the mapping of it that this process has already.
    fn read_only(file: &File, bytes: usize, identity: FileIdentity) -> std::io::Result<Self> {
        let map = shared::mapping(identity, bytes, || {
            MmapOptions::new().len(bytes).map_raw_read_only(file)
        })?;
        Ok(Self {
            start: Start(map.as_mut_ptr()),
            map,
        })
    }

    /// Maps `bytes` of the page at `page_offset` in `file` for writing: the structure, or more. The file
    /// must hold all of them.
    pub(crate) fn writable(file: &File, page_offset: u64, bytes: usize) -> std::io::Result<Self> {
        if !page_offset.is_multiple_of(8) {
            return Err(Errno::INVAL.into());
        }
        let map = MmapOptions::new()
            .offset(page_offset)
            .len(bytes)
            .map_raw(file)?;
        Ok(Self::new(map))
    }

    /// Maps memory of this process for a page and its extension, all zero. In a forked child it is zero again.
    pub(crate) fn private() -> Result<Self, Error> {
        let map = MmapMut::map_anon(SIZE_REGION as usize)
            .map_err(|error| Error::system("mmap", None, error))?;
        let mapping = Self::new(map.into());
        let start = mapping.start.0.cast();
        // SAFETY: the memory is mapped, and this advice changes nothing in this process.
        unsafe { madvise(start, mapping.map.len(), Advice::LinuxWipeOnFork) }
            .map_err(|errno| Error::system("madvise", None, errno))?;
        Ok(mapping)
    }

    /// Returns the words of the extension, if the mapping covers it.
    pub(crate) fn extension(&self) -> Option<[&AtomicU64; EXTENSION_WORDS]> {
        (self.map.len() >= SIZE_REGION as usize)
            .then(|| std::array::from_fn(|word| self.word64(extension::OFFSET + 8 * word)))
    }

    /// Returns the address of the byte `at` of the page. `at` is always a field's offset from `abi`. The word
    /// of up to 8 bytes there is within the structure, or within an extension that the mapping covers.
    #[inline(always)]
    fn address(&self, at: usize) -> *mut u8 {
        self.start.0.wrapping_add(at)
    }

    /// Returns the 32-bit word at `at`. In a read-only mapping only relaxed loads of it are allowed.
    #[inline(always)]
    pub(crate) fn word32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: the address is mapped for as long as `self` lives. It is aligned: a mapping starts at
        // the start of a memory page, and `at` is a multiple of the word's size. All accesses in this
        // process are atomic. Those of a read-only mapping are relaxed loads of at most 8 bytes, which
        // `std::sync::atomic`, "Atomic accesses to read-only memory", allows.
        unsafe { AtomicU32::from_ptr(self.address(at).cast()) }
    }

    /// Returns the 64-bit word at `at`. In a read-only mapping only relaxed loads of it are allowed.
    #[inline(always)]
    pub(crate) fn word64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: as in `word32`. Every 64-bit word of the structure is aligned to 8 bytes.
        unsafe { AtomicU64::from_ptr(self.address(at).cast()) }
    }
}

impl SharedWords for Mapping {
    #[inline(always)]
    fn load_seq(&self) -> u32 {
        self.word32(field::SEQ_COUNT.offset).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn load_head(&self) -> u32 {
        self.word32(field::VERSION.offset).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn load_words(&self) -> [u64; WORDS] {
        std::array::from_fn(|word| {
            self.word64(FIRST_WORD_OFFSET + 8 * word)
                .load(Ordering::Relaxed)
        })
    }

    #[inline(always)]
    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        let words = self.extension()?;
        Some(words.map(|word| word.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    fn fence_acquire(&self) {
        // Pairs with the writer's release fences: `seqlock` explains which with which.
        fence(Ordering::Acquire);
    }
}

/// Identifies the file that was opened, whichever file is at its path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileIdentity {
    device: u64,
    inode: u64,
    /// `st_rdev` of a character device.
    device_number: Option<u64>,
}

impl From<&Stat> for FileIdentity {
    fn from(stat: &Stat) -> Self {
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            device_number: is_device.then_some(stat.st_rdev),
        }
    }
}

/// The mappings for reading that this process has: one for each page, however many clocks read it.
///
/// A process has about 65,530 mappings at most (`vm.max_map_count`), also for its heap and its stacks. If they run
/// out, an allocation of any library ends the process. So pages get half of them at most, and then an error.
mod shared {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

    use memmap2::MmapRaw;
    use rustix::io::Errno;

    use super::FileIdentity;

    /// A file, and how many bytes of it are mapped.
    type Key = (FileIdentity, usize);

    /// The kernel's default of `vm.max_map_count`.
    const USUAL_LIMIT: usize = 65_530;

    static MAPPINGS: OnceLock<Mutex<Mappings>> = OnceLock::new();
    static PROCESS: OnceLock<u32> = OnceLock::new();

    struct Mappings {
        /// An open mapping keeps its file's inode, so that no other file has that number meanwhile.
        by_file: HashMap<Key, Weak<MmapRaw>>,
        /// The number of entries at which those of closed pages are removed.
        clean_at: usize,
        limit: usize,
    }

    /// Returns the mapping of a file, made by `map` if this process has none.
    pub(super) fn mapping(
        file: FileIdentity,
        bytes: usize,
        map: impl FnOnce() -> std::io::Result<MmapRaw>,
    ) -> std::io::Result<Arc<MmapRaw>> {
        // In a forked child the lock may be held by a thread that does not exist there. A mapping for each clock is
        // as good.
        let process = std::process::id();
        if *PROCESS.get_or_init(|| process) != process {
            return map().map(Arc::new);
        }
        let mappings = MAPPINGS.get_or_init(|| Mutex::new(Mappings::new(limit())));
        let mut mappings = mappings.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.get(file, bytes, map)
    }

    impl Mappings {
        fn new(limit: usize) -> Self {
            Self {
                by_file: HashMap::new(),
                clean_at: 0,
                limit,
            }
        }

        fn get(
            &mut self,
            file: FileIdentity,
            bytes: usize,
            map: impl FnOnce() -> std::io::Result<MmapRaw>,
        ) -> std::io::Result<Arc<MmapRaw>> {
            if let Some(open) = self.by_file.get(&(file, bytes)).and_then(Weak::upgrade) {
                return Ok(open);
            }
            self.make_room()?;
            let made = Arc::new(map()?);
            let weak = Arc::downgrade(&made);
            self.by_file.insert((file, bytes), weak);
            Ok(made)
        }

        fn make_room(&mut self) -> Result<(), Errno> {
            if self.by_file.len() >= self.clean_at.min(self.limit) {
                self.by_file.retain(|_, weak| weak.strong_count() > 0);
                self.clean_at = 2 * self.by_file.len().max(16);
            }
            if self.by_file.len() < self.limit {
                Ok(())
            } else {
                Err(Errno::NOMEM)
            }
        }
    }

    fn limit() -> usize {
        std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse::<usize>().ok())
            .unwrap_or(USUAL_LIMIT)
            / 2
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_process_leaves_mappings_for_others_and_reuses_those_of_closed_pages() {
            let mut mappings = Mappings::new(2);
            let mut get = |inode| {
                let file = FileIdentity {
                    device: 1,
                    inode,
                    device_number: None,
                };
                mappings.get(file, 4096, || {
                    memmap2::MmapMut::map_anon(4096).map(MmapRaw::from)
                })
            };
            let (first, second) = (get(1).unwrap(), get(2).unwrap());
            assert!(Arc::ptr_eq(&first, &get(1).unwrap()));
            let refused = get(3).unwrap_err();
            assert_eq!(Errno::from_io_error(&refused), Some(Errno::NOMEM));
            drop(second);
            get(3).unwrap();
            assert!(Arc::ptr_eq(&first, &get(1).unwrap()));
        }
    }
}

/// A page that was opened, checked and mapped for reading.
#[derive(Debug)]
pub struct Page {
    mapping: Mapping,
    size_bytes: u32,
    place: Place,
}

/// The place of a page.
#[derive(Debug)]
enum Place {
    File {
        path: PathBuf,
        /// The absolute path at the time of opening. It remains correct if the process changes its directory.
        absolute: PathBuf,
        identity: FileIdentity,
    },
    /// Private memory of the process that made the page.
    Memory(Arc<dyn Renew>),
}

/// The maker of a page in memory. The page's readers keep it alive.
pub(crate) trait Renew: std::fmt::Debug + Send + Sync {
    /// Makes a page of this process in place of one that a fork wiped.
    fn renew(&self) -> Result<Page, Error>;
}

impl Page {
    /// Opens the page at `path`: the driver's character device, or a regular file. Only the owner may be
    /// able to write the file, and the owner must be root, the caller, or one of `trusted_uids`.
    ///
    /// The file is closed after it is mapped. Dropping the page unmaps it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Access`], [`Error::Untrusted`], [`Error::TooSmall`],
    /// [`Error::BadMagic`], [`Error::BadVersion`], [`Error::System`]. The call never waits: a page that is
    /// being updated opens.
    pub fn open(path: impl AsRef<Path>, trusted_uids: &[u32]) -> Result<Self, Error> {
        let path = path.as_ref();
        let (file, stat) = open_file(path)?;
        let (file_bytes, map_bytes) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                check_trust(path, &stat, trusted_uids)?;
                let file_bytes = stat.st_size.max(0).cast_unsigned();
                let has_extension = file_bytes >= u64::from(SIZE_REGION);
                let map_bytes = if has_extension {
                    SIZE_REGION
                } else {
                    SIZE_FULL
                };
                (Some(file_bytes), map_bytes as usize)
            }
            // A device has no file size. The driver maps exactly one memory page.
            _ => (None, rustix::param::page_size()),
        };
        if let Some(available_bytes) = file_bytes.filter(|bytes| *bytes < u64::from(SIZE_MIN)) {
            let path = path.to_path_buf();
            return Err(Error::TooSmall {
                path,
                declared_bytes: 0,
                available_bytes,
            });
        }
        let identity = FileIdentity::from(&stat);
        let mapped = Mapping::read_only(&File::from(file), map_bytes, identity);
        let mapping = mapped.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => no_page(path, "a device that cannot be mapped"),
            _ => Error::system("mmap", Some(path), error),
        })?;
        Self::check(mapping, path, file_bytes, identity)
    }

    /// Makes a page of private memory, which holds a whole page. The page keeps `maker` alive.
    pub(crate) fn in_memory(mapping: Mapping, maker: Arc<dyn Renew>) -> Self {
        Self {
            mapping,
            size_bytes: SIZE_REGION,
            place: Place::Memory(maker),
        }
    }

    fn check(
        mapping: Mapping,
        path: &Path,
        file_bytes: Option<u64>,
        identity: FileIdentity,
    ) -> Result<Self, Error> {
        let magic = mapping.word32(field::MAGIC.offset).load(Ordering::Relaxed);
        let size_bytes = mapping.word32(field::SIZE.offset).load(Ordering::Relaxed);
        let [v0, v1, ..] = mapping.load_head().to_le_bytes();
        let version = u16::from_le_bytes([v0, v1]);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let path = path.to_path_buf();
        if magic != VMCLOCK_MAGIC {
            return Err(Error::BadMagic { path, found: magic });
        }
        if version != VMCLOCK_VERSION {
            return Err(Error::BadVersion {
                path,
                found: version,
            });
        }
        let declared_bytes = u64::from(size_bytes);
        // A device's region may be larger than the one memory page that the driver maps. The structure
        // itself is always smaller.
        let available_bytes = file_bytes.unwrap_or(declared_bytes);
        if size_bytes < SIZE_MIN || declared_bytes > available_bytes {
            return Err(Error::TooSmall {
                path,
                declared_bytes,
                available_bytes,
            });
        }
        Ok(Self {
            mapping,
            size_bytes,
            place: Place::File {
                path,
                absolute,
                identity,
            },
        })
    }

    /// Returns the page's `size`, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// Returns the address of the page, whose first [`SIZE_FULL`] bytes are mapped while `self` lives. It is
    /// for programs that show the page to another language. They may only load from it, by atomic loads.
    #[must_use]
    pub fn address(&self) -> *const u8 {
        self.mapping.address(0)
    }

    /// Returns the path as it was opened. `None` for a page in this process's memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File { path, .. } => Some(path),
            Place::Memory(_) => None,
        }
    }

    /// Returns `st_rdev` of the driver's device. `None` if the page is a regular file or memory.
    #[must_use]
    pub fn device_number(&self) -> Option<u64> {
        match &self.place {
            Place::File { identity, .. } => identity.device_number,
            Place::Memory(_) => None,
        }
    }

    /// Returns true if another file is at the page's path now: this page probably receives no more updates
    /// then. Returns false if no file is at the path, or the page has none.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        let Place::File {
            absolute, identity, ..
        } = &self.place
        else {
            return false;
        };
        rustix::fs::stat(absolute).is_ok_and(|stat| FileIdentity::from(&stat) != *identity)
    }

    /// Opens the driver's device of this page again. `None` if the page is no device, or if another device is
    /// at its path now.
    pub(crate) fn open_device(&self) -> Option<OwnedFd> {
        let Place::File {
            absolute, identity, ..
        } = &self.place
        else {
            return None;
        };
        identity.device_number?;
        let (file, stat) = open_file(absolute).ok()?;
        (FileIdentity::from(&stat) == *identity).then_some(file)
    }

    /// Returns the page that takes the place of this one in a forked child, whose copy holds zeros. `None` if
    /// this page is valid here.
    ///
    /// # Errors
    ///
    /// Those of making a page, among them [`Error::UntrustedCounter`] and [`Error::System`].
    pub fn renewed(&self) -> Result<Option<Self>, Error> {
        match &self.place {
            // No update ends at sequence number 0.
            Place::Memory(maker) if self.load_seq() == 0 => maker.renew().map(Some),
            _ => Ok(None),
        }
    }
}

impl SharedWords for Page {
    #[inline(always)]
    fn load_seq(&self) -> u32 {
        self.mapping.load_seq()
    }

    #[inline(always)]
    fn load_head(&self) -> u32 {
        self.mapping.load_head()
    }

    #[inline(always)]
    fn load_words(&self) -> [u64; WORDS] {
        self.mapping.load_words()
    }

    #[inline(always)]
    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        // A device may use the bytes after its structure for other purposes.
        if self.device_number().is_some() {
            return None;
        }
        self.mapping.load_extension()
    }

    #[inline(always)]
    fn fence_acquire(&self) {
        self.mapping.fence_acquire();
    }
}

fn open_file(path: &Path) -> Result<(OwnedFd, Stat), Error> {
    let refusal = |errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound {
            path: path.to_path_buf(),
        },
        Errno::NXIO => no_page(path, "a device without a driver"),
        Errno::ACCESS | Errno::PERM => Error::Access {
            path: path.to_path_buf(),
            is_device: is_device(path),
            errno: errno.raw_os_error(),
        },
        other => Error::system("open", Some(path), other),
    };
    open::for_reading(path, |stat| check_kind(path, stat), refusal)
}

fn check_kind(path: &Path, stat: &Stat) -> Result<(), Error> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::RegularFile => Ok(()),
        FileType::Directory => Err(no_page(path, "a directory")),
        FileType::Socket => Err(no_page(path, "a socket")),
        _ => Err(no_page(path, "neither a device nor a file")),
    }
}

fn is_device(path: &Path) -> bool {
    match rustix::fs::stat(path) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice,
        // This process may not enter a directory of the path.
        Err(_) => path.starts_with("/dev"),
    }
}

fn no_page(path: &Path, kind: &str) -> Error {
    Error::Untrusted {
        path: path.to_path_buf(),
        reason: format!(
            "this is {kind}, and a page is the driver's character device or a regular file"
        ),
        remedy: "give the page's own path".to_owned(),
    }
}

pub(crate) fn check_trust(path: &Path, stat: &Stat, trusted_uids: &[u32]) -> Result<(), Error> {
    let untrusted = |reason: String, remedy: String| {
        Err(Error::Untrusted {
            path: path.to_path_buf(),
            reason,
            remedy,
        })
    };
    // If the file has an access control list, the group bits are the list's mask.
    let mode = stat.st_mode & 0o7777;
    if mode & 0o022 != 0 {
        return untrusted(
            format!(
                "others than its owner may write this file (mode {mode:04o}), so they could lie \
                 about the time"
            ),
            "take that right away: chmod go-w".to_owned(),
        );
    }
    let caller = rustix::process::geteuid().as_raw();
    // Callers and owners that a user namespace does not map have the same number.
    let is_caller = stat.st_uid == caller && !user::is_unmapped(caller);
    if stat.st_uid != 0 && !is_caller && !trusted_uids.contains(&stat.st_uid) {
        let owner = stat.st_uid;
        return untrusted(
            if user::is_unmapped(owner) {
                format!(
                    "this file belongs to a user whom this user namespace does not map, and shows \
                     as {owner} like every such user"
                )
            } else {
                format!("this file belongs to user {owner}, who is neither root nor the caller")
            },
            if user::is_unmapped(owner) {
                format!(
                    "map the page's owner into the namespace; trustedUids: [{owner}] would trust \
                     every user that is not mapped"
                )
            } else {
                format!("if you trust that user with the time, open it with trustedUids: [{owner}]")
            },
        );
    }
    Ok(())
}

/// Users as a user namespace shows them (`user_namespaces(7)`).
mod user {
    use std::fs;

    /// The kernel's default of `kernel.overflowuid`.
    const USUAL_OVERFLOW: u32 = 65_534;

    /// Returns whether a number stands for all users that this process's namespace does not map.
    pub(super) fn is_unmapped(uid: u32) -> bool {
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(USUAL_OVERFLOW);
        uid == overflow
            && !fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps(&map, uid))
    }

    /// Returns whether a map has the user `uid` of the namespace.
    fn maps(map: &str, uid: u32) -> bool {
        map.lines().any(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
            let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.nth(1)) else {
                return false;
            };
            (first..first.saturating_add(count)).contains(&u64::from(uid))
        })
    }

    #[cfg(test)]
    mod tests {
        use super::maps;

        #[test]
        fn a_map_holds_its_ranges_and_nothing_else() {
            assert!(maps("         0          0 4294967295\n", 65_534));
            assert!(maps("0 1000 1\n65534 165534 1\n", 65_534));
            assert!(!maps("         0       1000          1\n", 65_534));
            assert!(!maps("", 65_534));
            assert!(!maps("not a map", 65_534));
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, inotify, mkfifoat};

    use super::*;

    #[test]
    fn a_fifo_is_refused_without_being_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mkfifoat(CWD, &fifo, Mode::RWXU).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &fifo, inotify::WatchFlags::OPEN).unwrap();
        let error = Page::open(&fifo, &[]).unwrap_err();
        assert_eq!(error.code(), "ERR_VMCLOCK_UNTRUSTED");
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        assert_eq!(events.next().unwrap_err(), Errno::AGAIN);
    }

    #[test]
    fn all_readers_of_a_file_share_one_mapping_while_any_of_them_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let link = directory.path().join("link");
        let mut content = vec![0; 4096];
        content[field::MAGIC.offset..][..4].copy_from_slice(&VMCLOCK_MAGIC.to_le_bytes());
        content[field::SIZE.offset..][..4].copy_from_slice(&SIZE_REGION.to_le_bytes());
        content[field::VERSION.offset] = 1;
        std::fs::write(&path, &content).unwrap();
        std::fs::hard_link(&path, &link).unwrap();
        let [first, second] = [&path, &link].map(|path| Page::open(path, &[]).unwrap());
        assert_eq!(first.address(), second.address());
        // Another file at the path has a mapping of its own.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &content).unwrap();
        let other = Page::open(&path, &[]).unwrap();
        assert_ne!(other.address(), first.address());
        let held = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.matches(directory.path().to_str().unwrap()).count()
        };
        assert_eq!(held(), 2);
        drop(first);
        assert_eq!(held(), 2);
        drop((second, other));
        assert_eq!(held(), 0);
    }

    #[test]
    fn the_extension_is_read_from_whole_files_and_never_from_a_device() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page");
        let open = |bytes: usize, size: u32| {
            let mut content = vec![7; bytes];
            content[..SIZE_FULL as usize].fill(0);
            content[field::MAGIC.offset..][..4].copy_from_slice(&VMCLOCK_MAGIC.to_le_bytes());
            content[field::SIZE.offset..][..4].copy_from_slice(&size.to_le_bytes());
            content[field::VERSION.offset] = 1;
            std::fs::write(&path, content).unwrap();
            Page::open(&path, &[]).unwrap()
        };
        let whole = [0x0707_0707_0707_0707; EXTENSION_WORDS];
        let mut page = open(4096, 4096);
        assert_eq!(page.load_extension(), Some(whole));
        let Place::File { identity, .. } = &mut page.place else {
            panic!("no file");
        };
        identity.device_number = Some(1);
        assert_eq!(page.load_extension(), None);
        assert_eq!(open(4095, 0x70).load_extension(), None);
        assert_eq!(open(0x70, 0x70).load_extension(), None);
    }
}
