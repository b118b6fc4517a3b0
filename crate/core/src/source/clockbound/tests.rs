use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::abi;
use crate::extension::DeviceState;
use crate::source::kernel::slew::HiddenSlew;
use crate::time::period::Period;

const SEC: i64 = 1_000_000_000;
/// The counter of these tests runs at 1 GHz.
const AS_OF: u64 = 5_000_000_000_000;
const UTC_SEC: i64 = 1_800_000_000;

/// A counter that stands still.
struct At(u64);

impl Counter for At {
    fn id(&self) -> u8 {
        1
    }

    fn read(&self) -> u64 {
        self.0
    }
}

/// A segment's bytes, which tests change by offset.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(size: u32, version: u16) -> Self {
        let mut bytes = Self(vec![0; size as usize]);
        bytes.put(0x00, 0x414d_5a4e_u32.to_le_bytes());
        bytes.put(0x04, 0x4342_0200_u32.to_le_bytes());
        bytes.put(0x08, size.to_le_bytes());
        bytes.put(0x0c, version.to_le_bytes());
        bytes.put(0x0e, 2_u16.to_le_bytes());
        bytes
    }

    /// Version 3: 1 GHz, ±1 ms, 50 ppm, synchronized, marker 7.
    fn v3() -> Self {
        let mut bytes = Self::header(104, 0x0303);
        bytes.put(0x10, AS_OF.to_le_bytes());
        bytes.put(0x18, UTC_SEC.to_le_bytes());
        bytes.put(0x28, (UTC_SEC + 1000).to_le_bytes());
        let (period, shift) = nanosecond();
        bytes.put(0x38, period.to_le_bytes());
        bytes.put(0x48, 1_000_000_i64.to_le_bytes());
        bytes.put(0x50, 7_u64.to_le_bytes());
        bytes.put(0x58, 50_000_u32.to_le_bytes());
        bytes.put(0x5c, 1_i32.to_le_bytes());
        bytes.put(0x60, [1, shift, 0]);
        bytes
    }

    /// Version 2: ±1 ms as of 100 s of CLOCK_MONOTONIC, 50 ppm, synchronized, marker 7.
    fn v2() -> Self {
        let mut bytes = Self::header(80, 2);
        bytes.put(0x10, 100_i64.to_le_bytes());
        bytes.put(0x20, 1100_i64.to_le_bytes());
        bytes.put(0x30, 1_000_000_i64.to_le_bytes());
        bytes.put(0x38, 7_u64.to_le_bytes());
        bytes.put(0x40, 50_000_u32.to_le_bytes());
        bytes.put(0x44, 1_i32.to_le_bytes());
        bytes.put(0x48, [1]);
        bytes
    }

    fn put<const N: usize>(&mut self, offset: usize, field: [u8; N]) {
        self.0
            .get_mut(offset..offset + N)
            .unwrap()
            .copy_from_slice(&field);
    }

    fn with<const N: usize>(&self, offset: usize, field: [u8; N]) -> Self {
        let mut bytes = self.clone();
        bytes.put(offset, field);
        bytes
    }

    fn decode(&self) -> Result<Segment, Fault> {
        segment::decode(&self.0)
    }
}

/// The period of 1 ns.
fn nanosecond() -> (u64, u8) {
    let period = Period::measured(1 << 40, 1 << 40).unwrap();
    (period.frac_sec, period.shift)
}

fn kernel() -> Sample {
    Sample {
        source: SourceKind::Kernel,
        monotonic_ns: 100 * i128::from(SEC),
        suspended_ns: 0,
        counter: AS_OF,
        half_width_ticks: 1,
        realtime_ns: i128::from(UTC_SEC) * i128::from(SEC),
        claim_ns: Some(1),
        estimate_ns: None,
        no_bound: None,
        is_synchronized: true,
        is_operators: false,
        ceiling_ppb: 600_000,
        hidden_slew: HiddenSlew::default(),
        tai_minus_utc_sec: None,
        tai_change_sec: 0,
        leap_indicator: abi::VMCLOCK_LEAP_NONE,
        is_in_leap_second: false,
        event: Event::Nothing,
        has_unexplained_change: false,
        is_free_at_other_rate: false,
    }
}

fn device(disruption_marker: u64) -> DeviceRecord {
    DeviceRecord::Seen(DeviceState {
        number: 1,
        disruption_marker,
        vm_generation: None,
    })
}

