//! Opens functions that are bound to a VFIO driver, tries everything `linux::vfio` can do on them, tells it as JSON.
//!
//! It binds nothing and leaves nothing: the lab's scenario prepares the functions, and looks at the answer. Usage:
//! `vfio_probe [--hot-reset] [--wait SECONDS] BDF...`; one line of JSON for each function.

mod edu;
mod rules;
mod wait;

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linux::iommu::AddressSpace;
use linux::memory::{GuestBytes, MappingRange, RamBlock};
use linux::sysfs::DirectoryTree;
use linux::vfio::config::{Config, command};
use linux::vfio::{
    Access, Area, Device, DeviceError, Holder, IrqAction, IrqIndex, KernelDevice, MessageVectors,
    RegionIndex, RegionInfo, RomContent, read_rom,
};
use serde_json::{Value, json};
use spec::PciAddress;
use vm_memory::MemoryRegionAddress;

/// Bytes looked at in a mapping: more would touch registers that change when read.
const LOOK: u64 = 4;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Options {
    hot_reset: bool,
    wait: Option<Duration>,
    addresses: Vec<PciAddress>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", text(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let options = options()?;
    let tree = DirectoryTree::system()?;
    let started = Instant::now();
    let access = Access::open(&tree, &options.addresses)?;
    let opened = started.elapsed();
    let space = access.space();

    let started = Instant::now();
    let devices = open_all(&access, &options.addresses)?;
    let all_open = started.elapsed();
    for (address, (device, took)) in options.addresses.iter().zip(&devices) {
        let mut told = probe(&access, space.as_ref(), device, options.hot_reset)?;
        if let Some(told) = told.as_object_mut() {
            told.insert("address".into(), json!(address.to_string()));
            told.insert("files_us".into(), micros(opened));
            told.insert("open_us".into(), micros(*took));
            told.insert("all_open_us".into(), micros(all_open));
            if let Some(limit) = options.wait {
                told.insert("wait".into(), wait::wait(device, limit)?);
            }
        }
        println!("{told}");
    }
    Ok(())
}

fn options() -> Outcome<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--hot-reset" => options.hot_reset = true,
            "--wait" => {
                let seconds = words.next().ok_or("--wait takes a number of seconds")?;
                options.wait = Some(Duration::from_secs(seconds.parse()?));
            }
            address => options.addresses.push(address.parse()?),
        }
    }
    Ok(options)
}

/// Opens all functions at once, each with the time it took: their resets overlap.
fn open_all(access: &Access, addresses: &[PciAddress]) -> Outcome<Vec<(KernelDevice, Duration)>> {
    std::thread::scope(|scope| {
        let opening: Vec<_> = addresses
            .iter()
            .map(|address| {
                scope.spawn(move || {
                    let started = Instant::now();
                    access.open_device(*address).map(|device| (device, started.elapsed()))
                })
            })
            .collect();
        opening.into_iter().map(|thread| Ok(thread.join().map_err(|_| "a thread ended early")??)).collect()
    })
}

fn probe(
    access: &Access,
    space: &dyn AddressSpace,
    device: &KernelDevice,
    hot_reset: bool,
) -> Outcome<Value> {
    let config = Config(device);
    let info = device.info();
    let ids = config.read_u32(0)?;
    let before = config.change_command(0, command::MEMORY | command::IO)?;
    let mut told = json!({
        "vendor": format!("{:04x}", ids & 0xffff),
        "device": format!("{:04x}", ids >> 16),
        "class": format!("{:06x}", config.read_u32(8)? >> 8),
        "command_at_open": before,
        "power": config.power_state()?.to_string(),
        "resettable": info.resettable,
        "express": config.capability(0x10)?,
        "serial_number": config.extended_capability(0x03)?,
        "limits": limits(space)?,
        "groups": access.groups().iter().map(|(id, _)| id).collect::<Vec<_>>(),
        "regions": (0..info.regions).map(|index| region(device, RegionIndex(index))).collect::<Vec<_>>(),
        "irqs": IrqIndex::ALL.map(|irq| interrupt(device, irq)),
        "rom": rom(device)?,
        "loopback": loopback(device)?,
        "reset_ways": {
            "function_level": config.reset_ways()?.function_level,
            "power": config.reset_ways()?.power,
        },
        "refused": refusals(device),
        "rules": rules::check(device)?,
    });
    let told_more = told.as_object_mut().ok_or("not an object")?;
    if ids == edu::IDS {
        told_more.insert("edu".into(), edu::exercise(device, space)?);
    }
    told_more.insert("reset".into(), timed(|| device.reset()));
    told_more.insert("present_after_reset".into(), json!(config.is_present()));
    told_more.insert("command_after_reset".into(), json!(config.read_u16(4)?));
    told_more.insert("scope".into(), scope(device));
    if hot_reset {
        let groups = access.groups();
        told_more.insert("hot_reset".into(), timed(|| device.hot_reset(access.ownership(&groups))));
    }
    Ok(told)
}

