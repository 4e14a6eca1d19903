//! An assigned function as the guest sees it in one life of the machine: config accesses and trapped BAR accesses.
//!
//! What is ours is answered from registers, the rest is carried to the hardware. Interrupts are wired by
//! `interrupts`, mapped BARs shown by `placement`; the hierarchy says where. What leads around config space, `quirk` knows.

use std::borrow::Cow;
use std::sync::Arc;

use linux::vfio::{Cause, RegionIndex};
use pci::register::{self, command};
use pci::{BarIndex, BarRange, Change, ConfigSpace, Function, Msi, Msix, MsixPart, Space, pieces};

use super::areas::Holder;
use super::hardware::Hardware;
use super::health::explain;
use super::interrupts::Interrupts;
use super::placement::BarPlaces;
use super::quirk::{Access, Doors, Read, Shortcuts, Write};
use super::reset::SlotOwner;
use super::vga;
use crate::messages::Triggers;

/// The guest's end of an assigned function.
pub(crate) struct AssignedFunction {
    hardware: Arc<Hardware>,
    name: String,
    config: ConfigSpace,
    msi: Option<Msi>,
    msix: Option<(u16, Msix)>,
    // Whether it is in a power state in which it answers in its BARs.
    awake: bool,
    doors: Doors,
    wires: Wires,
}

/// What an assigned function is connected to in one life of the machine.
pub(crate) struct Wires {
    /// Where its BARs are shown as memory.
    pub(crate) places: Arc<BarPlaces>,
    /// Its interrupts, and what signals them.
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) triggers: Triggers,
    /// Writes that need no trap any more.
    pub(crate) shortcuts: Arc<Shortcuts>,
    /// Who resets its slot.
    pub(crate) owner: Arc<dyn SlotOwner>,
}

const POWER_STATE: u8 = 0b11;

impl AssignedFunction {
    /// The function at power-on.
    pub(crate) fn new(hardware: Arc<Hardware>, wires: Wires) -> Self {
        let view = &hardware.view;
        Self {
            name: hardware.address.to_string(),
            config: view.config.clone(),
            msi: view.msi.clone(),
            msix: view.msix.map(|(control, layout)| (control, Msix::new(layout))),
            awake: true,
            doors: Doors::of(&hardware.facts),
            hardware,
            wires,
        }
    }

    fn read_hardware(&self, offset: u16, data: &mut [u8]) {
        let device = self.hardware.device.as_ref();
        let answered = device.read(RegionIndex::CONFIG, offset.into(), data).is_ok();
        if !answered {
            data.fill(0xff);
        }
        // Revision and class are the first that a driver reads and are never all-ones in a function that is there.
        if !answered || (offset == register::REVISION && data.iter().all(|byte| *byte == 0xff)) {
            self.hardware.health.suspect(device);
        }
    }

    /// Writes to the hardware what is the hardware's of an access.
    fn forward(&self, offset: u16, data: &[u8]) {
        for (holder, bytes) in self.hardware.view.areas.stretches(offset, data.len()) {
            let (Holder::Hardware, Some(data)) = (holder, data.get(bytes.clone())) else { continue };
            let at = u64::from(offset) + bytes.start as u64;
            if self.hardware.device.write(RegionIndex::CONFIG, at, data).is_err() {
                self.hardware.health.suspect(self.hardware.device.as_ref());
            }
        }
    }