/// A directory with the daemon's files, and the source that reads them.
struct Staged {
    directory: TempDir,
    source: ClockBound,
    kernel: Sample,
    device: DeviceRecord,
    period: Option<Period>,
    counter: u64,
}

impl Staged {
    /// Its files lie in memory, as those of /run.
    fn new() -> Self {
        Self::below(Path::new("/dev/shm"))
    }

    fn below(parent: &Path) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        Self {
            source: ClockBound::at(directory.path()),
            directory,
            kernel: kernel(),
            device: device(7),
            period: None,
            counter: AS_OF + 1_000_000,
        }
    }

    fn v3() -> Self {
        Self::new().file("shm1", &Bytes::v3())
    }

    fn file(self, name: &str, bytes: &Bytes) -> Self {
        self.write(name, bytes);
        self
    }

    fn write(&self, name: &str, bytes: &Bytes) {
        let path = self.directory.path().join(name);
        fs::write(&path, &bytes.0).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn sample(&mut self) -> Result<Fix, String> {
        let known = Known {
            device: self.device,
            period: self.period,
            ..Known::default()
        };
        let scene = Scene {
            known: &known,
            kernel: &self.kernel,
        };
        let fix = self.source.sample(&At(self.counter), &scene);
        fix.map_err(|error| {
            assert_eq!(error.code(), "ERR_VMCLOCK_NO_SOURCE");
            error.to_string()
        })
    }

    fn refusal(&mut self) -> String {
        self.sample().unwrap_err()
    }
}

#[test]
fn version_3_gives_time_and_bound_at_the_counter() {
    let fix = Staged::v3().sample().unwrap();
    let after_ns = 1_000_000;
    let utc_ns = i128::from(UTC_SEC) * i128::from(SEC) + after_ns;
    assert!((fix.utc_ns - utc_ns).abs() <= 1, "{fix:?}");
    assert_eq!(fix.counter, AS_OF + 1_000_000);
    // 50 ppm of 1 ms are 50 ns. The rest is rounding.
    assert!(
        (1_000_050..=1_000_056).contains(&fix.max_error_ns),
        "{fix:?}"
    );
    assert!(fix.is_synchronized);
}

#[test]
fn the_error_of_the_period_makes_the_bound_of_version_3_grow() {
    // 2^62 of 2^64: a quarter.
    let quarter = Bytes::v3().with(0x40, (1_u64 << 62).to_le_bytes());
    let fix = Staged::new().file("shm1", &quarter).sample().unwrap();
    assert!(
        (1_250_050..=1_250_057).contains(&fix.max_error_ns),
        "{fix:?}"
    );
    // A shift of 1 makes it an eighth.
    let eighth = quarter.with(0x62, [1]);
    let fix = Staged::new().file("shm1", &eighth).sample().unwrap();
    assert!(
        (1_125_050..=1_125_057).contains(&fix.max_error_ns),
        "{fix:?}"
    );
}

#[test]
fn version_2_gives_the_bound_of_clock_realtime() {
    let segment = Bytes::v2().decode().unwrap();
    let bracket = RealtimeBracket {
        counter: 1000,
        width_ticks: 60,
        realtime_ns: 77,
    };
    let fix = |after_ns: i64| fix_v2(&segment, &bracket, i128::from(100 * SEC + after_ns), 1);
    let found = fix(2 * SEC).unwrap();
    assert_eq!((found.counter, found.half_width_ticks), (1030, 32));
    assert_eq!((found.utc_ns, found.max_error_ns), (77, 1_100_002));
    assert!(found.is_synchronized);
    assert!(fix(5 * SEC - 1).unwrap().is_synchronized);
    assert!(!fix(5 * SEC).unwrap().is_synchronized);
    assert!(fix(1000 * SEC - 1).is_ok() && fix(1000 * SEC).is_err());
    assert_eq!(fix(-1000).unwrap().max_error_ns, 1_000_002);
    assert!(fix(-1001).is_err());
}

#[test]
fn version_3_is_free_running_from_60_s_on_and_void_after_its_time() {
    let mut staged = Staged::v3();
    let mut at = |sec: u64, ticks: u64| {
        staged.counter = AS_OF + sec * 1_000_000_000 + ticks;
        staged.sample()
    };
    assert!(at(59, 999_999_000).unwrap().is_synchronized);
    let fix = at(60, 10).unwrap();
    assert!(!fix.is_synchronized && fix.max_error_ns >= 4_000_000);
    assert!(at(999, 999_999_000).is_ok());
    assert!(at(1000, 10).unwrap_err().contains("for too long"));
}

