//! ACPI power management registers, the ICH9's 128 ports at PMBASE (ICH9 data sheet section 13.8.3; ACPI 6.5
//! section 4.8): power button, soft off, PM timer, general-purpose events, and the SCI they share.
//!
//! Not here: where PMBASE is (the LPC bridge says), the tables that describe these registers (`firmware`), the
//! reset register (`reset_control`). There is no SMM: ACPI mode is on from the start and stays on.

use std::sync::Arc;

use super::clock::{Clock, Deadline, NANOS_PER_SECOND};
use super::output::Wake;
use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect};
use crate::firmware::acpi::board::S5_SLEEP_TYPE;
use crate::interrupt::InterruptLine;

/// The number of ports from PMBASE.
pub const PORTS: u64 = 0x80;
/// Offset of PM1 status and enable, for the FADT's PM1a event block (4 bytes).
pub const PM1_EVENT: u64 = 0x00;
/// Offset of PM1 control, for the FADT's PM1a control block (2 bytes).
pub const PM1_CONTROL: u64 = 0x04;
/// Offset of the PM timer (4 bytes). All 32 bits count, where the ICH9 has 24: the FADT's TMR_VAL_EXT says so, and
/// firmware that only knows the ICH9 looks at the lower 24.
pub const PM_TIMER: u64 = 0x08;
/// Offset of the general-purpose event block.
pub const GPE0: u64 = 0x20;
/// Bytes of the general-purpose event block: half status, half enable.
pub const GPE0_LEN: u8 = 16;

/// Ticks of the PM timer in a second (ACPI 6.5 section 4.8.2.1).
const TIMER_HZ: u64 = 3_579_545;
const TIMER_MASK: u64 = 0xffff_ffff;
/// TMR_STS is set whenever bit 31 changes.
const TIMER_HALF_BITS: u32 = 31;

const PM1_STATUS: u64 = PM1_EVENT;
const PM1_ENABLE: u64 = PM1_EVENT + 2;
const GPE0_STATUS: u64 = GPE0;
const GPE0_ENABLE: u64 = GPE0 + 8;
const SMI_ENABLE: u64 = 0x30;
/// SMI on a write to the APM port. SeaBIOS takes it as a sign that SMM is set up (`ich9_lpc_apmc_smm_setup`)
/// and would wait for ever for an SMI otherwise.
const SMI_ENABLE_APMC: u32 = 1 << 5;

const TIMER_OVERFLOW: u16 = 1 << 0;
const GLOBAL_LOCK: u16 = 1 << 5;
const POWER_BUTTON: u16 = 1 << 8;
const RTC_ALARM: u16 = 1 << 10;
const WAKE_STATUS: u16 = 1 << 15;
/// The events that can raise the SCI; the other status bits only inform.
const PM1_EVENTS: u16 = TIMER_OVERFLOW | GLOBAL_LOCK | POWER_BUTTON | RTC_ALARM;

const SCI_ENABLE: u16 = 1 << 0;
const BUS_MASTER_RELOAD: u16 = 1 << 1;
const SLEEP_TYPE: u16 = 0x1c00;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;

/// The ACPI power management block.
pub struct PowerManagement {
    clock: Arc<dyn Clock>,
    sci: Box<dyn InterruptLine>,
    deadline_moved: Arc<dyn Wake>,
    sci_high: bool,
    registers: Registers,
}

#[derive(Default)]
struct Registers {
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: u64,
    gpe_enable: u64,
    smi_enable: u32,
    // The count of bit-31 changes up to which TMR_STS has been raised.
    timer_halves: u64,
}

impl PowerManagement {
    /// Makes the block; `sci` is the level-triggered ACPI interrupt, `deadline_moved` is called when
    /// [`Deadline::next_deadline`] is to be asked again.
    pub fn new(clock: Arc<dyn Clock>, sci: Box<dyn InterruptLine>, deadline_moved: Arc<dyn Wake>) -> Self {
        let registers = Registers { timer_halves: timer_halves(clock.as_ref()), ..Registers::default() };
        Self { clock, sci, deadline_moved, sci_high: false, registers }
    }

    /// Presses the power button; false when the guest has not enabled it and will not notice.
    pub fn press_power_button(&mut self) -> bool {
        self.registers.status |= POWER_BUTTON;
        self.drive_sci();
        self.registers.enable & POWER_BUTTON != 0
    }

