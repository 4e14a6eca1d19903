//! The PCI Express capability of an assigned function, fitted to the slot it sits in: right below a root port.
//!
//! Called by `config`. Facts of the rules: QEMU's vfio_setup_pcie_cap (which types fit where), PCI Express Base 6.0,
//! section 7.5.3.

use pci::capability::Capability;
use pci::register::Register;
use pci::{Link, LinkSpeed};

use super::config::View;
use super::snapshot::Snapshot;

// Offsets in the capability.
const FLAGS: u16 = 0x02;
const DEVICE_CAPABILITIES: u16 = 0x04;
const FUNCTION_LEVEL_RESET: u32 = 1 << 28;
const DEVICE_CONTROL: u16 = 0x08;
/// In the upper byte of device control.
const INITIATE_RESET: u8 = 1 << 7;
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_CONTROL: u16 = 0x10;
const LINK_STATUS: u16 = 0x12;
const LINK_CAPABILITIES_2: u16 = 0x2c;
const LINK_CONTROL_2: u16 = 0x30;
const LINK_STATUS_2: u16 = 0x32;

// Device/port types.
const ENDPOINT: u16 = 0x0;
const LEGACY_ENDPOINT: u16 = 0x1;
const INTEGRATED_ENDPOINT: u16 = 0x9;

const TYPE: u16 = 0xf << 4;
const VERSION: u16 = 0xf;
/// Bytes of version 1, which all functions have up to the link's registers.
const VERSION_1_BYTES: u16 = 0x14;
const VERSION_2_BYTES: u16 = 0x34;

/// Shows the capability; false when it does not fit into a slot.
pub(super) fn show(view: &mut View, found: &Capability, hardware: &Snapshot<'_>) -> bool {
    let at = found.offset;
    let flags = hardware.u16(at + FLAGS);
    let kind = (flags & TYPE) >> 4;
    let integrated = kind == INTEGRATED_ENDPOINT;
    if hardware.u32(at + DEVICE_CAPABILITIES) & FUNCTION_LEVEL_RESET != 0 {
        view.reset_orders.push((at + DEVICE_CONTROL + 1, INITIATE_RESET));
    }
    if found.room < VERSION_1_BYTES || !(integrated || matches!(kind, ENDPOINT | LEGACY_ENDPOINT)) {
        return false;
    }
    // Some virtual functions say version 0 (Intel 82599), which no driver expects.
    let version = (flags & VERSION).max(1);
    let kind = if integrated { ENDPOINT } else { kind };
    view.config.define(at + FLAGS, Register::word(flags & !TYPE & !VERSION | kind << 4 | version));
    view.areas.claim(at + FLAGS..at + FLAGS + 2);
    if integrated {
        invent_link(view, at, version >= 2 && found.room >= VERSION_2_BYTES);
        view.link = Some(Link { speed: LinkSpeed::Gen1, width: 1 });
    } else {
        view.link = Some(read_link(hardware.u32(at + LINK_CAPABILITIES)));
    }
    true
}

/// An integrated function has no link; below a port it must show one, and the slowest claims least.
fn invent_link(view: &mut View, at: u16, second: bool) {
    let slowest = LinkSpeed::Gen1.field();
    let speed_and_width = u16::from(slowest) | 1 << 4;
    view.config.define(at + LINK_CAPABILITIES, Register::dword(speed_and_width.into()));
    view.config.define(at + LINK_CONTROL, Register::word(0));
    view.config.define(at + LINK_STATUS, Register::word(speed_and_width));
    view.areas.claim(at + LINK_CAPABILITIES..at + LINK_STATUS + 2);
    if second {
        view.config.define(at + LINK_CAPABILITIES_2, Register::dword(1 << 1));
        view.config.define(at + LINK_CONTROL_2, Register::word(slowest.into()));
        view.config.define(at + LINK_STATUS_2, Register::word(0));
        view.areas.claim(at + LINK_CAPABILITIES_2..at + LINK_STATUS_2 + 2);
    }
}

/// The most that the function's link can do. Nonsense reads as the slowest.
fn read_link(capabilities: u32) -> Link {
    let [low, ..] = capabilities.to_le_bytes();
    let width = (capabilities >> 4 & 0x3f) as u8;
    Link { speed: LinkSpeed::from_field(low & 0xf).unwrap_or(LinkSpeed::Gen1), width: width.clamp(1, 32) }
}

#[cfg(test)]
mod tests {
    use pci::{Link, LinkSpeed};

    use super::read_link;

    #[test]
    fn a_links_best_is_read_and_nonsense_is_slow() {
        for (capabilities, speed, width) in [
            (0x0047_1103, LinkSpeed::Gen3, 16),
            (0x0000_0041, LinkSpeed::Gen1, 4),
            (0, LinkSpeed::Gen1, 1),
            (0xffff_ffff, LinkSpeed::Gen1, 32),
        ] {
            assert_eq!(read_link(capabilities), Link { speed, width }, "{capabilities:#x}");
        }
    }
}
