//! A configuration space with the rules by which the kernel shows it.
//!
//! Each bit is the hardware's or a copy that the kernel keeps, and can be written or not; after
//! `drivers/vfio/pci/vfio_pci_config.c`. The rules kept are those a VMM runs into; each is named below and proved
//! again on the real kernel in the lab.

use std::ops::Range;

use crate::vfio::config::{PowerState, command};

use super::script::{FakeBar, MAX_CAPABILITIES, MAX_EXTENDED_CAPABILITIES, Script};

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BARS: usize = 0x10;
const ROM_BAR: usize = 0x30;
const FIRST_CAPABILITY: usize = 0x34;
/// The command bits that the hardware implements.
const COMMAND_BITS: u16 = 0x0347;
const MSI_ENABLE: u16 = 1;
const EXPRESS_FLR: u32 = 1 << 28;
const DEVICE_CONTROL_FLR: u16 = 1 << 15;
const POWER_STATE: u16 = 0b11;
const POWER_NO_SOFT_RESET: u16 = 1 << 3;
/// Bytes of an MSI-X table entry.
const MSIX_ENTRY: u64 = 16;

/// The configuration space.
#[derive(Debug)]
pub(super) struct ConfigSpace {
    hardware: Vec<u8>,
    // The kernel's copies; which bits are copies; which can be written.
    copy: Vec<u8>,
    copied: Vec<u8>,
    writable: Vec<u8>,
    bars: [Option<FakeBar>; 6],
    rom_size: u32,
    power: Option<usize>,
    msi: Option<usize>,
    express: Option<usize>,
    msix: Option<usize>,
    stuck_in: Option<PowerState>,
}

/// What a write asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// A function-level reset through the PCIe capability.
    Reset,
    /// The way from D3hot to D0, on which the function loses its state.
    PowerCycle,
}

impl ConfigSpace {
    pub(super) fn new(script: &Script) -> Self {
        let size = script.config.len();
        let mut space = Self {
            hardware: script.config.clone(),
            copy: script.config.clone(),
            copied: vec![0; size],
            writable: vec![0; size],
            bars: script.bars.clone(),
            rom_size: script.rom.bar_size,
            power: None,
            msi: None,
            express: None,
            msix: None,
            stuck_in: script.stuck_in,
        };
        space.set_header_rules();
        space.set_capability_rules();
        space.set_extended_rules();
        space.fix_bars();
        if let (Some(power), Some(state)) = (space.power, script.stuck_in) {
            space.put_u16(power + 4, (space.u16(power + 4) & !POWER_STATE) | power_bits(state));
        }
        space
    }

    pub(super) fn len(&self) -> usize {
        self.hardware.len()
    }

    /// Reads; bits of the hardware are all-ones when it is gone, the kernel's copies stay.
    pub(super) fn read(&self, offset: usize, data: &mut [u8], gone: bool) {
        for (index, byte) in data.iter_mut().enumerate() {
            let at = offset + index;
            let get = |bytes: &[u8]| bytes.get(at).copied().unwrap_or(0xff);
            let copied = get(&self.copied);
            let hardware = if gone { 0xff } else { get(&self.hardware) };
            *byte = (get(&self.copy) & copied) | (hardware & !copied);
        }
    }

    /// Writes; `msi_enabled` is whether the kernel has MSI set up.
    pub(super) fn write(&mut self, offset: usize, data: &[u8], gone: bool, msi_enabled: bool) -> Asked {
        let power_before = self.power_state();
        let flr_before = self.express.map(|express| self.u16(express + 8));
        for (index, byte) in data.iter().enumerate() {
            let at = offset + index;
            let (Some(copied), Some(writable)) = (self.copied.get(at), self.writable.get(at)) else { break };
            let (to_copy, to_hardware) = (writable & copied, writable & !copied);
            if let Some(place) = self.copy.get_mut(at) {
                *place = (*place & !to_copy) | (byte & to_copy);
            }
            if let Some(place) = self.hardware.get_mut(at).filter(|_| !gone) {
                *place = (*place & !to_hardware) | (byte & to_hardware);
            }
        }
        self.fix_bars();
        self.fix_command();
        self.fix_msi(msi_enabled);
        if gone {
            return Asked::Nothing;
        }
        self.after_power(power_before).or_else(|| self.after_express(flr_before)).unwrap_or(Asked::Nothing)
    }