#[test]
fn each_status_is_answered_as_the_client_answers_it() {
    for (status, expected) in [(0, None), (1, Some(true)), (2, Some(false)), (3, None)] {
        let bytes = Bytes::v3().with(0x5c, i32::to_le_bytes(status));
        let fix = Staged::new().file("shm1", &bytes).sample();
        assert_eq!(
            fix.ok().map(|fix| fix.is_synchronized),
            expected,
            "{status}"
        );
    }
    let bytes = Bytes::v3().with(0x5c, 4_i32.to_le_bytes());
    assert!(
        Staged::new()
            .file("shm1", &bytes)
            .refusal()
            .contains("clock status")
    );
}

#[test]
fn a_file_of_an_earlier_boot_gives_no_bound_until_its_daemon_changes_it() {
    let mut staged = Staged::below(Path::new("."));
    staged.write("shm1", &Bytes::v3());
    for _ in 0..2 {
        assert!(staged.sample().unwrap_err().contains("earlier boot"));
    }
    staged.write("shm1", &Bytes::v3().with(0x48, 2_000_000_i64.to_le_bytes()));
    assert!(staged.sample().unwrap().max_error_ns > 2_000_000);
    assert!(staged.sample().is_ok());
    // Another process knows nothing of that change.
    staged.source = ClockBound::at(staged.directory.path());
    assert!(staged.sample().unwrap_err().contains("earlier boot"));
}

#[test]
fn a_marker_that_is_not_the_devices_gives_no_bound() {
    let off = Bytes::v3().with(0x60, [0]);
    for (bytes, device, is_taken) in [
        (Bytes::v3(), device(7), true),
        (Bytes::v3(), device(8), false),
        (Bytes::v3(), DeviceRecord::None, false),
        (Bytes::v3(), DeviceRecord::Unavailable, false),
        (off.clone(), DeviceRecord::None, true),
        (off.clone(), device(7), false),
        (off, DeviceRecord::Unavailable, false),
    ] {
        let mut staged = Staged::new().file("shm1", &bytes);
        staged.device = device;
        assert_eq!(staged.sample().is_ok(), is_taken, "{device:?}");
    }
}

#[test]
fn a_jump_that_the_device_does_not_report_voids_the_present_marker() {
    let mut staged = Staged::v3();
    assert!(staged.sample().is_ok());
    staged.source.disrupt(Distrust::Disruption);
    assert!(staged.refusal().contains("marker has not changed"));
    staged.write("shm1", &Bytes::v3().with(0x50, 8_u64.to_le_bytes()));
    staged.device = device(8);
    assert!(staged.sample().is_ok());
}

#[test]
fn a_jump_before_the_first_figures_voids_them_unless_the_device_reports_it() {
    let mut staged = Staged::new();
    assert!(staged.sample().is_err());
    staged.source.disrupt(Distrust::Disruption);
    staged.write("shm1", &Bytes::v3());
    staged.kernel.monotonic_ns += ABSENT_NS;
    assert!(staged.refusal().contains("marker has not changed"));
    let mut staged = Staged::new();
    staged.device = device(6);
    assert!(staged.sample().is_err());
    staged.source.follow_device();
    staged.device = device(7);
    staged.write("shm1", &Bytes::v3());
    staged.kernel.monotonic_ns += ABSENT_NS;
    assert!(staged.sample().is_ok());
}

#[test]
fn a_daemon_that_follows_the_device_before_the_maker_does_is_believed_later() {
    let mut staged = Staged::v3();
    assert!(staged.sample().is_ok());
    staged.write("shm1", &Bytes::v3().with(0x50, 8_u64.to_le_bytes()));
    // The maker has not looked again.
    assert!(staged.sample().is_err());
    staged.source.follow_device();
    staged.device = device(8);
    assert!(staged.sample().is_ok());
}

#[test]
fn an_unreported_jump_after_a_reported_one_voids_the_present_marker() {
    let mut staged = Staged::v3();
    assert!(staged.sample().is_ok());
    staged.source.follow_device();
    staged.device = device(8);
    assert!(staged.sample().is_err());
    staged.source.disrupt(Distrust::Disruption);
    staged.write("shm1", &Bytes::v3().with(0x50, 8_u64.to_le_bytes()));
    assert!(staged.refusal().contains("marker has not changed"));
    // An unreported jump just before a reported one came under the marker before.
    let mut staged = Staged::v3();
    assert!(staged.sample().is_ok());
    staged.source.disrupt(Distrust::Disruption);
    staged.source.follow_device();
    staged.device = device(8);
    staged.write("shm1", &Bytes::v3().with(0x50, 8_u64.to_le_bytes()));
    assert!(staged.sample().is_ok());
}

