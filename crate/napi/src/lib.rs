//! The Node-API glue of vmclock.
