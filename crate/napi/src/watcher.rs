//! Watching a page: one native thread a watcher, and a call into JavaScript when it has something.
//!
//! # The rules of this room
//!
//! - Nothing crosses by way of the threadsafe function but the call itself. What happened waits in
//!   one place, merged into what waits there already, and JavaScript takes it from there: however slow
//!   JavaScript is, there is one call in the queue and one set of notices to be told.
//! - The threadsafe function is weak: it keeps neither process nor worker alive.
//! - `close` empties that place and waits for the thread, which never waits for JavaScript. A call
//!   that was queued before finds nothing; the facade does not even look.
//! - The environment's clean-up hook closes what was left open, so that no thread outlives a worker.
//!   It holds a count of the `Slot`, which whoever removes the hook or runs it gives back.
//! - Everything but the thread belongs to one environment and so to one JavaScript thread.

use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use napi::bindgen_prelude::{BigInt, Function, Result};
use napi::threadsafe_function::{
    ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue,
};
use napi::{Env, Status, sys};
use napi_derive::napi;
use vmclock::watch::{Change, Closer, Notice, Watched};
use vmclock::{Error, Maintenance, Watcher};

use crate::failure::Failure;

/// A state of the page: the part that is watched.
#[napi(object)]
pub struct NativeWatched {
    pub seq_count: u32,
    pub disruption_marker: BigInt,
    pub vm_generation: Option<BigInt>,
    pub maintenance: String,
    pub clock_status: Option<String>,
    pub leap_indicator: Option<String>,
}

impl From<&Watched> for NativeWatched {
    fn from(watched: &Watched) -> Self {
        Self {
            seq_count: watched.seq_count,
            disruption_marker: watched.disruption_marker.into(),
            vm_generation: watched.vm_generation.map(BigInt::from),
            maintenance: match watched.maintenance {
                Maintenance::None => "none",
                Maintenance::Soon => "soon",
                Maintenance::Imminent => "imminent",
            }
            .to_owned(),
            clock_status: watched.status.map(|status| status.to_string()),
            leap_indicator: watched.leap.map(|leap| leap.to_string()),
        }
    }
}

#[napi(object)]
pub struct NativeChange {
    pub before: NativeWatched,
    pub after: NativeWatched,
    pub updates: u32,
    pub disruption: bool,
    pub generation: bool,
    pub maintenance: bool,
    pub status: bool,
    pub leap: bool,
}

impl From<Change> for NativeChange {
    fn from(change: Change) -> Self {
        Self {
            before: NativeWatched::from(&change.before),
            after: NativeWatched::from(&change.after),
            updates: change.updates,
            disruption: change.kinds.disruption,
            generation: change.kinds.generation,
            maintenance: change.kinds.maintenance,
            status: change.kinds.status,
            leap: change.kinds.leap,
        }
    }
}

/// All that happened since the last call of `take`.
#[napi(object, object_from_js = false)]
pub struct NativeNotices {
    pub change: Option<NativeChange>,
    pub replaced: bool,
    pub trouble: Option<Failure>,
}

/// What waits for JavaScript.
#[derive(Default)]
struct Waiting {
    change: Option<Change>,
    replaced: bool,
    trouble: Option<Error>,
}

impl Waiting {
    fn add(&mut self, notice: Notice) {
        match notice {
            Notice::Change(later) => {
                self.change = Some(match self.change.take() {
                    Some(earlier) => earlier.then(later),
                    None => later,
                });
            }
            Notice::Replaced => self.replaced = true,
            Notice::Trouble(error) => self.trouble = Some(error),
            // A kind that this glue does not know has nowhere to go.
            _ => {}
        }
    }
}

/// Calls JavaScript without arguments; weak, and with one call in its queue at most.
type Call = ThreadsafeFunction<(), UnknownReturnValue, (), Status, false, true, 1>;

