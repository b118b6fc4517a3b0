//! The Node-API glue of vmclock: turns calls from JavaScript into calls of the core crate, and
//! nothing else. `napi build` generates the TypeScript declarations of its exports, except for those of the
//! raw callbacks, which `ts/native.ts` has.
//!
//! Cold calls are `#[napi]` functions; the calls that stamp are raw callbacks (the module `hot`), because
//! that is what makes them faster than the built-in clocks. No call throws: one that fails returns
//! a [`failure::Failure`], from which the TypeScript facade makes the error.
//!
//! # Panics
//!
//! None is reachable from JavaScript. The lints forbid what panics by itself (`unwrap`, `expect`, `panic!`,
//! an index), here and in the core, and the `machine-code` suite finds no call to what panics in the
//! compiled reader. What remains is arithmetic that overflows, which the Rust tests and the
//! fuzzer check at every step and against a model, and what libraries hold for impossible, such as a clock
//! borrowed twice: no call runs JavaScript while it holds one.
//!
//! Should one be left all the same, it ends the process where it happens (`panic = "abort"`). To catch it
//! would not be better: a panic cannot unwind out of an `extern "C"` function, so each callback would have
//! to, at a cost in every stamp; and a clock whose state nobody vouches for would go on to tell the time.

#![allow(
    unsafe_code,
    reason = "Node-API is a C interface, and the macros of napi-derive expand to calls of it"
)]
#![allow(
    missing_docs,
    reason = "exports are documented where users see them: ts/native.ts"
)]

pub mod clock;
pub mod failure;
pub mod hot;
pub mod machine;
pub mod page;
pub mod ptp;
pub mod publisher;
mod typed_array;
pub mod watcher;
