//! The controller as a PCI function: the ICH9's in AHCI mode (Intel ICH9 datasheet, section 14), registers in BAR 5.

use std::sync::Arc;

use pci::register::{self, command, status};
use pci::{
    Bar, BarError, BarIndex, BarKind, BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Pin,
};

use super::controller::Controller;

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x2922,
    revision: 2,
    // A SATA controller with AHCI 1.0's registers.
    class: 0x01_0601,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

const REGISTERS: BarIndex = match BarIndex::bar(5) {
    Some(bar) => bar,
    None => BarIndex::ROM,
};
const REGISTER_BYTES: u64 = 0x1000;

/// The function.
pub(crate) struct AhciFunction {
    config: ConfigSpace,
    controller: Arc<Controller>,
}

impl AhciFunction {
    /// Shows `controller`.
    pub(crate) fn new(controller: Arc<Controller>) -> Result<Self, BarError> {
        let mut config = ConfigSpace::endpoint(ConfigSize::Conventional, &IDENTITY);
        config.add_bars(&[Bar {
            index: REGISTERS,
            kind: BarKind::Memory32,
            size: REGISTER_BYTES,
            prefetchable: false,
        }])?;
        config.set_interrupt_pin(Some(Pin::A));
        Ok(Self { config, controller })
    }

    fn follow_config(&self) {
        let command = self.config.command();
        self.controller.set_master(command & command::BUS_MASTER != 0);
        self.controller.set_pin_disabled(command & command::INTX_DISABLE != 0);
    }
}

impl Function for AhciFunction {
    fn name(&self) -> &str {
        "ahci"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        let status = register::STATUS.checked_sub(offset).map(usize::from);
        if let Some(byte) = status.and_then(|index| data.get_mut(index))
            && self.controller.is_pin_pending()
        {
            *byte |= status::INTX as u8;
        }
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        self.config.write(offset, data);
        self.follow_config();
        Vec::new()
    }

    fn bars(&self) -> Vec<BarRange> {
        self.config.bars()
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        self.follow_config();
        self.controller.reset();
        Vec::new()
    }

    /// Registers are read in their parts as well, and written whole only (AHCI 1.3.1, section 3).
    fn read_bar(&mut self, _bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        for (at, byte) in (offset..).zip(data) {
            let register = self.controller.read(at & !3).to_le_bytes();
            *byte = register.get((at & 3) as usize).copied().unwrap_or(0);
        }
        Vec::new()
    }

    fn write_bar(&mut self, _bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        if offset.is_multiple_of(4) {
            for (at, value) in (offset..).step_by(4).zip(data.as_chunks::<4>().0) {
                self.controller.write(at, u32::from_le_bytes(*value));
            }
        }
        Vec::new()
    }
}