fn limits(space: &dyn AddressSpace) -> Outcome<Value> {
    let limits = space.limits()?;
    let ranges: Vec<_> =
        limits.ranges.iter().map(|range| format!("{:#x}-{:#x}", range.start(), range.end())).collect();
    Ok(json!({
        "page_sizes": format!("{:#x}", limits.page_sizes),
        "ranges": ranges,
        "maps_left": limits.maps_left,
    }))
}

fn region(device: &KernelDevice, region: RegionIndex) -> Value {
    match device.region(region) {
        Ok(info) => json!({
            "index": region.0,
            "size": info.size,
            "readable": info.readable,
            "writable": info.writable,
            "areas": info.areas.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "msix_mappable": info.msix_mappable,
            "kind": info.kind.map(|kind| format!("{:x}:{:x}", kind.kind, kind.subtype)),
            "mapped": info.areas.iter().map(|area| look(device, region, &info, *area)).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "index": region.0, "error": text(&error) }),
    }
}

/// Maps an area and reads its start through the mapping and through the file: both must be the same.
fn look(device: &KernelDevice, region: RegionIndex, info: &RegionInfo, area: Area) -> Value {
    let mapping = match device.map(region, area) {
        Ok(mapping) => Arc::new(mapping),
        Err(error) => return json!({ "error": text(&error) }),
    };
    let len = mapping.len();
    // Reading a register can change it: only what is plain memory or known to be harmless is compared.
    let harmless = info.size >= 0x10_0000 || area.size < 0x1000;
    let mut through_file = [0; LOOK as usize];
    if !harmless || device.read(region, area.offset, &mut through_file).is_err() {
        return json!({ "bytes": len });
    }
    let through_mapping = MappingRange::new(mapping, 0..len)
        .and_then(|memory| {
            RamBlock { guest: 0, memory }
                .load::<u32>(MemoryRegionAddress(0), std::sync::atomic::Ordering::Relaxed)
                .ok()
        })
        .unwrap_or_default();
    json!({ "bytes": len, "same": through_mapping == u32::from_le_bytes(through_file) })
}

fn interrupt(device: &KernelDevice, irq: IrqIndex) -> Value {
    match device.irq(irq) {
        Ok(info) => json!({
            "index": irq.to_string(),
            "count": info.count,
            "maskable": info.maskable,
            "automasked": info.automasked,
            "growable": info.growable,
        }),
        Err(error) => json!({ "index": irq.to_string(), "error": text(&error) }),
    }
}

fn rom(device: &KernelDevice) -> Outcome<Value> {
    let rom = read_rom(device)?;
    Ok(match rom.content {
        RomContent::Unreadable => json!({ "bar_size": rom.bar_size, "bytes": 0 }),
        RomContent::Bytes(bytes) => json!({
            "bar_size": rom.bar_size,
            "bytes": bytes.len(),
            "signature": bytes.starts_with(&[0x55, 0xaa]),
        }),
    })
}

