//! The devices behind the LPC bridge in the namespace: serial ports, RTC, keyboard and mouse.
//!
//! Not here: the power button, which is a fixed one, and the bridge itself. Called by `dsdt`.

use acpi_tables::aml::{Device, EISAName, IO, Name, ResourceTemplate, Scope};
use acpi_tables::{Aml, AmlSink};

use super::board::Board;

/// The RTC's ISA interrupt.
const RTC_IRQ: u8 = 8;
/// The keyboard's ISA interrupt.
const KEYBOARD_IRQ: u8 = 1;
/// The mouse's ISA interrupt.
const MOUSE_IRQ: u8 = 12;

/// An ISA interrupt, edge, active high: the 2-byte IRQ descriptor (ACPI 6.5, section 6.4.2.1).
struct Irq(u8);

impl Aml for Irq {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.byte(0x22);
        sink.word(1u16 << (self.0 % 16));
    }
}

/// Adds the devices to the LPC bridge.
pub(super) fn scope(board: &Board, out: &mut Vec<u8>) {
    let mut devices = Vec::new();
    for (number, port) in board.serial_ports.iter().enumerate() {
        let uid = number as u8 + 1;
        let registers = IO::new(port.base, port.base, 1, 8);
        add("PNP0501", &format!("COM{uid}"), uid, &[&registers, &Irq(port.irq)], &mut devices);
    }
    if board.rtc {
        add("PNP0B00", "RTC_", 0, &[&IO::new(0x70, 0x70, 1, 2), &Irq(RTC_IRQ)], &mut devices);
    }
    if board.keyboard_controller {
        let (data, command) = (IO::new(0x60, 0x60, 1, 1), IO::new(0x64, 0x64, 1, 1));
        add("PNP0303", "KBD_", 0, &[&data, &command, &Irq(KEYBOARD_IRQ)], &mut devices);
        add("PNP0F13", "MOU_", 0, &[&Irq(MOUSE_IRQ)], &mut devices);
    }
    out.extend_from_slice(&Scope::raw("\\_SB_.PCI0.LPC_".into(), devices));
}

/// Adds a device: what it is, its name, its number among its kind, its resources.
fn add(hid: &str, name: &str, uid: u8, resources: &[&dyn Aml], out: &mut Vec<u8>) {
    let hid = Name::new("_HID".into(), &EISAName::new(hid));
    let uid = Name::new("_UID".into(), &uid);
    let crs = Name::new("_CRS".into(), &ResourceTemplate::new(resources.to_vec()));
    Device::new(name.into(), vec![&hid, &uid, &crs]).to_aml_bytes(out);
}
