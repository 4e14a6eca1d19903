//! From what a seat asks for to the functions that are meant.
//!
//! Not here: whether they may be taken. Called by [`crate::wish`].

use spec::inventory::{ConnectorState, Function, PciId, SrIov, UsbDevice};
use spec::plan::{Candidate, ReasonCode};
use spec::seat_file::{DeviceClass, DeviceRequest};

use crate::findings::{Findings, MAX_CANDIDATES, Subject};
use crate::ground::{Ground, candidate, is_device, name, same_slot, slot};

/// The most plugged-in things that are listed of one function.
const MAX_PLUGGED: usize = 6;

/// One thing that a request says, and whether it is true of a function.
type Condition<'r> = (String, Box<dyn Fn(&Function) -> bool + 'r>);

/// Finds the functions that `request` means: all matching ones of exactly one slot, the lowest first.
///
/// With none or with several slots the reason goes to `findings`.
pub(crate) fn find<'a>(
    ground: &Ground<'a>,
    request: &DeviceRequest,
    about: &Subject,
    findings: &mut Findings,
) -> Option<Vec<&'a Function>> {
    let conditions = conditions(ground, request);
    let meets = |function: &Function| conditions.iter().all(|(_, holds)| holds(function));
    let matching: Vec<&Function> = ground.functions().filter(|function| meets(function)).collect();
    let devices: Vec<&Function> = matching.iter().copied().filter(|function| is_device(function)).collect();
    let Some(first) = devices.first() else {
        match matching.first() {
            Some(bridge) => not_a_device(bridge, about, findings),
            None => none(ground, request, &conditions, about, findings),
        }
        return None;
    };
    if devices.iter().all(|function| same_slot(function.address, first.address)) {
        return Some(devices);
    }
    several(&devices, about, findings);
    None
}

/// What `request` says, for people: `class = display, monitor = "DELL"`.
pub(crate) fn describe(ground: &Ground<'_>, request: &DeviceRequest) -> String {
    let words: Vec<String> = conditions(ground, request).into_iter().map(|(said, _)| said).collect();
    words.join(", ")
}

fn conditions<'r>(ground: &'r Ground<'_>, request: &'r DeviceRequest) -> Vec<Condition<'r>> {
    let mut conditions: Vec<Condition<'r>> = Vec::new();
    let mut say = |said: String, holds: Box<dyn Fn(&Function) -> bool + 'r>| conditions.push((said, holds));
    if let Some(address) = request.address {
        say(format!("address = {address}"), Box::new(move |function| function.address == address));
    }
    if let Some(path) = &request.path {
        let below = |function: &Function| is_device(function) && path.is_above(&function.identity.path);
        let meets = move |function: &Function| function.identity.path == *path || below(function);
        say(format!("path = {path}"), Box::new(meets));
    }
    if let Some(class) = request.class {
        let named = request.address.is_some() || request.path.is_some();
        let meets = move |function: &Function| {
            is_of(class, function)
                && (named || class != DeviceClass::Audio || !comes_with_card(ground, function))
        };
        say(format!("class = {}", word(class)), Box::new(meets));
    }
    if let Some(vendor) = &request.vendor {
        say(format!("vendor = \"{vendor}\""), Box::new(|function| is_from(vendor, function)));
    }
    if let Some(model) = &request.model {
        let meets = |function: &Function| {
            let names = &function.names;
            has(names.device.as_deref(), model) || has(names.subsystem.as_deref(), model)
        };
        say(format!("model = \"{model}\""), Box::new(meets));
    }
    attached(request, &mut conditions);
    conditions
}

