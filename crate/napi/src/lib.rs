//! The Node-API glue of vmclock: turns calls from JavaScript into calls of the core crate.
//!
//! The calls that take a timestamp are raw callbacks (the module [`hot`]), which makes them faster than the
//! built-in clocks. All other calls are `#[napi]` functions. `napi build` generates the TypeScript
//! declarations of those; `ts/native.ts` has the callbacks'. No call throws: a call that fails returns a
//! [`failure::Failure`], from which the TypeScript facade makes the error.
//!
//! # Panics
//!
//! No panic is reachable from JavaScript. The lints forbid `unwrap`, `expect`, `panic!` and indexing, here and
//! in the core. The test suite `machine-code` finds no call to a panicking function in the compiled reader. Two
//! kinds remain. The Rust tests and the fuzzer check arithmetic for overflow at every step, and compare it with
//! a model. Panics of libraries need a misuse, such as a clock borrowed twice; no call runs JavaScript while it
//! has borrowed one.
//!
//! A panic that is left all the same ends the process where it happens (`panic = "abort"`). Catching it would
//! not be better. A panic cannot unwind out of an `extern "C"` function, so each callback would have to catch
//! it, at a cost in every timestamp. And a clock in an unknown state would go on returning time.

#![allow(
    unsafe_code,
    reason = "Node-API is a C interface, and the macros of napi-derive expand to calls of it"
)]
#![allow(
    missing_docs,
    reason = "exports are documented where users see them: ts/native.ts"
)]

pub mod clock;
pub mod clones;
mod entropy;
pub mod failure;
pub mod hot;
pub mod machine;
pub mod page;
mod property;
pub mod ptp;
pub mod publisher;
mod typed_array;
pub mod watcher;
