//! The wires of a machine's virtual network cards, opened before it starts: taps, and passt's user-mode network.
//!
//! Not here: the card (`machine`), and frames (`linux::net`).

use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use linux::net::TapError;
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use spec::seat_file::{FirmwareKind, MacAddress};
use spec::{InheritedFd, LinkKind, NetworkSpec};

/// A virtual network card, by the name of what it is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// What it is plugged into.
    pub wire: Wire,
    /// Its address; without one it is made from the machine's name, the same at every start.
    pub mac: Option<MacAddress>,
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A tap interface of this host.
    Tap(String),
    /// A bridge of this host, through a tap interface that is made for the machine.
    Bridge(String),
    /// What this host reaches, from its own addresses: passt, which needs no rights.
    User,
}

/// A wire could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NoNetwork {
    /// The tap interface.
    #[error("{0}: {errno}; making one needs root (CAP_NET_ADMIN), or an interface that is yours already: `sudo ip tuntap add NAME mode tap user $USER`, then --net tap=NAME", errno = cause(.0))]
    Tap(#[from] TapError),
    /// passt is not there, or does not start.
    #[error(
        "start passt, which is the network of machines without rights: {0}; install Debian's package `passt`"
    )]
    Passt(#[source] std::io::Error),
    /// A BIOS starts nothing through a card without a ROM.
    #[error(
        "a BIOS starts a system from the network by the card's option ROM, and this host has none ({} is missing); install it with `sudo apt install ipxe-qemu`, or leave `network` as what to start from", BOOT_ROMS[0]
    )]
    NoBootRom,
    /// The socket to it.
    #[error("make a socket for passt: {0}")]
    Socket(#[source] rustix::io::Errno),
}

fn cause(error: &TapError) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// A card whose wire is open.
#[derive(Debug)]
pub(crate) struct OpenNetwork {
    file: OwnedFd,
    link: LinkKind,
    mac: MacAddress,
    rom: Option<OwnedFd>,
    program: Option<Child>,
}

/// As whom programs are started that a wire needs, and where they complain.
#[derive(Debug, Default)]
pub(crate) struct Starter {
    /// The user of a seat's machine; none: as this process is.
    pub(crate) user: Option<u32>,
    /// None: to this process's own.
    pub(crate) errors: Option<OwnedFd>,
}

impl OpenNetwork {
    /// Opens the wire of card number `index` of the machine `name`.
    pub(crate) fn open(
        network: &Network,
        name: &str,
        index: usize,
        starter: Starter,
    ) -> Result<Self, NoNetwork> {
        let mut program = None;
        let (file, link) = match &network.wire {
            Wire::Tap(tap) => (linux::net::open_tap(tap, None)?, LinkKind::Tap),
            // The kernel finds a free number.
            Wire::Bridge(bridge) => (linux::net::open_tap(TAP_NAME, Some(bridge))?, LinkKind::Tap),
            Wire::User => {
                let (child, socket) = start_passt(starter)?;
                program = Some(child);
                (socket, LinkKind::Stream)
            }
        };
        let mac = network.mac.unwrap_or_else(|| MacAddress::locally_administered(seed(name, index)));
        Ok(Self { file, link, mac, rom: None, program })
    }

    /// The program that is the other end of the wire, once.
    pub(crate) fn take_program(&mut self) -> Option<Child> {
        self.program.take()
    }

    /// Opens the option ROM by which firmware of this kind starts a system through the card.
    pub(crate) fn open_rom(&mut self, kind: FirmwareKind) -> Result<(), NoNetwork> {
        // OVMF does without: it has a driver of its own for these cards.
        self.rom = BOOT_ROMS.iter().find_map(|path| File::open(path).ok()).map(OwnedFd::from);
        match (&self.rom, kind) {
            (None, FirmwareKind::Bios) => Err(NoNetwork::NoBootRom),
            _ => Ok(()),
        }
    }

