//! What Windows looks for in a hypervisor: Microsoft's leaves of CPUID, as far as KVM implements what they promise.
//!
//! Facts: Microsoft, "Hypervisor Top Level Functional Specification", chapter 2; Linux arch/x86/kvm/hyperv.c
//! (kvm_get_hv_cpuid) and include/hyperv/hvgdk.h. Each feature is shown only when KVM offers it and those it rests on are
//! there. Not here: the registers behind them, which are KVM's.

use linux::kvm::CpuidEntry;

/// The first leaf, and how far KVM's own leaves are moved to make room.
const FIRST: u32 = 0x4000_0000;
const STEP: u32 = 0x100;

/// Leaves by number.
const INTERFACE: u32 = FIRST + 1;
const VERSION: u32 = FIRST + 2;
const FEATURES: u32 = FIRST + 3;
const RECOMMENDATIONS: u32 = FIRST + 4;
const LIMITS: u32 = FIRST + 5;
const LAST: u32 = FIRST + 0xa;

/// "Hv#1": the interface is Microsoft's.
const INTERFACE_SIGNATURE: u32 = 0x3123_7648;
/// The version of a Hyper-V that all of today's guests know: 10.0, build 14393.
const BUILD: u32 = 14_393;
const MAJOR_MINOR: u32 = 10 << 16;

/// What a guest may use: bits of FEATURES.EAX.
mod privilege {
    pub(super) const RUNTIME: u32 = 1 << 0;
    pub(super) const TIME: u32 = 1 << 1;
    pub(super) const SYNIC: u32 = 1 << 2;
    pub(super) const SYNTHETIC_TIMERS: u32 = 1 << 3;
    pub(super) const APIC: u32 = 1 << 4;
    pub(super) const HYPERCALLS: u32 = 1 << 5;
    pub(super) const VP_INDEX: u32 = 1 << 6;
    pub(super) const RESET: u32 = 1 << 7;
    pub(super) const REFERENCE_TSC: u32 = 1 << 9;
    pub(super) const FREQUENCIES: u32 = 1 << 11;
    pub(super) const ALL: u32 = RUNTIME
        | TIME
        | SYNIC
        | SYNTHETIC_TIMERS
        | APIC
        | HYPERCALLS
        | VP_INDEX
        | RESET
        | REFERENCE_TSC
        | FREQUENCIES;
}

/// Bits of FEATURES.EDX.
const FREQUENCIES_THERE: u32 = 1 << 8;
const DIRECT_TIMERS: u32 = 1 << 19;

/// What a guest is advised to use: bits of RECOMMENDATIONS.EAX.
mod advice {
    pub(super) const REMOTE_FLUSH: u32 = 1 << 2;
    pub(super) const APIC: u32 = 1 << 3;
    pub(super) const RELAXED_TIMING: u32 = 1 << 5;
    pub(super) const CLUSTER_IPI: u32 = 1 << 10;
    pub(super) const SPARSE_SETS: u32 = 1 << 11;
}

/// How often a guest tries a spinlock before it tells the hypervisor.
const SPINS: u32 = 0x1fff;
/// Virtual processors and local vCPU limits, as KVM has them.
const MAX_PROCESSORS: u32 = 4096;

/// What a machine shows of Hyper-V.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperV {
    /// The vendor that the first leaf names: twelve characters at most.
    pub vendor: String,
    /// Whether KVM's own leaves are shown as well, moved behind Microsoft's.
    pub kvm_leaves: bool,
}

impl Default for HyperV {
    fn default() -> Self {
        Self { vendor: "Microsoft Hv".to_owned(), kvm_leaves: true }
    }
}

/// Puts Microsoft's leaves in front of those of KVM in `leaves`; `offered` are KVM's own words on what it implements.
pub fn apply(leaves: &mut Vec<CpuidEntry>, hyperv: &HyperV, offered: &[CpuidEntry]) {
    leaves.retain_mut(|leaf| {
        let kvm = (FIRST..FIRST + STEP).contains(&leaf.function);
        if kvm {
            // The first of KVM's leaves names the last one.
            leaf.eax = if leaf.function == FIRST { FIRST + STEP + 1 } else { leaf.eax };
            leaf.function += STEP;
        }
        hyperv.kvm_leaves || !kvm
    });
    leaves.extend(microsoft(hyperv, offered));
}

/// Whether the guest is shown the synthetic interrupt controller, which each vCPU must be given.
pub fn has_synic(offered: &[CpuidEntry]) -> bool {
    features(offered).0 & privilege::SYNIC != 0
}

fn microsoft(hyperv: &HyperV, offered: &[CpuidEntry]) -> Vec<CpuidEntry> {
    let leaf = |function, [eax, ebx, ecx, edx]: [u32; 4]| CpuidEntry {
        function,
        eax,
        ebx,
        ecx,
        edx,
        ..CpuidEntry::default()
    };
    let mut vendor = [0; 12];
    for (place, byte) in vendor.iter_mut().zip(hyperv.vendor.bytes()) {
        *place = byte;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = vendor;
    let words = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes);
    let (privileges, misc) = features(offered);
    let mut leaves = vec![
        leaf(FIRST, [LAST, words[0], words[1], words[2]]),
        leaf(INTERFACE, [INTERFACE_SIGNATURE, 0, 0, 0]),
        leaf(VERSION, [BUILD, MAJOR_MINOR, 0, 0]),
        leaf(FEATURES, [privileges, 0, 0, misc]),
        leaf(RECOMMENDATIONS, [recommendations(privileges, offered), SPINS, 0, 0]),
        leaf(LIMITS, [MAX_PROCESSORS, 64, 0, 0]),
    ];
    // Nothing is promised of hardware, nested guests and the like; the leaves are there to say so.
    leaves.extend((LIMITS + 1..=LAST).map(|function| leaf(function, [0; 4])));
    leaves
}

