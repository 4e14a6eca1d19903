//! The USB devices behind each USB controller, and whether a keyboard or mouse of the host is among them.

use std::collections::BTreeSet;

use spec::PciAddress;
use spec::inventory::{Function, HoldKind, HoldStrength, PciId, UsbDevice};

use super::holders::Holders;
use super::names::IdNames;
use super::pci::first_text;
use super::reader::Reader;

const DEVICES: &str = "/sys/bus/usb/devices";
/// The most interfaces of one USB device (USB 2.0, section 9.6.3: an 8-bit count).
const MOST_INTERFACES: usize = 255;
/// Where `usb.ids` is, by distribution.
const USB_IDS: [&str; 3] =
    ["/usr/share/misc/usb.ids", "/usr/share/hwdata/usb.ids", "/var/lib/usbutils/usb.ids"];

/// Tells each function the devices behind it and adds the holds of input devices.
pub(super) fn read(reader: &Reader<'_>, functions: &mut [Function], holders: &mut Holders) {
    let mut devices = Vec::new();
    for name in reader.list(DEVICES) {
        // `3-1.4` is a device, `3-1.4:1.0` an interface of it, `usb3` a root hub.
        if name.contains(':') || !name.contains('-') {
            continue;
        }
        if let Some(address) = reader.function_of(&format!("{DEVICES}/{name}")) {
            devices.push((address, device(reader, &name)));
        }
    }
    name_devices(reader, &mut devices);
    for (address, device) in devices {
        if let Some(function) = functions.iter_mut().find(|function| function.address == address) {
            hold_input(holders, address, &device);
            function.usb_devices.push(device);
        }
    }
}

fn device(reader: &Reader<'_>, name: &str) -> UsbDevice {
    let directory = format!("{DEVICES}/{name}");
    let text = |file: &str| reader.text(&format!("{directory}/{file}"));
    let id = |file: &str| reader.parsed::<PciId>(&format!("{directory}/{file}"));
    UsbDevice {
        port: name.to_owned(),
        vendor: id("idVendor"),
        product: id("idProduct"),
        manufacturer: text("manufacturer"),
        name: text("product"),
        serial: text("serial"),
        functions: device_functions(reader, &directory, name),
    }
}

/// Names the devices that do not name themselves.
fn name_devices(reader: &Reader<'_>, devices: &mut [(PciAddress, UsbDevice)]) {
    let unnamed = |device: &UsbDevice| device.manufacturer.is_none() || device.name.is_none();
    let vendors: BTreeSet<PciId> = devices
        .iter()
        .filter(|(_, device)| unnamed(device))
        .filter_map(|(_, device)| device.vendor)
        .collect();
    if vendors.is_empty() {
        return;
    }
    let text = first_text(reader, &USB_IDS);
    let ids = IdNames::read(&text, &vendors);
    for (_, device) in devices {
        let (vendor, product) = (device.vendor, device.product);
        device.manufacturer = device.manufacturer.take().or_else(|| ids.vendor(vendor?));
        device.name = device.name.take().or_else(|| ids.device(vendor?, product?));
    }
}

/// What the interfaces of a device are, sorted, each once; the device's own class when it has none.
fn device_functions(reader: &Reader<'_>, directory: &str, name: &str) -> Vec<String> {
    let prefix = format!("{name}:");
    let interfaces = reader.list(directory).into_iter().filter(|entry| entry.starts_with(&prefix));
    let mut functions: Vec<String> = interfaces
        .take(MOST_INTERFACES)
        .filter_map(|interface| {
            let hex = |file: &str| reader.parsed::<PciId>(&format!("{directory}/{interface}/{file}"));
            let class = hex("bInterfaceClass")?.0;
            let sub = hex("bInterfaceSubClass").map_or(0, |id| id.0);
            let protocol = hex("bInterfaceProtocol").map_or(0, |id| id.0);
            Some(function_word(class, sub, protocol).to_owned())
        })
        .collect();
    if functions.is_empty()
        && let Some(class) = reader.parsed::<PciId>(&format!("{directory}/bDeviceClass"))
    {
        functions.push(function_word(class.0, 0, 0).to_owned());
    }
    functions.sort();
    functions.dedup();
    functions
}

/// One word for a class (USB-IF defined class codes); keyboards and mice tell by their boot protocol
/// (HID 1.11, section 4.2 and 4.3).
fn function_word(class: u16, sub: u16, protocol: u16) -> &'static str {
    match (class, sub, protocol) {
        (0x01, ..) => "audio",
        (0x02 | 0x0a, ..) => "communications",
        (0x03, 1, 1) => "keyboard",
        (0x03, 1, 2) => "mouse",
        (0x03, ..) => "input",
        (0x06, ..) => "camera",
        (0x07, ..) => "printer",
        (0x08, ..) => "storage",
        (0x09, ..) => "hub",
        (0x0b, ..) => "smart-card",
        (0x0e, ..) => "video",
        (0xe0, 1, 1) => "bluetooth",
        (0xe0, ..) => "wireless",
        (0xff, ..) => "vendor-specific",
        _ => "other",
    }
}

fn hold_input(holders: &mut Holders, address: PciAddress, device: &UsbDevice) {
    let kinds = device.functions.iter().filter(|word| matches!(word.as_str(), "keyboard" | "mouse"));
    let kinds: Vec<&str> = kinds.map(String::as_str).collect();
    if !kinds.is_empty() {
        let name = device.name.as_deref().unwrap_or("unnamed");
        let device = format!("{name} ({}, port {})", kinds.join(" and "), device.port);
        holders.add(address, HoldStrength::Note, HoldKind::Input { device });
    }
}
