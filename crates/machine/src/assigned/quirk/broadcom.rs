//! A card of Broadcom's whose option ROM stops the firmware that runs it.

/// Whether the ROM of a function is not for guests unless its owner gives a file of it: BCM57810, whose ROM hangs in a
/// virtual machine (QEMU hw/vfio/pci-quirks.c, list of ROMs not to load).
pub(crate) fn hides_rom(vendor: u16, device: u16) -> bool {
    (vendor, device) == (0x14e4, 0x168e)
}
