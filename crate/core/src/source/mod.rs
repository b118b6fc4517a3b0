//! Sources of time that a page can be made from.

pub mod kernel;
