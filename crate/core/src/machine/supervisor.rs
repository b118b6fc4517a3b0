//! Tells the service manager about this process, by the protocol of `sd_notify(3)`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use crate::Error;

/// Sends a state such as `READY=1` to the socket that `$NOTIFY_SOCKET` names. An `@` at its start stands for the
/// NUL of an abstract name.
///
/// # Errors
///
/// [`Error::System`] if the message cannot be sent.
pub fn notify(socket: &str, state: &str) -> Result<(), Error> {
    send(socket, state).map_err(|error| Error::system("sendto", Some(Path::new(socket)), error))
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_at_a_path_and_at_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("vmclock-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (receiver, socket) in [
            (UnixDatagram::bind(&path), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_name), format!("@{name}")),
        ] {
            let receiver = receiver.unwrap();
            notify(&socket, "READY=1").unwrap();
            let mut text = [0; 32];
            let length = receiver.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1");
        }
        assert_eq!(
            notify("/nonexistent/socket", "READY=1").unwrap_err().code(),
            "ERR_VMCLOCK_SYSTEM"
        );
    }
}
