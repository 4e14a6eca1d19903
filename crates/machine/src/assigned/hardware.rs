//! An assigned function as it is on the host: its open device, and everything about it that is asked once.
//!
//! It outlives the lives of the machine; each life builds the guest's function on it anew (`function`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use linux::memory::MappingRange;
use linux::vfio::config::{Config, ResetWays, capabilities, command};
use linux::vfio::{Area, Cause, Device, DeviceError, IrqIndex, Operation};
use pci::capability::standard_id;
use pci::{Bar, BarIndex, Link, LinkSpeed, Msi};
use spec::{AssignedReport, PciAddress, ResetWay};

use super::bars::{self, AssignedBar};
use super::config::{self, Offered, View, ViewError};
use super::health::{Health, explain};
use super::quirk::{self, Doors, Facts};
use super::reset::{self, DEADLINE, ResetOutcome, SlotOwner};
use super::rom::{GuestRom, LazyRom, RomLie};
use super::snapshot::Snapshot;
use super::vga::{self, LegacyVga};

/// A function of the host in our hands.
pub(crate) struct Hardware {
    pub(crate) address: PciAddress,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) bars: Vec<AssignedBar>,
    // Only if the guest is to have them.
    pub(crate) legacy_vga: Option<LegacyVga>,
    pub(crate) view: View,
    /// What decides which ways around config space it has.
    pub(crate) facts: Facts,
    pub(crate) reset_ways: ResetWays,
    pub(crate) rom: LazyRom,
    pub(crate) health: Health,
    resets: Mutex<Resets>,
    // Made when first shown and kept: BARs move often, and mapping a large one costs the kernel time.
    mapped: Mutex<BTreeMap<(BarIndex, u64), MappingRange>>,
}

/// The resets of a function so far.
#[derive(Clone, Copy, Debug, Default)]
struct Resets {
    worked: u32,
    last: Option<ResetWay>,
}

/// What is to be known of a function beside what it says of itself.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// The ROM that its guest sees.
    pub(crate) rom: GuestRom,
    /// Whether it is the first display of a machine with a BIOS, which has the legacy VGA ranges.
    pub(crate) legacy_vga: bool,
    /// Whether firmware starts the machine, and so looks at ROMs before any driver does.
    pub(crate) firmware: bool,
}

/// A function cannot be assigned.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// A call to the device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// It is not there, or does not answer.
    #[error("it does not answer (its registers read as all-ones); it may be gone, asleep or broken")]
    Silent,
    /// What it says of itself cannot be shown to a guest.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The kernel does not give its legacy VGA ranges.
    #[error(
        "it has no legacy VGA ranges for the guest, which the primary display of a machine with a BIOS needs: it is no VGA (class 0300), or vfio-pci keeps them (`cat /sys/module/vfio_pci/parameters/disable_vga` must say N), or the kernel was built without CONFIG_VFIO_PCI_VGA; start the machine by UEFI instead, or name another card"
    )]
    NoLegacyVga,
    /// The first display of a machine with a BIOS would show nothing.
    #[error(
        "its option ROM shows no picture by a BIOS, as the primary display must: {0}; give a file of it (`rom=FILE`; `allod rom show FILE` tells what is in one), or start the machine by UEFI"
    )]
    Rom(String),
    /// The card's own ROM lies.
    #[error(
        "its option ROM is not what it says: {0}; show the guest none (`rom=none` behind the address, `rom = \"none\"` in a seat file) or a file in its place (`rom=FILE`; `allod rom show` tells what is in one)"
    )]
    RomLies(RomLie),
    /// A BAR cannot be had.
    #[error(
        "its BAR {bar} cannot be mapped; most likely something else on the host uses its addresses (/proc/iomem tells what): for a framebuffer of the firmware, boot the host with `initcall_blacklist=sysfb_init`, else unload the driver"
    )]
    Bar {
        /// The BAR's number.
        bar: u8,
        /// What the kernel said.
        #[source]
        error: DeviceError,
    },
}