/// The conditions on what is plugged into a function.
fn attached<'r>(request: &'r DeviceRequest, conditions: &mut Vec<Condition<'r>>) {
    let mut say = |said: String, holds: Box<dyn Fn(&Function) -> bool + 'r>| conditions.push((said, holds));
    if let Some(connector) = &request.connector {
        let meets = |function: &Function| {
            let mut outputs = function.connectors.iter();
            outputs.any(|output| output.name == *connector && output.state != ConnectorState::Disconnected)
        };
        say(format!("connector = \"{connector}\""), Box::new(meets));
    }
    if let Some(monitor) = &request.monitor {
        let meets = |function: &Function| {
            let mut monitors = function.connectors.iter().filter_map(|output| output.monitor.as_ref());
            monitors.any(|shown| has(shown.name.as_deref(), monitor) || has(shown.serial.as_deref(), monitor))
        };
        say(format!("monitor = \"{monitor}\""), Box::new(meets));
    }
    if let Some(usb) = &request.usb {
        let meets = |function: &Function| function.usb_devices.iter().any(|device| is_called(usb, device));
        say(format!("usb = \"{usb}\""), Box::new(meets));
    }
    if let Some(interface) = &request.interface {
        let meets = |function: &Function| function.interfaces.iter().any(|known| known.name == *interface);
        say(format!("interface = \"{interface}\""), Box::new(meets));
    }
}

fn is_of(class: DeviceClass, function: &Function) -> bool {
    let code = function.class;
    // 0x0108 is NVM (PCI Code and ID Assignment, section 1.2), 0x0700 serial, 0x0702 multiport serial.
    let nvme = code.base_and_sub() == 0x0108;
    match class {
        DeviceClass::Display => code.is_display(),
        DeviceClass::Audio => code.is_audio(),
        DeviceClass::Usb => code.is_usb_controller(),
        DeviceClass::Network => code.is_network() && !matches!(function.sriov, Some(SrIov::Virtual { .. })),
        DeviceClass::Nvme => nvme,
        DeviceClass::Storage => code.is_storage() && !nvme,
        DeviceClass::Serial => matches!(code.base_and_sub(), 0x0700 | 0x0702),
    }
}

/// The word of the seat file for a class.
pub(crate) const fn word(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Display => "display",
        DeviceClass::Audio => "audio",
        DeviceClass::Usb => "usb",
        DeviceClass::Network => "network",
        DeviceClass::Nvme => "nvme",
        DeviceClass::Storage => "storage",
        DeviceClass::Serial => "serial",
    }
}

/// Whether a sound function belongs to a display card.
fn comes_with_card(ground: &Ground<'_>, sound: &Function) -> bool {
    ground
        .functions()
        .filter(|function| function.class.is_display())
        .any(|card| is_companion(ground, card, sound))
}

/// Whether `other` is on the same card as the display function `card` and goes wherever it goes.
///
/// Functions of one slot from the same maker are one card; those of another maker share only the package, as the
/// USB controllers beside the graphics of a processor do. Some cards have the sound function behind a switch of
/// their own instead.
pub(crate) fn is_companion(ground: &Ground<'_>, card: &Function, other: &Function) -> bool {
    let maker = card.identity.vendor;
    if card.address == other.address || other.identity.vendor != maker || !is_device(other) {
        return false;
    }
    if same_slot(card.address, other.address) {
        return true;
    }
    let switch = |function: &Function| {
        let port = ground.function(function.parent?)?;
        let upstream = ground.function(port.parent?)?;
        let own = upstream.kind == spec::inventory::FunctionKind::SwitchUpstream;
        (own && upstream.identity.vendor == maker).then_some(upstream.address)
    };
    other.class.is_audio() && switch(card).is_some() && switch(card) == switch(other)
}

/// Whether `vendor` names the maker: by four hexadecimal digits or by a part of the name.
fn is_from(vendor: &str, function: &Function) -> bool {
    let id = vendor.parse::<PciId>().ok().filter(|_| vendor.len() == 4);
    id == Some(function.identity.vendor) || has(function.names.vendor.as_deref(), vendor)
}

/// Whether `usb` names the device: as `vendor:product` or by a part of its name.
fn is_called(usb: &str, device: &UsbDevice) -> bool {
    let ids = usb
        .split_once(':')
        .and_then(|(vendor, product)| Some((vendor.parse::<PciId>().ok()?, product.parse::<PciId>().ok()?)));
    match ids {
        Some((vendor, product)) => device.vendor == Some(vendor) && device.product == Some(product),
        None => {
            let whole = [device.manufacturer.as_deref(), device.name.as_deref()];
            let whole = whole.into_iter().flatten().collect::<Vec<_>>().join(" ");
            has(Some(&whole), usb)
        }
    }
}

fn has(text: Option<&str>, part: &str) -> bool {
    text.is_some_and(|text| text.to_lowercase().contains(&part.to_lowercase()))
}

