//! Writes the shared-memory files of ClockBound's daemon once, for its clients to read.

use std::path::{Path, PathBuf};

use vmclock::snapshot::RawFields;

const MAGIC: [u32; 2] = [0x414d_5a4e, 0x4342_0200];
const SYNCHRONIZED: i32 = 1;
const BOUND_NS: i64 = 1_000_000;
const DRIFT_PPB: u32 = 15_000;
const VALID_SEC: i64 = 86_400;

/// The bytes of a segment.
struct Segment(Vec<u8>);

impl Segment {
    fn new(bytes: u32, version: u16) -> Self {
        let mut segment = Self(Vec::new());
        segment.put(&MAGIC[0].to_le_bytes());
        segment.put(&MAGIC[1].to_le_bytes());
        segment.put(&bytes.to_le_bytes());
        segment.put(&version.to_le_bytes());
        // The generation. An even number other than 0 means complete.
        segment.put(&2_u16.to_le_bytes());
        segment
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn put_time(&mut self, seconds: i64) {
        self.put(&seconds.to_le_bytes());
        self.put(&0_i64.to_le_bytes());
    }

    fn write(self, directory: &Path, name: &str) -> std::io::Result<PathBuf> {
        let path = directory.join(name);
        std::fs::write(&path, self.0)?;
        Ok(path)
    }
}

/// Writes the file for `clock-bound-client` 2, which reads `CLOCK_REALTIME` and takes the bound from the file.
pub fn version_2(
    directory: &Path,
    page: &RawFields,
    monotonic_sec: i64,
) -> std::io::Result<PathBuf> {
    let mut segment = Segment::new(80, 2);
    segment.put_time(monotonic_sec);
    segment.put_time(monotonic_sec + VALID_SEC);
    segment.put(&BOUND_NS.to_le_bytes());
    segment.put(&page.disruption_marker.to_le_bytes());
    segment.put(&DRIFT_PPB.to_le_bytes());
    segment.put(&SYNCHRONIZED.to_le_bytes());
    // Disruption support is on; the rest is padding.
    segment.put(&[1, 0, 0, 0, 0, 0, 0, 0]);
    segment.write(directory, "clock-bound-2")
}

/// Writes the file for `clock-bound` 3, which reads the counter.
pub fn version_3(directory: &Path, page: &RawFields) -> std::io::Result<PathBuf> {
    let now_sec = page.time_sec.cast_signed();
    let mut segment = Segment::new(104, 0x0303);
    segment.put(&page.counter_value.to_le_bytes());
    segment.put_time(now_sec);
    segment.put_time(now_sec + VALID_SEC);
    segment.put(&page.counter_period_frac_sec.to_le_bytes());
    segment.put(&(page.counter_period_frac_sec / 1_000_000).to_le_bytes());
    segment.put(&BOUND_NS.to_le_bytes());
    segment.put(&page.disruption_marker.to_le_bytes());
    segment.put(&DRIFT_PPB.to_le_bytes());
    segment.put(&SYNCHRONIZED.to_le_bytes());
    let shift = page.counter_period_shift;
    segment.put(&[1, shift, shift, 0, 0, 0, 0, 0]);
    segment.write(directory, "clock-bound-3")
}
