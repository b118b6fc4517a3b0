//! Keeps the terminal from stopping this process.

#![allow(
    unsafe_code,
    reason = "no safe library call ignores a signal without a handler"
)]

use std::io;

use crate::Error;

/// Ignores SIGTTIN and SIGTTOU in this process, by `signal(2)`.
///
/// The kernel stops a process that reads its terminal in the background, or writes to one in the mode
/// `tostop`. If the process ignores these signals, such a read fails with `EIO` and such a write succeeds.
///
/// # Errors
///
/// [`Error::System`] if the kernel refuses the call.
pub fn ignore_terminal_stops() -> Result<(), Error> {
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: SIG_IGN runs no code of this process, and no library here depends on either signal.
        let previous = unsafe { libc::signal(signal, libc::SIG_IGN) };
        if previous == libc::SIG_ERR {
            return Err(Error::system("signal", None, io::Error::last_os_error()));
        }
    }
    Ok(())
}