/// Arms the first and the last vector one by one, fires all, and counts what arrives; for each kind there is.
fn loopback(device: &KernelDevice) -> Outcome<Value> {
    let mut told = serde_json::Map::new();
    for irq in [IrqIndex::Msi, IrqIndex::Msix] {
        let mut vectors = MessageVectors::new(device, irq)?;
        let Some(last) = vectors.count().checked_sub(1) else { continue };
        vectors.enable(device)?;
        let (first_fd, last_fd) = (event_fd()?, event_fd()?);
        vectors.arm(device, 0, first_fd.try_clone()?)?;
        // A block of MSI vectors must be had from the host at once; one of MSI-X is added alone.
        let second = if last > 0 { vectors.arm(device, last, last_fd.try_clone()?) } else { Ok(()) };
        device
            .set_irqs(irq, IrqAction::Fire { start: 0, count: if second.is_ok() { last + 1 } else { 1 } })?;
        let counted = [signals(&first_fd), signals(&last_fd)];
        vectors.disarm(device, 0)?;
        device.set_irqs(irq, IrqAction::Fire { start: 0, count: 1 })?;
        let after_disarm = signals(&first_fd);
        vectors.disable(device)?;
        told.insert(
            irq.to_string(),
            json!({
                "vectors": last + 1,
                "first": counted[0],
                "last": counted[1],
                "last_refused": second.err().map(|error| text(&error)),
                "after_disarm": after_disarm,
            }),
        );
    }
    if device.irq(IrqIndex::Intx)?.count == 1 {
        told.insert(IrqIndex::Intx.to_string(), pin(device)?);
    }
    for irq in [IrqIndex::Error, IrqIndex::Request] {
        let fd = event_fd()?;
        let armed = device.set_irqs(irq, IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] });
        let fired = armed.and_then(|()| device.set_irqs(irq, IrqAction::Fire { start: 0, count: 1 }));
        let outcome = fired.and_then(|()| device.set_irqs(irq, IrqAction::Disable));
        let told_single = outcome.map_or_else(|error| json!(text(&error)), |()| json!(signals(&fd)));
        told.insert(irq.to_string(), told_single);
    }
    Ok(Value::Object(told))
}

/// Fires the pin, and has it unmasked by an eventfd.
fn pin(device: &KernelDevice) -> Outcome<Value> {
    let (fd, unmask) = (event_fd()?, event_fd()?);
    let set = |action: IrqAction<'_>| device.set_irqs(IrqIndex::Intx, action);
    set(IrqAction::Signal { start: 0, fds: &[Some(fd.as_fd())] })?;
    set(IrqAction::Mask)?;
    set(IrqAction::Unmask)?;
    set(IrqAction::UnmaskOn(Some(unmask.as_fd())))?;
    set(IrqAction::Fire { start: 0, count: 1 })?;
    let fired = signals(&fd);
    set(IrqAction::UnmaskOn(None))?;
    set(IrqAction::Disable)?;
    Ok(json!({ "fired": fired }))
}

/// Calls that must be refused, with what is said.
fn refusals(device: &KernelDevice) -> Value {
    let bar = RegionIndex(0);
    let end = device.region(bar).map_or(0, |info| info.size);
    let said =
        |outcome: Result<(), DeviceError>| outcome.map_or_else(|error| json!(text(&error)), |()| Value::Null);
    json!({
        "read_beyond": said(device.read(bar, end, &mut [0; 4])),
        "map_beyond": said(device.map(bar, Area { offset: end, size: 0x1000 }).map(drop)),
        "disable_twice": said(device.set_irqs(IrqIndex::Msix, IrqAction::Disable)),
        "unknown_region": said(device.region(RegionIndex(63)).map(drop)),
    })
}

fn scope(device: &KernelDevice) -> Value {
    match device.reset_scope() {
        Ok(scope) => scope
            .functions
            .iter()
            .map(|function| {
                let holder = match function.holder {
                    Holder::Group(id) => json!(id),
                    Holder::Same => json!("same"),
                    Holder::Other => json!("other"),
                };
                json!({ "address": function.address.to_string(), "holder": holder })
            })
            .collect(),
        Err(error) => json!({ "error": text(&error) }),
    }
}

fn timed(call: impl FnOnce() -> Result<(), DeviceError>) -> Value {
    let started = Instant::now();
    let outcome = call();
    json!({ "us": micros(started.elapsed()), "error": outcome.err().map(|error| text(&error)) })
}

/// An error with its causes in one line.
pub(crate) fn text(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", text(source)),
        None => error.to_string(),
    }
}

pub(crate) fn micros(time: Duration) -> Value {
    json!(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

pub(crate) fn event_fd() -> Outcome<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// How often an eventfd was signalled since last asked.
pub(crate) fn signals(fd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}