#[test]
fn a_machine_that_was_suspended_gets_no_bound() {
    let mut staged = Staged::v3();
    staged.kernel.suspended_ns = 2 * SUSPENDED_NOISE_NS;
    assert!(staged.refusal().contains("suspended"));
}

#[test]
fn version_2_gives_no_bound_while_others_may_have_changed_the_clock() {
    type Change = fn(&mut Sample);
    let changes: [(Change, bool); 6] = [
        (|_| (), true),
        (|kernel| kernel.no_bound = Some(NoBound::NeverUpdated), true),
        (
            |kernel| kernel.no_bound = Some(distrusted(Distrust::Start)),
            true,
        ),
        (
            |kernel| kernel.no_bound = Some(NoBound::Unsynchronized),
            false,
        ),
        (|kernel| kernel.no_bound = Some(NoBound::OffNominal), false),
        (|kernel| kernel.has_unexplained_change = true, false),
    ];
    for (change, is_taken) in changes {
        let mut kernel = kernel();
        change(&mut kernel);
        assert_eq!(check_kernel(&kernel).is_ok(), is_taken, "{kernel:?}");
        // Version 3 does not use that clock.
        let mut staged = Staged::v3();
        staged.kernel = kernel;
        assert!(staged.sample().is_ok());
    }
}

fn distrusted(cause: Distrust) -> NoBound {
    NoBound::Distrusted {
        cause,
        updates_left: 8,
    }
}

#[test]
fn figures_of_version_2_from_before_a_step_give_no_bound() {
    let mut staged = Staged::new().file("shm0", &Bytes::v2());
    staged.kernel.event = Event::Step;
    assert!(staged.refusal().contains("stepped after"));
    staged.kernel.event = Event::Nothing;
    assert!(staged.refusal().contains("stepped after"));
    // As of the 101st second, after the step.
    staged.write("shm0", &Bytes::v2().with(0x10, 101_i64.to_le_bytes()));
    let reason = staged.sample().err().unwrap_or_default();
    assert!(!reason.contains("stepped after"), "{reason}");
    let mut staged = Staged::v3();
    staged.kernel.event = Event::Step;
    assert!(staged.sample().is_ok());
}

#[test]
fn a_period_that_is_not_this_machines_gives_no_bound() {
    let mut staged = Staged::v3();
    staged.period = Period::measured(1_000_100, 1_000_000);
    assert!(staged.refusal().contains("period"));
    // 50 ppm of drift are within what the segment itself allows.
    staged.period = Period::measured(1_000_049, 1_000_000);
    assert!(staged.sample().is_ok());
}

#[test]
fn a_counter_behind_the_segment_gives_no_bound() {
    let mut staged = Staged::v3();
    staged.counter = AS_OF - 1;
    assert!(staged.refusal().contains("ahead"));
}