fn not_a_device(bridge: &Function, about: &Subject, findings: &mut Findings) {
    let sentence = format!("{} ({}) is a bridge, not a device", bridge.address, name(bridge));
    let remedy = "ask for the device behind it".to_owned();
    findings.refuse(&about.at(bridge), ReasonCode::NotADevice, sentence, remedy);
}

fn several(devices: &[&Function], about: &Subject, findings: &mut Findings) {
    let mut cards: Vec<&Function> = devices.to_vec();
    cards.dedup_by_key(|function| slot(function.address));
    let sentence = format!("{} devices match", cards.len());
    let first = cards.first().map_or(String::new(), |card| card.identity.path.to_string());
    let remedy = format!("add a key that only one of them meets, for example `path = \"{first}\"`");
    let listed = cards.iter().map(|card| candidate(card, plugged(card))).collect();
    findings.refuse_among(about, ReasonCode::SeveralMatch, sentence, remedy, listed);
}

fn none(
    ground: &Ground<'_>,
    request: &DeviceRequest,
    conditions: &[Condition<'_>],
    about: &Subject,
    findings: &mut Findings,
) {
    let near = nearest(ground, conditions);
    let failing = near.first().map(|best| {
        let failing: Vec<&str> =
            conditions.iter().filter(|(_, holds)| !holds(best)).map(|(said, _)| said.as_str()).collect();
        format!("; {} comes nearest, but not {}", best.address, failing.join(" and not "))
    });
    let sentence = match request.address {
        Some(address) if ground.function(address).is_none() => format!("there is no device at {address}"),
        _ => format!("no device matches{}", failing.unwrap_or_default()),
    };
    let remedy = match near.first() {
        Some(best) => format!("ask for one that is there, for example `path = \"{}\"`", best.identity.path),
        None => "see `allod devices` for what is there".to_owned(),
    };
    let mut listed = near;
    if listed.is_empty() {
        listed =
            ground.functions().filter(|function| offers(function, request)).take(MAX_CANDIDATES).collect();
    }
    let listed: Vec<Candidate> =
        listed.iter().map(|function| candidate(function, plugged(function))).collect();
    findings.refuse_among(about, ReasonCode::NoMatch, sentence, remedy, listed);
}

/// Whether a function has anything of the kind that a request names, under whatever name.
fn offers(function: &Function, request: &DeviceRequest) -> bool {
    let outputs =
        (request.monitor.is_some() || request.connector.is_some()) && !function.connectors.is_empty();
    let usb = request.usb.is_some() && !function.usb_devices.is_empty();
    let network = request.interface.is_some() && !function.interfaces.is_empty();
    is_device(function) && (outputs || usb || network)
}

/// What is plugged into a function: by that people know which one is meant.
fn plugged(function: &Function) -> Option<String> {
    let monitors =
        function.connectors.iter().filter(|output| output.state != ConnectorState::Disconnected).map(
            |output| {
                let monitor = output.monitor.as_ref().and_then(|monitor| monitor.name.as_deref());
                monitor.map_or(output.name.clone(), |monitor| format!("{monitor} on {}", output.name))
            },
        );
    let usb = function.usb_devices.iter().filter_map(|device| device.name.clone());
    let interfaces = function.interfaces.iter().map(|interface| interface.name.clone());
    let disks = function.disks.iter().map(|disk| disk.name.clone());
    let all: Vec<String> = monitors.chain(usb).chain(interfaces).chain(disks).take(MAX_PLUGGED).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The devices that meet most of the conditions.
fn nearest<'a>(ground: &Ground<'a>, conditions: &[Condition<'_>]) -> Vec<&'a Function> {
    let met = |function: &Function| conditions.iter().filter(|(_, holds)| holds(function)).count();
    let mut devices: Vec<(usize, &Function)> = ground
        .functions()
        .filter(|function| is_device(function))
        .map(|function| (met(function), function))
        .filter(|(met, _)| *met > 0)
        .collect();
    let most = devices.iter().map(|(met, _)| *met).max().unwrap_or(0);
    devices.retain(|(met, _)| *met == most);
    devices.into_iter().map(|(_, function)| function).take(MAX_CANDIDATES).collect()
}
