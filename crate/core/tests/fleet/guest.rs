//! A guest: its seat on a host, which may change, and its clocks.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use vmclock::abi::VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT;
use vmclock::clock::guard::{Guard, GuardDevice};
use vmclock::counter::Counter;
use vmclock::device::Unavailable;
use vmclock::extension::{DeviceRecord, DeviceState, Extension};
use vmclock::publish::DisruptionSource;
use vmclock::seqlock::{EXTENSION_WORDS, SharedWords, WORDS};
use vmclock::snapshot::RawFields;
use vmclock::source::kernel::clock::{Bracket, SystemClock};
use vmclock::source::kernel::discipline::{Discipline, MAXERROR_GROWTH_US_PER_SEC};
use vmclock::writer::blank;
use vmclock::{Continuity, Error, Options, Timescale, VmClock};

use vmclock_testkit::virtual_machine::{Machine, Memory};

/// `st_rdev` of the guest's device.
const DEVICE_NUMBER: u64 = 0xa7d;
/// The boot of every guest.
pub(crate) const BOOT_ID: u128 = 1;

/// A page in the guest's memory.
#[derive(Debug, Default)]
pub(crate) struct GuestMemory {
    pub(crate) memory: Memory,
    /// The sequence number that a flawed reader saw before it read the counter; 0 if there is none.
    early_seq: AtomicU32,
}

impl GuestMemory {
    fn device() -> Self {
        let device = Self::default();
        let fields = RawFields {
            disruption_marker: 7,
            flags: VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT,
            vm_generation_counter: 9,
            ..blank()
        };
        device.show(&fields, &Extension::default());
        device
    }

    fn remember_seq(&self) {
        self.early_seq
            .store(self.memory.load_seq(), Ordering::Relaxed);
    }
}

impl Deref for GuestMemory {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl SharedWords for GuestMemory {
    fn load_seq(&self) -> u32 {
        match self.early_seq.swap(0, Ordering::Relaxed) {
            0 => self.memory.load_seq(),
            early => early,
        }
    }

    fn load_head(&self) -> u32 {
        self.memory.load_head()
    }

    fn load_words(&self) -> [u64; WORDS] {
        self.memory.load_words()
    }

    fn load_extension(&self) -> Option<[u64; EXTENSION_WORDS]> {
        self.memory.load_extension()
    }

    fn fence_acquire(&self) {
        self.memory.fence_acquire();
    }
}

/// The guest's place on a host. Its holders follow the guest from host to host.
#[derive(Clone)]
pub(crate) struct Seat(Rc<Place>);

struct Place {
    machine: RefCell<Rc<Machine>>,
    /// An event within the next counter read, before or after the counter itself is read.
    intrusion: RefCell<Option<Intrusion>>,
    last_read: Cell<Read>,
    device: Arc<GuestMemory>,
    looks_early: Cell<bool>,
    /// An event within a step of the maker.
    maker_event: RefCell<Option<MakerEvent>>,
}

/// An event after so many calls of the maker.
struct MakerEvent {
    calls_left: u32,
    happen: Box<dyn FnOnce()>,
}

pub(crate) struct Intrusion {
    pub(crate) before_counter: bool,
    pub(crate) happen: Box<dyn FnOnce()>,
}

/// The last counter read, and the true time then.
#[derive(Clone, Copy, Default)]
pub(crate) struct Read {
    pub(crate) counter: u64,
    pub(crate) truth_fine: i128,
}

impl Seat {
    pub(crate) fn new(machine: Rc<Machine>) -> Self {
        Self(Rc::new(Place {
            machine: RefCell::new(machine),
            intrusion: RefCell::new(None),
            last_read: Cell::default(),
            device: Arc::new(GuestMemory::device()),
            looks_early: Cell::new(false),
            maker_event: RefCell::new(None),
        }))
    }

    /// The device's page. It reports the guest's disruptions.
    pub(crate) fn device(&self) -> &Arc<GuestMemory> {
        &self.0.device
    }

    /// The device as a maker that may look at it sees it.
    pub(crate) fn record(&self) -> DeviceRecord {
        let (fields, _) = self.0.device.shown();
        DeviceRecord::Seen(DeviceState {
            number: DEVICE_NUMBER,
            disruption_marker: fields.disruption_marker,
            vm_generation: Some(fields.vm_generation_counter),
        })
    }

    /// Has the device report a disruption, and perhaps that the guest was cloned or restored.
    pub(crate) fn report(&self, is_clone: bool) {
        let (mut fields, _) = self.0.device.shown();
        fields.disruption_marker += 1;
        fields.vm_generation_counter += u64::from(is_clone);
        self.0.device.show(&fields, &Extension::default());
    }

    /// Plans an event within the maker's next step, before one of its calls.
    pub(crate) fn intrude_on_maker(&self, calls_left: u32, happen: Box<dyn FnOnce()>) {
        *self.0.maker_event.borrow_mut() = Some(MakerEvent { calls_left, happen });
    }

    /// Lets an event happen that was planned within the maker's step.
    pub(crate) fn let_maker_event_happen(&self) {
        let event = self.0.maker_event.borrow_mut().take();
        if let Some(event) = event {
            (event.happen)();
        }
    }

    /// The maker makes a call.
    fn maker_calls(&self) {
        let mut planned = self.0.maker_event.borrow_mut();
        if let Some(event) = &mut *planned
            && event.calls_left > 0
        {
            event.calls_left -= 1;
            return;
        }
        let due = planned.take();
        drop(planned);
        if let Some(event) = due {
            (event.happen)();
        }
    }

    /// Plants the flaw of a reader that looks at the device before it reads the counter.
    pub(crate) fn look_early(&self) {
        self.0.looks_early.set(true);
    }

