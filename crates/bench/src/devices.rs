//! What a seat has that can be measured, and how a shell finds it. Pure, but for a look at what a display's driver can.

use crate::workload::{Measure, Need, Workload};
use spec::PciAddress;
use spec::inventory::HostInventory;
use spec::plan::{SeatPlan, Source};
use spec::seat_file::RomChoice;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// Class and subclass of an NVM controller (PCI Code and ID Assignment Specification 1.11, section 1.2).
const NVM: u16 = 0x0108;
/// Those of an Ethernet controller.
const ETHERNET: u16 = 0x0200;
/// Where iperf3 listens (RFC 6335 registration); the next places have the ports behind it.
const FIRST_PORT: u16 = 5201;
/// Where a network card is measured on the host.
const NAMESPACE: &str = "allod-bench";
/// A function of the shell that waits until one of the paths of its pattern is there, for 30 s at most.
const AWAIT: &str = "await() { n=0; while [ -z \"$(ls -d $1 2>/dev/null)\" ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done; }; ";

/// Whom network cards talk to: a machine on which a server of iperf3 listens for each seat, on ports from 5201 on. The
/// cards get the addresses behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    address: Ipv4Addr,
    own: Ipv4Addr,
    prefix: u8,
    port: u16,
}

impl Peer {
    /// Reads `ADDRESS/PREFIX`; none if it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
        let peer = Self { address, own: address, prefix, port: FIRST_PORT };
        (prefix <= 30).then(|| Self { own: peer.behind(1), ..peer })
    }

    /// Returns what the place with this number, from 0, talks to.
    pub(crate) fn of_place(self, number: usize) -> Self {
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        Self { own: self.behind(u32::from(number) + 1), port: FIRST_PORT + u16::from(number), ..self }
    }

    fn behind(self, distance: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).wrapping_add(distance))
    }

    fn setup(self) -> String {
        let Self { address, own, prefix, port } = self;
        format!("PEER={address}; OWN={own}/{prefix}; PORT={port}; export PEER OWN PORT NIC; ")
    }
}

/// The devices of a seat, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    /// Functions of each slot, in their order, each with what takes the place of its ROM.
    pub(crate) slots: Vec<Vec<(PciAddress, Option<RomChoice>)>>,
    /// The first display.
    pub(crate) display: Option<PciAddress>,
    /// The first NVMe disk.
    pub(crate) disk: Option<PciAddress>,
    /// The first network card.
    pub(crate) network: Option<PciAddress>,
    /// The names of virtual functions that are yet to be made: they are no part of a bench.
    pub(crate) left_out: Vec<String>,
}

impl Devices {
    /// Finds the devices that a plan gives to a seat.
    pub(crate) fn of(seat: &SeatPlan, inventory: &HostInventory) -> Self {
        let mut devices = Self::default();
        for slot in &seat.slots {
            let mut given = Vec::new();
            for function in &slot.functions {
                match &function.source {
                    Source::Taken { address, .. } => given.push((*address, function.rom.clone())),
                    Source::Virtual { name, .. } => devices.left_out.push(name.clone()),
                }
            }
            if given.is_empty() {
                continue;
            }
            for (address, _) in &given {
                let Some(function) = inventory.functions.iter().find(|function| function.address == *address)
                else {
                    continue;
                };
                if function.class.is_display() {
                    devices.display.get_or_insert(*address);
                }
                if function.class.base_and_sub() == NVM {
                    devices.disk.get_or_insert(*address);
                }
                if function.class.base_and_sub() == ETHERNET {
                    devices.network.get_or_insert(*address);
                }
            }
            devices.slots.push(given);
        }
        devices
    }

    /// Whether the display has a driver that draws in three dimensions: such drivers make render nodes.
    pub(crate) fn draws_in_three_dimensions(&self) -> bool {
        let Some(address) = self.display else { return false };
        let function = Path::new("/sys/bus/pci/devices").join(address.to_string());
        // As a card, a render node may be below a virtio device.
        let below = fs::read_dir(&function).into_iter().flatten().flatten().map(|entry| entry.path());
        let folders = below.chain([function.clone()]).map(|folder| folder.join("drm"));
        let mut names = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        names.any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
    }

    /// Whether a workload makes sense with these devices.
    pub(crate) fn suit(&self, workload: &Workload, peer: bool) -> bool {
        match workload.needs {
            Need::Nothing => true,
            Need::Display => self.display.is_some(),
            Need::Disk => self.disk.is_some(),
            Need::Network => self.network.is_some() && peer,
        }
    }

