//! A clock whose page the machine's device guards: what it says when the device changes, is stuck, or cannot
//! be looked at, and how the limits of age and error end a time. No test looks at a real device.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts only the functions marked as tests"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmclock::clock::fast::{FastClock, Ordered, SlowPath, TimePoint};
use vmclock::clock::guard::{Guard, GuardDevice, GuardState};
use vmclock::counter::Counter as _;
use vmclock::counter::CpuCounter;
use vmclock::device::{Device, Unavailable};
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::machine;
use vmclock::no_bound::NoBound;
use vmclock::seqlock;
use vmclock::snapshot::RawFields;
use vmclock::writer::{PageHeader, PageLayout, PageWriter};
use vmclock::{Continuity, Error, Options, Reading, VmClock};
use vmclock_testkit::virtual_machine::Memory;
use vmclock_testkit::virtual_page::{VirtualClock, VirtualCounter};

const FULL: u32 = 0x1000;
const GENERATION: u64 = 1 << 8;
const BOOT: u128 = 7;
const NUMBER: u64 = 0xa7d;
const SECOND: u64 = 1 << 30;
const START: u64 = 1 << 40;

const TIMEOUT: Option<&str> = Some("ERR_VMCLOCK_TIMEOUT");
const DISRUPTED: Option<&str> = Some("ERR_VMCLOCK_DISRUPTED");
const OTHER_BOOT: Option<&str> = Some("ERR_VMCLOCK_OTHER_BOOT");
const STALE: Option<&str> = Some("ERR_VMCLOCK_STALE");
const TOO_UNCERTAIN: Option<&str> = Some("ERR_VMCLOCK_TOO_UNCERTAIN");

/// A page of 2^30 ticks a second, with a bound of 7 µs that grows by a nanosecond each second.
fn sound() -> RawFields {
    RawFields {
        version: 1,
        counter_id: CpuCounter.id(),
        clock_status: 2,
        flags: 0x3ff,
        tai_offset_sec: 37,
        disruption_marker: 100,
        vm_generation_counter: 50,
        counter_value: START,
        counter_period_frac_sec: 1 << 34,
        counter_period_maxerror_rate_frac_sec: (1 << 34) / 1_000_000_000,
        time_sec: 1_767_225_600,
        time_esterror_nanosec: 2_000,
        time_maxerror_nanosec: 7_000,
        ..RawFields::default()
    }
}

fn device(disruption_marker: u64, vm_generation: Option<u64>) -> DeviceState {
    DeviceState {
        number: NUMBER,
        disruption_marker,
        vm_generation,
    }
}

fn made_under(device: DeviceRecord) -> Extension {
    Extension {
        boot_id: BOOT,
        device,
        ..Extension::default()
    }
}

/// A page, the device of its machine, and the machine's counter.
struct Machine {
    page: Arc<Memory>,
    device: Arc<Memory>,
    counter: VirtualCounter,
}

impl Machine {
    /// A machine whose device is as its page records it.
    fn new() -> Self {
        let machine = Self::without_page();
        let state = device(5, Some(9));
        machine.change_device(state);
        machine.publish(&sound(), &made_under(DeviceRecord::Seen(state)));
        machine
    }

    fn without_page() -> Self {
        let machine = Self {
            page: Arc::new(Memory::default()),
            device: Arc::new(Memory::default()),
            counter: VirtualCounter::default(),
        };
        machine.counter.set(START + 10);
        machine
    }

    fn publish(&self, fields: &RawFields, extension: &Extension) {
        let (head, words) = fields.to_words();
        seqlock::write_extended(&*self.page, head, &words, |seq| extension.to_words(seq));
    }

    /// Updates the device as a hypervisor does.
    fn change_device(&self, state: DeviceState) {
        let (head, words) = device_fields(state).to_words();
        seqlock::write(&*self.device, head, &words);
    }

    fn open_device(&self) -> GuardDevice<Memory> {
        GuardDevice::Open {
            memory: Arc::clone(&self.device),
            number: NUMBER,
            size_bytes: FULL,
            path: PathBuf::from("/dev/vmclock0"),
        }
    }

