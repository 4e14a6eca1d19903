//! The ICH9 LPC bridge 8086:2918 at 00:1f.0: where the ACPI PM block is, and where PCI interrupts go.
//!
//! Only the registers that SeaBIOS, OVMF and Linux touch (Intel datasheet 316972, chapter 13). The PM block and the
//! root complex registers themselves are devices of `machine`.

use crate::register::Register;
use crate::{BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Pin};

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x2918,
    revision: 2,
    class: 0x06_0100,
    subsystem_vendor: 0,
    subsystem: 0,
};

const PMBASE: u16 = 0x40;
const ACPI_CNTL: u16 = 0x44;
const GPIOBASE: u16 = 0x48;
const GPIO_CNTL: u16 = 0x4c;
const PIRQ_A: u16 = 0x60;
const SERIAL_IRQ: u16 = 0x64;
const PIRQ_E: u16 = 0x68;
const LPC_IO_DECODE: u16 = 0x80;
const LPC_ENABLE: u16 = 0x82;
const GENERIC_DECODE: u16 = 0x84;
const GEN_PMCON_1: u16 = 0xa0;
const GEN_PMCON_3: u16 = 0xa4;
const BIOS_CNTL: u16 = 0xdc;
const RCBA: u16 = 0xf0;

const ACPI_ENABLE: u8 = 1 << 7;
const PIRQ_NOT_PIC: u8 = 1 << 7;
const SMI_LOCK: u8 = 1 << 4;

/// What firmware would have programmed, for a machine that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LpcPreset {
    /// The first port of the PM block, a multiple of 128; `None` leaves it off.
    pub pm_base: Option<u16>,
    /// The root complex registers, a multiple of 16 KiB; `None` leaves them off.
    pub rcba: Option<u32>,
}

/// The LPC bridge.
pub struct Lpc {
    config: ConfigSpace,
    reported: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    pm_base: Option<u16>,
    sci: Option<u8>,
    pirqs: [Option<u8>; 8],
    rcba: Option<u64>,
}

/// The PIRQ, 0 for A to 7 for H, of a pin of a device on bus 0. In APIC mode it is GSI 16 and up.
///
/// Devices 0 to 24 rotate over E to H, the chipset's own keep their pin at A to D: what SeaBIOS takes for granted.
pub const fn pirq(device: u8, pin: Pin) -> u8 {
    if device < 25 { 4 + pin.swizzle(device).index() } else { pin.index() }
}

impl Lpc {
    /// Builds the bridge at power-on, programmed as `preset` says.
    pub fn new(preset: &LpcPreset) -> Self {
        let mut config = ConfigSpace::endpoint(ConfigSize::Conventional, &IDENTITY);
        let pm_base = u32::from(preset.pm_base.unwrap_or(0)) & 0xff80;
        config.define(PMBASE, Register::dword(pm_base | 1).writable(0xff80));
        let acpi = if preset.pm_base.is_some() { ACPI_ENABLE } else { 0 };
        config.define(ACPI_CNTL, Register::byte(acpi).writable(0x87));
        config.define(GPIOBASE, Register::dword(1).writable(0xff80));
        config.define(GPIO_CNTL, Register::byte(0).writable(0x11));
        for pirq in (PIRQ_A..PIRQ_A + 4).chain(PIRQ_E..PIRQ_E + 4) {
            config.define(pirq, Register::byte(PIRQ_NOT_PIC).writable(0x8f));
        }
        config.define(SERIAL_IRQ, Register::byte(0x10).writable(0xff));
        config.define(LPC_IO_DECODE, Register::word(0).writable(0x1377));
        config.define(LPC_ENABLE, Register::word(0).writable(0x3f0f));
        for index in 0..4 {
            config.define(GENERIC_DECODE + 4 * index, Register::dword(0).writable(0x00fc_fffd));
        }
        config.define(GEN_PMCON_1, Register::word(0).writable(0x06bf));
        config.define(GEN_PMCON_3, Register::byte(0).writable(0xd9));
        config.define(BIOS_CNTL, Register::byte(0).writable(0x0f));
        let rcba = preset.rcba.map_or(0, |base| base & 0xffff_c000 | 1);
        config.define(RCBA, Register::dword(rcba).writable(0xffff_c001));
        let reported = State::of(&config);
        Self { config, reported }
    }

    /// The first port of the PM block now.
    pub fn pm_base(&self) -> Option<u16> {
        self.reported.pm_base
    }

    /// The PIC interrupt of PIRQ A to H now.
    pub fn pirqs(&self) -> [Option<u8>; 8] {
        self.reported.pirqs
    }

    /// The GSI of the ACPI interrupt now.
    pub fn sci(&self) -> Option<u8> {
        self.reported.sci
    }

    /// The root complex registers now.
    pub fn rcba(&self) -> Option<u64> {
        self.reported.rcba
    }