impl From<RomLie> for ExamineError {
    fn from(lie: RomLie) -> Self {
        Self::RomLies(lie)
    }
}

impl Hardware {
    /// Asks the open `device` everything, and looks whether a guest can have it on these `terms`.
    pub(crate) fn examine(
        address: PciAddress,
        device: Arc<dyn Device>,
        terms: Terms,
        health: Health,
    ) -> Result<Self, ExamineError> {
        let snapshot = Snapshot::read(device.as_ref())?;
        if snapshot.u32(pci::register::REVISION) == u32::MAX {
            return Err(ExamineError::Silent);
        }
        let offered = offered(device.as_ref(), &snapshot)?;
        let mut bars = bars::read(device.as_ref(), &snapshot)?;
        let terms = terms.for_card(&snapshot, &health);
        let rom_size = terms.rom.bar_size(device.as_ref())?;
        let declared: Vec<_> = bars.iter().map(|bar| bar.bar).collect();
        let view = config::build(&snapshot, &declared, rom_size, offered)?;
        let facts = facts(&snapshot, declared, &view, &terms);
        let trapped: Vec<_> = Doors::of(&facts).trapped().collect();
        for bar in &mut bars {
            view.msix_layout().into_iter().for_each(|layout| bar.cut_around(layout));
            trapped.iter().for_each(|(index, bytes)| bar.trap(*index, bytes));
        }
        let legacy_vga = match terms.legacy_vga {
            true => Some(LegacyVga::of(device.as_ref())?.ok_or(ExamineError::NoLegacyVga)?),
            false => None,
        };
        let reset_ways = ResetWays::stated(snapshot.conventional());
        drop(snapshot);
        let (mapped, resets) = (Mutex::default(), Mutex::default());
        // The owner of a file in its place has been told what is wrong with that, and may know better.
        let firmware_reads_own = terms.firmware && rom_size != 0 && matches!(terms.rom, GuestRom::Own);
        let rom = LazyRom::new(terms.rom, &view.config);
        let hardware =
            Self { address, device, bars, legacy_vga, view, facts, reset_ways, rom, health, resets, mapped };
        hardware.map_all()?;
        if hardware.legacy_vga.is_some() {
            hardware.rom.check_bios(&hardware).map_err(ExamineError::Rom)?;
        }
        // Else it is not read before the guest reads it, as that may take a second.
        if firmware_reads_own {
            hardware.rom.check(&hardware)?;
        }
        Ok(hardware)
    }

    /// Maps every part of the BARs that can be: the kernel reserves a BAR when it is first mapped, and one that it cannot
    /// have would be noticed by the guest alone.
    fn map_all(&self) -> Result<(), ExamineError> {
        for bar in &self.bars {
            for area in &bar.mappable {
                let number = bar.bar.index.get();
                self.map(bar.bar.index, *area).map_err(|error| ExamineError::Bar { bar: number, error })?;
            }
        }
        Ok(())
    }

    /// Takes the function off the bus and wakes it, as a guest expects it after power-on.
    ///
    /// The kernel leaves decode on when it opens a function (`vfio_pci_core.c`, vfio_pci_core_enable).
    pub(crate) fn quiet(&self) -> Result<(), DeviceError> {
        let config = Config(self.device.as_ref());
        let off = command::IO | command::MEMORY | command::BUS_MASTER | command::INTX_DISABLE;
        config.change_command(off, 0).map(drop)
    }

    /// Resets the function by the first way that works, and tells when none does.
    pub(crate) fn reset(&self, owner: &Arc<dyn SlotOwner>) -> ResetOutcome {
        let outcome = reset::reset(&self.device, self.reset_ways, owner, DEADLINE);
        self.note_reset(outcome.by);
        if outcome.by.is_none() {
            let tried: Vec<_> =
                outcome.failed.iter().map(|(rung, error)| format!("{rung}: {}", explain(error))).collect();
            self.health.suspect(self.device.as_ref());
            self.health.note(&format!(
                "it could not be reset, so the guest meets it as it was left ({})",
                if tried.is_empty() { "there is no way".to_owned() } else { tried.join("; ") }
            ));
        }
        outcome
    }

