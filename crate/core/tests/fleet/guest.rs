//! A guest: its seat on a host, which may change, and its clocks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use vmclock::counter::Counter;
use vmclock::extension::{DeviceRecord, DeviceState};
use vmclock::publish::DisruptionSource;
use vmclock::source::kernel::clock::{Bracket, SystemClock};
use vmclock::source::kernel::discipline::{Discipline, MAXERROR_GROWTH_US_PER_SEC};
use vmclock::{Continuity, Error, Options, Timescale, VmClock};

use vmclock_testkit::virtual_machine::{Machine, Memory};

/// The guest's place on a host. Its holders follow the guest from host to host.
#[derive(Clone)]
pub(crate) struct Seat(Rc<Place>);

struct Place {
    machine: RefCell<Rc<Machine>>,
    /// An event within the next counter read, before or after the counter itself is read.
    intrusion: RefCell<Option<Intrusion>>,
    last_read: Cell<Read>,
    device: Cell<DeviceRecord>,
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
            device: Cell::default(),
        }))
    }

    /// Gives the guest a device that reports its disruptions.
    pub(crate) fn plug_in(&self) {
        self.0.device.set(DeviceRecord::Seen(DeviceState {
            number: 0xa7d,
            disruption_marker: 7,
            vm_generation: Some(9),
        }));
    }

    pub(crate) fn device(&self) -> DeviceRecord {
        self.0.device.get()
    }

    pub(crate) fn set_device(&self, device: DeviceRecord) {
        self.0.device.set(device);
    }

    /// Has the device, if there is one, report a disruption, and that the guest was cloned or restored.
    pub(crate) fn report(&self, is_clone: bool) {
        if let DeviceRecord::Seen(mut state) = self.0.device.get() {
            state.disruption_marker += 1;
            if is_clone {
                state.vm_generation = state.vm_generation.map(|generation| generation + 1);
            }
            self.0.device.set(DeviceRecord::Seen(state));
        }
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
        (&*self.seat.machine()).bracket(counter)
    }

    fn discipline(&self) -> Result<Discipline, Error> {
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
        self.seat.0.device.get()
    }

    fn boot_id(&self) -> u128 {
        1
    }
}

/// A clock that the guest keeps for its whole life, and the last time that it returned.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) clock: VmClock<Memory, Seat>,
    pub(crate) name: &'static str,
    pub(crate) timescale: Timescale,
    pub(crate) non_decreasing: bool,
    pub(crate) last_ns: Option<i64>,
}

/// The drift that a caller assumes for a page that states none.
pub(crate) const ASSUMED_DRIFT_PPB: u32 = 1_000_000;

/// One clock of every kind.
pub(crate) fn clocks(memory: &Arc<Memory>, seat: &Seat) -> Vec<Held> {
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
                clock: VmClock::new(Arc::clone(memory), 0x1000, seat.clone(), options),
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
