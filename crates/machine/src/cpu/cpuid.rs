//! CPUID of each vCPU: what the host supports, with the machine's own topology written over the host's.
//!
//! Leaf numbers and fields: Intel SDM volume 2 (CPUID), AMD APM volume 3 appendix E, and for 0x4000xxxx
//! Linux Documentation/virt/kvm/x86/cpuid.rst.

use linux::kvm::CpuidEntry;
use spec::guest_address_bits;

/// What of CPUID is the machine's own.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// vCPUs in the machine: cores of one package, one thread each.
    pub cpus: u32,
    /// Whether the in-kernel local APIC has the TSC-deadline timer.
    pub tsc_deadline: bool,
}

const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HYPER_THREADING: u32 = 1 << 28;
const CMP_LEGACY: u32 = 1 << 1;

/// The leaves for the vCPU with APIC id `apic_id`, made from those the host `supported`.
pub fn leaves(supported: &[CpuidEntry], topology: Topology, apic_id: u32) -> Vec<CpuidEntry> {
    let mut leaves: Vec<_> =
        supported.iter().filter(|leaf| !matches!(leaf.function, 0xb | 0x1f)).copied().collect();
    let max = |base: u32| supported.iter().find(|leaf| leaf.function == base).map_or(0, |leaf| leaf.eax);
    let bits = u32::from(physical_bits(supported));
    for leaf in &mut leaves {
        patch(leaf, topology, apic_id);
        if leaf.function == 0x8000_0008 {
            // What the processor has, and what a guest can use of it, which newer kernels tell too.
            let usable = (leaf.eax >> 16 & 0xff).min(bits);
            leaf.eax = leaf.eax & !0x00ff_00ff | usable << 16 | bits;
        }
    }
    // Intel prefers 0x1f where the highest leaf reaches it; both say the same.
    for function in [0xb, 0x1f] {
        if max(0) >= function {
            leaves.extend(extended_topology(function, topology, apic_id));
        }
    }
    leaves
}

/// Bits of a guest-physical address, as the guest is told ([`guest_address_bits`]); 36 where the processor does not tell.
pub fn physical_bits(supported: &[CpuidEntry]) -> u8 {
    let find = |function: u32| supported.iter().find(|leaf| leaf.function == function);
    let bits = find(0x8000_0008).map_or(36, |leaf| leaf.eax.to_le_bytes()[0]);
    guest_address_bits(&find(0).map(vendor).unwrap_or_default(), bits)
}

