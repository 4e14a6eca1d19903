//! Tap interfaces (Documentation/networking/tuntap.rst): a network card of the host whose wire is a file.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::Received;

/// A tap interface could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name is none that an interface can have.
    #[error("`{0}` is no name of a network interface: 1 to 15 characters without a slash or a space")]
    Name(String),
    /// The kernel refused.
    #[error("{call} for the network interface {name}")]
    Kernel {
        /// What was tried.
        call: &'static str,
        /// Of which interface.
        name: String,
        /// What the kernel said.
        #[source]
        errno: io::Error,
    },
}

/// A tap interface's wire.
#[derive(Debug)]
pub struct TapLink {
    file: OwnedFd,
}

impl TapLink {
    /// Uses the file of a tap interface that was opened by [`open_tap`].
    ///
    /// # Errors
    /// When it cannot be told not to wait.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self { file })
    }

    pub(super) fn send(&mut self, frame: &[u8]) {
        // An interface that is down, or full, takes nothing: the frame is lost.
        while rustix::io::write(&self.file, frame) == Err(Errno::INTR) {}
    }

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            match rustix::io::read(&self.file, &mut *buffer) {
                Ok(0) => return Received::Closed,
                Ok(read) => return Received::Frame(read),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(_) => return Received::Closed,
            }
        }
    }
}

impl AsFd for TapLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the tap interface `name`, making it when it is not there (`%d` in it becomes a free number); with `bridge`, plugs it in there and switches it on.
///
/// Needs the right to administrate networks, or an interface that is this user's own.
pub fn open_tap(name: &str, bridge: Option<&str>) -> Result<OwnedFd, TapError> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|errno| TapError::Kernel { call: "open /dev/net/tun", name: name.to_owned(), errno })?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    ask(file.as_raw_fd(), TUNSETIFF, &mut request, "TUNSETIFF", name)?;
    if let Some(bridge) = bridge {
        // A name with `%d` has become another one.
        plug_in(&name_of(&request), bridge)?;
    }
    Ok(file.into())
}

/// `_IOW('T', 202, int)` (include/uapi/linux/if_tun.h).
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;

fn plug_in(name: &str, bridge: &str) -> Result<(), TapError> {
    let failed =
        |call| move || TapError::Kernel { call, name: name.to_owned(), errno: io::Error::last_os_error() };
    // SAFETY: socket takes plain numbers and gives an fd or -1.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(failed("socket")());
    }
    // SAFETY: the kernel has just made this fd for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let fd = socket.as_raw_fd();
    let mut tap = request(name)?;
    ask(fd, libc::SIOCGIFINDEX as libc::Ioctl, &mut tap, "SIOCGIFINDEX", name)?;
    let mut into = request(bridge)?;
    // SAFETY: SIOCGIFINDEX has filled in this member.
    into.ifr_ifru.ifru_ifindex = unsafe { tap.ifr_ifru.ifru_ifindex };
    match ask(fd, SIOCBRADDIF, &mut into, "SIOCBRADDIF", bridge) {
        // It is in that bridge, or in another one, already: whoever put it there knew why.
        Err(TapError::Kernel { errno, .. }) if errno.raw_os_error() == Some(libc::EBUSY) => {}
        result => result?,
    }
    let mut flags = request(name)?;
    ask(fd, libc::SIOCGIFFLAGS as libc::Ioctl, &mut flags, "SIOCGIFFLAGS", name)?;
    // SAFETY: SIOCGIFFLAGS has filled in this member.
    let now = unsafe { flags.ifr_ifru.ifru_flags };
    flags.ifr_ifru.ifru_flags = now | libc::IFF_UP as libc::c_short;
    ask(fd, libc::SIOCSIFFLAGS as libc::Ioctl, &mut flags, "SIOCSIFFLAGS", name)
}

/// include/uapi/linux/sockios.h.
const SIOCBRADDIF: libc::Ioctl = 0x89a2;

fn name_of(request: &libc::ifreq) -> String {
    request
        .ifr_name
        .iter()
        .map(|byte| byte.cast_unsigned())
        .take_while(|byte| *byte != 0)
        .map(char::from)
        .collect()
}

fn request(name: &str) -> Result<libc::ifreq, TapError> {
    let fits = (1..libc::IFNAMSIZ).contains(&name.len());
    if !fits || name.bytes().any(|byte| byte == b'/' || !byte.is_ascii_graphic()) {
        return Err(TapError::Name(name.to_owned()));
    }
    // SAFETY: all of the structure's members are numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

fn ask(
    fd: i32,
    number: libc::Ioctl,
    request: &mut libc::ifreq,
    call: &'static str,
    name: &str,
) -> Result<(), TapError> {
    // No crate of ours wraps these requests safely.
    // SAFETY: every request above reads and writes one ifreq, which is borrowed for the call.
    match unsafe { libc::ioctl(fd, number, std::ptr::from_mut(request)) } {
        0.. => Ok(()),
        _ => Err(TapError::Kernel { call, name: name.to_owned(), errno: io::Error::last_os_error() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{TapError, request};

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for name in ["", "a/b", "a b", "sixteen-letters-", "tab\t"] {
            assert!(matches!(request(name), Err(TapError::Name(_))), "{name}");
        }
        assert_eq!(super::name_of(&request("allod%d").unwrap()), "allod%d");
        assert_eq!(request("tap0").unwrap().ifr_name[..5], *b"tap0\0".map(u8::cast_signed).as_slice());
    }
}