    fn clock(&self, options: Options) -> VirtualClock {
        self.guarded(options, self.open_device())
    }

    fn guarded(&self, options: Options, device: GuardDevice<Memory>) -> VirtualClock {
        let guard = Guard {
            boot_id: Some(BOOT),
            device,
        };
        self.guarded_by(options, guard)
    }

    fn guarded_by(&self, options: Options, guard: Guard<Memory>) -> VirtualClock {
        let page = Arc::clone(&self.page);
        VmClock::with_guard(page, FULL, self.counter.clone(), options, guard)
    }
}

fn device_fields(state: DeviceState) -> RawFields {
    RawFields {
        version: 1,
        counter_id: 0xff,
        disruption_marker: state.disruption_marker,
        flags: state.vm_generation.map_or(0, |_| GENERATION),
        vm_generation_counter: state.vm_generation.unwrap_or(0),
        ..RawFields::default()
    }
}

fn unavailable() -> GuardDevice<Memory> {
    GuardDevice::Unavailable(Unavailable {
        path: PathBuf::from("/dev/vmclock0"),
        reason: "a reason".to_owned(),
        remedy: "a remedy".to_owned(),
    })
}

fn continuity(reading: &Reading) -> Continuity {
    Continuity {
        disruption_marker: reading.disruption_marker,
        vm_generation: reading.vm_generation,
    }
}

fn code<T>(result: Result<T, Error>) -> Option<&'static str> {
    result.err().map(|error| error.code())
}

/// The figures that the cache alone gives, without a look at the page.
fn cached(clock: &mut VirtualClock) -> Option<TimePoint> {
    match clock.fast_time_point::<Ordered>() {
        Ok(point) => Some(point),
        Err(slow_path) => clock.slow_time_point(slow_path),
    }
}

fn has_bound(clock: &mut VirtualClock) -> bool {
    let reading = clock.read().unwrap();
    let stated = reading.max_error_ns.is_some();
    assert_eq!(reading.earliest_ns.is_some(), stated);
    assert_eq!(reading.latest_ns.is_some(), stated);
    // The fast path agrees.
    let point = cached(clock).unwrap();
    assert_eq!(point.max_error_ns.is_some(), stated);
    assert_eq!(point.est_error_ns.is_some(), reading.est_error_ns.is_some());
    stated
}

fn no_bound(clock: &mut VirtualClock) -> Option<NoBound> {
    let reason = clock.snapshot().unwrap().no_bound();
    assert_eq!(has_bound(clock), reason.is_none(), "{reason:?}");
    reason
}

#[test]
fn a_device_as_recorded_leaves_the_bound_and_the_pages_own_token() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    assert_eq!(no_bound(&mut clock), None);
    let token = clock.continuity_token().unwrap();
    assert_eq!(
        (token.disruption_marker, token.vm_generation),
        (100, Some(50))
    );
    assert!(clock.fast_is_continuous(&token));
    let path = PathBuf::from("/dev/vmclock0");
    assert_eq!(clock.guard().unwrap(), GuardState::Guarded { path });
}

#[test]
fn the_first_of_each_call_after_a_device_change_notices_it() {
    let machine = Machine::new();
    let mut before = machine.clock(Options::default());
    let token = before.continuity_token().unwrap();
    let captured = before.read().unwrap();
    assert!(captured.max_error_ns.is_some());
    machine.change_device(device(6, Some(9)));

    let clock = || before.clone();
    assert_eq!(clock().fast_now_ns::<Ordered>(), Err(SlowPath::FromPage));
    assert_eq!(clock().fast_now_ms::<Ordered>(), Err(SlowPath::FromPage));
    assert_eq!(
        clock().fast_time_point::<Ordered>(),
        Err(SlowPath::FromPage)
    );
    assert!(!clock().fast_is_continuous(&token));
    let reading = clock().read().unwrap();
    assert_eq!(reading.max_error_ns, None);
    assert_eq!(reading.est_error_ns, None);
    assert_eq!(reading.disruption_marker, 101);
    assert_eq!(clock().continuity_token().unwrap(), continuity(&reading));
    assert!(!clock().is_continuous(&token).unwrap());
    assert_eq!(code(clock().convert(captured.counter, &token)), DISRUPTED);
    assert_eq!(code(clock().converter(&token).map(|_| ())), DISRUPTED);
    assert_eq!(clock().system_offset().unwrap().max_error_ns, None);
    assert_eq!(no_bound(&mut clock()), Some(NoBound::NotFollowed));
    // The time itself goes on.
    clock().now_ns().unwrap();
    clock().now_ms().unwrap();
}

