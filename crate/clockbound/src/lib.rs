//! Nothing: the tests compare the core with ClockBound's clients.
