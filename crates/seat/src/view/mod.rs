//! A view of a machine's emulated display over VNC: RFB 3.8 on a unix socket or a loopback port (RFC 6143).
//!
//! A process of its own, and a client of the machine's control socket: what a viewer sends is never parsed where the guest
//! runs. A viewer is one thread; pictures are taken only while it wants one. Not here: the display (`machine`), and
//! encryption: a port that others reach belongs behind ssh or a TLS proxy.

mod encode;
mod keys;
mod listen;
mod password;
mod protocol;
mod session;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use rustix::event::{PollFd, PollFlags};

use crate::control::{Control, ControlError};

pub use listen::{Address, ListenError, Listener, ParseAddressError};
pub use password::{Password, PasswordError};

/// What is shown, and to whom.
#[derive(Debug)]
pub struct View {
    /// The machine's control socket.
    pub machine: PathBuf,
    /// The name that viewers put into their title.
    pub name: String,
    /// What a viewer must know; `None` only where the socket itself keeps strangers out.
    pub password: Option<Password>,
}

/// Viewers cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No machine is there.
    #[error(transparent)]
    Machine(#[from] ControlError),
    /// Nobody can connect.
    #[error("wait for viewers: {0}")]
    Listen(#[from] std::io::Error),
}

/// Viewers at one time: each is a client of the machine's control socket, which serves 16, and others want room there too.
const MAX_VIEWERS: usize = 8;
/// Connections at one time, with those that have not said yet who they are: they keep no viewer out.
const MAX_CONNECTIONS: usize = 64;

impl View {
    /// Serves viewers for as long as the machine lives; gives `Ok` when it has ended.
    ///
    /// # Errors
    /// When no machine is there, or nobody can connect any more.
    pub fn serve(self, listener: &Listener) -> Result<(), ServeError> {
        // Nothing is said over it: it ends when the machine does.
        let machine = Control::connect(&self.machine)?;
        let view = std::sync::Arc::new(self);
        let connections = std::sync::Arc::new(());
        let viewers = std::sync::Arc::new(AtomicUsize::new(0));
        loop {
            let mut events =
                [listener.as_fd(), machine.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match rustix::event::poll(&mut events, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.map_err(std::io::Error::from)?,
            };
            let [newcomer, end] = &events;
            if !end.revents().is_empty() {
                return Ok(());
            }
            if newcomer.revents().is_empty() {
                continue;
            }
            let stream = listener.accept()?;
            if std::sync::Arc::strong_count(&connections) > MAX_CONNECTIONS {
                continue;
            }
            let (view, alive) = (std::sync::Arc::clone(&view), std::sync::Arc::clone(&connections));
            let viewers = std::sync::Arc::clone(&viewers);
            std::thread::Builder::new().name("viewer".to_owned()).spawn(move || {
                // A viewer that goes away or talks nonsense is let go; the reason is its own.
                if let Err(error) = session::serve(&view, stream, &viewers) {
                    eprintln!("allod: a viewer was let go: {error}");
                }
                drop(alive);
            })?;
        }
    }
}