    /// The state after a reset: the kernel saves the configuration before and restores it after, in D0.
    pub(super) fn after_reset(&mut self) {
        if let Some(power) = self.power.filter(|_| self.stuck_in.is_none()) {
            self.put_u16(power + 4, self.u16(power + 4) & !POWER_STATE);
        }
    }

    /// Whether memory BARs answer: memory decode is on and the function is in a state above D3hot.
    pub(super) fn memory_enabled(&self) -> bool {
        self.u16(COMMAND) & command::MEMORY != 0 && self.power_state() != PowerState::D3hot
    }

    /// The BAR that holds the MSI-X table, and the bytes of the table in it.
    pub(super) fn msix_table(&self) -> Option<(u32, Range<u64>)> {
        let msix = self.msix?;
        let vectors = u64::from(self.u16(msix + 2) & 0x7ff) + 1;
        let place = u32::from(self.u16(msix + 4)) | (u32::from(self.u16(msix + 6)) << 16);
        let start = u64::from(place & !0b111);
        Some((place & 0b111, start..start + vectors * MSIX_ENTRY))
    }

    /// Whether the copy of the INTx disable bit is set.
    pub(super) fn intx_disabled(&self) -> bool {
        let copy = self.copy.get(COMMAND + 1).copied().unwrap_or(0);
        copy & (command::INTX_DISABLE >> 8) as u8 != 0
    }

    fn set_header_rules(&mut self) {
        // Offset, length, whether the kernel keeps a copy, whether it can be written. The rest is read through.
        for (at, len, copied, writable) in [
            (0x00, 4, true, false), // the ids: virtual functions have all-ones there
            (COMMAND, 2, false, true),
            (0x0c, 2, false, true), // cache line, latency
            (0x0f, 1, false, true), // self test
            (BARS, 24, true, true),
            (ROM_BAR, 4, true, true),
            (FIRST_CAPABILITY, 1, true, false),
            (0x3c, 1, true, true),  // interrupt line
            (0x3d, 1, true, false), // interrupt pin
        ] {
            self.rule(at, len, copied, writable);
        }
        // INTx disable and "has capabilities" are the kernel's copies within registers that are not.
        self.set_copied(COMMAND + 1, (command::INTX_DISABLE >> 8) as u8);
        self.set_copied(STATUS, 0x10);
    }

    fn set_capability_rules(&mut self) {
        let mut at = usize::from(self.byte(FIRST_CAPABILITY) & !0b11);
        for _ in 0..MAX_CAPABILITIES {
            if at < 0x40 || self.byte(STATUS) & 0x10 == 0 {
                break;
            }
            self.rule(at, 2, true, false);
            match self.byte(at) {
                0x01 => {
                    self.power = self.power.or(Some(at));
                    self.set_writable(at + 4, POWER_STATE as u8);
                }
                0x05 => {
                    self.msi = self.msi.or(Some(at));
                    // Enable, number of vectors, address and data: copies.
                    self.rule(at + 2, 12, true, true);
                }
                0x09 => self.rule(at + 3, usize::from(self.byte(at + 2)).saturating_sub(3), false, true),
                0x10 => {
                    self.express = self.express.or(Some(at));
                    self.rule(at + 8, 2, false, true);
                }
                // Read through, never written, as all others.
                0x11 => self.msix = self.msix.or(Some(at)),
                _ => {}
            }
            at = usize::from(self.byte(at + 1) & !0b11);
        }
    }

    fn set_extended_rules(&mut self) {
        let mut at = 0x100;
        for _ in 0..MAX_EXTENDED_CAPABILITIES {
            if at < 0x100 || at + 4 > self.len() {
                break;
            }
            self.rule(at, 4, true, false);
            at = usize::from(self.u16(at + 2) >> 4) & !0b11;
        }
    }