#[test]
fn a_segment_that_clients_refuse_is_refused() {
    let v3 = Bytes::v3();
    let cases = [
        (v3.with(0x00, [0]), "no memory of ClockBound"),
        (v3.with(0x0c, 1_u16.to_le_bytes()), "version 1"),
        (v3.with(0x0c, 0_u16.to_le_bytes()), "not written it yet"),
        (v3.with(0x0c, 3_u16.to_le_bytes()), "version 0x0003"),
        (v3.with(0x0c, 0x0203_u16.to_le_bytes()), "version 0x0203"),
        (v3.with(0x08, 103_u32.to_le_bytes()), "its size"),
        (v3.with(0x08, 16_u32.to_le_bytes()), "its size"),
        (v3.with(0x0e, 0_u16.to_le_bytes()), "not written it yet"),
        (v3.with(0x0e, 3_u16.to_le_bytes()), "does not end an update"),
        (v3.with(0x48, (-1_i64).to_le_bytes()), "its bound"),
        (
            v3.with(0x58, 1_000_000_000_u32.to_le_bytes()),
            "its maximum drift",
        ),
        (v3.with(0x20, SEC.to_le_bytes()), "its times"),
        (v3.with(0x28, (UTC_SEC - 1).to_le_bytes()), "its times"),
        (v3.with(0x38, 0_u64.to_le_bytes()), "its period"),
        (v3.with(0x61, [128]), "its period"),
        (v3.with(0x60, [2]), "its disruption support"),
        (Bytes(v3.0.get(..103).unwrap().to_vec()), "its size"),
        (Bytes(Vec::new()), "its size"),
    ];
    for (bytes, expected) in cases {
        let refusal = Staged::new().file("shm1", &bytes).refusal();
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[test]
fn an_update_that_does_not_end_leaves_the_last_figures_to_age() {
    let mut staged = Staged::v3();
    assert!(staged.sample().is_ok());
    staged.write("shm1", &Bytes::v3().with(0x0e, 3_u16.to_le_bytes()));
    staged.counter += 30_000_000_000;
    assert!(staged.sample().unwrap().max_error_ns > 2_500_000);
    staged.counter += 1_000_000_000_000;
    assert!(staged.refusal().contains("for too long"));
}

#[test]
fn a_file_that_others_may_write_or_that_is_no_file_is_refused() {
    let mut staged = Staged::v3();
    let path = staged.directory.path().join("shm1");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(staged.refusal().contains("others than its owner may write"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(staged.refusal().contains("no regular file"));
}

#[test]
fn a_file_that_is_replaced_is_read_anew_and_an_absent_one_after_10_s() {
    let mut staged = Staged::new();
    assert!(staged.refusal().contains("no such file"));
    staged.write("shm1", &Bytes::v3());
    staged.kernel.monotonic_ns += ABSENT_NS - 1;
    assert!(staged.refusal().contains("no such file"));
    staged.kernel.monotonic_ns += 1;
    assert!(staged.sample().is_ok());
    fs::remove_file(staged.directory.path().join("shm1")).unwrap();
    staged.write("shm1", &Bytes::v3().with(0x48, 2_000_000_i64.to_le_bytes()));
    assert!(staged.sample().unwrap().max_error_ns > 2_000_000);
}

#[test]
fn version_2_is_used_where_version_3_gives_no_bound() {
    let mut staged = Staged::new().file("shm0", &Bytes::v2());
    // These figures are of the real machine's future or past, so that only the reason shows.
    let reason = staged.sample().err().unwrap_or_default();
    assert!(!reason.contains("no such file"), "{reason}");
    let bytes = Bytes::v3().with(0x5c, 0_i32.to_le_bytes());
    let mut staged = Staged::new().file("shm1", &bytes);
    assert!(staged.refusal().contains("status is unknown"));
}

#[test]
fn the_better_file_that_can_be_read_is_examined() {
    let staged = Staged::new();
    let directory = staged.directory.path().to_owned();
    assert_eq!(examine(&directory), None);
    staged.write("shm0", &Bytes::v2());
    let figures = |examined: Option<Examined>| examined.unwrap().content.unwrap();
    assert_eq!(figures(examine(&directory)).version, 2);
    staged.write("shm1", &Bytes::v3().with(0x0c, 1_u16.to_le_bytes()));
    assert_eq!(figures(examine(&directory)).version, 2);
    fs::remove_file(directory.join("shm0")).unwrap();
    let fault = examine(&directory).unwrap().content.unwrap_err();
    assert!(fault.0.contains("version 1") && fault.1.contains("update"));
    staged.write("shm1", &Bytes::v3());
    let expected = Figures {
        version: 3,
        status: "synchronized",
        bound_ns: 1_000_000,
        disruption_marker: Some(7),
    };
    assert_eq!(figures(examine(&directory)), expected);
}

#[test]
fn a_time_namespace_with_shifted_clocks_gives_no_bound() {
    const WITHIN: &str = "VMCLOCK_TEST_TIME_NAMESPACE";
    if std::env::var_os(WITHIN).is_some() {
        let refusal = Staged::v3().sample().unwrap_err();
        assert!(refusal.contains("time namespace"), "{refusal}");
        return;
    }
    let within = |program: &[&str]| {
        std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--time", "--monotonic", "-20"])
            .args(["--boottime", "-20", "sh", "-c"])
            // The emulator that runs this test also starts a test of another architecture.
            .args(["exec ${VMCLOCK_TEST_RUNNER:-} \"$@\"", "sh"])
            .args(program)
            .env(WITHIN, "1")
            .output()
    };
    let test = std::env::current_exe().unwrap();
    let test = test.to_str().unwrap();
    let name = "source::clockbound::tests::a_time_namespace_with_shifted_clocks_gives_no_bound";
    if !within(&[test, "--list"]).is_ok_and(|output| output.status.success()) {
        eprintln!("not shown: no time namespace to be had");
        return;
    }
    let output = within(&[test, "--exact", name]).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
