//! FADT and FACS: the fixed hardware, described so that the guest never needs an SMI.
//!
//! Not here: the registers themselves, which are the board's devices. Called by `acpi::tables`.

use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::board::{Board, RESET_PORT, RESET_VALUE, RTC_CENTURY_INDEX, SCI_GSI};
use super::table::{Pointer, Table, TableId};
use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::board::power;

/// Where the FADT keeps the 32-bit address of the FACS.
const FACS_AT: usize = 36;
/// Where the FADT keeps the 32-bit address of the DSDT.
const DSDT_AT: usize = 40;
/// Where the FADT keeps the 64-bit address of the DSDT.
const X_DSDT_AT: usize = 140;

/// Bytes of PM1 status and enable.
const PM1_EVENT_LEN: u8 = 4;
/// Bytes of PM1 control.
const PM1_CONTROL_LEN: u8 = 2;
/// Bytes of the PM timer.
const PM_TIMER_LEN: u8 = 4;

/// IAPC_BOOT_ARCH: there are devices on the ISA bus that a user can see, the serial ports.
const LEGACY_DEVICES: u16 = 1 << 0;
/// IAPC_BOOT_ARCH: there is an i8042.
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
/// IAPC_BOOT_ARCH: there is no RTC.
const NO_RTC: u16 = 1 << 5;

/// A C2 latency above 100 us says that there is no C2 (ACPI 6.5, table 5.9).
const NO_C2_LATENCY_US: u16 = 101;
/// A C3 latency above 1000 us says that there is no C3.
const NO_C3_LATENCY_US: u16 = 1001;

/// Most CPUs that one flat logical destination can name.
const FLAT_APIC_CPUS: usize = 8;

/// Writes the fixed hardware's table (ACPI 6.5, section 5.2.9).
pub(super) fn fadt(board: &Board) -> Table {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    fadt = flags(board).into_iter().fold(fadt, FADTBuilder::flag);
    fadt.preferred_pm_profile = PmProfile::Desktop as u8;
    fadt.sci_int = u16::from(SCI_GSI).into();
    // SMI_CMD stays 0: ACPI mode is on from the start and nobody owns the registers before the guest does.
    registers(&mut fadt, board);
    fadt.p_lvl2_lat = NO_C2_LATENCY_US.into();
    fadt.p_lvl3_lat = NO_C3_LATENCY_US.into();
    fadt.century = RTC_CENTURY_INDEX;
    fadt.iapc_boot_arch = boot_arch(board).into();
    fadt.reset_reg = port(RESET_PORT.into(), 1, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;

    let mut table = Table::from_aml(TableId::Fadt, &fadt.finalize());
    table.pointers = vec![
        // Only one of the two FACS fields may be set (ACPI 6.5, table 5.9); the 32-bit one is known to all guests.
        Pointer { offset: FACS_AT, len: 4, to: TableId::Facs },
        Pointer { offset: DSDT_AT, len: 4, to: TableId::Dsdt },
        Pointer { offset: X_DSDT_AT, len: 8, to: TableId::Dsdt },
    ];
    table
}

/// Writes the FACS, which must lie on a 64-byte boundary (ACPI 6.5, section 5.2.10).
pub(super) fn facs() -> Table {
    let mut facs = Table::from_aml(TableId::Facs, &FACS::new());
    facs.align = 64;
    facs
}

fn flags(board: &Board) -> Vec<Flags> {
    let mut flags = vec![
        Flags::Wbinvd,
        Flags::ProcC1,
        // Set means "no such fixed button"; the power button's flag stays clear, because it is one.
        Flags::SlpButton,
        // The RTC's alarm does not wake the machine through the fixed registers.
        Flags::FixRtc,
        Flags::ResetRegSup,
    ];
    if board.power.timer {
        flags.push(Flags::TmrValExt);
    }
    if board.cpus.len() > FLAT_APIC_CPUS {
        // Windows takes flat destinations unless told otherwise, and then starts no more than 8 CPUs.
        flags.push(Flags::ForceApicClusterModel);
    }
    flags
}

/// Says which legacy devices there are (ACPI 6.5, section 5.2.9.3).
///
/// VGA's bit stays clear: there may be a legacy VGA. So do those that forbid MSI and ASPM.
fn boot_arch(board: &Board) -> u16 {
    let mut boot_arch = 0;
    if !board.serial_ports.is_empty() {
        boot_arch |= LEGACY_DEVICES;
    }
    if board.keyboard_controller {
        boot_arch |= KEYBOARD_CONTROLLER;
    }
    if !board.rtc {
        boot_arch |= NO_RTC;
    }
    boot_arch
}

fn registers(fadt: &mut FADTBuilder, board: &Board) {
    let at = |offset: u64| u64::from(board.power.pm1_event) + offset;
    fadt.pm1a_evt_blk = (at(power::PM1_EVENT) as u32).into();
    fadt.pm1_evt_len = PM1_EVENT_LEN;
    fadt.x_pm1a_evt_blk = port(at(power::PM1_EVENT), PM1_EVENT_LEN, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = (at(power::PM1_CONTROL) as u32).into();
    fadt.pm1_cnt_len = PM1_CONTROL_LEN;
    fadt.x_pm1a_cnt_blk = port(at(power::PM1_CONTROL), PM1_CONTROL_LEN, AccessSize::WordAccess);
    if board.power.timer {
        fadt.pm_tmr_blk = (at(power::PM_TIMER) as u32).into();
        fadt.pm_tmr_len = PM_TIMER_LEN;
        fadt.x_pm_tmr_blk = port(at(power::PM_TIMER), PM_TIMER_LEN, AccessSize::DwordAccess);
    }
    if board.power.events {
        fadt.gpe0_blk = (at(power::GPE0) as u32).into();
        fadt.gpe0_blk_len = power::GPE0_LEN;
        fadt.x_gpe0_blk = port(at(power::GPE0), power::GPE0_LEN, AccessSize::ByteAccess);
    }
}

/// Describes `len` bytes of ports from `base` on.
fn port(base: u64, len: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, len * 8, 0, access, base)
}