#[test]
fn the_predicted_token_is_the_one_that_the_maker_publishes_next() {
    let none = device(5, None);
    let nine = device(5, Some(9));
    let cases = [
        (nine, device(6, Some(9))),
        (nine, device(5, Some(10))),
        // Both wrap.
        (nine, device(4, Some(8))),
        (nine, device(u64::MAX, Some(0))),
        (nine, device(5, None)),
        (none, device(77, None)),
        (none, device(5, Some(0))),
    ];
    for (recorded, now) in cases {
        let machine = Machine::without_page();
        machine.change_device(recorded);
        // The maker's own part is 95, and 41 where the device has a generation.
        let published = |device: DeviceState| RawFields {
            disruption_marker: device.disruption_marker.wrapping_add(95),
            vm_generation_counter: device.vm_generation.unwrap_or(0).wrapping_add(41),
            flags: 0xff | device.vm_generation.map_or(0, |_| GENERATION),
            ..sound()
        };
        let mut fields = published(recorded);
        if recorded.vm_generation.is_none() {
            fields.vm_generation_counter = 0;
        }
        machine.publish(&fields, &made_under(DeviceRecord::Seen(recorded)));
        let mut clock = machine.clock(Options::default());
        let token = clock.continuity_token().unwrap();
        machine.change_device(now);
        let predicted = clock.continuity_token().unwrap();
        assert_ne!(predicted, token, "{recorded:?} to {now:?}");
        assert_eq!(no_bound(&mut clock), Some(NoBound::NotFollowed));
        let mut fields = published(now);
        if recorded.vm_generation.is_none() {
            fields.vm_generation_counter = now.vm_generation.unwrap_or(0);
        }
        machine.publish(&fields, &made_under(DeviceRecord::Seen(now)));
        assert!(
            clock.is_continuous(&predicted).unwrap(),
            "{recorded:?} to {now:?}"
        );
        assert_eq!(no_bound(&mut clock), None);
    }
}

#[test]
fn a_page_without_a_generation_shows_a_change_of_the_devices_in_its_marker() {
    for (now, marker) in [
        (device(6, Some(10)), 102),
        (device(5, Some(10)), 101),
        (device(5, Some(8)), 99),
        (device(5, None), 91),
    ] {
        let machine = Machine::without_page();
        machine.change_device(device(5, Some(9)));
        let fields = RawFields {
            flags: 0xff,
            ..sound()
        };
        machine.publish(&fields, &made_under(DeviceRecord::Seen(device(5, Some(9)))));
        let mut clock = machine.clock(Options::default());
        let before = clock.continuity_token().unwrap();
        machine.change_device(now);
        assert!(!clock.is_continuous(&before).unwrap(), "{now:?}");
        assert_eq!(code(clock.convert(START, &before)), DISRUPTED, "{now:?}");
        let token = clock.continuity_token().unwrap();
        let expected = (marker, None);
        assert_eq!((token.disruption_marker, token.vm_generation), expected);
    }
}

#[test]
fn a_device_update_that_changes_nothing_costs_one_slow_call() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    let token = clock.continuity_token().unwrap();
    machine.change_device(device(5, Some(9)));
    assert!(!clock.fast_is_continuous(&token));
    assert!(clock.is_continuous(&token).unwrap());
    assert!(clock.fast_is_continuous(&token));
    assert_eq!(no_bound(&mut clock), None);
}