    /// Takes the orders to reset the function out of a write at `offset`; whether there were any.
    ///
    /// The kernel would carry them out within the write, for as long as the hardware likes.
    fn take_reset_orders<'a>(&self, offset: u16, data: &'a [u8]) -> (Cow<'a, [u8]>, bool) {
        let mut rest = Cow::Borrowed(data);
        for (at, bit) in &self.hardware.view.reset_orders {
            let Some(index) = at.checked_sub(offset).map(usize::from) else { continue };
            if data.get(index).is_some_and(|byte| byte & bit != 0) {
                rest.to_mut().iter_mut().skip(index).take(1).for_each(|byte| *byte &= !bit);
            }
        }
        let ordered = matches!(rest, Cow::Owned(_));
        (rest, ordered)
    }

    /// Resets the function because its driver says so. Config space stays as it is: the kernel restores the hardware's.
    fn reset_by_order(&self) {
        let Err(error) = self.hardware.reset_alone() else { return };
        let health = &self.hardware.health;
        if matches!(error.cause, Cause::Deadline(_)) {
            health.end_machine("its reset, which its driver asked for, does not end");
            return;
        }
        health.suspect(self.hardware.device.as_ref());
        health.note(&format!("the reset that its driver asked for failed: {}", explain(&error)));
    }

    /// The power state that a write at `offset` asks for, if it does.
    fn asked_power_state(&self, offset: u16, data: &[u8]) -> Option<u8> {
        let at = self.hardware.view.power_control?.checked_sub(offset)?;
        data.get(usize::from(at)).map(|byte| byte & POWER_STATE)
    }

    /// Whether the function is in D0 now. One that does not say is left as it was.
    fn reached_power_state(&self) -> bool {
        let Some(control) = self.hardware.view.power_control else { return true };
        let mut state = [0];
        match self.hardware.device.read(RegionIndex::CONFIG, control.into(), &mut state) {
            Ok(()) => state[0] & POWER_STATE == 0,
            Err(_) => self.awake,
        }
    }

    fn decodes_memory(&self) -> bool {
        self.awake && self.config.command() & command::MEMORY != 0
    }

    /// Says what the guest's writes made of MSI and MSI-X.
    fn follow(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(msi) = &mut self.msi {
            changes.extend(msi.follow(&mut self.config).map(Change::Msi));
        }
        if let Some((control, msix)) = &mut self.msix {
            changes.extend(msix.set_control(self.config.u16(*control)).map(Change::Msix));
        }
        changes
    }

    /// Answers a read of a BAR or of the legacy VGA ranges where no door is.
    fn read_registers(&self, bar: BarIndex, offset: u64, data: &mut [u8]) {
        match self.msix.as_ref().map_or(MsixPart::Neither, |(_, msix)| msix.layout().part(bar, offset)) {
            MsixPart::Table(at) => {
                if let Some((_, msix)) = &self.msix {
                    msix.read_table(at, data);
                }
            }
            MsixPart::Pending(at) => self.read_pending(at, data),
            MsixPart::Neither => {
                let device = self.hardware.device.as_ref();
                let (region, start) = vga::region(bar);
                if device.read(region, start.saturating_add(offset), data).is_err() {
                    data.fill(0xff);
                    self.hardware.health.suspect(device);
                }
            }
        }
    }

    /// Takes a write of a BAR or of the legacy VGA ranges where no door is.
    fn write_registers(&mut self, bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        match self.msix.as_ref().map_or(MsixPart::Neither, |(_, msix)| msix.layout().part(bar, offset)) {
            MsixPart::Table(at) => {
                let change = self.msix.as_mut().and_then(|(_, msix)| msix.write_table(at, data));
                change.map(Change::Msix).into_iter().collect()
            }
            MsixPart::Pending(_) => Vec::new(),
            MsixPart::Neither => {
                let device = self.hardware.device.as_ref();
                let (region, start) = vga::region(bar);
                if device.write(region, start.saturating_add(offset), data).is_err() {
                    self.hardware.health.suspect(device);
                }
                Vec::new()
            }
        }
    }

    fn read_config_by_door(&mut self, at: u16, data: &mut [u8]) {
        data.fill(0xff);
        for piece in pieces(at, data.len()) {
            if let Some(data) = data.get_mut(piece.from..piece.from + piece.len) {
                self.read_config(piece.offset, data);
            }
        }
    }

    fn write_config_by_door(&mut self, at: u16, data: &[u8]) -> Vec<Change> {
        let mut changes = Vec::new();
        for piece in pieces(at, data.len()) {
            if let Some(data) = data.get(piece.from..piece.from + piece.len) {
                changes.append(&mut self.write_config(piece.offset, data));
            }
        }
        // The hierarchy sees config cycles alone.
        changes.push(Change::Bars);
        changes
    }

    /// A dword in a mirror of registers that are the hardware's alone needs no trap, once it is known.
    fn note_for_shortcut(&self, bar: BarIndex, offset: u64, at: u16, data: &[u8]) {
        let in_memory = self
            .hardware
            .bars
            .iter()
            .any(|found| found.bar.index == bar && found.bar.kind.space() == Space::Memory);
        let stretches = self.hardware.view.areas.stretches(at, data.len());
        let hardwares = stretches.iter().all(|(holder, _)| *holder == Holder::Hardware);
        if let (true, Ok(dword)) =
            (in_memory && hardwares && at >= register::EXTENDED_CAPABILITIES, data.try_into())
        {
            self.wires.shortcuts.note(bar, offset, u32::from_le_bytes(dword));
        }
    }

    fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let Some((_, msix)) = &self.msix else { return };
        for (byte, at) in data.iter_mut().zip(offset..) {
            let first = at.saturating_mul(8);
            let pending = |bit: &u64| {
                let vector = u16::try_from(first + bit).unwrap_or(u16::MAX);
                // A vector that may send now is not pending: its signal is on its way.
                vector < msix.layout().vectors
                    && msix.message(vector).is_none()
                    && self.wires.triggers.is_pending(vector)
            };
            *byte = (0..8).filter(pending).fold(0, |byte, bit| byte | 1 << bit);
        }
    }
}