    /// Resets the function alone, as its driver orders it.
    pub(crate) fn reset_alone(&self) -> Result<(), DeviceError> {
        let device = Arc::clone(&self.device);
        let outcome = reset::within(DEADLINE, move || device.reset());
        self.note_reset(outcome.is_ok().then_some(ResetWay::Function));
        outcome
    }

    fn note_reset(&self, by: Option<ResetWay>) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        resets.worked = resets.worked.saturating_add(u32::from(by.is_some()));
        resets.last = by;
    }

    /// What became of it so far.
    pub(crate) fn report(&self) -> AssignedReport {
        let Resets { worked, last } = *self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        AssignedReport { address: self.address, resets: worked, last_reset: last }
    }

    /// The mappable parts of a BAR, or of the legacy VGA memory.
    pub(crate) fn mappable(&self, bar: BarIndex) -> &[Area] {
        if let (BarIndex::VGA_MEMORY, Some(vga)) = (bar, &self.legacy_vga) {
            return &vga.mappable;
        }
        self.bars.iter().find(|found| found.bar.index == bar).map_or(&[], |found| &found.mappable)
    }

    /// Maps a part of a BAR, or gives the map that there is.
    pub(crate) fn map(&self, bar: BarIndex, area: Area) -> Result<MappingRange, DeviceError> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(range) = mapped.get(&(bar, area.offset)) {
            return Ok(range.clone());
        }
        let (region, start) = vga::region(bar);
        let area = Area { offset: start + area.offset, ..area };
        let mapping = Arc::new(self.device.map(region, area)?);
        let whole = 0..mapping.len();
        let range = MappingRange::new(mapping, whole)
            .ok_or_else(|| DeviceError::new(Operation::Map { region, area }, Cause::NotMappable))?;
        mapped.insert((bar, area.offset - start), range.clone());
        Ok(range)
    }

    /// The best link it can have; a conventional function has none, and its port shows the slowest.
    pub(crate) fn link(&self) -> Link {
        self.view.link.unwrap_or(Link { speed: LinkSpeed::Gen1, width: 1 })
    }
}

impl Terms {
    /// The same, with what is known to be wrong for a card.
    fn for_card(mut self, config: &Snapshot<'_>, health: &Health) -> Self {
        let ids = (config.u16(pci::register::VENDOR_ID), config.u16(pci::register::DEVICE_ID));
        if matches!(self.rom, GuestRom::Own) && quirk::hides_rom(ids.0, ids.1) {
            self.rom = GuestRom::Hidden;
            health.note("its option ROM is known to hang in virtual machines, so the guest sees none; give a file of it (`rom=FILE`) to show one all the same");
        }
        self
    }
}

fn facts(config: &Snapshot<'_>, bars: Vec<Bar>, view: &View, terms: &Terms) -> Facts {
    Facts {
        vendor: config.u16(pci::register::VENDOR_ID),
        device: config.u16(pci::register::DEVICE_ID),
        class: config.u32(pci::register::REVISION) >> 8,
        bars,
        config_size: u16::try_from(config.size()).unwrap_or(u16::MAX),
        msi: view.msi.as_ref().map(Msi::offset),
        legacy_vga: terms.legacy_vga,
    }
}

fn offered(device: &dyn Device, config: &Snapshot<'_>) -> Result<Offered, DeviceError> {
    let pin = config.u8(pci::register::INTERRUPT_PIN) != 0;
    let vectors = |irq| device.irq(irq).map(|info| if info.event_fd { info.count } else { 0 });
    let of = |id, irq| match capabilities(config.conventional()).any(|(found, _)| found == id) {
        true => vectors(irq),
        false => Ok(0),
    };
    Ok(Offered {
        // A function without a pin has nothing to ask for.
        pin: pin && vectors(IrqIndex::Intx)? > 0,
        msi: of(standard_id::MSI, IrqIndex::Msi)?,
        msix: of(standard_id::MSIX, IrqIndex::Msix)?,
    })
}
