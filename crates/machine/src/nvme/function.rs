//! The controller as a PCI function: registers, doorbells and MSI-X in one BAR. It tells by message alone.

use std::sync::Arc;

use pci::register::command;
use pci::{
    Bar, BarIndex, BarKind, BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Msix, MsixChange,
    MsixLayout, MsixPart,
};

use super::controller::Controller;
use super::state::PAIRS;
use crate::virtio::FunctionError;

/// QEMU's NVMe controller, which drivers know by its class.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0010,
    revision: 2,
    // A controller of non-volatile memory by NVM Express.
    class: 0x01_0802,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

const BAR: BarIndex = match BarIndex::bar(0) {
    Some(bar) => bar,
    None => BarIndex::ROM,
};
const BAR_BYTES: u64 = 0x4000;
const TABLE: u32 = 0x2000;
const PENDING: u32 = 0x3000;
/// Offset of the control word in the MSI-X capability.
const MSIX_CONTROL: u16 = 2;

/// The function.
pub(crate) struct NvmeFunction {
    config: ConfigSpace,
    msix: Msix,
    capability: u16,
    controller: Arc<Controller>,
}

impl NvmeFunction {
    /// Shows `controller`.
    pub(crate) fn new(controller: Arc<Controller>) -> Result<Self, FunctionError> {
        let mut config = ConfigSpace::endpoint(ConfigSize::Conventional, &IDENTITY);
        config.add_bars(&[Bar {
            index: BAR,
            kind: BarKind::Memory32,
            size: BAR_BYTES,
            prefetchable: false,
        }])?;
        let msix = Msix::new(MsixLayout {
            vectors: PAIRS + 1,
            table_bar: BAR,
            table_offset: TABLE,
            pending_bar: BAR,
            pending_offset: PENDING,
        });
        let capability = msix.add_capability(&mut config)?;
        Ok(Self { config, msix, capability, controller })
    }

    fn follow_config(&mut self) -> Vec<Change> {
        self.controller.set_master(self.config.command() & command::BUS_MASTER != 0);
        changes(self.msix.set_control(self.config.u16(self.capability + MSIX_CONTROL)))
    }

    fn pending_byte(&self, offset: u64) -> u8 {
        let first = offset.saturating_mul(8);
        (first..first.saturating_add(8)).fold(0, |byte, vector| {
            let pending = u16::try_from(vector).is_ok_and(|number| {
                // A trigger that is listened to may hold what KVM has heard already.
                self.msix.message(number).is_none() && self.controller.triggers().is_pending(number)
            });
            byte | u8::from(pending) << (vector - first)
        })
    }
}

impl Function for NvmeFunction {
    fn name(&self) -> &str {
        "nvme"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        self.config.write(offset, data);
        self.follow_config()
    }

    fn bars(&self) -> Vec<BarRange> {
        self.config.bars()
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        let changes = self.follow_config();
        // What it changes was told above: the control word has its power-on value.
        self.msix.reset();
        self.controller.reset();
        changes
    }

    fn read_bar(&mut self, _bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        match self.msix.layout().part(BAR, offset) {
            MsixPart::Table(offset) => self.msix.read_table(offset, data),
            MsixPart::Pending(offset) => {
                for (at, byte) in (offset..).zip(data) {
                    *byte = self.pending_byte(at);
                }
            }
            MsixPart::Neither => {
                for (at, byte) in (offset..).zip(data) {
                    let register = self.controller.read(at & !3).to_le_bytes();
                    *byte = register.get((at & 3) as usize).copied().unwrap_or(0);
                }
            }
        }
        Vec::new()
    }

    /// Registers are written whole, those of 64 bits also in halves (section 3.1).
    fn write_bar(&mut self, _bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        match self.msix.layout().part(BAR, offset) {
            MsixPart::Table(offset) => return changes(self.msix.write_table(offset, data)),
            MsixPart::Neither if offset.is_multiple_of(4) => {
                for (at, value) in (offset..).step_by(4).zip(data.as_chunks::<4>().0) {
                    self.controller.write(at, u32::from_le_bytes(*value));
                }
            }
            MsixPart::Pending(_) | MsixPart::Neither => {}
        }
        Vec::new()
    }
}

fn changes(change: Option<MsixChange>) -> Vec<Change> {
    change.map(Change::Msix).into_iter().collect()
}
