//! The guest-physical address map: where RAM, the PCI windows and the boot structures lie.

use std::ops::Range;

/// The largest low RAM: the 32-bit PCI window starts where it ends at the latest.
pub const LOW_RAM_LIMIT: u64 = 0x8000_0000;

/// The last KiB of conventional memory, which a BIOS keeps for itself: kernels and tools look for it by the pointer in the
/// BIOS data area, and take a missing one for a fault.
pub const EXTENDED_BIOS_DATA: Range<u64> = 0x9_fc00..0xa_0000;

/// Where the BIOS data area names the segment of [`EXTENDED_BIOS_DATA`].
pub const EXTENDED_BIOS_DATA_POINTER: u64 = 0x40e;

/// Legacy VGA memory. No RAM here: with a primary display it belongs to the card, else nobody answers.
pub const VGA_HOLE: Range<u64> = 0xa_0000..0xc_0000;

/// The area that a BIOS occupies and that the kernel searches for the ACPI root pointer.
pub const BIOS_AREA: Range<u64> = 0xe_0000..0x10_0000;

/// The first byte above the legacy area.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Where both stock firmwares put the memory-mapped config space.
pub const ECAM: u64 = 0xb000_0000;

/// Bytes of memory-mapped config space for one bus (PCI Express Base, section 7.2.2).
pub const ECAM_PER_BUS: u64 = 1 << 20;

/// The windows for 32-bit BARs, on both sides of the memory-mapped config space.
pub const PCI_32_BIT: [Range<u64>; 2] = [LOW_RAM_LIMIT..ECAM, 0xc000_0000..0xfec0_0000];

/// The window for I/O BARs. Below lie the board's own ports.
pub const PCI_IO: Range<u64> = 0x1000..0x1_0000;

/// Four pages for KVM on Intel hosts without unrestricted guests, clear of the APICs and of firmware flash.
pub const KVM_PRIVATE: u64 = 0xfeff_c000;

/// Bytes of [`KVM_PRIVATE`].
pub const KVM_PRIVATE_LEN: u64 = 0x4000;

/// The registers of a TPM's locality 0, and its buffer (TCG PC Client Platform TPM Profile 1.05, section 6.5.3.1). Between
/// the I/O APIC and the local ones: no window of PCI reaches there.
pub const TPM: Range<u64> = 0xfed4_0000..0xfed4_1000;

/// Where memory above the 32-bit hole starts.
pub const ABOVE_4G: u64 = 0x1_0000_0000;

/// Page-aligned stretches at which a guest with `size` bytes of RAM sees it; the VGA hole takes its bytes away.
pub fn ram_blocks(size: u64) -> Vec<Range<u64>> {
    let low = size.min(LOW_RAM_LIMIT);
    let mut blocks = vec![0..low.min(VGA_HOLE.start)];
    if low > VGA_HOLE.end {
        blocks.push(VGA_HOLE.end..low);
    }
    if size > LOW_RAM_LIMIT {
        blocks.push(ABOVE_4G..ABOVE_4G + (size - LOW_RAM_LIMIT));
    }
    blocks
}

/// What a stretch of the address space is to the guest's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Free to use (e820 type 1).
    Ram,
    /// Not to be used (e820 type 2).
    Reserved,
}

/// The memory map a kernel is told: RAM without the BIOS area, and the reserved stretches.
pub fn memory_map(size: u64, ecam: Range<u64>) -> Vec<(Range<u64>, MemoryKind)> {
    let mut map = Vec::new();
    for block in ram_blocks(size) {
        // From the VGA hole to the first megabyte: option ROMs and BIOS, even without one.
        let start = if block.start == VGA_HOLE.end { HIGH_MEMORY } else { block.start };
        let end = if block.end == VGA_HOLE.start { EXTENDED_BIOS_DATA.start } else { block.end };
        if start < end {
            map.push((start..end, MemoryKind::Ram));
        }
    }
    map.push((EXTENDED_BIOS_DATA, MemoryKind::Reserved));
    map.push((BIOS_AREA, MemoryKind::Reserved));
    map.push((ecam, MemoryKind::Reserved));
    map.push((KVM_PRIVATE..KVM_PRIVATE + KVM_PRIVATE_LEN, MemoryKind::Reserved));
    map.sort_by_key(|(range, _)| range.start);
    map
}

#[cfg(test)]
mod tests {
    use super::{ABOVE_4G, BIOS_AREA, ECAM, EXTENDED_BIOS_DATA, MemoryKind, memory_map, ram_blocks};

    #[test]
    fn ram_leaves_the_holes_free() {
        for (size, blocks) in [
            (0x8_0000, vec![0..0x8_0000]),
            (512 << 20, vec![0..0xa_0000, 0xc_0000..512 << 20]),
            (2 << 30, vec![0..0xa_0000, 0xc_0000..2 << 30]),
            (6 << 30, vec![0..0xa_0000, 0xc_0000..2 << 30, ABOVE_4G..ABOVE_4G + (4 << 30)]),
        ] {
            assert_eq!(ram_blocks(size), blocks, "{size:#x}");
        }
    }

    #[test]
    fn the_memory_map_is_sorted_and_free_of_overlap() {
        let map = memory_map(6 << 30, ECAM..ECAM + (1 << 20));
        for pair in map.windows(2) {
            assert!(pair[0].0.end <= pair[1].0.start, "{pair:x?}");
        }
        for reserved in [BIOS_AREA, EXTENDED_BIOS_DATA] {
            assert!(map.contains(&(reserved, MemoryKind::Reserved)));
        }
    }
}
