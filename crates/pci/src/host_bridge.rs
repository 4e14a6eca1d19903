//! The host bridge 8086:29c0 at 00:00.0: where config space is in memory, and which reads below 1 MiB go to RAM.
//!
//! Only the registers that SeaBIOS, OVMF and Linux touch (Intel datasheet 316966, chapter 5). Carrying out a move is
//! for `machine`, and so is the ACPI MCFG that must agree with it.

use std::ops::Range;

use crate::register::Register;
use crate::{BarRange, Change, ConfigSize, ConfigSpace, Ecam, Function, Identity};

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x29c0,
    revision: 0,
    class: 0x06_0000,
    // By these SeaBIOS knows that there is an fw_cfg device (`qemu_detect` in src/fw/paravirt.c).
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

const PCIEXBAR: u16 = 0x60;
const PAM: u16 = 0x90;
const SMRAM: u16 = 0x9d;
const ESMRAMC: u16 = 0x9e;

const ECAM_ENABLE: u64 = 1;
// Address bits 35:26; the lower two count only for the smaller windows.
const ECAM_ADDRESS: u64 = 0xf_fc00_0000;
const ECAM_LENGTH: u64 = 0b110;

const SMRAM_OPEN: u8 = 1 << 6;
const SMRAM_LOCK: u8 = 1 << 4;
const SMRAM_SEGMENT: u8 = 0b010;

/// A config window that PCIEXBAR cannot describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a config window of {} buses at {:#x} does not fit in PCIEXBAR: 64, 128 or 256 buses, aligned, below 64 GiB", .0.buses, .0.base)]
pub struct EcamUnfit(pub Ecam);

/// What firmware would have programmed, for a machine that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostBridgePreset {
    /// The config window in memory; `None` leaves it off.
    pub ecam: Option<Ecam>,
    /// All from 0xC0000 to 0xFFFFF is RAM.
    pub shadow_is_ram: bool,
}

/// The seven attribute registers that say what answers from 0xC0000 to 0xFFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shadow {
    registers: [u8; 7],
}

/// What answers in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSegment {
    /// Where.
    pub range: Range<u64>,
    /// Reads go to RAM; else to the ROM or device there.
    pub read_ram: bool,
    /// Writes go to RAM; else to the ROM or device there.
    pub write_ram: bool,
}

impl Shadow {
    /// The 13 segments, from the lowest.
    pub fn segments(&self) -> impl Iterator<Item = ShadowSegment> {
        let [system, expansion @ ..] = self.registers;
        let expansion = expansion.into_iter().flat_map(|register| [register & 0xf, register >> 4]);
        let expansion = (0_u64..).zip(expansion).map(|(index, attributes)| {
            let start = 0xc_0000 + index * 0x4000;
            (start..start + 0x4000, attributes)
        });
        expansion.chain([(0xf_0000..0x10_0000, system >> 4)]).map(|(range, attributes)| ShadowSegment {
            range,
            read_ram: attributes & 1 != 0,
            write_ram: attributes & 2 != 0,
        })
    }
}

/// The host bridge.
pub struct HostBridge {
    config: ConfigSpace,
    ecam: Option<Ecam>,
    shadow: Shadow,
}

impl HostBridge {
    /// Builds the bridge at power-on, programmed as `preset` says.
    ///
    /// # Errors
    /// When the register cannot describe the preset window.
    pub fn new(preset: &HostBridgePreset) -> Result<Self, EcamUnfit> {
        let mut config = ConfigSpace::endpoint(ConfigSize::Conventional, &IDENTITY);
        let pciexbar = preset.ecam.map_or(Ok(0), encode)?;
        for (offset, shift) in [(PCIEXBAR, 0), (PCIEXBAR + 4, 32)] {
            let half = |value: u64| (value >> shift & 0xffff_ffff) as u32;
            let writable = half(ECAM_ADDRESS | ECAM_LENGTH | ECAM_ENABLE);
            config.define(offset, Register::dword(half(pciexbar)).writable(writable));
        }
        for index in 0..7 {
            let writable = if index == 0 { 0x30 } else { 0x33 };
            let value = if preset.shadow_is_ram { writable } else { 0 };
            config.define(PAM + index, Register::byte(value).writable(writable.into()));
        }
        config.define(SMRAM, Register::byte(SMRAM_SEGMENT).writable(0x78));
        config.define(ESMRAMC, Register::byte(0x38).writable(0x87).clears(0x40));
        let mut bridge = Self { config, ecam: None, shadow: Shadow { registers: [0; 7] } };
        bridge.follow();
        Ok(bridge)
    }

    /// Where config space is in memory now.
    pub fn ecam(&self) -> Option<Ecam> {
        self.ecam
    }

    /// What answers below 1 MiB now.
    pub fn shadow(&self) -> Shadow {
        self.shadow
    }

    fn follow(&mut self) -> Vec<Change> {
        let value = u64::from(self.config.u32(PCIEXBAR + 4)) << 32 | u64::from(self.config.u32(PCIEXBAR));
        let ecam = decode(value);
        let mut registers = [0; 7];
        self.config.read(PAM, &mut registers);
        let shadow = Shadow { registers };
        let mut changes = Vec::new();
        if ecam != self.ecam {
            changes.push(Change::EcamMoved(ecam));
        }
        if shadow != self.shadow {
            changes.push(Change::ShadowMoved(shadow));
        }
        (self.ecam, self.shadow) = (ecam, shadow);
        changes
    }
}