/// What runs while a watcher is open.
struct Running {
    closer: Closer,
    thread: JoinHandle<()>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Running {
    fn start(
        mut watcher: Watcher,
        call: impl FnOnce() -> Result<Call>,
    ) -> std::result::Result<Self, Failure> {
        let closer = watcher.closer();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let call = call().map_err(|error| {
            Failure::argument(&format!("the callback cannot be called: {}", error.reason))
        })?;
        let for_thread = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("vmclock-watch".to_owned())
            .spawn(move || {
                while let Some(notice) = watcher.wait() {
                    locked(&for_thread).add(notice);
                    // A full queue holds a call that is still to take what was just put there.
                    let status = call.call((), ThreadsafeFunctionCallMode::NonBlocking);
                    if status == Status::Closing {
                        break;
                    }
                }
            })
            .map_err(|source| Error::System {
                syscall: "clone",
                path: None,
                source,
            })?;
        Ok(Self {
            closer,
            thread,
            waiting,
        })
    }

    fn end(self) {
        self.closer.close();
        // It does not panic; if it did, it is over all the same.
        let _ = self.thread.join();
    }
}

fn locked(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    // What it guards is whole between any two statements.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watcher that may still be running.
type Slot = RefCell<Option<Running>>;

#[napi]
pub struct NativeWatcher {
    slot: Rc<Slot>,
    hook: RefCell<Option<Hook>>,
}

/// The environment's clean-up hook, while it is in place.
struct Hook {
    env: sys::napi_env,
    slot: *const Slot,
}

unsafe extern "C" fn clean_up(slot: *mut c_void) {
    // SAFETY: `Hook::set` gave this count to the environment, which calls a hook once, and not after
    // `Hook::remove`.
    let slot = unsafe { Rc::from_raw(slot.cast_const().cast::<Slot>()) };
    if let Some(running) = slot.take() {
        running.end();
    }
}

impl Hook {
    fn set(env: &Env, slot: &Rc<Slot>) -> Option<Self> {
        let (env, slot) = (env.raw(), Rc::into_raw(Rc::clone(slot)));
        // SAFETY: the environment is the one that runs this call.
        let status =
            unsafe { sys::napi_add_env_cleanup_hook(env, Some(clean_up), slot.cast_mut().cast()) };
        if status == sys::Status::napi_ok {
            return Some(Self { env, slot });
        }
        // SAFETY: the count taken above, which nobody else has.
        drop(unsafe { Rc::from_raw(slot) });
        None
    }

    fn remove(self) {
        // SAFETY: on the environment's own thread and while it lives: called by JavaScript only.
        let status = unsafe {
            sys::napi_remove_env_cleanup_hook(self.env, Some(clean_up), self.slot.cast_mut().cast())
        };
        if status == sys::Status::napi_ok {
            // SAFETY: the hook is gone without having run, so its count is ours again.
            drop(unsafe { Rc::from_raw(self.slot) });
        }
    }
}

impl NativeWatcher {
    /// Starts the thread. The watcher's state is as of now: whatever changes from here on is told.
    pub(crate) fn start(
        env: &Env,
        watcher: Watcher,
        callback: &Function<'_, (), UnknownReturnValue>,
    ) -> std::result::Result<Self, Failure> {
        let running = Running::start(watcher, || {
            callback
                .build_threadsafe_function::<()>()
                .weak::<true>()
                .max_queue_size::<1>()
                .build()
        })?;
        let slot = Rc::new(RefCell::new(Some(running)));
        let hook = RefCell::new(Hook::set(env, &slot));
        Ok(Self { slot, hook })
    }
}

#[napi]
impl NativeWatcher {
    #[napi]
    pub fn take(&self) -> NativeNotices {
        let waiting = match self.slot.borrow().as_ref() {
            Some(running) => std::mem::take(&mut *locked(&running.waiting)),
            None => Waiting::default(),
        };
        NativeNotices {
            change: waiting.change.map(NativeChange::from),
            replaced: waiting.replaced,
            trouble: waiting.trouble.map(Failure::from),
        }
    }

    #[napi]
    pub fn close(&self) {
        if let Some(hook) = self.hook.take() {
            hook.remove();
        }
        if let Some(running) = self.slot.take() {
            running.end();
        }
    }
}

impl Drop for NativeWatcher {
    fn drop(&mut self) {
        // By the finalizer. Where that is the environment's end, the hook has run or will not find
        // anything; its count stays with the environment.
        if let Some(running) = self.slot.take() {
            running.end();
        }
    }
}
