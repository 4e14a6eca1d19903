//! A virtio device as a PCI function: config space, the one BAR, MSI-X, and what the driver's commands do.
//!
//! Not here: what a device does (`engine` and the devices), and the registers' rules (`registers`).

use pci::register::{self, command, status};
use pci::{
    BarError, BarIndex, BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Msix, MsixChange,
    MsixPart, NoRoom, Pin,
};

use super::Kind;
use super::engine::Engine;
use super::pci_layout::{self, BAR, Part};
use super::registers::{Command, Registers};
use crate::messages::Triggers;
use std::sync::Arc;

/// The vendor of all virtio devices.
const VENDOR: u16 = 0x1af4;
/// The device id of the virtio device 0; not transitional ones count from here (section 4.1.2.1).
const FIRST_DEVICE: u16 = 0x1040;
/// Modern devices have 1 at least, and drivers for Windows look for exactly this.
const REVISION: u8 = 1;
/// What QEMU's devices have, and drivers for Windows look for.
const SUBSYSTEM: u16 = 0x1100;

/// Offset of the control word in the MSI-X capability.
const MSIX_CONTROL: u16 = 2;

/// Fields of the capability for access through config space.
const ACCESS_BAR: u16 = 4;
const ACCESS_OFFSET: u16 = 8;
const ACCESS_LENGTH: u16 = 12;
const ACCESS_DATA: u16 = 16;

