//! Loads drivers for hardware that appears while the host runs: virtual functions, replugged cards.
//!
//! The kernel announces each device on a netlink socket (lib/kobject_uevent.c): strings separated by zero bytes,
//! the first `ACTION@PATH`, the others `NAME=VALUE`.

use crate::mounts::complain;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::io;
use std::process::Command;
use std::thread;

/// Longest announcement (UEVENT_BUFFER_SIZE and the path before it).
const EVENT_LIMIT: usize = 8192;
/// The multicast group the kernel itself sends to.
const KERNEL_GROUP: u32 = 1;

/// Starts following the kernel's announcements.
pub(crate) fn follow() {
    thread::spawn(|| complain("follow new hardware", listen()));
}

fn listen() -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    let mut buffer = vec![0; EVENT_LIMIT];
    loop {
        let length = match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => length,
            // Too many at once: some are lost, the next ones count.
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(alias) = alias_of_new_device(&buffer[..length]) {
            let status = Command::new("modprobe").args(["--quiet", "--", &alias]).status();
            complain("modprobe", status.map(drop));
        }
    }
}

/// Returns what a new device asks for; none for other announcements and devices that ask for nothing.
fn alias_of_new_device(event: &[u8]) -> Option<String> {
    let mut words = event.split(|byte| *byte == 0);
    words.next()?.starts_with(b"add@").then_some(())?;
    let alias = words.find_map(|word| word.strip_prefix(b"MODALIAS="))?;
    String::from_utf8(alias.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::alias_of_new_device;

    #[test]
    fn only_new_devices_with_an_alias_ask_for_a_driver() {
        let rows: [(&[u8], Option<&str>); 4] = [
            (b"add@/devices/x\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=7\0", Some("pci:v1")),
            (b"remove@/devices/x\0ACTION=remove\0MODALIAS=pci:v1\0", None),
            (b"add@/devices/x\0ACTION=add\0", None),
            (b"", None),
        ];
        for (event, expected) in rows {
            assert_eq!(alias_of_new_device(event).as_deref(), expected);
        }
    }
}
