//! The model-specific registers that firmware leaves set and a kernel relies on.
//!
//! Sources: Intel SDM volume 3, section 12.11 (MTRRs; AMD APM volume 2, section 7.7 has the same) and volume 4.

use crate::layout::{ABOVE_4G, LOW_RAM_LIMIT};

const MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;

const DEFAULT_TYPE: u32 = 0x2ff;
const FIXED_ENABLED: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
const WRITE_BACK: u64 = 6;
const UNCACHEABLE: u64 = 0;

const VARIABLE_BASE_0: u32 = 0x200;
const VARIABLE_MASK_0: u32 = 0x201;
const VALID: u64 = 1 << 11;

/// One byte of type for each eighth of the register's range.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
/// 0 to 512 KiB, 512 to 640 KiB, then each 32 KiB from 768 KiB to 1 MiB.
const FIXED_RAM: [u32; 10] = [0x250, 0x258, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// 640 to 768 KiB, the legacy VGA memory.
const FIXED_VGA: u32 = 0x259;

/// The registers as index and value, the same for each vCPU, on a processor with `physical_bits` of physical address.
///
/// Memory is write-back, but for legacy VGA and the hole for devices below 4 GiB. KVM heeds that when an assigned device
/// makes DMA non-coherent (arch/x86/kvm/mtrr.c).
pub fn at_start(physical_bits: u8) -> Vec<(u32, u64)> {
    let addresses = 1_u64.checked_shl(physical_bits.into()).map_or(u64::MAX, |end| end - 1);
    let hole_mask = addresses & !(ABOVE_4G - LOW_RAM_LIMIT - 1);
    let mut registers = vec![
        (MISC_ENABLE, FAST_STRINGS),
        (DEFAULT_TYPE, ENABLED | FIXED_ENABLED | WRITE_BACK),
        (VARIABLE_BASE_0, LOW_RAM_LIMIT | UNCACHEABLE),
        (VARIABLE_MASK_0, hole_mask | VALID),
        (FIXED_VGA, UNCACHEABLE),
    ];
    registers.extend(FIXED_RAM.map(|index| (index, ALL_WRITE_BACK)));
    registers
}

/// The registers for firmware: the processor's own state at reset, but for the strings that no firmware switches on.
pub fn at_reset() -> Vec<(u32, u64)> {
    vec![(MISC_ENABLE, FAST_STRINGS)]
}

#[cfg(test)]
mod tests {
    use super::at_start;

    #[test]
    fn the_hole_below_4_gib_is_uncacheable_and_nothing_else_above_1_mib() {
        for (physical_bits, mask) in [(36, 0xf_8000_0800), (40, 0xff_8000_0800), (52, 0xf_ffff_8000_0800)] {
            let registers = at_start(physical_bits);
            let value = |index| registers.iter().find(|(other, _)| *other == index).map(|(_, value)| *value);
            assert_eq!((value(0x200), value(0x201)), (Some(0x8000_0000), Some(mask)), "{physical_bits} bits");
            assert_eq!(value(0x2ff), Some(0xc06));
        }
    }
}
