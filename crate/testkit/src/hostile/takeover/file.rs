//! The file that a publisher finds at its path. The page has no time, so this machine's clock plays no part.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use vmclock::publish::{Generation, PublishOptions, Publisher, Shape};
use vmclock::snapshot::RawFields;

use super::super::{PAGE_BYTES, Seen, fields, take};
use super::{Bytes, take_page};
use crate::exact::VM_GEN_COUNTER_PRESENT;

const NOTIFICATION_PRESENT: u64 = 1 << 9;
const UNRELIABLE: u8 = 4;

/// Publishes to a file with the contents `found`: the publisher replaces, refuses or takes it over.
pub(super) fn check(found: &[u8], options: &PublishOptions, seen: &mut Seen) {
    let shape = match options.shape {
        Shape::Marker => Shape::Marker,
        _ => Shape::MarkerAndGeneration,
    };
    let options = PublishOptions {
        shape,
        generation: Generation::Auto,
        ..options.clone()
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    fs::write(&path, found).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let kept = File::open(&path).unwrap();
    let page = take_page(found);
    let old = fields(&page);
    let declared = u32::from_le_bytes(take(&page, 0x04)) as usize;
    let is_page = found.len() >= PAGE_BYTES
        && (PAGE_BYTES..=found.len()).contains(&declared)
        && old.version == 1;
    let before_ns = now_ns();
    let published = Publisher::create(&path, options);
    let after_ns = now_ns();
    if take(&page, 0x00) != *b"VCLK" && !found.is_empty() {
        assert_eq!(published.unwrap_err().code(), "ERR_VMCLOCK_BAD_MAGIC");
        assert_eq!(fs::read(&path).unwrap(), found, "a file of another kind");
        seen.refusals += 1;
        return;
    }
    let publisher = published.unwrap();
    let new = fs::read(&path).unwrap();
    let updates = publisher.updates();
    publisher.close().unwrap();
    let closed = fs::read(&path).unwrap();
    let is_same = fs::metadata(&path).unwrap().ino() == kept.metadata().unwrap().ino();
    assert_eq!(is_same, is_page, "taken over in place");
    if !is_page {
        // Readers that have the old file mapped keep it unchanged.
        let mut old = Vec::new();
        (&kept).read_to_end(&mut old).unwrap();
        assert_eq!(old, found, "a file that was replaced");
    }
    let (shown, last) = (take_page(&new), take_page(&closed));
    let fields_of = |marker: u64, generation: u64| RawFields {
        version: 1,
        counter_id: 0xff,
        disruption_marker: marker,
        flags: if shape == Shape::Marker {
            0
        } else {
            VM_GEN_COUNTER_PRESENT | NOTIFICATION_PRESENT
        },
        vm_generation_counter: if shape == Shape::Marker {
            0
        } else {
            generation
        },
        ..RawFields::default()
    };
    let said = fields(&shown);
    let is_seed = |number: u64| (before_ns..=after_ns).contains(&number);
    let has_generation = is_page && old.flags & VM_GEN_COUNTER_PRESENT != 0;
    let generation = if has_generation {
        old.vm_generation_counter
    } else {
        0
    };
    let seq = |page: &Bytes| u32::from_le_bytes(take(page, 0x0c));
    if is_page {
        // Without an extension nothing says that the page is of this boot.
        let marker = old.disruption_marker.wrapping_add(1);
        assert_eq!(said, fields_of(marker, generation));
        if updates == 1 {
            // A page never shows the sequence number 0.
            let next = match (seq(&page) | 1).wrapping_add(1) {
                0 => 2,
                next => next,
            };
            assert_eq!(seq(&shown), next);
        }
        assert_eq!(shown[..8], page[..8], "magic and size");
        assert_eq!(new.len(), found.len());
        assert_eq!(new[PAGE_BYTES..], found[PAGE_BYTES..], "behind the page");
        seen.readings += 1;
    } else {
        assert!(is_seed(said.disruption_marker));
        assert_eq!(said, fields_of(said.disruption_marker, generation));
        assert_eq!(shown[..4], *b"VCLK");
    }
    let last_said = fields(&last);
    let unreliable = RawFields {
        clock_status: UNRELIABLE,
        ..said
    };
    assert_eq!(last_said, unreliable);
    assert_ne!(seq(&last), seq(&shown));
    assert_eq!(seq(&last) & 1, 0);
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}