impl Function for HostBridge {
    fn name(&self) -> &str {
        "host bridge"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        let locked = self.config.u8(SMRAM);
        self.config.write(offset, data);
        if locked & SMRAM_LOCK != 0 {
            self.config.set(SMRAM, &[locked]);
        } else if self.config.u8(SMRAM) & SMRAM_LOCK != 0 {
            // Locking closes the space, and only a reset unlocks it.
            self.config.set(SMRAM, &[self.config.u8(SMRAM) & !SMRAM_OPEN]);
        }
        self.follow()
    }

    fn bars(&self) -> Vec<BarRange> {
        Vec::new()
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        self.follow()
    }
}

/// The window the register describes: its low address bits count only if the window is that small.
fn decode(pciexbar: u64) -> Option<Ecam> {
    let buses: u16 = match pciexbar & ECAM_LENGTH {
        0b000 => 256,
        0b010 => 128,
        0b100 => 64,
        _ => return None,
    };
    let base = pciexbar & ECAM_ADDRESS & !(u64::from(buses) * crate::BYTES_PER_BUS - 1);
    (pciexbar & ECAM_ENABLE != 0 && base != 0).then_some(Ecam { base, buses })
}

fn encode(ecam: Ecam) -> Result<u64, EcamUnfit> {
    let length = match ecam.buses {
        256 => 0b000,
        128 => 0b010,
        _ => 0b100,
    };
    let register = ecam.base | length | ECAM_ENABLE;
    if decode(register) == Some(ecam) { Ok(register) } else { Err(EcamUnfit(ecam)) }
}

#[cfg(test)]
mod tests {
    use super::{HostBridge, HostBridgePreset};
    use crate::{Change, Ecam, Function};

    const PRESET: HostBridgePreset =
        HostBridgePreset { ecam: Some(Ecam { base: 0xe000_0000, buses: 256 }), shadow_is_ram: true };

    #[test]
    fn the_window_follows_pciexbar() {
        let mut bridge = HostBridge::new(&HostBridgePreset::default()).unwrap();
        for (low, high, window) in [
            (0xb000_0001_u32, 0_u32, Some((0xb000_0000, 256))),
            (0xbc00_0001, 0, Some((0xb000_0000, 256))),
            (0xbc00_0003, 0, Some((0xb800_0000, 128))),
            (0xbc00_0005, 0, Some((0xbc00_0000, 64))),
            (0xbc00_0007, 0, None),
            (0xb000_0000, 0, None),
            (0xffff_fff9, 0xffff_ffff, Some((0xf_f000_0000, 256))),
            (0x0000_0001, 0, None),
        ] {
            // As firmware does: off, upper half, lower half.
            bridge.write_config(0x60, &[0; 4]);
            bridge.write_config(0x64, &high.to_le_bytes());
            let changes = bridge.write_config(0x60, &low.to_le_bytes());
            let window = window.map(|(base, buses)| Ecam { base, buses });
            assert_eq!(bridge.ecam(), window, "{high:#x} {low:#x}");
            assert_eq!(
                changes,
                window.map(|ecam| Change::EcamMoved(Some(ecam))).into_iter().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_preset_window_reads_back_and_returns_at_reset() {
        for (base, buses, fits) in [
            (0xe000_0000, 256, true),
            (0xbc00_0000, 64, true),
            (0xbc00_0000, 128, false),
            (0xe000_0000, 32, false),
            (0x10_0000_0000, 256, false),
            (0, 256, false),
            (0xe000_0002, 256, false),
        ] {
            let ecam = Some(Ecam { base, buses });
            let bridge = HostBridge::new(&HostBridgePreset { ecam, ..PRESET });
            assert_eq!(
                bridge.ok().and_then(|bridge| bridge.ecam()),
                ecam.filter(|_| fits),
                "{base:#x} {buses}"
            );
        }
        let mut bridge = HostBridge::new(&PRESET).unwrap();
        bridge.write_config(0x60, &[0; 4]);
        assert_eq!(bridge.ecam(), None);
        assert_eq!(bridge.reset(), [Change::EcamMoved(PRESET.ecam)]);
    }

    #[test]
    fn shadow_segments_cover_the_quarter_mebibyte_in_order() {
        let mut bridge = HostBridge::new(&HostBridgePreset::default()).unwrap();
        let mut next = 0xc_0000;
        for segment in bridge.shadow().segments() {
            assert_eq!(segment.range.start, next);
            assert!(!segment.read_ram && !segment.write_ram);
            next = segment.range.end;
        }
        assert_eq!(next, 0x10_0000);
        for (register, value, start, read, write) in [
            (0x90, 0x30, 0xf_0000, true, true),
            (0x90, 0x20, 0xf_0000, false, true),
            (0x91, 0x01, 0xc_0000, true, false),
            (0x91, 0x30, 0xc_4000, true, true),
            (0x96, 0x13, 0xe_8000, true, true),
            (0x96, 0x13, 0xe_c000, true, false),
        ] {
            bridge.write_config(register, &[value]);
            let found = bridge.shadow().segments().find(|segment| segment.range.start == start).unwrap();
            assert_eq!((found.read_ram, found.write_ram), (read, write), "{register:#x} {start:#x}");
        }
        let ram = HostBridge::new(&PRESET).unwrap();
        assert!(ram.shadow().segments().all(|segment| segment.read_ram && segment.write_ram));
    }

    #[test]
    fn locked_smram_stays_closed_until_reset() {
        let mut bridge = HostBridge::new(&PRESET).unwrap();
        for (written, read) in [(0x4a, 0x4a), (0x58, 0x1a), (0x48, 0x1a), (0x00, 0x1a)] {
            bridge.write_config(0x9d, &[written]);
            let mut data = [0];
            bridge.read_config(0x9d, &mut data);
            assert_eq!(data, [read], "{written:#x}");
        }
        bridge.reset();
        assert_eq!(bridge.config.u8(0x9d), 0x02);
    }
}