    /// Raises general-purpose event `number`, 0 to 63; others do not exist and are dropped.
    pub fn raise_event(&mut self, number: u32) {
        self.registers.gpe_status |= 1u64.checked_shl(number).unwrap_or(0);
        self.drive_sci();
    }

    fn read_byte(&self, port: u64, timer: u64) -> u8 {
        let registers = &self.registers;
        let (value, first) = match port {
            PM1_STATUS..PM1_ENABLE => (registers.status.into(), PM1_STATUS),
            PM1_ENABLE..PM1_CONTROL => (registers.enable.into(), PM1_ENABLE),
            PM1_CONTROL..0x06 => (u64::from(registers.control | SCI_ENABLE), PM1_CONTROL),
            PM_TIMER..0x0c => (timer & TIMER_MASK, PM_TIMER),
            GPE0_STATUS..GPE0_ENABLE => (registers.gpe_status, GPE0_STATUS),
            GPE0_ENABLE..SMI_ENABLE => (registers.gpe_enable, GPE0_ENABLE),
            SMI_ENABLE..0x34 => (u64::from(registers.smi_enable | SMI_ENABLE_APMC), SMI_ENABLE),
            // Reserved registers of the block read as zero.
            _ => return 0,
        };
        byte_of(value, port - first)
    }

    fn write_byte(&mut self, port: u64, value: u8) -> Option<Effect> {
        let registers = &mut self.registers;
        match port {
            // Status bits are cleared by writing ones.
            PM1_STATUS..PM1_ENABLE => registers.status &= !(u16::from(value) << (8 * (port - PM1_STATUS))),
            PM1_ENABLE..PM1_CONTROL => {
                let mut bytes = registers.enable.to_le_bytes();
                put(&mut bytes, port - PM1_ENABLE, value);
                registers.enable = u16::from_le_bytes(bytes);
            }
            PM1_CONTROL..0x06 => return self.control(port - PM1_CONTROL, value),
            GPE0_STATUS..GPE0_ENABLE => {
                registers.gpe_status &= !(u64::from(value) << (8 * (port - GPE0_STATUS)))
            }
            GPE0_ENABLE..SMI_ENABLE => {
                let mut bytes = registers.gpe_enable.to_le_bytes();
                put(&mut bytes, port - GPE0_ENABLE, value);
                registers.gpe_enable = u64::from_le_bytes(bytes);
            }
            SMI_ENABLE..0x34 => {
                let mut bytes = registers.smi_enable.to_le_bytes();
                put(&mut bytes, port - SMI_ENABLE, value);
                registers.smi_enable = u32::from_le_bytes(bytes);
            }
            _ => {}
        }
        None
    }

    /// Writes one byte of PM1 control; sleep type and sleep enable share the upper one.
    fn control(&mut self, lane: u64, value: u8) -> Option<Effect> {
        let written = u16::from(value) << (8 * lane);
        let kept = self.registers.control & !(0xff << (8 * lane));
        self.registers.control = kept | written & (BUS_MASTER_RELOAD | SLEEP_TYPE);
        if written & SLEEP_ENABLE == 0 {
            return None;
        }
        if written & SLEEP_TYPE == u16::from(S5_SLEEP_TYPE) << SLEEP_TYPE_SHIFT {
            // 0, not the ICH9's 7: OVMF (`ResetShutdown`) and SeaBIOS (`apm_shutdown`) write it unasked.
            return Some(Effect::PowerOff);
        }
        // No other sleep state is offered: a guest that enters one all the same is awake again at once.
        self.registers.status |= WAKE_STATUS;
        None
    }

    /// Brings TMR_STS up to date with the clock.
    fn note_timer(&mut self) {
        let halves = timer_halves(self.clock.as_ref());
        if halves != self.registers.timer_halves {
            self.registers.timer_halves = halves;
            self.registers.status |= TIMER_OVERFLOW;
        }
    }

    fn drive_sci(&mut self) {
        let registers = &self.registers;
        let high = registers.status & registers.enable & PM1_EVENTS != 0
            || registers.gpe_status & registers.gpe_enable != 0;
        if high != self.sci_high {
            self.sci_high = high;
            self.sci.set(high);
        }
    }
}

