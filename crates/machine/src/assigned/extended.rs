//! The extended capabilities of an assigned function: which a guest sees, and those it sees fixed.
//!
//! Called by `config`. Headers are ours, so that one can be left out; bodies stay the hardware's.

use pci::capability::{Capability, Chain, extended_id};
use pci::register::{self, Register};

use super::config::View;
use super::snapshot::Snapshot;

/// What a guest must not or cannot use.
///
/// SR-IOV: virtual functions are the host's to make, and firmware stumbles over BARs it cannot write. ARI: the function
/// number in the guest is another. ATS, page requests and PASID: need an IOMMU that the guest does not have, and the
/// kernel lets no write through (`vfio_pci_config.c`, `ecap_perms`).
const HIDDEN: [u16; 8] = [
    extended_id::NULL,
    extended_id::ARI,
    extended_id::ATS,
    extended_id::SRIOV,
    MULTI_ROOT,
    extended_id::PAGE_REQUEST,
    extended_id::PASID,
    VIRTUAL_RESIZABLE_BAR,
];

/// Multi-root virtualisation.
const MULTI_ROOT: u16 = 0x0011;
/// Resizable BARs of virtual functions.
const VIRTUAL_RESIZABLE_BAR: u16 = 0x0024;

// Of the resizable BAR capability (PCI Express Base 6.0, section 7.8.6).
const REBAR_CAPABILITY: u16 = 4;
const REBAR_CONTROL: u16 = 8;
const REBAR_STEP: u16 = 8;
const REBAR_MOST: u16 = 6;
/// The largest size that is shown, as a power of two in MiB: 512 GiB, the last that all versions of the capability have.
const REBAR_LARGEST: u32 = 19;

/// Links the capabilities that the guest sees.
pub(super) fn show(view: &mut View, hardware: &Snapshot<'_>, chain: &Chain) {
    let first = register::EXTENDED_CAPABILITIES;
    let mut link = None;
    for found in &chain.capabilities {
        let shown = !HIDDEN.contains(&found.id)
            && (found.id != extended_id::RESIZABLE_BAR || fix_sizes(view, found, hardware));
        if found.offset == first && !shown {
            // The chain must begin here: an empty capability keeps its place.
            define_header(view, first, 0);
            link = Some((first, 0));
        }
        if !shown {
            continue;
        }
        let header = u32::from(found.id) | u32::from(found.version) << 16;
        define_header(view, found.offset, header);
        if let Some((at, header)) = link {
            define_header(view, at, header | u32::from(found.offset) << 20);
        }
        link = Some((found.offset, header));
    }
}

fn define_header(view: &mut View, offset: u16, header: u32) {
    view.config.define(offset, Register::dword(header));
    view.areas.claim(offset..offset + 4);
}

/// Fixes every BAR at its present size: the host chose it. False when one has a size that the capability cannot say.
fn fix_sizes(view: &mut View, found: &Capability, hardware: &Snapshot<'_>) -> bool {
    let count = (hardware.u32(found.offset + REBAR_CONTROL) >> 5 & 7) as u16;
    if count == 0 || count > REBAR_MOST || found.room < REBAR_CAPABILITY + count * REBAR_STEP {
        return false;
    }
    let places = (0..count).map(|index| found.offset + index * REBAR_STEP);
    let sizes: Vec<_> = places
        .map(|at| (at, hardware.u32(at + REBAR_CONTROL)))
        .map(|(at, control)| (at, control, control >> 8 & 0x3f))
        .collect();
    if sizes.iter().any(|(_, _, size)| *size > REBAR_LARGEST) {
        return false;
    }
    for (at, control, size) in sizes {
        view.config.define(at + REBAR_CAPABILITY, Register::dword(1 << (size + 4)));
        view.config.define(at + REBAR_CONTROL, Register::dword(control & 0x0000_3fe7));
        view.areas.claim(at + REBAR_CAPABILITY..at + REBAR_CONTROL + 4);
    }
    true
}