#[test]
fn a_change_that_the_maker_followed_before_the_clock_looked_has_a_bound() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    let token = clock.continuity_token().unwrap();
    let now = device(8, Some(9));
    machine.change_device(now);
    let fields = RawFields {
        disruption_marker: 103,
        ..sound()
    };
    machine.publish(&fields, &made_under(DeviceRecord::Seen(now)));
    assert!(!clock.is_continuous(&token).unwrap());
    assert_eq!(no_bound(&mut clock), None);
}

#[test]
fn a_page_from_before_the_change_has_no_bound_however_late_the_clock_opens() {
    let machine = Machine::new();
    machine.change_device(device(6, Some(9)));
    let mut clock = machine.clock(Options::default());
    assert_eq!(no_bound(&mut clock), Some(NoBound::NotFollowed));
    // An update of the time under the old record changes nothing.
    machine.publish(
        &sound(),
        &made_under(DeviceRecord::Seen(device(5, Some(9)))),
    );
    assert_eq!(no_bound(&mut clock), Some(NoBound::NotFollowed));
    let allowing = Options {
        allow_unguarded: true,
        ..Options::default()
    };
    assert_eq!(
        no_bound(&mut machine.clock(allowing)),
        Some(NoBound::NotFollowed)
    );
}

/// Begins an update of the device that does not end.
fn wedge(device: &Memory) -> u32 {
    seqlock::begin(device)
}

#[test]
fn a_stuck_device_costs_one_deadline_and_then_time_has_no_bound_at_once() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    let token = clock.continuity_token().unwrap();
    wedge(&machine.device);
    let began = Instant::now();
    assert_eq!(clock.read().unwrap().max_error_ns, None);
    assert!(began.elapsed() >= Duration::from_millis(100));
    // No later call waits, although the page is updated between them. A hundred deadlines take 10 s.
    let began = Instant::now();
    for _ in 0..100 {
        machine.publish(
            &sound(),
            &made_under(DeviceRecord::Seen(device(5, Some(9)))),
        );
        assert_eq!(no_bound(&mut clock), Some(NoBound::DeviceStuck));
        assert_eq!(code(clock.is_continuous(&token)), TIMEOUT);
        assert_eq!(code(clock.continuity_token()), TIMEOUT);
        assert_eq!(code(clock.convert(START, &token)), TIMEOUT);
        assert_eq!(code(clock.converter(&token).map(|_| ())), TIMEOUT);
        assert!(!clock.fast_is_continuous(&token));
        clock.now_ns().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    let path = PathBuf::from("/dev/vmclock0");
    assert_eq!(clock.guard().unwrap(), GuardState::Guarded { path });
    // The update ends and changed nothing.
    machine.change_device(device(5, Some(9)));
    assert!(clock.is_continuous(&token).unwrap());
    assert_eq!(no_bound(&mut clock), None);
}

#[test]
fn a_stuck_device_refuses_no_time_while_the_maker_updates_its_page() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    wedge(&machine.device);
    let is_read = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_read.load(Ordering::Relaxed) {
                let record = DeviceRecord::Seen(device(5, Some(9)));
                machine.publish(&sound(), &made_under(record));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let reading = clock.read();
        is_read.store(true, Ordering::Relaxed);
        assert_eq!(reading.unwrap().max_error_ns, None);
    });
    assert_eq!(no_bound(&mut clock), Some(NoBound::DeviceStuck));
}

#[test]
fn a_reading_from_a_stuck_device_is_refused_if_the_update_ends_with_a_change() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    wedge(&machine.device);
    let reading = clock.read().unwrap();
    assert_eq!(reading.disruption_marker, 100);
    machine.change_device(device(6, Some(9)));
    assert_eq!(
        code(clock.convert(reading.counter, &continuity(&reading))),
        DISRUPTED
    );
}