    /// Returns the shell line that tells workloads where their devices are on the host; waits until their drivers have
    /// them. A network card is measured in a namespace of its own, so that the host, which may be the peer, has to send
    /// what it says to itself over the card.
    pub(crate) fn native_setup(&self, measure: Measure) -> String {
        let Measure { peer, .. } = measure;
        let mut line = format!("{}export CARD DISK; {AWAIT}", measure.setup());
        if let Some(address) = self.display {
            let function = format!("/sys/bus/pci/devices/{address}");
            // A virtio card's DRM device is below the virtio device, others' below the function itself.
            let found = format!("{function}/drm/card* {function}/virtio*/drm/card*");
            line += &format!(
                "await '{found}'; CARD=/dev/dri/$(basename $(ls -d {found} 2>/dev/null | head -n1)); "
            );
        }
        if let Some(address) = self.disk {
            let found = format!("/sys/bus/pci/devices/{address}/nvme/nvme*/nvme*n1");
            line += &format!("await '{found}'; DISK=/dev/$(basename $(ls -d {found} | head -n1)); ");
        }
        if let (Some(address), Some(peer)) = (self.network, peer) {
            let found = found_network(address);
            line += &format!(
                "{undo}; NIC=$(basename $(ls -d {found} | head -n1)); {peer}\
                 apart() {{ ip netns add {NAMESPACE}; ip link set $NIC netns {NAMESPACE}; \
                 ip netns exec {NAMESPACE} \"$@\"; ip netns del {NAMESPACE}; await '{found}'; }}; ",
                undo = undo_namespace(address),
                peer = peer.setup(),
            );
        }
        line + ":"
    }

    /// Returns the shell line that puts right what a round on the host leaves when it is ended before its time; none if it
    /// leaves nothing.
    pub(crate) fn native_undo(&self, measure: Measure) -> Option<String> {
        let address = self.network.filter(|_| measure.peer.is_some())?;
        Some(format!("{AWAIT}{}", undo_namespace(address)))
    }

    /// Returns what [`Self::native_setup`] does for a guest, which has no other devices than these.
    pub(crate) fn guest_setup(&self, measure: Measure) -> String {
        let Measure { peer, .. } = measure;
        let mut line =
            format!("{}CARD=/dev/dri/card0; DISK=/dev/nvme0n1; export CARD DISK; {AWAIT}", measure.setup());
        for (device, there) in [("$CARD", self.display.is_some()), ("$DISK", self.disk.is_some())] {
            if there {
                line += &format!("await {device}; ");
            }
        }
        if let (Some(_), Some(peer)) = (self.network, peer) {
            let found = "/sys/class/net/[!l]*";
            line +=
                &format!("await '{found}'; NIC=$(basename {found}); {}apart() {{ \"$@\"; }}; ", peer.setup());
        }
        line + ":"
    }
}

fn found_network(address: PciAddress) -> String {
    format!("/sys/bus/pci/devices/{address}/net/*")
}

/// A namespace's end gives the network card in it back to the host, a moment later.
fn undo_namespace(address: PciAddress) -> String {
    format!("ip netns del {NAMESPACE} 2>/dev/null; await '{}'", found_network(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn a_workload_needs_its_device() {
        let address: PciAddress = "0000:03:00.0".parse().unwrap();
        let card = Devices { display: Some(address), ..Devices::default() };
        let network = Devices { network: Some(address), ..Devices::default() };
        let rows = [
            (Devices::default(), true, vec!["cpu", "wake"]),
            (card, true, vec!["cpu", "fill", "gl", "wake"]),
            (Devices { disk: Some(address), ..Devices::default() }, true, vec!["cpu", "disk", "irq", "wake"]),
            (network.clone(), true, vec!["cpu", "net", "wake"]),
            (network, false, vec!["cpu", "wake"]),
        ];
        for (devices, peer, expected) in rows {
            let suitable: Vec<&str> = WORKLOADS
                .iter()
                .filter(|workload| devices.suit(workload, peer))
                .map(|workload| workload.name)
                .collect();
            assert_eq!(suitable, expected, "{devices:?}");
        }
    }

    #[test]
    fn a_namespace_that_a_killed_run_left_is_ended_before_the_next() {
        let round = std::time::Duration::from_secs(1);
        let measure = Measure { round, peer: Peer::parse("10.77.0.1/24") };
        let network = Devices { network: Some("0000:03:00.0".parse().unwrap()), ..Devices::default() };
        let setup = network.native_setup(measure);
        let at = |words: &str| setup.find(words).unwrap_or_else(|| panic!("no `{words}` in {setup}"));
        assert!(at("ip netns del allod-bench") < at("ip netns add allod-bench"), "{setup}");
        let undo = network.native_undo(measure).unwrap();
        assert!(undo.contains("ip netns del allod-bench"), "{undo}");
        assert_eq!(network.native_undo(Measure { peer: None, ..measure }), None);
        assert_eq!(Devices::default().native_undo(measure), None);
    }

    #[test]
    fn each_place_has_an_address_and_a_port_of_its_own() {
        let peer = Peer::parse("10.77.0.1/24").unwrap();
        assert_eq!(peer.setup(), peer.of_place(0).setup());
        assert_eq!(
            peer.of_place(1).setup(),
            "PEER=10.77.0.1; OWN=10.77.0.3/24; PORT=5202; export PEER OWN PORT NIC; "
        );
        for wrong in ["10.77.0.1", "10.77.0.1/31", "10.77.0/24", "host/24", ""] {
            assert_eq!(Peer::parse(wrong), None, "{wrong}");
        }
    }
}