/// The twelve letters of leaf 0.
fn vendor(leaf: &CpuidEntry) -> String {
    String::from_utf8_lossy(&[leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat()).into_owned()
}

/// Bits of the APIC id that number the cores.
fn core_bits(cpus: u32) -> u32 {
    cpus.next_power_of_two().trailing_zeros()
}

fn patch(leaf: &mut CpuidEntry, topology: Topology, apic_id: u32) {
    let cpus = topology.cpus;
    match leaf.function {
        0x1 => {
            let count = cpus.next_power_of_two().min(255);
            leaf.ebx = leaf.ebx & 0x0000_ffff | count << 16 | (apic_id & 0xff) << 24;
            leaf.ecx = leaf.ecx & !TSC_DEADLINE | HYPERVISOR;
            if topology.tsc_deadline {
                leaf.ecx |= TSC_DEADLINE;
            }
            leaf.edx = if cpus > 1 { leaf.edx | HYPER_THREADING } else { leaf.edx & !HYPER_THREADING };
        }
        // Deterministic cache parameters, Intel and AMD: only the last level is shared.
        0x4 | 0x8000_001d if leaf.eax & 0x1f != 0 => {
            let level = leaf.eax >> 5 & 7;
            let sharing = if level >= 3 { (1 << core_bits(cpus)) - 1 } else { 0 };
            leaf.eax = leaf.eax & 0x0000_3fff | (sharing & 0xfff) << 14;
            if leaf.function == 0x4 {
                leaf.eax |= ((1 << core_bits(cpus)) - 1).min(63) << 26;
            }
        }
        0x8000_0001 if cpus > 1 => leaf.ecx |= CMP_LEGACY,
        0x8000_0001 => leaf.ecx &= !CMP_LEGACY,
        0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | core_bits(cpus) << 12 | (cpus - 1).min(255),
        // Extended APIC id; core id with one thread; node 0 of one.
        0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (apic_id, apic_id & 0xff, 0),
        _ => {}
    }
}

/// The x2APIC topology leaf: a thread level of one, a core level of all, and the level that ends the list.
fn extended_topology(function: u32, topology: Topology, apic_id: u32) -> [CpuidEntry; 3] {
    const THREAD_LEVEL: u32 = 1;
    const CORE_LEVEL: u32 = 2;
    let level = |index: u32, kind: u32, shift: u32, count: u32| CpuidEntry {
        function,
        index,
        flags: kvm_significant_index(),
        eax: shift,
        ebx: count,
        ecx: index | kind << 8,
        edx: apic_id,
        ..Default::default()
    };
    [
        level(0, THREAD_LEVEL, 0, 1),
        level(1, CORE_LEVEL, core_bits(topology.cpus), topology.cpus),
        level(2, 0, 0, 0),
    ]
}

/// KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the sub-leaf number matters.
const fn kvm_significant_index() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use linux::kvm::CpuidEntry;

    use super::{Topology, leaves, physical_bits};

    fn leaf(function: u32, eax: u32) -> CpuidEntry {
        CpuidEntry { function, eax, ..Default::default() }
    }

    fn find(leaves: &[CpuidEntry], function: u32, index: u32) -> CpuidEntry {
        *leaves.iter().find(|leaf| (leaf.function, leaf.index) == (function, index)).unwrap()
    }

    const FOUR: Topology = Topology { cpus: 4, tsc_deadline: true };

    #[test]
    fn each_vcpu_has_its_own_id_and_sees_all_cores() {
        let host = [
            leaf(0, 0x1f),
            CpuidEntry { ebx: 0x7f20_0800, ..leaf(1, 0) },
            leaf(0xb, 9),
            leaf(0x8000_001e, 0),
        ];
        let guest = leaves(&host, FOUR, 3);
        assert_eq!(find(&guest, 1, 0).ebx, 0x0304_0800, "the host's cache line size stays");
        for function in [0xb, 0x1f] {
            let core = find(&guest, function, 1);
            assert_eq!((core.eax, core.ebx, core.ecx, core.edx), (2, 4, 0x201, 3));
            assert_eq!(find(&guest, function, 0).ecx, 0x100);
        }
        assert_eq!(find(&guest, 0x8000_001e, 0).eax, 3);
    }

    #[test]
    fn the_leaf_of_addresses_tells_what_a_guest_is_to_know_and_can_use() {
        let letters = |text: &[u8]| u32::from_le_bytes(text.try_into().unwrap());
        let amd =
            CpuidEntry { ebx: letters(b"Auth"), edx: letters(b"enti"), ecx: letters(b"cAMD"), ..leaf(0, 1) };
        for (host, usable, told, told_usable) in
            [(40, 0, 39, 0), (40, 40, 39, 39), (39, 39, 39, 39), (52, 48, 52, 48)]
        {
            let supported = [amd, leaf(0x8000_0008, usable << 16 | 48 << 8 | host)];
            assert_eq!(u32::from(physical_bits(&supported)), told, "{host}");
            let guest = find(&leaves(&supported, FOUR, 0), 0x8000_0008, 0);
            assert_eq!(guest.eax, told_usable << 16 | 48 << 8 | told, "{host} {usable}");
        }
        assert_eq!(physical_bits(&[]), 36);
    }

    #[test]
    fn leaves_the_host_does_not_reach_are_not_made_up() {
        let guest = leaves(&[leaf(0, 0xa), leaf(1, 0)], FOUR, 0);
        assert!(guest.iter().all(|leaf| leaf.function <= 1));
    }

    #[test]
    fn only_the_last_cache_level_is_shared() {
        let cache = |level: u32| CpuidEntry { index: level, ..leaf(4, 0xffff_c001 | level << 5) };
        let guest = leaves(&[leaf(0, 4), cache(1), cache(3)], FOUR, 0);
        for (level, sharing) in [(1, 0), (3, 3)] {
            assert_eq!(find(&guest, 4, level).eax >> 14 & 0xfff, sharing, "level {level}");
        }
    }

    #[test]
    fn the_deadline_timer_is_shown_only_where_the_kernel_has_it() {
        for (tsc_deadline, bit) in [(true, 1), (false, 0)] {
            let host = [CpuidEntry { ecx: u32::MAX, ..leaf(1, 0) }];
            let guest = leaves(&host, Topology { cpus: 1, tsc_deadline }, 0);
            assert_eq!(find(&guest, 1, 0).ecx >> 24 & 1, bit);
        }
    }
}