#[test]
fn a_device_that_is_stuck_after_a_change_keeps_the_predicted_marker() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    machine.change_device(device(6, Some(9)));
    assert_eq!(clock.read().unwrap().disruption_marker, 101);
    wedge(&machine.device);
    assert_eq!(clock.read().unwrap().disruption_marker, 101);
    // The maker followed, so what the clock saw before belongs to another record.
    let fields = RawFields {
        disruption_marker: 101,
        ..sound()
    };
    machine.publish(&fields, &made_under(DeviceRecord::Seen(device(6, Some(9)))));
    assert_eq!(clock.read().unwrap().disruption_marker, 101);

    // The maker saw a change that the clock did not see.
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    assert_eq!(clock.read().unwrap().disruption_marker, 100);
    machine.change_device(device(6, Some(9)));
    wedge(&machine.device);
    machine.publish(&fields, &made_under(DeviceRecord::Seen(device(6, Some(9)))));
    assert_eq!(clock.read().unwrap().disruption_marker, 101);
}

#[test]
fn a_device_of_another_version_leaves_no_bound_and_no_token() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    let token = clock.continuity_token().unwrap();
    let fields = RawFields {
        version: 2,
        ..device_fields(device(5, Some(9)))
    };
    let (head, words) = fields.to_words();
    seqlock::write(&*machine.device, head, &words);
    assert_eq!(no_bound(&mut clock), Some(NoBound::NotFollowed));
    assert_eq!(
        code(clock.is_continuous(&token)),
        Some("ERR_VMCLOCK_BAD_VERSION")
    );
}

#[test]
fn a_page_whose_machine_nobody_can_look_at_has_no_bound_unless_allowed() {
    let seen = DeviceRecord::Seen(device(5, Some(9)));
    let other = DeviceRecord::Seen(DeviceState {
        number: NUMBER + 1,
        ..device(5, Some(9))
    });
    let machine = Machine::new();
    type MakeDevice = fn(&Machine) -> GuardDevice<Memory>;
    let open: MakeDevice = Machine::open_device;
    let closed: MakeDevice = |_| unavailable();
    let none: MakeDevice = |_| GuardDevice::None;
    // (the page's record, the reader's device, whether the bound holds)
    let cases: [(Option<DeviceRecord>, MakeDevice, bool); 12] = [
        (Some(seen), open, true),
        (Some(seen), closed, false),
        (Some(seen), none, false),
        (Some(other), open, false),
        (Some(DeviceRecord::Unavailable), open, false),
        (Some(DeviceRecord::Unavailable), closed, false),
        (Some(DeviceRecord::Unavailable), none, false),
        (Some(DeviceRecord::None), open, false),
        (Some(DeviceRecord::None), closed, false),
        (Some(DeviceRecord::None), none, true),
        (None, open, false),
        (None, closed, false),
    ];
    for (record, device, holds) in cases {
        match record {
            Some(record) => machine.publish(&sound(), &made_under(record)),
            None => {
                let (head, words) = sound().to_words();
                seqlock::write(&*machine.page, head, &words);
            }
        }
        for allow_unguarded in [false, true] {
            let options = Options {
                allow_unguarded,
                ..Options::default()
            };
            let mut clock = machine.guarded(options, device(&machine));
            let expected = (!holds && !allow_unguarded).then_some(NoBound::Unguarded);
            assert_eq!(no_bound(&mut clock), expected, "{record:?}");
            // Continuity is as the page says.
            assert_eq!(clock.continuity_token().unwrap().disruption_marker, 100);
            let state = clock.guard().unwrap();
            let is_unavailable = matches!(
                &state,
                GuardState::Unavailable { reason, remedy } if !reason.is_empty() && !remedy.is_empty()
            );
            assert_eq!(is_unavailable, !holds, "{record:?}: {state:?}");
        }
    }
    // A page that says nothing, on a machine without a device: as any other page.
    let mut clock = machine.guarded(Options::default(), GuardDevice::None);
    assert_eq!(no_bound(&mut clock), None);
    assert_eq!(clock.guard().unwrap(), GuardState::None);
}

