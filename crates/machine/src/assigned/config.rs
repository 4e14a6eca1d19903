//! The guest's view of an assigned function's config space, built once from bounded walks over what the device says.
//!
//! The header's BARs, the capability chain's pointers, MSI and MSI-X are ours; the rest is the hardware's, as far as
//! the kernel lets it through (`drivers/vfio/pci/vfio_pci_config.c`). A capability that is not for the guest is left out
//! of the chain; the others stay where the device has them, for its driver may know their places. Not here: accesses,
//! which are `function`'s.

use pci::capability::{Capability, Chain, Flaw, standard_id, walk_extended, walk_standard};
use pci::register::{self, Register, header_type};
use pci::{
    Bar, BarError, ConfigSize, ConfigSpace, Identity, Link, MSIX_CAPABILITY_BYTES, Msi, MsiShape, Msix,
    MsixLayout, Pin,
};

use super::areas::Areas;
use super::express;
use super::extended;
use super::snapshot::Snapshot;

/// Vectors that the kernel offers for a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// It has a pin that can be signalled.
    pub(crate) pin: bool,
    /// Vectors of MSI; 0 when it has none.
    pub(crate) msi: u32,
    /// Vectors of MSI-X; 0 when it has none.
    pub(crate) msix: u32,
}

/// The guest's view of a function, as it is at power-on.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Our registers.
    pub(crate) config: ConfigSpace,
    /// Which of them the guest sees.
    pub(crate) areas: Areas,
    /// MSI, if it has any.
    pub(crate) msi: Option<Msi>,
    /// MSI-X and the offset of its control word, if it has any.
    pub(crate) msix: Option<(u16, MsixLayout)>,
    /// Where its power state is controlled, if it has power management.
    pub(crate) power_control: Option<u16>,
    /// The bytes, and the bit in each, by which a driver orders a reset of the function.
    pub(crate) reset_orders: Vec<(u16, u8)>,
    /// Its link as it could be at best; `None` for a conventional function.
    pub(crate) link: Option<Link>,
    /// What was wrong with its chains; they end there.
    pub(crate) flaws: Vec<Flaw>,
}

/// No view can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The header is not an endpoint's.
    #[error("it is a bridge (header type {0:#04x}), and only endpoints can be assigned")]
    Bridge(u8),
    /// A BAR has a size that no register describes.
    #[error("its BARs make no sense: {0}")]
    Bar(#[from] BarError),
}

// Offsets in capabilities (PCI Local Bus 3.0, 6.8; PCI Power Management 1.2, 3.2).
const MESSAGE_CONTROL: u16 = 2;
const POWER_CONTROL: u16 = 4;
const POWER_BYTES: u16 = 8;

/// Builds the view. `rom_size` is what the ROM BAR asks for, 0 for none.
pub(crate) fn build(
    hardware: &Snapshot<'_>,
    bars: &[Bar],
    rom_size: u64,
    offered: Offered,
) -> Result<View, ViewError> {
    let layout = hardware.u8(register::HEADER_TYPE) & header_type::LAYOUT;
    if layout != 0 {
        return Err(ViewError::Bridge(layout));
    }
    let size = if hardware.size() > 0x100 { ConfigSize::Express } else { ConfigSize::Conventional };
    let mut config = ConfigSpace::endpoint(size, &identity(hardware));
    config.add_bars(bars)?;
    let mut areas = Areas::hardware(hardware.size());
    areas.claim(register::BAR0..register::BAR0 + 24);
    areas.claim(register::ROM_TYPE0..register::ROM_TYPE0 + 4);
    if let Some(rom) = rom(rom_size) {
        // A ROM BAR whose size makes no sense is no reason to refuse the function.
        let _ = config.add_bars(&[rom]);
    }
    areas.claim(register::CAPABILITIES..register::CAPABILITIES + 1);
    areas.claim(register::INTERRUPT_LINE..register::INTERRUPT_PIN + 1);
    let pin = Pin::from_register(hardware.u8(register::INTERRUPT_PIN)).filter(|_| offered.pin);
    config.set_interrupt_pin(pin);

    let mut view = View {
        config,
        areas,
        msi: None,
        msix: None,
        power_control: None,
        reset_orders: Vec::new(),
        link: None,
        flaws: Vec::new(),
    };
    view.add_standard(hardware, bars, offered);
    let chain = walk_extended(|offset| hardware.u8(offset));
    view.flaws.extend(chain.flaw);
    extended::show(&mut view, hardware, &chain);
    Ok(view)
}

fn identity(hardware: &Snapshot<'_>) -> Identity {
    Identity {
        vendor: hardware.u16(register::VENDOR_ID),
        device: hardware.u16(register::DEVICE_ID),
        revision: hardware.u8(register::REVISION),
        class: hardware.u32(register::REVISION) >> 8,
        subsystem_vendor: hardware.u16(register::SUBSYSTEM_VENDOR_ID),
        subsystem: hardware.u16(register::SUBSYSTEM_ID),
    }
}

fn rom(size: u64) -> Option<Bar> {
    let bar = Bar { index: pci::BarIndex::ROM, kind: pci::BarKind::Rom, size, prefetchable: false };
    (size != 0).then_some(bar)
}

impl View {
    /// Where MSI-X lies and how many vectors it has.
    pub(crate) fn msix_layout(&self) -> Option<&MsixLayout> {
        self.msix.as_ref().map(|(_, layout)| layout)
    }