impl Function for AssignedFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        for (holder, bytes) in self.hardware.view.areas.stretches(offset, data.len()) {
            let (Holder::Hardware, Ok(skip)) = (holder, u16::try_from(bytes.start)) else { continue };
            if let Some(data) = data.get_mut(bytes) {
                self.read_hardware(offset + skip, data);
            }
        }
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        let decoded = self.decodes_memory();
        self.config.write(offset, data);
        let power = self.asked_power_state(offset, data);
        let (data, resets) = self.take_reset_orders(offset, data);
        let data = data.as_ref();
        let closes = decoded && (resets || !self.decodes_memory() || power.is_some_and(|state| state != 0));
        if closes {
            // Before the hardware hears of it: the kernel takes the pages of a function that does not decode away from
            // every map, and a vCPU that still reached them could not go on.
            self.wires.places.hide();
        }
        if self.config.command() & (command::IO | command::MEMORY) != 0 {
            self.wires.interrupts.wake();
        }
        self.forward(offset, data);
        if resets {
            self.reset_by_order();
        }
        if power.is_some() || resets {
            self.awake = self.reached_power_state();
        }
        if closes && self.decodes_memory() {
            // It is back, or the hardware did not follow; the hierarchy sees no change, so nobody else would show them again.
            self.wires.places.show();
        }
        self.follow()
    }

    fn bars(&self) -> Vec<BarRange> {
        let mut bars = self.config.bars();
        if self.hardware.legacy_vga.is_some() {
            bars.extend(BarRange::legacy_vga(self.config.command()));
        }
        for bar in &mut bars {
            bar.decode &= self.awake;
        }
        bars
    }

    fn reset(&mut self) -> Vec<Change> {
        self.wires.places.hide();
        self.wires.interrupts.stop();
        self.wires.triggers.clear();
        self.wires.shortcuts.forget();
        self.doors = Doors::of(&self.hardware.facts);
        // What it cannot be told is written here no more than by a bus that resets a dead card.
        let _ = self.hardware.quiet();
        let outcome = self.hardware.reset(&self.wires.owner);
        if outcome.hangs() {
            self.hardware.health.end_machine("its reset, which the guest asked for, does not end");
        }
        self.config = self.hardware.view.config.clone();
        self.awake = self.reached_power_state();
        let mut changes: Vec<_> =
            self.msix.as_mut().and_then(|(_, msix)| msix.reset()).map(Change::Msix).into_iter().collect();
        changes.append(&mut self.follow());
        changes
    }

    fn read_bar(&mut self, bar: BarIndex, offset: u64, data: &mut [u8]) -> Vec<Change> {
        if bar == BarIndex::ROM {
            self.hardware.rom.read(&self.hardware, offset, data);
            return Vec::new();
        }
        match self.doors.read(Access { bar, offset, len: data.len() }) {
            Read::Hardware => self.read_registers(bar, offset, data),
            Read::Config(at) => self.read_config_by_door(at, data),
            Read::ConfigBeside(at) => {
                self.read_registers(bar, offset, data);
                self.read_config_by_door(at, data);
            }
            Read::Table(at) => match &self.msix {
                Some((_, msix)) => msix.read_table(at, data),
                None => data.fill(0),
            },
            Read::Value(value) => {
                let bytes = value.to_le_bytes().into_iter().chain(std::iter::repeat(0));
                data.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
            }
        }
        Vec::new()
    }

    fn write_bar(&mut self, bar: BarIndex, offset: u64, data: &[u8]) -> Vec<Change> {
        if bar == BarIndex::ROM {
            return Vec::new();
        }
        match self.doors.write(Access { bar, offset, len: data.len() }, data) {
            Write::Hardware => self.write_registers(bar, offset, data),
            Write::Config(at) => {
                self.note_for_shortcut(bar, offset, at, data);
                self.write_config_by_door(at, data)
            }
            Write::ConfigAndHardware(at) => {
                let changes = self.write_config_by_door(at, data);
                self.write_registers(bar, offset, data).into_iter().chain(changes).collect()
            }
            Write::Table(at, value) => {
                let change =
                    self.msix.as_mut().and_then(|(_, msix)| msix.write_table(at, &value.to_le_bytes()));
                change.map(Change::Msix).into_iter().collect()
            }
        }
    }
}
