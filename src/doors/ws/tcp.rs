//! The TCP side of a connection: its options, and how to end it when nothing else does.

use std::{
    any::Any,
    cell::Cell,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
    time::Duration,
};

use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

/// Bytes that the kernel may hold for a client that is slow to read. Its own default grows to megabytes,
/// which would be seconds of staleness.
const SEND_BUFFER: usize = 128 * 1024;
/// How long sent bytes may go unacknowledged.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection's descriptor, for as long as the connection has it.
///
/// Lives in the connection's data, which goes before its stream does: so the number can never name another
/// connection here. Not a duplicate of the descriptor, which would cost one for each connection.
#[derive(Debug)]
pub struct SocketHandle {
    fd: Cell<Option<RawFd>>,
}

/// The owner of the handle: dropped with the connection.
struct HandleOwner(Rc<SocketHandle>);

impl Drop for HandleOwner {
    fn drop(&mut self) {
        self.0.fd.set(None);
    }
}

impl SocketHandle {
    /// Ends the connection, whatever it is doing: its dispatcher sees the end and lets go of everything.
    pub fn shut_down(&self) {
        if let Some(fd) = self.fd.get() {
            // Fails if the peer has ended it already.
            let _ = shutdown(fd, Shutdown::Both);
        }
    }
}

/// Prepares an accepted connection.
pub fn on_connect(io: &dyn Any, data: &mut Extensions) {
    let Some(stream) = io.downcast_ref::<TcpStream>() else { return };
    set_options(stream);
    let handle = Rc::new(SocketHandle { fd: Cell::new(Some(stream.as_raw_fd())) });
    data.insert(HandleOwner(handle));
}

/// The handle of a request's connection.
pub fn handle_of(request: &actix_web::HttpRequest) -> Option<Rc<SocketHandle>> {
    request.conn_data::<HandleOwner>().map(|owner| owner.0.clone())
}

/// None of the options is vital: where one cannot be set, the watchdog does its work alone.
fn set_options(stream: &TcpStream) {
    let results = [
        setsockopt(stream, sockopt::TcpNoDelay, &true),
        setsockopt(stream, sockopt::KeepAlive, &true),
        setsockopt(stream, sockopt::SndBuf, &SEND_BUFFER),
        #[cfg(target_os = "linux")]
        setsockopt(stream, sockopt::TcpUserTimeout, &(USER_TIMEOUT.as_millis() as u32)),
    ];
    if let Some(error) = results.into_iter().find_map(Result::err) {
        log::debug!("a socket option could not be set: {error}");
    }
}
