//! What a seat has that can be measured, and how a shell finds it. Pure.

use crate::workload::Workload;
use spec::PciAddress;
use spec::inventory::HostInventory;
use spec::plan::{SeatPlan, Source};

/// Class and subclass of an NVM controller (PCI Code and ID Assignment Specification 1.11, section 1.2).
const NVM: u16 = 0x0108;

/// The devices of a seat, by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    /// Functions of each slot, in their order.
    pub(crate) slots: Vec<Vec<PciAddress>>,
    /// The first display.
    pub(crate) display: Option<PciAddress>,
    /// The first NVMe disk.
    pub(crate) disk: Option<PciAddress>,
}

impl Devices {
    /// Finds the devices that a plan gives to a seat; virtual functions that are yet to be made are no part of a bench.
    pub(crate) fn of(seat: &SeatPlan, inventory: &HostInventory) -> Self {
        let mut devices = Self::default();
        for slot in &seat.slots {
            let taken = slot.functions.iter().filter_map(|function| match function.source {
                Source::Taken { address, .. } => Some(address),
                Source::Virtual { .. } => None,
            });
            let addresses: Vec<PciAddress> = taken.collect();
            for address in &addresses {
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
            }
            devices.slots.push(addresses);
        }
        devices
    }

    /// Whether a workload makes sense with these devices.
    pub(crate) fn suit(&self, workload: &Workload) -> bool {
        match workload.name {
            "fill" => self.display.is_some(),
            "disk" => self.disk.is_some(),
            _ => true,
        }
    }

    /// Returns the shell line that tells workloads where their devices are on the host.
    pub(crate) fn native_setup(&self, seconds: u32) -> String {
        // A virtio card's DRM device is below the virtio device, others' below the function itself.
        let card = self.display.map_or(String::new(), |address| {
            let function = format!("/sys/bus/pci/devices/{address}");
            format!("CARD=/dev/dri/$(ls -d {function}/drm/card* {function}/virtio*/drm/card* 2>/dev/null | head -n1 | xargs basename); ")
        });
        let disk = self.disk.map_or(String::new(), |address| {
            format!("DISK=/dev/$(ls -d /sys/bus/pci/devices/{address}/nvme/nvme*/nvme*n1 | head -n1 | xargs basename); ")
        });
        format!("SECONDS_A_ROUND={seconds}; {card}{disk}export SECONDS_A_ROUND CARD DISK")
    }

    /// Returns the same for a guest, which has no other devices than these; waits until they are there.
    pub(crate) fn guest_setup(&self, seconds: u32) -> String {
        let mut line = format!(
            "SECONDS_A_ROUND={seconds}; CARD=/dev/dri/card0; DISK=/dev/nvme0n1; export SECONDS_A_ROUND CARD DISK"
        );
        for (device, there) in [("$CARD", self.display.is_some()), ("$DISK", self.disk.is_some())] {
            if there {
                line += &format!(
                    "; n=0; while [ ! -e {device} ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done"
                );
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn a_workload_needs_its_device() {
        let address: PciAddress = "0000:03:00.0".parse().unwrap();
        let rows = [
            (Devices::default(), vec!["cpu", "wake"]),
            (Devices { display: Some(address), ..Devices::default() }, vec!["cpu", "fill", "wake"]),
            (Devices { disk: Some(address), ..Devices::default() }, vec!["cpu", "disk", "wake"]),
        ];
        for (devices, expected) in rows {
            let suitable: Vec<&str> = WORKLOADS
                .iter()
                .filter(|workload| devices.suit(workload))
                .map(|workload| workload.name)
                .collect();
            assert_eq!(suitable, expected, "{devices:?}");
        }
    }
}