    pub(crate) fn spec(&self) -> NetworkSpec {
        let number = |fd: &OwnedFd| InheritedFd(fd.as_raw_fd());
        let rom = self.rom.as_ref().map(number);
        NetworkSpec { file: number(&self.file), link: self.link, mac: self.mac, rom }
    }

    /// All of its files, to be inherited.
    pub(crate) fn files(&self) -> impl Iterator<Item = &OwnedFd> {
        [Some(&self.file), self.rom.as_ref()].into_iter().flatten()
    }
}

/// iPXE for virtio-net, by BIOS and by UEFI, where Debian's package `ipxe-qemu` has put it over the
/// years.
const BOOT_ROMS: [&str; 2] = ["/usr/share/qemu/efi-virtio.rom", "/usr/lib/ipxe/qemu/efi-virtio.rom"];

/// Whether firmware can start a system through these cards by an option ROM.
pub(crate) fn has_boot_rom() -> bool {
    BOOT_ROMS.iter().any(|path| File::open(path).is_ok())
}

/// The name of the program that is the network of a user without rights.
pub(crate) const PASST: &str = "passt";

/// The name of taps that are made for a machine.
const TAP_NAME: &str = "allod%d";

/// FNV-1a: the same address for the same name, on every host and by every version.
fn seed(name: &str, index: usize) -> u64 {
    let bytes = name.bytes().chain((index as u64).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Starts passt on one end of a socket and gives the other; it ends when that is closed.
fn start_passt(starter: Starter) -> Result<(Child, OwnedFd), NoNetwork> {
    let (ours, its) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(NoNetwork::Socket)?;
    rustix::io::fcntl_setfd(&its, FdFlags::empty()).map_err(NoNetwork::Socket)?;
    let mut command = Command::new(PASST);
    command
        .args(["--foreground", "--quiet", "--fd", &its.as_raw_fd().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(errors) = starter.errors {
        command.stderr(errors);
    }
    if let Some(user) = starter.user {
        // Supplementary groups go as well. What listens on the host's loopback interface is for the host's own programs, and
        // passt would show it at the gateway's address.
        command.uid(user).gid(user).arg("--no-map-gw");
    }
    let child = command.spawn().map_err(NoNetwork::Passt)?;
    Ok((child, ours))
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (wire, mac) = match text.split_once(",mac=") {
            Some((wire, mac)) => (wire, Some(mac.parse::<MacAddress>().map_err(|error| error.to_string())?)),
            None => (text, None),
        };
        let wire = match wire.split_once('=') {
            Some(("tap", name)) if !name.is_empty() => Wire::Tap(name.to_owned()),
            Some(("bridge", name)) if !name.is_empty() => Wire::Bridge(name.to_owned()),
            None if wire == "user" => Wire::User,
            _ => return Err("a network is `tap=NAME`, `bridge=NAME` or `user`".to_owned()),
        };
        Ok(Self { wire, mac })
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tap(name) => write!(f, "tap={name}"),
            Self::Bridge(name) => write!(f, "bridge={name}"),
            Self::User => f.write_str("user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, Wire, seed};

    #[test]
    fn a_network_is_what_it_is_plugged_into() {
        for (text, wire, mac) in [
            ("tap=tap0", Wire::Tap("tap0".to_owned()), None),
            ("bridge=br0,mac=52:54:00:12:34:56", Wire::Bridge("br0".to_owned()), Some("52:54:00:12:34:56")),
            ("user", Wire::User, None),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.mac.map(|mac| mac.to_string()).as_deref(), mac);
            assert_eq!(network.wire, wire);
        }
        for wrong in ["", "tap=", "wifi", "user=me", "tap=a,mac=x", "tap=a,mac=01:00:00:00:00:00"] {
            wrong.parse::<Network>().unwrap_err();
        }
    }

    #[test]
    fn addresses_differ_by_machine_and_card() {
        assert_eq!(seed("anna", 0), seed("anna", 0));
        assert_ne!(seed("anna", 0), seed("anna", 1));
        assert_ne!(seed("anna", 0), seed("bert", 0));
    }
}