/// FEATURES' EAX and EDX: what KVM offers, without what lacks a thing it rests on.
fn features(offered: &[CpuidEntry]) -> (u32, u32) {
    let there = find(offered, FEATURES);
    let mut privileges = there.eax & privilege::ALL;
    for (feature, rests_on) in [
        (privilege::REFERENCE_TSC, privilege::TIME),
        (privilege::SYNIC, privilege::VP_INDEX | privilege::HYPERCALLS),
        (privilege::SYNTHETIC_TIMERS, privilege::SYNIC | privilege::TIME),
    ] {
        if privileges & rests_on != rests_on {
            privileges &= !feature;
        }
    }
    let mut misc = 0;
    if privileges & privilege::FREQUENCIES != 0 {
        misc |= there.edx & FREQUENCIES_THERE;
    }
    if privileges & privilege::SYNTHETIC_TIMERS != 0 {
        misc |= there.edx & DIRECT_TIMERS;
    }
    (privileges, misc)
}

fn recommendations(privileges: u32, offered: &[CpuidEntry]) -> u32 {
    let there = find(offered, RECOMMENDATIONS).eax;
    let mut recommended = there & (advice::APIC | advice::RELAXED_TIMING);
    // Both name processors by index, and the sets of them may be sparse.
    if privileges & privilege::VP_INDEX != 0 && privileges & privilege::HYPERCALLS != 0 {
        recommended |= there & (advice::REMOTE_FLUSH | advice::CLUSTER_IPI | advice::SPARSE_SETS);
    }
    recommended
}

fn find(offered: &[CpuidEntry], function: u32) -> CpuidEntry {
    offered.iter().find(|leaf| leaf.function == function).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use linux::kvm::CpuidEntry;

    use super::{FEATURES, HyperV, RECOMMENDATIONS, apply, has_synic};

    fn leaf(function: u32, eax: u32, edx: u32) -> CpuidEntry {
        CpuidEntry { function, eax, edx, ..Default::default() }
    }

    fn applied(hyperv: &HyperV, eax: u32) -> Vec<CpuidEntry> {
        let mut leaves =
            vec![leaf(1, 7, 0), leaf(0x4000_0000, 0x4000_0001, 0x4d), leaf(0x4000_0001, 0xfb, 0)];
        apply(&mut leaves, hyperv, &[leaf(FEATURES, eax, u32::MAX), leaf(RECOMMENDATIONS, u32::MAX, 0)]);
        leaves
    }

    fn find(leaves: &[CpuidEntry], function: u32) -> Option<CpuidEntry> {
        let mut found = leaves.iter().filter(|leaf| leaf.function == function);
        let first = found.next().copied();
        assert!(found.next().is_none(), "{function:#x} twice");
        first
    }

    #[test]
    fn microsoft_s_leaves_come_first_and_kvm_s_are_moved_or_gone() {
        let leaves = applied(&HyperV::default(), u32::MAX);
        let first = find(&leaves, 0x4000_0000).unwrap();
        let name: Vec<u8> =
            [first.ebx, first.ecx, first.edx].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((first.eax, name.as_slice()), (0x4000_000a, &b"Microsoft Hv"[..]));
        assert_eq!(find(&leaves, 0x4000_0001).unwrap().eax, 0x3123_7648);
        assert_eq!(find(&leaves, 0x4000_0100).unwrap().eax, 0x4000_0101);
        assert_eq!(find(&leaves, 0x4000_0101).unwrap().eax, 0xfb);
        assert_eq!(find(&leaves, 1).unwrap().eax, 7);
        let only = applied(&HyperV { vendor: "Elsewhere".to_owned(), kvm_leaves: false }, u32::MAX);
        assert_eq!(find(&only, 0x4000_0100), None);
        assert_eq!(find(&only, 0x4000_0000).unwrap().edx, u32::from(b'e'));
    }

    #[test]
    fn a_feature_is_shown_only_with_what_it_rests_on() {
        for (offered, shown) in [
            (u32::MAX, 0xaff),
            // No time: no reference TSC, no timers.
            (!0x002, 0xaff & !0x20a),
            // No processor index: no interrupt controller, no timers.
            (!0x040, 0xaff & !0x04c),
            (0, 0),
        ] {
            let features = find(&applied(&HyperV::default(), offered), FEATURES).unwrap();
            assert_eq!(features.eax, shown, "{offered:#x}");
            assert_eq!(features.edx & 1 << 19 != 0, shown & 8 != 0, "{offered:#x}");
            assert_eq!(has_synic(&[leaf(FEATURES, offered, 0)]), shown & 4 != 0);
        }
    }
}