impl Device for PowerManagement {
    fn name(&self) -> &str {
        "power-management"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        self.note_timer();
        // One look at the clock for the whole access, or the bytes of the timer would not fit together.
        let timer = timer_ticks(self.clock.as_ref());
        read_bytes(offset, data, |port| self.read_byte(port, timer));
        self.drive_sci();
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        // Before a one clears TMR_STS, or a change not seen yet would raise it right after.
        self.note_timer();
        let mut effects = Vec::new();
        write_bytes(offset, data, |port, value| effects.extend(self.write_byte(port, value)));
        self.drive_sci();
        if self.next_deadline().is_some() {
            self.deadline_moved.wake();
        }
        effects
    }
}

impl Deadline for PowerManagement {
    fn next_deadline(&self) -> Option<u64> {
        let registers = &self.registers;
        let wanted = registers.enable & TIMER_OVERFLOW != 0 && registers.status & TIMER_OVERFLOW == 0;
        wanted.then(|| {
            let ticks = u128::from(registers.timer_halves + 1) << TIMER_HALF_BITS;
            // Rounded up: a nanosecond too early would find the bit unchanged.
            let ns = (ticks * u128::from(NANOS_PER_SECOND)).div_ceil(u128::from(TIMER_HZ));
            u64::try_from(ns).unwrap_or(u64::MAX)
        })
    }

    fn fire(&mut self) {
        self.note_timer();
        self.drive_sci();
    }
}