    fn add_standard(&mut self, hardware: &Snapshot<'_>, bars: &[Bar], offered: Offered) {
        let byte = |offset| hardware.u8(offset);
        let Chain { capabilities, flaw } = walk_standard(byte);
        self.flaws.extend(flaw);
        let mut link = register::CAPABILITIES;
        self.config.define(link, Register::byte(0));
        for found in capabilities {
            if !self.add_one(&found, hardware, bars, offered) {
                continue;
            }
            let (id, offset) = (found.id.to_le_bytes()[0], found.offset);
            self.config.define(offset, Register::byte(id));
            self.config.define(offset + 1, Register::byte(0));
            self.areas.claim(offset..offset + 2);
            self.config.define(link, Register::byte(offset.to_le_bytes()[0]));
            link = offset + 1;
        }
    }

    /// Takes a capability into the view; false when the guest is not to see it.
    fn add_one(
        &mut self,
        found: &Capability,
        hardware: &Snapshot<'_>,
        bars: &[Bar],
        offered: Offered,
    ) -> bool {
        // Two of a kind would be two owners of one state.
        match found.id.to_le_bytes()[0] {
            standard_id::MSI => self.msi.is_none() && self.add_msi(found, hardware, offered.msi),
            standard_id::MSIX => self.msix.is_none() && self.add_msix(found, hardware, bars, offered.msix),
            standard_id::POWER_MANAGEMENT => self.add_power(found),
            standard_id::EXPRESS => self.link.is_none() && express::show(self, found, hardware),
            ADVANCED_FEATURES => {
                if found.room >= ADVANCED_BYTES
                    && hardware.u8(found.offset + ADVANCED_CAPABILITIES) & ADVANCED_RESETS != 0
                {
                    self.reset_orders.push((found.offset + ADVANCED_CONTROL, ADVANCED_RESET));
                }
                true
            }
            // Enhanced Allocation would contradict the BARs, which are ours.
            ENHANCED_ALLOCATION => false,
            _ => true,
        }
    }

    fn add_power(&mut self, found: &Capability) -> bool {
        let bytes = found.offset..found.offset + found.room.min(POWER_BYTES);
        if found.room < POWER_BYTES || self.power_control.is_some() {
            // Nobody may put the function to sleep behind our back: its BARs would go from under the guest.
            self.areas.claim(bytes);
            return false;
        }
        self.power_control = Some(found.offset + POWER_CONTROL);
        true
    }

    fn add_msi(&mut self, found: &Capability, hardware: &Snapshot<'_>, vectors: u32) -> bool {
        let shape = MsiShape::read(hardware.u16(found.offset + MESSAGE_CONTROL));
        let Some(most) = vectors.checked_ilog2().filter(|_| shape.bytes() <= found.room) else {
            return false;
        };
        let shape = MsiShape { log2_vectors: shape.log2_vectors.min(most.min(5) as u8), ..shape };
        self.msi = Some(Msi::at(&mut self.config, found.offset, shape));
        self.areas.claim(found.offset..found.offset + shape.bytes());
        true
    }

    fn add_msix(&mut self, found: &Capability, hardware: &Snapshot<'_>, bars: &[Bar], vectors: u32) -> bool {
        if found.room < MSIX_CAPABILITY_BYTES || vectors == 0 {
            return false;
        }
        let Some(layout) = MsixLayout::read(hardware.bytes(found.offset)) else { return false };
        let most = u16::try_from(vectors).unwrap_or(u16::MAX);
        let layout = MsixLayout { vectors: layout.vectors.min(most), ..layout };
        let inside = |index, bytes: std::ops::Range<u64>| {
            bars.iter().any(|bar: &Bar| {
                bar.index == index && bar.kind.space() == pci::Space::Memory && bytes.end <= bar.size
            })
        };
        // Hardware may lie: a table outside its BAR could never be programmed.
        if !inside(layout.table_bar, layout.table()) {
            return false;
        }
        let layout =
            if inside(layout.pending_bar, layout.pending()) { layout } else { pending_behind_table(layout) };
        if !inside(layout.pending_bar, layout.pending()) {
            return false;
        }
        Msix::new(layout).define_at(&mut self.config, found.offset);
        self.areas.claim(found.offset..found.offset + MSIX_CAPABILITY_BYTES);
        self.msix = Some((found.offset + MESSAGE_CONTROL, layout));
        true
    }
}

/// Puts the pending bits right behind the table. Some virtual functions say that theirs are outside of their BAR (Chelsio T5
/// and Kunlun, QEMU hw/vfio/pci.c, vfio_msix_early_setup); they are ours to answer in any case.
fn pending_behind_table(layout: MsixLayout) -> MsixLayout {
    let behind = u32::try_from(layout.table().end).unwrap_or(!7);
    MsixLayout { pending_bar: layout.table_bar, pending_offset: behind, ..layout }
}

// Advanced Features, of conventional functions (PCI-SIG ECN Advanced Capabilities for Conventional PCI, 2006).
const ADVANCED_FEATURES: u8 = 0x13;
const ADVANCED_BYTES: u16 = 6;
const ADVANCED_CAPABILITIES: u16 = 3;
const ADVANCED_RESETS: u8 = 1 << 1;
const ADVANCED_CONTROL: u16 = 4;
const ADVANCED_RESET: u8 = 1;

/// Enhanced Allocation (PCI Express Base, section 7.8.5).
const ENHANCED_ALLOCATION: u8 = 0x14;
