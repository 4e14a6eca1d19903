//! The legacy VGA ranges of an assigned card, which are no BARs: VFIO's VGA region has them at their own addresses.
//!
//! The kernel routes the host's bridges to the card for each access (`drivers/vfio/pci/vfio_pci_rdwr.c`, vfio_pci_vga_rw;
//! `drivers/pci/vgaarb.c`). Where they go in the guest is for its bridges to say, as for every card.

use linux::vfio::{Area, Device, DeviceError, RegionIndex};
use pci::{BarIndex, BarRange};

use super::bars::whole_pages;

/// The ranges, as the kernel gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LegacyVga {
    /// The parts of the memory that can be mapped, from the start of the memory. Today's kernels map none.
    pub(crate) mappable: Vec<Area>,
}

impl LegacyVga {
    /// Asks for the ranges; `None` when the kernel gives them not at all or not whole.
    pub(crate) fn of(device: &dyn Device) -> Result<Option<Self>, DeviceError> {
        // Kernels without CONFIG_VFIO_PCI_VGA know no such region: that is an answer as well.
        let Ok(region) = device.region(RegionIndex::VGA) else { return Ok(None) };
        let [memory, ..] = BarRange::legacy_vga(0);
        let end = memory.address + memory.size;
        if region.size < end || !region.readable || !region.writable {
            return Ok(None);
        }
        let pages = whole_pages(&region.areas, end).into_iter();
        let mappable = pages.filter_map(|area| {
            // Below the memory there is nothing of the card's.
            let start = area.offset.max(memory.address);
            let size = area.end()?.checked_sub(start).filter(|size| *size > 0)?;
            Some(Area { offset: start - memory.address, size })
        });
        Ok(Some(Self { mappable: mappable.collect() }))
    }
}

/// The region of a range of the function, and where in the region it begins.
pub(crate) fn region(range: BarIndex) -> (RegionIndex, u64) {
    let legacy = BarRange::legacy_vga(0).into_iter().find(|vga| vga.index == range);
    legacy.map_or((RegionIndex(range.get().into()), 0), |vga| (RegionIndex::VGA, vga.address))
}
