//! A regular file of arbitrary bytes, opened as a page and read by this machine's own counter.

use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use vmclock::VmClock;
use vmclock::counter::{Counter, CpuCounter};

use super::machine::COUNTER_ID;
use super::state::{State, reasons};
use super::{Bytes, OPTION_BYTES, PAGE_BYTES, Seen, fields, options, state, take, view};

/// Longer than the structure, so that a page may declare a larger size.
const MOST_FILE_BYTES: usize = 0x90;

/// Opens a file of `bytes` (options, the counter to convert, contents) and reads its time. Panics if an
/// answer differs from the model's.
pub fn check_file(bytes: &[u8], seen: &mut Seen) {
    let Some((choices, rest)) = bytes.split_first_chunk::<OPTION_BYTES>() else {
        return;
    };
    let Some((ticks, contents)) = rest.split_first_chunk::<8>() else {
        return;
    };
    let mut contents = contents[..contents.len().min(MOST_FILE_BYTES)].to_vec();
    if let Some(counter_id) = contents.get_mut(0x0a) {
        // An input that names the simulated counter means this machine's counter here.
        *counter_id ^= COUNTER_ID ^ CpuCounter.id();
    }
    let contents = &contents[..];
    let mut view = view(choices, CpuCounter.id());
    let mut page: Bytes = [0; PAGE_BYTES];
    let covered = contents.len().min(PAGE_BYTES);
    page[..covered].copy_from_slice(&contents[..covered]);
    let refusals = refusals(contents.len(), &page);
    let path = put(contents);
    let mut clock = match VmClock::open(&path, options(&view)) {
        Ok(clock) => clock,
        Err(error) => {
            assert!(
                refusals.contains(&error.code()),
                "{error:?} instead of {refusals:?}"
            );
            seen.refusals += 1;
            return;
        }
    };
    assert!(refusals.is_empty(), "opened despite {refusals:?}");
    view.size_bytes = u32::from_le_bytes(take(&page, 0x04));
    let seq = u32::from_le_bytes(take(&page, 0x0c));
    if seq & 1 == 1 {
        // The reader would wait a tenth of a second for it.
        return;
    }
    let raw = fields(&page);
    let captured = raw.counter_value.wrapping_add(u64::from_le_bytes(*ticks));
    let state = State::new(&view, &page, captured);
    let snapshot = clock.snapshot().unwrap();
    assert_eq!(snapshot.raw, raw);
    assert_eq!(snapshot.size_bytes, view.size_bytes);
    let token = clock.continuity_token().unwrap();
    assert_eq!(token, state.continuity);
    match (clock.convert(captured, &token), &state.converted) {
        (Ok(answer), Ok(right)) => assert_eq!(answer, *right),
        (Err(error), Err(codes)) => assert!(codes.contains(&error.code()), "{error:?}"),
        (answer, right) => panic!("{answer:?} instead of {right:?}"),
    }
    match clock.read() {
        Ok(answer) => {
            assert_eq!(Ok(answer), state::converted(&view, &raw, answer.counter));
            seen.readings += 1;
        }
        Err(error) => {
            let mut codes = reasons(&view, &raw);
            if codes.is_empty() {
                codes.extend(["ERR_VMCLOCK_COUNTER_MISMATCH", "ERR_VMCLOCK_OUT_OF_RANGE"]);
            }
            assert!(codes.contains(&error.code()), "{error:?}");
            seen.refusals += 1;
        }
    }
}

/// The codes of all reasons not to open the file.
fn refusals(file_bytes: usize, page: &Bytes) -> Vec<&'static str> {
    let declared = u32::from_le_bytes(take(page, 0x04)) as usize;
    let mut codes = Vec::new();
    if declared < 0x20 || declared > file_bytes {
        codes.push("ERR_VMCLOCK_TOO_SMALL");
    }
    if take(page, 0x00) != *b"VCLK" {
        codes.push("ERR_VMCLOCK_BAD_MAGIC");
    }
    if fields(page).version != 1 {
        codes.push("ERR_VMCLOCK_BAD_VERSION");
    }
    codes
}

/// Writes `contents` to one private file in memory, and returns its path.
fn put(contents: &[u8]) -> PathBuf {
    thread_local! {
        static FILE: File = {
            let file = File::from(memfd_create("page", MemfdFlags::CLOEXEC).unwrap());
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
            file
        };
    }
    FILE.with(|file| {
        file.set_len(0).unwrap();
        file.write_all_at(contents, 0).unwrap();
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    })
}
