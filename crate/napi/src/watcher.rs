//! Watches a page in one native thread per watcher, which calls JavaScript when it has notices.
//!
//! # The rules of this room
//!
//! - The threadsafe function carries no data, only the call. The notices wait in `Pending`, merged, and
//!   JavaScript takes them from there. So a slow JavaScript thread never has more than one call in the
//!   queue and one set of notices.
//! - The threadsafe function is weak: it keeps neither the process nor a worker alive.
//! - `close` discards the pending notices and waits for the thread, which never waits for JavaScript. A
//!   call that was queued before finds no notices, and the facade ignores it.
//! - The environment's clean-up hook closes a watcher that was left open, so no thread outlives a worker.
//!   The hook owns a reference count of the `Slot`. Its removal, or its run, releases that count.
//! - Everything except the thread belongs to one environment, and so to one JavaScript thread.

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

/// The watched part of a page's state.
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

/// The freshness of the page.
#[napi(object, object_from_js = false)]
pub struct NativeFreshness {
    pub is_stale: bool,
    /// The age of a stale page's reference.
    pub age_ns: Option<BigInt>,
}

/// The notices since the last call of `take`.
#[napi(object, object_from_js = false)]
pub struct NativeNotices {
    pub change: Option<NativeChange>,
    pub replaced: bool,
    /// The last change of it.
    pub freshness: Option<NativeFreshness>,
    pub error: Option<Failure>,
}

/// The notices that JavaScript has not taken yet.
#[derive(Default)]
struct Pending {
    change: Option<Change>,
    replaced: bool,
    /// The last age of a stale page, or `None` in place of a fresh one's.
    freshness: Option<Option<u64>>,
    error: Option<Error>,
}

impl Pending {
    fn add(&mut self, notice: Notice) {
        match notice {
            Notice::Change(later) => {
                self.change = Some(match self.change.take() {
                    Some(earlier) => earlier.then(later),
                    None => later,
                });
            }
            Notice::Replaced => self.replaced = true,
            Notice::Unreadable(error) => self.error = Some(error),
            Notice::Stale { age_ns } => self.freshness = Some(Some(age_ns)),
            Notice::Fresh => self.freshness = Some(None),
            // `Notice` is non-exhaustive. A new kind needs a field here first.
            _ => {}
        }
    }
}

/// A call of JavaScript without arguments: weak, with a queue of one call.
type Call = ThreadsafeFunction<(), UnknownReturnValue, (), Status, false, true, 1>;

/// The parts of an open watcher.
struct Running {
    closer: Closer,
    thread: JoinHandle<()>,
    pending: Arc<Mutex<Pending>>,
}

impl Running {
    fn start(
        mut watcher: Watcher,
        call: impl FnOnce() -> Result<Call>,
    ) -> std::result::Result<Self, Failure> {
        let closer = watcher.closer();
        let pending = Arc::new(Mutex::new(Pending::default()));
        let call = call().map_err(|error| {
            Failure::argument(&format!("the callback cannot be called: {}", error.reason))
        })?;
        let for_thread = Arc::clone(&pending);
        let thread = std::thread::Builder::new()
            .name("vmclock-watch".to_owned())
            .spawn(move || {
                while let Some(notice) = watcher.wait() {
                    locked(&for_thread).add(notice);
                    // If the queue is full, the call in it will take this notice too.
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
            pending,
        })
    }

    fn end(self) {
        self.closer.close();
        // The thread does not panic. If it did, it has ended all the same.
        let _ = self.thread.join();
    }
}

fn locked(pending: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    // Every statement leaves `Pending` consistent, so a panic elsewhere does no harm.
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts of a watcher; `None` once it is closed.
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
        // SAFETY: no hook was set, so the count taken above is still ours.
        drop(unsafe { Rc::from_raw(slot) });
        None
    }

    fn remove(self) {
        // SAFETY: only JavaScript calls this, on the environment's own thread and while it lives.
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
    /// Starts the thread. It reports every change since `watcher` was made.
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
        let pending = match self.slot.borrow().as_ref() {
            Some(running) => std::mem::take(&mut *locked(&running.pending)),
            None => Pending::default(),
        };
        NativeNotices {
            change: pending.change.map(NativeChange::from),
            replaced: pending.replaced,
            freshness: pending.freshness.map(|age_ns| NativeFreshness {
                is_stale: age_ns.is_some(),
                age_ns: age_ns.map(BigInt::from),
            }),
            error: pending.error.map(Failure::from),
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
        // The finalizer calls this. At the environment's end the hook either ran before, or runs later
        // and finds an empty slot. The hook's count stays with the environment.
        if let Some(running) = self.slot.take() {
            running.end();
        }
    }
}