#[test]
fn the_remedy_is_the_devices_own_where_it_cannot_be_opened() {
    let machine = Machine::new();
    let mut clock = machine.guarded(Options::default(), unavailable());
    let expected = GuardState::Unavailable {
        reason: "a reason".to_owned(),
        remedy: "a remedy".to_owned(),
    };
    assert_eq!(clock.guard().unwrap(), expected);
}

#[test]
fn a_page_of_another_boot_is_refused_by_every_call_but_the_snapshot() {
    let machine = Machine::new();
    for device in [machine.open_device(), GuardDevice::None, unavailable()] {
        let guard = Guard {
            boot_id: Some(BOOT + 1),
            device,
        };
        let mut clock = machine.guarded_by(Options::default(), guard);
        let token = Continuity {
            disruption_marker: 100,
            vm_generation: Some(50),
        };
        for _ in 0..2 {
            assert_eq!(code(clock.now_ns()), OTHER_BOOT);
            assert_eq!(code(clock.now_ms()), OTHER_BOOT);
            assert_eq!(code(clock.read()), OTHER_BOOT);
            assert_eq!(code(clock.continuity_token()), OTHER_BOOT);
            assert_eq!(code(clock.is_continuous(&token)), OTHER_BOOT);
            assert_eq!(code(clock.convert(START, &token)), OTHER_BOOT);
            assert_eq!(code(clock.converter(&token).map(|_| ())), OTHER_BOOT);
            assert_eq!(code(clock.system_offset()), OTHER_BOOT);
        }
        assert!(!clock.is_usable());
        assert!(clock.has_time().unwrap());
        assert_eq!(clock.snapshot().unwrap().raw, sound());
    }
}

#[test]
fn an_unknown_boot_leaves_no_bound_unless_allowed() {
    let seen = DeviceRecord::Seen(device(5, Some(9)));
    let nowhere = Extension {
        boot_id: 0,
        ..made_under(seen)
    };
    for (page, own) in [
        (made_under(seen), None),
        (nowhere, Some(BOOT)),
        (nowhere, None),
    ] {
        let machine = Machine::new();
        machine.publish(&sound(), &page);
        for allow_unguarded in [false, true] {
            let options = Options {
                allow_unguarded,
                ..Options::default()
            };
            let guard = Guard {
                boot_id: own,
                device: machine.open_device(),
            };
            let mut clock = machine.guarded_by(options, guard);
            let expected = (!allow_unguarded).then_some(NoBound::Unguarded);
            assert_eq!(no_bound(&mut clock), expected);
            assert!(matches!(
                clock.guard().unwrap(),
                GuardState::Unavailable { .. }
            ));
            // The device counts all the same.
            machine.change_device(device(6, Some(9)));
            assert_eq!(no_bound(&mut clock), Some(NoBound::NotFollowed));
            assert_eq!(clock.continuity_token().unwrap().disruption_marker, 101);
            machine.change_device(device(5, Some(9)));
        }
    }
}

#[test]
fn a_page_is_void_from_its_makers_limit_on() {
    let machine = Machine::new();
    let extension = Extension {
        void_after_ns: 1_000_000_000_000,
        ..made_under(DeviceRecord::Seen(device(5, Some(9))))
    };
    machine.publish(&sound(), &extension);
    let mut clock = machine.clock(Options::default());
    let token = clock.continuity_token().unwrap();
    let last = START + 1000 * SECOND - 1;
    for (counter, reason) in [
        (START, None),
        (last, None),
        (last + 1, Some(NoBound::Void)),
        (last + 5000 * SECOND, Some(NoBound::Void)),
        (START - 1, None),
    ] {
        machine.counter.set(counter);
        let stated = reason.is_none();
        assert_eq!(clock.read().unwrap().max_error_ns.is_some(), stated);
        assert_eq!(clock.snapshot().unwrap().no_bound(), reason);
        let converted = clock.convert(counter, &token).unwrap();
        assert_eq!(converted.max_error_ns.is_some(), stated);
        assert_eq!(cached(&mut clock).is_some(), stated && counter >= START);
        // The time goes on.
        assert!(clock.now_ns().is_ok());
    }
    // 0 means never.
    machine.publish(
        &sound(),
        &made_under(DeviceRecord::Seen(device(5, Some(9)))),
    );
    machine.counter.set(last + 5000 * SECOND);
    assert!(clock.read().unwrap().max_error_ns.is_some());
}