    pub(crate) fn machine(&self) -> Rc<Machine> {
        Rc::clone(&self.0.machine.borrow())
    }

    pub(crate) fn move_to(&self, machine: Rc<Machine>) {
        *self.0.machine.borrow_mut() = machine;
    }

    pub(crate) fn intrude(&self, intrusion: Intrusion) {
        *self.0.intrusion.borrow_mut() = Some(intrusion);
    }

    /// Lets a planned intrusion happen without a counter read.
    pub(crate) fn let_happen(&self) {
        let intrusion = self.0.intrusion.borrow_mut().take();
        if let Some(intrusion) = intrusion {
            (intrusion.happen)();
        }
    }

    pub(crate) fn last_read(&self) -> Read {
        self.0.last_read.get()
    }
}

impl Counter for Seat {
    fn id(&self) -> u8 {
        1
    }

    fn read(&self) -> u64 {
        if self.0.looks_early.get() {
            self.0.device.remember_seq();
        }
        let mut intrusion = self.0.intrusion.borrow_mut().take();
        if let Some(early) = intrusion.take_if(|intrusion| intrusion.before_counter) {
            (early.happen)();
        }
        let machine = self.machine();
        let counter = (&*machine).read();
        self.0.last_read.set(Read {
            counter,
            truth_fine: machine.truth_tai_fine_at_read(),
        });
        if let Some(late) = intrusion {
            (late.happen)();
        }
        counter
    }
}

/// The clock and counter that a publisher sees, on the guest's present machine.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) seat: Seat,
    /// Accepts a `maxerror` that the kernel counted up from 0.
    pub(crate) trusts_zero: bool,
    /// All that it sees of a device, where it cannot look at the guest's.
    pub(crate) device: Option<DeviceRecord>,
}

impl Counter for Host {
    fn id(&self) -> u8 {
        1
    }

    fn read(&self) -> u64 {
        (&*self.seat.machine()).read()
    }
}

impl SystemClock for Host {
    fn bracket(&self, counter: &impl Counter) -> Bracket {
        self.seat.maker_calls();
        (&*self.seat.machine()).bracket(counter)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
        self.seat.maker_calls();
        let mut discipline = (&*self.seat.machine()).discipline()?;
        if self.trusts_zero
            && discipline
                .maxerror_us
                .is_multiple_of(MAXERROR_GROWTH_US_PER_SEC)
        {
            discipline.maxerror_us += 1;
        }
        Ok(discipline)
    }

    fn suspended_ns(&self) -> i128 {
        (&*self.seat.machine()).suspended_ns()
    }
}

impl DisruptionSource for Host {
    fn look(&mut self) -> DeviceRecord {
        self.seat.maker_calls();
        self.device.unwrap_or_else(|| self.seat.record())
    }

    fn boot_id(&self) -> u128 {
        BOOT_ID
    }
}

/// A clock that the guest keeps for its whole life, and the last time that it returned.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) clock: VmClock<GuestMemory, Seat>,
    pub(crate) name: &'static str,
    pub(crate) timescale: Timescale,
    pub(crate) non_decreasing: bool,
    pub(crate) last_ns: Option<i64>,
}

/// The drift that a caller assumes for a page that states none.
pub(crate) const ASSUMED_DRIFT_PPB: u32 = 1_000_000;

/// The guard of a guest's clocks.
pub(crate) fn guard(seat: &Seat, can_look: bool) -> Guard<GuestMemory> {
    Guard {
        boot_id: Some(BOOT_ID),
        device: if can_look {
            GuardDevice::Open {
                memory: Arc::clone(seat.device()),
                number: DEVICE_NUMBER,
                size_bytes: 0x1000,
                path: PathBuf::from("/dev/vmclock0"),
            }
        } else {
            GuardDevice::Unavailable(Unavailable {
                path: PathBuf::from("/dev/vmclock0"),
                reason: "only root may read it".to_owned(),
                remedy: "let this user read it".to_owned(),
            })
        },
    }
}

/// One clock of every kind.
pub(crate) fn clocks(
    memory: &Arc<GuestMemory>,
    seat: &Seat,
    guard: &Guard<GuestMemory>,
) -> Vec<Held> {
    type Kind = (&'static str, Timescale, fn(&mut Options));
    let kinds: [Kind; 8] = [
        ("utc", Timescale::Utc, |_| ()),
        ("tai", Timescale::Tai, |_| ()),
        ("utc-noon-linear", Timescale::UtcNoonLinear, |_| ()),
        ("utc-sls", Timescale::UtcSls, |_| ()),
        ("utc, never decreasing", Timescale::Utc, |options| {
            options.non_decreasing = true;
        }),
        ("tai, never decreasing", Timescale::Tai, |options| {
            options.non_decreasing = true;
        }),
        ("utc, drift assumed", Timescale::Utc, |options| {
            options.assumed_drift_ppb = Some(ASSUMED_DRIFT_PPB);
        }),
        ("utc, synchronized only", Timescale::Utc, |options| {
            options.require_synchronized = true;
        }),
    ];
    kinds
        .into_iter()
        .map(|(name, timescale, change)| {
            let mut options = Options {
                timescale,
                ..Options::default()
            };
            change(&mut options);
            let non_decreasing = options.non_decreasing;
            Held {
                clock: VmClock::with_guard(
                    Arc::clone(memory),
                    0x1000,
                    seat.clone(),
                    options,
                    guard.clone(),
                ),
                name,
                timescale,
                non_decreasing,
                last_ns: None,
            }
        })
        .collect()
}

/// A captured counter, to be converted later.
#[derive(Clone, Copy)]
pub(crate) struct Capture {
    pub(crate) read: Read,
    pub(crate) token: Continuity,
    /// The disruptions before `token`.
    pub(crate) era: u64,
}