    fn follow(&mut self) -> Vec<Change> {
        let was = self.reported;
        let now = State::of(&self.config);
        self.reported = now;
        [
            (was.pm_base != now.pm_base).then_some(Change::PmBaseMoved(now.pm_base)),
            (was.sci != now.sci).then_some(Change::SciRouted(now.sci)),
            (was.pirqs != now.pirqs).then_some(Change::PirqRouted(now.pirqs)),
            (was.rcba != now.rcba).then_some(Change::RcbaMoved(now.rcba)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl State {
    fn of(config: &ConfigSpace) -> Self {
        let acpi = config.u8(ACPI_CNTL);
        let pm_base = config.u16(PMBASE) & 0xff80;
        let rcba = config.u32(RCBA);
        let base = u64::from(rcba & 0xffff_c000);
        let pirqs = [0, 1, 2, 3, 8, 9, 10, 11].map(|index| {
            let route = config.u8(PIRQ_A + index);
            // 0, 1, 2, 8 and 13 are reserved: they are the board's own.
            let irq = route & 0xf;
            (route & PIRQ_NOT_PIC == 0 && !matches!(irq, 0 | 1 | 2 | 8 | 13)).then_some(irq)
        });
        Self {
            pm_base: (acpi & ACPI_ENABLE != 0 && pm_base != 0).then_some(pm_base),
            sci: match acpi & 7 {
                select @ 0..=2 => Some(9 + select),
                select @ 4..=5 => Some(16 + select),
                _ => None,
            },
            pirqs,
            rcba: (rcba & 1 != 0 && base != 0).then_some(base),
        }
    }
}

impl Function for Lpc {
    fn name(&self) -> &str {
        "LPC bridge"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        let lock = self.config.u8(GEN_PMCON_1) & SMI_LOCK;
        self.config.write(offset, data);
        // Set once: only a reset clears it.
        self.config.set(GEN_PMCON_1, &[self.config.u8(GEN_PMCON_1) | lock]);
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

#[cfg(test)]
mod tests {
    use super::{Lpc, LpcPreset, pirq};
    use crate::{Change, Function, Pin};

    #[test]
    fn the_pm_block_answers_when_acpi_is_enabled_at_a_base() {
        let mut lpc = Lpc::new(&LpcPreset::default());
        for (offset, data, base) in [
            (0x40, &[0x01, 0x06, 0, 0][..], None),
            (0x44, &[0x80][..], Some(0x600)),
            (0x40, &[0xff, 0xb0, 0xff, 0xff][..], Some(0xb080)),
            (0x40, &[0, 0][..], None),
            (0x41, &[0x06][..], Some(0x600)),
            (0x44, &[0x00][..], None),
        ] {
            let before = lpc.pm_base();
            let changes = lpc.write_config(offset, data);
            assert_eq!(lpc.pm_base(), base, "{offset:#x} {data:x?}");
            assert_eq!(changes.contains(&Change::PmBaseMoved(base)), before != base);
        }
    }

    #[test]
    fn a_preset_answers_at_once_and_again_after_reset() {
        let mut lpc = Lpc::new(&LpcPreset { pm_base: Some(0x600), rcba: Some(0xfed1_c000) });
        assert_eq!((lpc.pm_base(), lpc.sci(), lpc.rcba()), (Some(0x600), Some(9), Some(0xfed1_c000)));
        lpc.write_config(0x44, &[0]);
        lpc.write_config(0xf0, &[0; 4]);
        assert_eq!((lpc.pm_base(), lpc.rcba()), (None, None));
        assert_eq!(lpc.reset(), [Change::PmBaseMoved(Some(0x600)), Change::RcbaMoved(Some(0xfed1_c000))]);
        assert_eq!(lpc.reset(), []);
    }

    #[test]
    fn the_acpi_interrupt_goes_where_the_select_says() {
        let mut lpc = Lpc::new(&LpcPreset::default());
        for (select, gsi) in
            [(1, Some(10)), (2, Some(11)), (3, None), (4, Some(20)), (5, Some(21)), (6, None), (0, Some(9))]
        {
            lpc.write_config(0x44, &[select]);
            assert_eq!(lpc.sci(), gsi, "{select}");
        }
    }

    #[test]
    fn pirqs_reach_the_pic_only_when_routed_to_a_free_line() {
        let mut lpc = Lpc::new(&LpcPreset::default());
        assert_eq!(lpc.pirqs(), [None; 8]);
        for (offset, value, index, irq) in [
            (0x60, 0x0a, 0, Some(10)),
            (0x63, 0x0b, 3, Some(11)),
            (0x68, 0x05, 4, Some(5)),
            (0x6b, 0x8b, 7, None),
            (0x6b, 0x0d, 7, None),
            (0x60, 0x80, 0, None),
        ] {
            lpc.write_config(offset, &[value]);
            assert_eq!(lpc.pirqs()[index], irq, "{offset:#x} {value:#x}");
        }
    }

    #[test]
    fn pins_of_bus_0_reach_the_lines_that_firmware_expects() {
        for (device, pin, line) in [
            (0, Pin::A, 4),
            (1, Pin::A, 5),
            (3, Pin::B, 4),
            (24, Pin::D, 7),
            (25, Pin::A, 0),
            (31, Pin::D, 3),
        ] {
            assert_eq!(pirq(device, pin), line, "{device} {pin:?}");
        }
    }

    #[test]
    fn the_smi_lock_stays_until_reset() {
        let mut lpc = Lpc::new(&LpcPreset::default());
        lpc.write_config(0xa0, &[0x10]);
        lpc.write_config(0xa0, &[0, 0]);
        assert_eq!(lpc.config.u8(0xa0), 0x10);
        lpc.reset();
        assert_eq!(lpc.config.u8(0xa0), 0);
    }
}
