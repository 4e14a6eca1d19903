//! The kernel's rules that `linux::vfio::fake` keeps, tried on a real function: each is true or the fake is wrong.

use std::os::fd::AsFd;

use linux::vfio::config::{Config, PowerState, command};
use linux::vfio::{Device, DeviceError, Errno, IrqAction, IrqIndex, KernelDevice, RegionIndex, RegionInfo};
use serde_json::{Map, Value, json};

use super::{Outcome, event_fd};

const BARS: u64 = 0x10;
const CAPABILITY_POINTER: u64 = 0x34;
const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
const POWER: u8 = 0x01;

/// Tries every rule that the function can show; the others are left out.
pub(crate) fn check(device: &KernelDevice) -> Outcome<Value> {
    let config = Config(device);
    let mut told = Map::new();
    let mut tell = |rule: &str, holds: bool| told.insert(rule.to_owned(), json!(holds));

    tell("ids_and_capability_pointer_cannot_be_written", unchanged(config, &[0, 8, CAPABILITY_POINTER])?);
    tell(
        "what_is_not_enabled_cannot_be_disabled",
        refused(device.set_irqs(IrqIndex::Intx, IrqAction::Disable)),
    );
    if let Some((number, info)) = memory_bar(device) {
        tell("a_bar_reads_as_its_size", sized(config, number, &info)?);
        let read = || device.read(RegionIndex(u32::from(number)), 0, &mut [0; 4]);
        let before = config.change_command(command::MEMORY, 0)?;
        tell("memory_without_decode_is_eio", fails_with(read(), Errno::IO));
        config.change_command(0, before | command::MEMORY)?;
        tell("memory_with_decode_answers", read().is_ok());
        if config.capability(POWER)?.is_some() {
            config.set_power_state(PowerState::D3hot)?;
            tell("memory_in_d3hot_is_eio", fails_with(read(), Errno::IO));
            config.set_power_state(PowerState::D0)?;
            tell("memory_after_d3hot_answers", read().is_ok());
        }
    }
    if device.irq(IrqIndex::Msi)?.count > 0 {
        let fd = event_fd()?;
        let signal = |irq| device.set_irqs(irq, IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] });
        tell("msi_enable_does_not_stay_unless_set_up", !msi_enable_stays(config)?);
        signal(IrqIndex::Msi)?;
        tell("msi_enable_stays_once_set_up", msi_enable_stays(config)?);
        if device.irq(IrqIndex::Intx)?.count > 0 {
            tell("only_one_kind_is_enabled", refused(signal(IrqIndex::Intx)));
        }
        device.set_irqs(IrqIndex::Msi, IrqAction::Disable)?;
    }
    if let Some(last) = device.irq(IrqIndex::Msix)?.count.checked_sub(1) {
        let beyond = IrqAction::Signal { start: last + 1, fds: &[None] };
        tell("a_vector_beyond_the_table_is_refused", refused(device.set_irqs(IrqIndex::Msix, beyond)));
        let nothing = IrqAction::Signal { start: 0, fds: &[] };
        tell("no_vector_is_no_request", fails_with(device.set_irqs(IrqIndex::Msix, nothing), Errno::RANGE));
        let (bar, offset) = msix_table(config)?;
        let before = config.change_command(0, command::MEMORY)?;
        let mut entry = [0; 16];
        device.write(RegionIndex(bar), offset, &[0; 16])?;
        device.read(RegionIndex(bar), offset, &mut entry)?;
        tell("the_msix_table_reads_all_ones", entry == [0xff; 16]);
        config.change_command(command::MEMORY, 0)?;
        tell("the_msix_table_needs_no_decode", device.read(RegionIndex(bar), offset, &mut entry).is_ok());
        config.change_command(0, before)?;
    }
    Ok(Value::Object(told))
}

/// The first memory BAR that can be read and does not begin with the MSI-X table, which has rules of its own.
fn memory_bar(device: &KernelDevice) -> Option<(u8, RegionInfo)> {
    let table = msix_table(Config(device)).ok();
    (0..6).find_map(|number| {
        let info = device.region(RegionIndex::bar(number)?).ok()?;
        let register = Config(device).read_u32(BARS + 4 * u64::from(number)).ok()?;
        let memory = info.size > 0 && info.readable && register & 1 == 0;
        (memory && table != Some((u32::from(number), 0))).then_some((number, info))
    })
}

/// The region and offset of the MSI-X table.
fn msix_table(config: Config<'_>) -> Outcome<(u32, u64)> {
    let table = config.read_u32(config.capability(MSIX)?.ok_or("no MSI-X capability")? + 4)?;
    Ok((table & 0b111, u64::from(table & !0b111)))
}

fn sized(config: Config<'_>, number: u8, info: &RegionInfo) -> Outcome<bool> {
    let register = BARS + 4 * u64::from(number);
    let before = config.read_u32(register)?;
    config.write_u32(register, u32::MAX)?;
    let mask = config.read_u32(register)?;
    config.write_u32(register, before)?;
    Ok(u64::from(!(mask & !0xf)) + 1 == info.size && config.read_u32(register)? == before)
}

fn unchanged(config: Config<'_>, registers: &[u64]) -> Outcome<bool> {
    let mut same = true;
    for register in registers {
        let before = config.read_u32(*register)?;
        config.write_u32(*register, !before)?;
        same &= config.read_u32(*register)? == before;
    }
    Ok(same)
}

fn msi_enable_stays(config: Config<'_>) -> Outcome<bool> {
    let control = config.capability(MSI)?.ok_or("no MSI capability")? + 2;
    let before = config.read_u16(control)?;
    config.write_u16(control, before | 1)?;
    Ok(config.read_u16(control)? & 1 == 1)
}

fn refused(outcome: Result<(), DeviceError>) -> bool {
    fails_with(outcome, Errno::INVAL)
}

fn fails_with(outcome: Result<(), DeviceError>, errno: Errno) -> bool {
    outcome.is_err_and(|error| error.errno() == Some(errno))
}
