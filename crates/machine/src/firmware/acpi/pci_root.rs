//! The PCI root bridge in the namespace: its windows, its interrupt routing, what the guest may control, its ports.
//!
//! Not here: configuration space. Called by `dsdt`.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, IO, If,
    Local, Method, Name, NotEqual, ONE, Or, Package, PackageBuilder, Path, ResourceTemplate, Return, Store,
    Uuid, ZERO,
};

use super::board::{Board, LPC_DEVICE, intx_gsi};

/// INTx pins of a device.
const INTX_PINS: u8 = 4;
/// In an address of the namespace: all functions of the device.
const ALL_FUNCTIONS: u32 = 0xffff;

/// The parts of PCI that a guest asks to control by itself (PCI Firmware Specification 3.3, table 4-6).
mod control {
    /// Native PCIe hot-plug.
    const HOT_PLUG: u32 = 1 << 0;
    /// Native SHPC hot-plug. No bridge has an SHPC.
    const SHPC: u32 = 1 << 1;
    /// Native power management events.
    const PME: u32 = 1 << 2;
    /// Advanced error reporting.
    const AER: u32 = 1 << 3;
    /// The PCI Express capability structure.
    const CAPABILITY: u32 = 1 << 4;
    /// Latency tolerance reporting. No port has it.
    const LTR: u32 = 1 << 5;
    /// Downstream port containment. No port has it.
    const DPC: u32 = 1 << 7;

    /// What the guest is granted: everything that it may ask for, as no firmware stays behind to use it. That
    /// includes the parts no device has: a guest that is refused one evaluates `_OSC` once more without it.
    pub(super) const GRANTED: u32 = HOT_PLUG | SHPC | PME | AER | CAPABILITY | LTR | DPC;
}

/// What `_OSC` answers in the first dword (ACPI 6.5, section 6.2.11.2).
mod answer {
    /// The UUID is not PCI's.
    pub(super) const UNKNOWN_UUID: u8 = 1 << 2;
    /// The revision is not 1.
    pub(super) const UNKNOWN_REVISION: u8 = 1 << 3;
    /// Something asked for was not granted.
    pub(super) const MASKED: u8 = 1 << 4;
}

/// Adds the root bridge with everything that belongs to it but the LPC bridge's devices.
pub(super) fn device(board: &Board, out: &mut Vec<u8>) {
    let lpc = port_device("LPC_".into(), LPC_DEVICE);
    let ports: Vec<_> = board
        .root_ports
        .iter()
        .map(|&device| port_device(format!("RP{device:02X}").as_str().into(), device))
        .collect();
    let osc = osc();
    let crs = Name::new("_CRS".into(), &Raw(windows(board)));
    let prt = Name::new("_PRT".into(), &routing(board));
    let (hid, cid) = (EISAName::new("PNP0A08"), EISAName::new("PNP0A03"));
    let (hid, cid) = (Name::new("_HID".into(), &hid), Name::new("_CID".into(), &cid));
    let uid = Name::new("_UID".into(), &ZERO);
    let mut children: Vec<&dyn Aml> = vec![&hid, &cid, &uid, &crs, &osc, &lpc];
    if board.slots().next().is_some() {
        children.push(&prt);
    }
    children.extend(ports.iter().map(|port| port as &dyn Aml));
    Device::new("PCI0".into(), children).to_aml_bytes(out);
}

/// AML that is already made.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// Describes a device on bus 0 by its place alone.
fn port_device(name: Path, device: u8) -> Raw {
    let mut out = Vec::new();
    let address = u32::from(device) << 16;
    Device::new(name, vec![&Name::new("_ADR".into(), &address)]).to_aml_bytes(&mut out);
    Raw(out)
}

/// Lists what the bridge passes on to its functions: buses, ports, memory.
fn windows(board: &Board) -> Vec<u8> {
    let memory = AddressSpaceCacheable::NotCacheable;
    let mut children: Vec<Box<dyn Aml>> = vec![
        Box::new(AddressSpace::new_bus_number(0u16, board.ecam.last_bus.into())),
        // The bridge's own ports: PCI's first configuration mechanism.
        Box::new(IO::new(0xcf8, 0xcf8, 1, 8)),
    ];
    for window in &board.io_windows {
        children.push(Box::new(AddressSpace::new_io(*window.start(), *window.end(), None)));
    }
    for window in &board.memory_windows_32 {
        children.push(Box::new(AddressSpace::new_memory(memory, true, *window.start(), *window.end(), None)));
    }
    for window in &board.memory_windows_64 {
        children.push(Box::new(AddressSpace::new_memory(memory, true, *window.start(), *window.end(), None)));
    }
    let mut out = Vec::new();
    ResourceTemplate::new(children.iter().map(|child| &**child).collect()).to_aml_bytes(&mut out);
    out
}

/// Routes the INTx pins of the devices on bus 0 straight to the I/O APIC.
///
/// Only slots that are used, because the guest walks the list for every function it enables. There are no link
/// devices: a guest that runs on the PIC uses the interrupt lines that firmware wrote into configuration space.
fn routing(board: &Board) -> PackageBuilder {
    let mut package = PackageBuilder::new();
    for &device in board.slots() {
        let address = u32::from(device) << 16 | ALL_FUNCTIONS;
        for pin in 0..INTX_PINS {
            package.add_element(&Package::new(vec![&address, &pin, &ZERO, &intx_gsi(device, pin)]));
        }
    }
    package
}

/// Lets the guest control [`control::GRANTED`] (PCI Firmware Specification 3.3, section 4.5.1).
fn osc() -> Raw {
    let (status, asked) = (Path::new("CDW1"), Path::new("CDW3"));
    let (granted, local) = (control::GRANTED, Local(0));
    let mut out = Vec::new();
    Method::new(
        "_OSC".into(),
        4,
        // Two at once would both make the names below.
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &ZERO),
            &If::new(
                &Equal::new(&Arg(0), &Uuid::new("33db4d5b-1ff7-401c-9657-7441c03dd766")),
                vec![
                    &If::new(
                        &NotEqual::new(&Arg(1), &ONE),
                        vec![&Or::new(&status, &status, &answer::UNKNOWN_REVISION)],
                    ),
                    &CreateDWordField::new(&asked, &Arg(3), &8u8),
                    &And::new(&local, &asked, &granted),
                    &If::new(
                        &NotEqual::new(&local, &asked),
                        vec![&Or::new(&status, &status, &answer::MASKED), &Store::new(&asked, &local)],
                    ),
                ],
            ),
            &Else::new(vec![&Or::new(&status, &status, &answer::UNKNOWN_UUID)]),
            &Return::new(&Arg(3)),
        ],
    )
    .to_aml_bytes(&mut out);
    Raw(out)
}