/// The device does not fit into the function that is to show it. A bug of the device.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    /// Capabilities.
    #[error(transparent)]
    Config(#[from] NoRoom),
    /// BARs.
    #[error(transparent)]
    Bar(#[from] BarError),
}

/// A virtio device on PCI.
pub(crate) struct VirtioFunction {
    kind: Kind,
    config: ConfigSpace,
    messages: Option<Messages>,
    // Where the capability for access through config space is.
    access: Option<u16>,
    registers: Registers,
    engine: Arc<Engine>,
    triggers: Triggers,
}

/// MSI-X, and where its capability is.
struct Messages {
    msix: Msix,
    offset: u16,
}

impl VirtioFunction {
    /// Shows the device behind `engine`, whose interrupts use `triggers`.
    pub(crate) fn new(engine: Arc<Engine>, triggers: Triggers) -> Result<Self, FunctionError> {
        let mut kind = engine.kind();
        if let Some(rom) = &kind.rom {
            // iPXE's names the transitional device, and firmware runs a ROM for the device it names only.
            let mut bytes = rom.to_vec();
            pci::rom::repair(&mut bytes, VENDOR, FIRST_DEVICE + kind.id);
            kind.rom = Some(bytes.into());
        }
        let mut config = ConfigSpace::endpoint(
            ConfigSize::Conventional,
            &Identity {
                vendor: VENDOR,
                device: FIRST_DEVICE + kind.id,
                revision: REVISION,
                class: kind.class,
                subsystem_vendor: VENDOR,
                subsystem: SUBSYSTEM,
            },
        );
        let rom = kind.rom.as_deref().map(pci_layout::rom_bar);
        config.add_bars(&[pci_layout::bar()].into_iter().chain(rom).collect::<Vec<_>>())?;
        config.set_interrupt_pin(Some(Pin::A));
        pci_layout::add_structures(&mut config, kind.config.len())?;
        let (mut messages, mut access) = (None, None);
        if !kind.frugal {
            // One vector for each queue, and one for the configuration.
            let msix = Msix::new(pci_layout::msix(kind.queues.len() as u16 + 1));
            let offset = msix.add_capability(&mut config)?;
            messages = Some(Messages { msix, offset });
            access = Some(pci_layout::add_access(&mut config)?);
        }
        let vectors = messages.as_ref().map_or(0, |messages| messages.msix.layout().vectors);
        let registers = Registers::new(kind.features, &kind.queues, vectors);
        Ok(Self { kind, config, messages, access, registers, engine, triggers })
    }

    /// The BAR offsets of the doorbells.
    pub(crate) fn doorbells(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.kind.queues.len() as u16).map(pci_layout::doorbell)
    }

    fn carry_out(&self, command: Command) {
        match command {
            Command::Reset => self.engine.reset(),
            Command::Start { features, queues } => self.engine.start(features, &queues),
            Command::Add { features, index, at } => self.engine.add(index, features, &at),
            Command::Vectors(vectors) => self.engine.interrupt.set_vectors(vectors),
        }
    }

    /// Follows what the config space has become.
    fn follow_config(&mut self) -> Vec<Change> {
        let command = self.config.command();
        self.engine.set_master(command & command::BUS_MASTER != 0);
        self.engine.interrupt.set_pin_disabled(command & command::INTX_DISABLE != 0);
        let Some(Messages { msix, offset }) = &mut self.messages else { return Vec::new() };
        let change = msix.set_control(self.config.u16(*offset + MSIX_CONTROL));
        self.engine.interrupt.set_by_message(msix.enabled());
        changes(change)
    }

    /// The bytes of the BAR that an access to config space at `offset` stands for, when the driver has named some
    /// (section 4.1.4.9).
    fn window(&self, offset: u16) -> Option<(u64, usize)> {
        let access = self.access.filter(|access| access + ACCESS_DATA == offset)?;
        let bar = self.config.u8(access + ACCESS_BAR);
        let at = self.config.u32(access + ACCESS_OFFSET);
        let length = self.config.u32(access + ACCESS_LENGTH);
        let sound = bar == BAR.get() && matches!(length, 1 | 2 | 4) && at.is_multiple_of(length);
        sound.then_some((at.into(), length as usize))
    }

    /// What is behind the ROM's end reads as an empty socket does.
    fn read_rom(&self, offset: u64, data: &mut [u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.kind.rom.as_deref().and_then(|rom| rom.get(start..)).unwrap_or_default();
        data.fill(0xff);
        data.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
    }

    fn read_messages(&self, offset: u64, data: &mut [u8]) {
        let Some(Messages { msix, .. }) = &self.messages else { return };
        match msix.layout().part(BAR, offset) {
            MsixPart::Table(offset) => msix.read_table(offset, data),
            MsixPart::Pending(offset) => {
                for (first, byte) in (offset.saturating_mul(8)..).step_by(8).zip(data) {
                    let is_pending = |vector: &u64| {
                        u16::try_from(*vector).is_ok_and(|vector| {
                            // A trigger that is listened to may hold what KVM has heard already.
                            msix.message(vector).is_none() && self.triggers.is_pending(vector)
                        })
                    };
                    let pending = (first..first + 8).filter(is_pending);
                    *byte = pending.fold(0, |byte, vector| byte | 1 << (vector - first));
                }
            }
            MsixPart::Neither => {}
        }
    }

    fn write_messages(&mut self, offset: u64, data: &[u8]) -> Vec<Change> {
        let Some(Messages { msix, .. }) = &mut self.messages else { return Vec::new() };
        match msix.layout().part(BAR, offset) {
            MsixPart::Table(offset) => changes(msix.write_table(offset, data)),
            MsixPart::Pending(_) | MsixPart::Neither => Vec::new(),
        }
    }
}

impl Function for VirtioFunction {
    fn name(&self) -> &str {
        &self.kind.name
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if let Some((at, length)) = self.window(offset) {
            let reached = data.len().min(length);
            if let Some(data) = data.get_mut(..reached) {
                // A read changes nothing that the machine would have to follow.
                let _ = self.read_bar(BAR, at, data);
            }
        }
        let status = register::STATUS.checked_sub(offset).map(usize::from);
        if let Some(byte) = status.and_then(|index| data.get_mut(index))
            && self.engine.interrupt.is_pin_pending()
        {
            *byte |= status::INTX as u8;
        }
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        if let Some((at, length)) = self.window(offset) {
            let reached = data.len().min(length);
            return self.write_bar(BAR, at, data.get(..reached).unwrap_or_default());
        }
        self.config.write(offset, data);
        self.follow_config()
    }

    fn bars(&self) -> Vec<BarRange> {
        self.config.bars()
    }

    fn reset(&mut self) -> Vec<Change> {
        self.engine.reset();
        self.registers.reset();
        self.config.reset();
        let changes = self.follow_config();
        if let Some(Messages { msix, .. }) = &mut self.messages {
            // What it changes was told above: the control word has its power-on value.
            msix.reset();
        }
        changes
    }

    fn read_bar(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        if bar == BarIndex::ROM {
            self.read_rom(offset, data);
            return Vec::new();
        }
        data.fill(0);
        match pci_layout::part(offset) {
            Part::Common(offset) => self.registers.read(offset, data, self.engine.is_broken()),
            Part::Isr => {
                if let Some(byte) = data.first_mut() {
                    *byte = self.engine.interrupt.take_isr();
                }
            }
            Part::Device(offset) => {
                let from = usize::try_from(offset).ok().and_then(|offset| self.kind.config.get(offset..));
                for (byte, config) in data.iter_mut().zip(from.unwrap_or_default()) {
                    *byte = *config;
                }
            }
            Part::Doorbell(_) => {}
            Part::Rest => self.read_messages(offset, data),
        }
        Vec::new()
    }

    fn write_bar(&mut self, bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        if bar == BarIndex::ROM {
            return Vec::new();
        }
        match pci_layout::part(offset) {
            Part::Common(offset) => {
                if let Some(command) = self.registers.write(offset, data) {
                    self.carry_out(command);
                }
                Vec::new()
            }
            // Comes here only where no ioeventfd is in the way: through config space, or when KVM gave none.
            Part::Doorbell(_) => {
                self.engine.ring_doorbell();
                Vec::new()
            }
            Part::Device(offset) => {
                if let Some(config) = self.engine.configure(offset, data) {
                    self.kind.config = config;
                }
                Vec::new()
            }
            Part::Isr => Vec::new(),
            Part::Rest => self.write_messages(offset, data),
        }
    }
}

fn changes(change: Option<MsixChange>) -> Vec<Change> {
    change.map(Change::Msix).into_iter().collect()
}

#[cfg(test)]
mod tests;