    /// A BAR reads as its size says, whatever was written, with its type in the low bits.
    fn fix_bars(&mut self) {
        let bars = self.bars.clone();
        let mut upper_of = None;
        for (number, bar) in bars.iter().enumerate() {
            let at = BARS + 4 * number;
            let value = self.copied_u32(at);
            let fixed = match (upper_of.take(), bar) {
                (Some(size), _) => value & mask_above(size, 32),
                (None, Some(bar)) => {
                    upper_of = bar.is_wide().then_some(bar.size);
                    (value & mask_above(bar.size, 0)) | bar.flags
                }
                (None, None) => 0,
            };
            self.put_copied_u32(at, fixed);
        }
        let rom = self.copied_u32(ROM_BAR);
        let fixed = match self.rom_size {
            0 => 0,
            size => rom & (mask_above(u64::from(size), 0) | 1),
        };
        self.put_copied_u32(ROM_BAR, fixed);
    }

    fn fix_command(&mut self) {
        self.put_u16(COMMAND, self.u16(COMMAND) & COMMAND_BITS);
    }

    /// The guest's enable bit does not stay unless the kernel has set MSI up (`vfio_msi_config_write`).
    fn fix_msi(&mut self, enabled: bool) {
        if let Some(low) = self.msi.filter(|_| !enabled).and_then(|msi| self.copy.get_mut(msi + 2)) {
            *low &= !(MSI_ENABLE as u8);
        }
    }

    fn after_power(&mut self, before: PowerState) -> Option<Asked> {
        let power = self.power?;
        if let Some(state) = self.stuck_in {
            self.put_u16(power + 4, (self.u16(power + 4) & !POWER_STATE) | power_bits(state));
            return None;
        }
        let loses_state = self.u16(power + 4) & POWER_NO_SOFT_RESET == 0;
        let woke = before == PowerState::D3hot && self.power_state() == PowerState::D0;
        (woke && loses_state).then_some(Asked::PowerCycle)
    }

    fn after_express(&mut self, before: Option<u16>) -> Option<Asked> {
        let express = self.express?;
        let control = self.u16(express + 8);
        // The bit reads as zero whatever happens.
        self.put_u16(express + 8, control & !DEVICE_CONTROL_FLR);
        let capable = u32::from(self.u16(express + 6)) << 16 & EXPRESS_FLR != 0;
        let asked = control & DEVICE_CONTROL_FLR != 0 && before? & DEVICE_CONTROL_FLR == 0;
        (capable && asked).then_some(Asked::Reset)
    }

    fn power_state(&self) -> PowerState {
        match self.power.map_or(0, |power| self.u16(power + 4) & POWER_STATE) {
            0 => PowerState::D0,
            1 => PowerState::D1,
            2 => PowerState::D2,
            _ => PowerState::D3hot,
        }
    }

    fn rule(&mut self, at: usize, len: usize, copied: bool, writable: bool) {
        let all = |yes| if yes { 0xff } else { 0 };
        for offset in at..at.saturating_add(len).min(self.len()) {
            self.set_copied(offset, all(copied));
            self.set_writable(offset, all(writable));
        }
    }

    fn set_copied(&mut self, at: usize, bits: u8) {
        if let Some(place) = self.copied.get_mut(at) {
            *place = bits;
        }
    }

    fn set_writable(&mut self, at: usize, bits: u8) {
        if let Some(place) = self.writable.get_mut(at) {
            *place = bits;
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.hardware.get(at).copied().unwrap_or(0)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        if let Some(place) = self.hardware.get_mut(at..at + 2) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn copied_u32(&self, at: usize) -> u32 {
        self.copy
            .get(at..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn put_copied_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.copy.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// The register bits that a power-of-two `size` leaves to the address, from bit `shift` on.
fn mask_above(size: u64, shift: u32) -> u32 {
    ((!size.saturating_sub(1) >> shift) & u64::from(u32::MAX)) as u32
}

fn power_bits(state: PowerState) -> u16 {
    match state {
        PowerState::D0 => 0,
        PowerState::D1 => 1,
        PowerState::D2 => 2,
        PowerState::D3hot => 3,
    }
}