/// Returns the error code of each call for the time at `counter`, which is the same for all of them.
fn outcome(machine: &Machine, clock: &mut VirtualClock, counter: u64) -> Option<&'static str> {
    machine.counter.set(counter);
    let token = clock.continuity_token().unwrap();
    let converted = code(clock.convert(counter, &token));
    let mut fine = VmClock::clone(clock);
    let many = fine.converter(&token);
    let many = code(many.and_then(|many| many.epoch_ns(counter)));
    let calls = [
        code(clock.now_ns()),
        code(clock.now_ms()),
        code(clock.read()),
        converted,
        many,
    ];
    assert!(calls.iter().all(|call| *call == calls[0]), "{calls:?}");
    assert_eq!(clock.is_usable(), calls[0].is_none());
    calls[0]
}

#[test]
fn a_page_that_is_older_than_allowed_is_refused() {
    let machine = Machine::new();
    let options = Options {
        max_age: Some(Duration::from_secs(3)),
        ..Options::default()
    };
    let mut clock = machine.clock(options.clone());
    let token = clock.continuity_token().unwrap();
    let last = START + 3 * SECOND;
    let outcomes = |clock: &mut VirtualClock, counter: u64| outcome(&machine, clock, counter);
    assert_eq!(outcomes(&mut clock, last), None);
    assert_eq!(outcomes(&mut clock, last + 1), STALE);
    assert_eq!(outcomes(&mut clock, last + SECOND), STALE);
    assert_eq!(code(clock.system_offset()), STALE);
    let message = clock.now_ns().unwrap_err().to_string();
    assert!(
        message.contains("4000 ms old") && message.contains("3000 ms"),
        "{message}"
    );
    // A counter from within the limit converts. Continuity does not depend on the age.
    assert!(clock.convert(last, &token).is_ok());
    assert!(clock.is_continuous(&token).unwrap());
    machine.publish(
        &RawFields {
            counter_value: last + SECOND,
            ..sound()
        },
        &made_under(DeviceRecord::Seen(device(5, Some(9)))),
    );
    assert_eq!(outcomes(&mut clock, last + SECOND), None);
    // A hypervisor may update its own page rarely.
    let (head, words) = sound().to_words();
    seqlock::write(&*machine.page, head, &words);
    let mut clock = machine.guarded(options, GuardDevice::None);
    assert_eq!(outcomes(&mut clock, last + SECOND), None);
}

#[test]
fn a_time_whose_error_is_above_the_callers_limit_is_refused() {
    let machine = Machine::new();
    // 7 µs at the reference, and less than a nanosecond more each second, both rounded up.
    let options = |error_limit_ns| Options {
        error_limit_ns: Some(error_limit_ns),
        ..Options::default()
    };
    let outcomes = |clock: &mut VirtualClock, counter: u64| outcome(&machine, clock, counter);
    let mut clock = machine.clock(options(7_001));
    assert_eq!(outcomes(&mut clock, START), None);
    assert_eq!(outcomes(&mut clock, START + 1), TOO_UNCERTAIN);
    assert_eq!(outcomes(&mut clock, START - 1), TOO_UNCERTAIN);
    let mut clock = machine.clock(options(7_002));
    for (ticks, expected) in [(1, None), (SECOND / 2, None), (2 * SECOND, TOO_UNCERTAIN)] {
        assert_eq!(outcomes(&mut clock, START + ticks), expected);
    }
    assert_eq!(outcomes(&mut clock, START - SECOND / 2), None);
    let mut clock = machine.clock(options(7_000));
    assert_eq!(outcomes(&mut clock, START), TOO_UNCERTAIN);
    assert!(!clock.is_usable());
    // Without a bound no limit is kept.
    machine.change_device(device(6, Some(9)));
    let mut clock = machine.clock(options(u64::MAX));
    assert_eq!(outcomes(&mut clock, START), TOO_UNCERTAIN);
    let message = clock.read().unwrap_err().to_string();
    assert!(message.contains("not bounded"), "{message}");
}

