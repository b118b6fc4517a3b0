//! The simulations and models that the tests and fuzz targets of `vmclock` share.
//!
//! - [`exact`]: the specification's formulas in integers without limits, to compare the core with.
//! - [`virtual_page`]: a page in plain memory and a counter that a test sets.
//! - [`virtual_machine`]: a machine whose true time is known, with a counter, a kernel clock and a time daemon.
//! - [`scene`]: a publisher on such a machine, and a reader that is checked against the true time.
//! - [`chronyd`]: a chronyd on such a machine, that slews by rate.
//! - [`hostile`]: a reader and a publisher over arbitrary bytes.

pub mod chronyd;
pub mod exact;
pub mod hostile;
pub mod scene;
pub mod virtual_machine;
pub mod virtual_page;