fn timer_ticks(clock: &dyn Clock) -> u64 {
    let ticks = u128::from(clock.monotonic_ns()) * u128::from(TIMER_HZ) / u128::from(NANOS_PER_SECOND);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn timer_halves(clock: &dyn Clock) -> u64 {
    timer_ticks(clock) >> TIMER_HALF_BITS
}

fn byte_of(value: u64, lane: u64) -> u8 {
    value.to_le_bytes().get(usize::try_from(lane).unwrap_or(usize::MAX)).copied().unwrap_or(0)
}

fn put(bytes: &mut [u8], lane: u64, value: u8) {
    if let Some(byte) = usize::try_from(lane).ok().and_then(|lane| bytes.get_mut(lane)) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::testing::{HandClock, RecordedLine, WakeCount};

    struct Block {
        clock: HandClock,
        sci: RecordedLine,
        wakes: WakeCount,
        power: PowerManagement,
    }

    fn block() -> Block {
        let (clock, sci, wakes) = (HandClock::at(0), RecordedLine::default(), WakeCount::default());
        let power = PowerManagement::new(clock.clock(), sci.line(), wakes.wake());
        Block { clock, sci, wakes, power }
    }

    fn read(power: &mut PowerManagement, port: u64) -> u16 {
        let mut data = [0; 2];
        power.read(port, &mut data);
        u16::from_le_bytes(data)
    }

    fn write(power: &mut PowerManagement, port: u64, value: u16) -> Vec<Effect> {
        power.write(port, &value.to_le_bytes())
    }

    #[test]
    fn soft_off_is_sleep_enable_with_its_own_type_only() {
        for (writes, off, status) in [
            (&[(4, &[0x00, 0x20][..])][..], true, 0),
            (&[(4, &[0x01, 0x20, 0, 0])], true, 0),
            (&[(5, &[0x20])], true, 0),
            (&[(4, &[0x00, 0x00]), (4, &[0x00, 0x20])], true, 0),
            (&[(4, &[0x00])], false, 0),
            (&[(4, &[0x00, 0x1c])], false, 0),
            (&[(4, &[0x20, 0x00])], false, 0),
            // S3 and S4 as the ICH9 numbers them: awake again at once.
            (&[(4, &[0x00, 0x34])], false, 0x8000),
            (&[(5, &[0x38])], false, 0x8000),
        ] {
            let mut power = block().power;
            let mut effects = Vec::new();
            for (port, data) in writes {
                effects.extend(power.write(*port, data));
            }
            assert_eq!(effects == [Effect::PowerOff], off, "{writes:x?}: {effects:?}");
            assert_eq!(read(&mut power, 0), status, "{writes:x?}");
        }
    }

    #[test]
    fn acpi_mode_cannot_be_left() {
        let mut power = block().power;
        write(&mut power, 4, 0x0000);
        assert_eq!(read(&mut power, 4), 0x0001);
        write(&mut power, 4, 0x1c06);
        assert_eq!(read(&mut power, 4), 0x1c03);
    }

    #[test]
    fn the_power_button_raises_the_sci_until_it_is_cleared() {
        for (enable, clear, pressed, stays) in [
            (0x0100, 0x0100, true, false),
            (0x0100, 0x0421, true, true),
            (0x0000, 0x0100, false, false),
            (0x8000, 0x0100, false, false),
        ] {
            let Block { mut power, sci, .. } = block();
            write(&mut power, 2, enable);
            assert_eq!(power.press_power_button(), pressed, "{enable:#x}");
            assert_eq!(read(&mut power, 0), 0x0100);
            assert_eq!(sci.high(), pressed, "{enable:#x}");
            write(&mut power, 0, clear);
            assert_eq!(sci.high(), stays, "{enable:#x} {clear:#x}");
        }
    }

    #[test]
    fn a_button_pressed_before_it_is_enabled_is_seen_when_it_is() {
        let Block { mut power, sci, .. } = block();
        power.press_power_button();
        assert!(!sci.high());
        power.write(3, &[0x01]);
        assert!(sci.high());
    }

    #[test]
    fn general_purpose_events_share_the_sci() {
        for (event, status_port, enable_port, bit) in
            [(0, 0x20, 0x28, 0x01), (9, 0x21, 0x29, 0x02), (63, 0x27, 0x2f, 0x80)]
        {
            let Block { mut power, sci, .. } = block();
            power.raise_event(event);
            assert!(!sci.high());
            power.write(enable_port, &[bit]);
            assert!(sci.high(), "event {event}");
            power.write(status_port, &[!bit]);
            assert!(sci.high(), "event {event}");
            power.write(status_port, &[bit]);
            assert!(!sci.high(), "event {event}");
        }
        let Block { mut power, .. } = block();
        power.raise_event(64);
        assert_eq!([0x20, 0x22, 0x24, 0x26].map(|port| read(&mut power, port)), [0; 4]);
    }

    #[test]
    fn the_timer_counts_32_bits_at_its_rate() {
        for (ns, ticks) in [
            (0, 0u32),
            (1_000_000_000, 3_579_545),
            (1_199_000_000_000, 4_291_874_455),
            (1_200_000_000_000, 486_704),
        ] {
            let Block { mut power, clock, .. } = block();
            clock.pass_ns(ns);
            let mut data = [0; 4];
            power.read(8, &mut data);
            assert_eq!(u32::from_le_bytes(data), ticks, "{ns} ns");
            let byte = ticks.to_le_bytes()[1];
            power.read(9, &mut data[..1]);
            assert_eq!(data[0], byte, "{ns} ns");
        }
    }

    #[test]
    fn the_timer_interrupts_at_every_change_of_its_top_bit() {
        // Bit 31 changes every 2^31 ticks, about ten minutes.
        let Block { mut power, clock, sci, wakes } = block();
        assert_eq!(power.next_deadline(), None);
        write(&mut power, 2, 0x0001);
        assert_eq!(wakes.count(), 1);
        for round in 1..=3u64 {
            let deadline = power.next_deadline().unwrap();
            assert_eq!(deadline, (round * (1 << 31) * NANOS_PER_SECOND).div_ceil(TIMER_HZ));
            clock.pass_ns(deadline - clock.monotonic_ns() - 1);
            power.fire();
            assert!(!sci.high(), "round {round}");
            clock.pass_ns(1);
            power.fire();
            assert!(sci.high(), "round {round}");
            assert_eq!(power.next_deadline(), None);
            write(&mut power, 0, 0x0001);
            assert!(!sci.high(), "round {round}");
        }
    }

    #[test]
    fn clearing_the_timers_status_clears_changes_nobody_had_seen() {
        let Block { mut power, clock, .. } = block();
        clock.pass_ns(700 * NANOS_PER_SECOND);
        write(&mut power, 0, 0x0001);
        assert_eq!(read(&mut power, 0), 0x0000);
        clock.pass_ns(700 * NANOS_PER_SECOND);
        assert_eq!(read(&mut power, 0), 0x0001);
    }

    #[test]
    fn a_wake_only_informs() {
        let Block { mut power, sci, .. } = block();
        write(&mut power, 2, 0xffff);
        write(&mut power, 4, 0x3400);
        assert_eq!(read(&mut power, 0), 0x8000);
        assert!(!sci.high());
    }

    #[test]
    fn firmware_finds_system_management_mode_set_up() {
        let mut power = block().power;
        power.write(0x30, &[0; 4]);
        assert_eq!(read(&mut power, 0x30), 0x0020);
        power.write(0x30, &[0x01]);
        assert_eq!(read(&mut power, 0x30), 0x0021);
    }
}