#[test]
fn a_repeated_time_is_refused_if_its_widened_error_is_above_the_limit() {
    let machine = Machine::new();
    let options = Options {
        error_limit_ns: Some(8_000),
        non_decreasing: true,
        ..Options::default()
    };
    let mut clock = machine.clock(options);
    clock.now_ns().unwrap();
    // The page's time steps back by 10 µs.
    let fields = RawFields {
        counter_value: START + 10_737,
        ..sound()
    };
    machine.publish(&fields, &made_under(DeviceRecord::Seen(device(5, Some(9)))));
    assert_eq!(code(clock.read()), TOO_UNCERTAIN);
    assert_eq!(code(clock.now_ns()), TOO_UNCERTAIN);
    assert_eq!(code(clock.now_ms()), TOO_UNCERTAIN);
}

#[test]
fn the_age_is_the_time_since_the_reference() {
    let machine = Machine::new();
    let mut clock = machine.clock(Options::default());
    for (counter, age_ns) in [
        (START, 0),
        (START + SECOND, 1_000_000_000),
        (START - SECOND / 2, -500_000_000),
        (START + 3600 * SECOND, 3_600_000_000_000),
    ] {
        machine.counter.set(counter);
        assert_eq!(clock.read().unwrap().age_ns, age_ns);
        assert_eq!(clock.read().unwrap().age_ns, age_ns);
        assert_eq!(clock.snapshot().unwrap().age_ns, Some(age_ns));
    }
    let marker_only = RawFields {
        counter_id: 0xff,
        ..sound()
    };
    machine.publish(&marker_only, &made_under(DeviceRecord::None));
    assert_eq!(clock.snapshot().unwrap().age_ns, None);
}

#[test]
fn a_page_that_reports_disruptions_itself_ignores_the_record() {
    let machine = Machine::new();
    let page = Arc::clone(&machine.page);
    let mut clock = VmClock::new(page, FULL, machine.counter.clone(), Options::default());
    machine.change_device(device(6, Some(9)));
    assert_eq!(no_bound(&mut clock), None);
    assert_eq!(clock.guard().unwrap(), GuardState::Device);
}

/// This machine may have a device or none, as long as the clock found it.
#[test]
fn a_page_in_a_file_is_guarded_by_the_device_of_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page");
    let layout = PageLayout::default();
    let mut writer = PageWriter::create(&path, &layout, PageHeader::default(), &sound()).unwrap();
    let fields = RawFields {
        counter_value: CpuCounter.read(),
        ..sound()
    };
    let boot_id = machine::boot_id().unwrap();
    let has_device = !matches!(Device::find(None), Device::None);
    let mut clock = VmClock::open(&path, Options::default()).unwrap();
    for (extension, is_right_boot) in [
        (made_in(boot_id, DeviceRecord::None), true),
        (made_in(boot_id ^ 1, DeviceRecord::None), false),
    ] {
        writer.publish(&fields, &extension);
        if is_right_boot {
            assert_eq!(clock.read().unwrap().max_error_ns.is_none(), has_device);
        } else {
            assert_eq!(code(clock.read()), OTHER_BOOT);
        }
    }
    // The page's maker saw a device that is not here.
    writer.publish(
        &fields,
        &made_in(boot_id, DeviceRecord::Seen(device(5, None))),
    );
    let mut clock = VmClock::open(&path, Options::default()).unwrap();
    assert_eq!(clock.read().unwrap().max_error_ns, None);
    let GuardState::Unavailable { remedy, .. } = clock.guard().unwrap() else {
        panic!("guarded");
    };
    assert!(!remedy.is_empty());
}

fn made_in(boot_id: u128, device: DeviceRecord) -> Extension {
    Extension {
        boot_id,
        ..made_under(device)
    }
}
