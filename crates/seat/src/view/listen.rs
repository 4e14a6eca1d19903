//! Where viewers connect: a unix socket for its owner, or a port of this host's own address.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket, made for its owner only.
    Unix(PathBuf),
    /// A loopback port.
    Loopback(SocketAddr),
}

/// A text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// It is neither of both.
    #[error("an address is `unix:PATH` or a loopback port such as `127.0.0.1:5900`")]
    Form,
    /// Others could reach it.
    #[error(
        "a view listens on this host's own address only (127.0.0.1 or [::1]); reach it from elsewhere through ssh"
    )]
    Reachable,
}

/// Nobody could listen there.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {errno}")]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// What the kernel said.
    pub errno: std::io::Error,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket, and its place, which goes when this does.
    Unix(UnixListener, PathBuf),
    /// A port.
    Tcp(TcpListener),
}

/// A viewer's connection.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text.parse().map_err(|_| ParseAddressError::Form)?;
        if address.ip().is_loopback() {
            Ok(Self::Loopback(address))
        } else {
            Err(ParseAddressError::Reachable)
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Loopback(address) => write!(f, "{address}"),
        }
    }
}

impl Listener {
    /// Listens on `address`.
    pub fn bind(address: &Address) -> Result<Self, ListenError> {
        let listener = match address {
            Address::Unix(path) => {
                clear(path);
                // Whoever may connect sees and steers the machine: nobody but the owner.
                let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
                let listener = UnixListener::bind(path);
                rustix::process::umask(mask);
                listener.map(|listener| Self::Unix(listener, path.clone()))
            }
            Address::Loopback(address) => TcpListener::bind(address).map(Self::Tcp),
        };
        listener.map_err(|errno| ListenError { address: address.to_string(), errno })
    }

    /// Waits for the next viewer.
    pub(super) fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                // Pictures are written whole: waiting for more to send only delays them.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Takes away what a view that was killed has left: a socket on which nobody listens.
fn clear(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).err().is_some_and(refused) {
        // If it cannot go, who listens there next hears of it.
        let _ = std::fs::remove_file(path);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // What is left is found by the next one.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Stream {
    /// How long reads wait; `None` for as long as it takes.
    pub(super) fn set_patience(&self, read: Option<Duration>, write: Duration) -> std::io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(Some(write))
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(Some(write))
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Listener, ParseAddressError};

    #[test]
    fn addresses_that_others_reach_are_refused() {
        for (text, expected) in [
            ("unix:/run/view", Ok("unix:/run/view")),
            ("127.0.0.1:5900", Ok("127.0.0.1:5900")),
            ("[::1]:5900", Ok("[::1]:5900")),
            ("0.0.0.0:5900", Err(ParseAddressError::Reachable)),
            ("192.168.1.1:5900", Err(ParseAddressError::Reachable)),
            ("unix:", Err(ParseAddressError::Form)),
            ("5900", Err(ParseAddressError::Form)),
        ] {
            let found = text.parse::<Address>().map(|address| address.to_string());
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_an_earlier_view_has_left_stands_in_nobody_s_way_and_what_it_has_not_made_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("view");
        let bind = || Listener::bind(&Address::Unix(path.clone()));
        drop(bind().unwrap());
        assert!(!path.exists());
        // As one that was killed leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listens = bind().unwrap();
        bind().unwrap_err();
        assert!(path.exists(), "another one listens there");
        drop(listens);
        std::fs::write(&path, "a file").unwrap();
        bind().unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    }

    #[test]
    fn a_view_s_socket_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("view");
        let _listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Listener::bind(&Address::Unix(path)).is_err());
    }
}
