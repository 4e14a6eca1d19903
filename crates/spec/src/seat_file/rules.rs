//! What the keys of a seat file must say together: names used once, keys that exclude each other, pages that divide.
//!
//! Not here: the shape of each value ([`super::shape`]); a value of the wrong shape is passed over here. Called by
//! [`super::decode`].

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, printable};
use super::{MAX_DEVICES_PER_SEAT, MacAddress};
use crate::{Bytes, PciAddress};

/// Checks a document; of one that is not `whole`, only what could be read of it.
pub(super) fn check(document: &DeTable<'_>, whole: bool, problems: &mut Problems<'_>) {
    let seats: Vec<_> = tables(document, "seat").collect();
    let mut uses = Uses::default();
    for (seat, span) in &seats {
        one_start(seat, problems);
        pages(seat, problems);
        slots(seat, span.clone(), problems);
        choices(seat, whole, problems);
        uses.of_seat(seat, problems);
    }
}

/// What may be used once in a file, with the line of its first use.
#[derive(Default)]
struct Uses {
    lines: BTreeMap<String, usize>,
}

impl Uses {
    fn of_seat(&mut self, seat: &DeTable<'_>, problems: &mut Problems<'_>) {
        if let Some((name, at)) = text(seat, "name") {
            self.once(format!("the name `{name}`"), at, problems);
        }
        for (device, _) in tables(seat, "device") {
            if let Some((address, at)) = text(device, "address")
                && let Ok(address) = address.parse::<PciAddress>()
            {
                self.once(format!("the device {address}"), at, problems);
            }
            if let Some((path, at)) = text(device, "path") {
                self.once(format!("the device at {path}"), at, problems);
            }
        }
        for (card, _) in tables(seat, "virtual-function").chain(tables(seat, "network")) {
            if let Some((mac, at)) = text(card, "mac")
                && let Ok(mac) = mac.parse::<MacAddress>()
            {
                self.once(format!("the MAC address {mac}"), at, problems);
            }
            if let Some((tap, at)) = text(card, "tap") {
                self.once(format!("the tap interface `{tap}`"), at, problems);
            }
        }
        for (disk, _) in tables(seat, "disk") {
            let shared = matches!(disk.get("read-only").map(Spanned::get_ref), Some(DeValue::Boolean(true)))
                || text(disk, "media").is_some_and(|(media, _)| media == "cdrom");
            if let Some((path, at)) = text(disk, "path").filter(|_| !shared) {
                self.once(format!("the disk {path} for writing"), at, problems);
            }
        }
        if let Some((variables, at)) = table(seat, "firmware").and_then(|(table, _)| text(table, "variables"))
        {
            self.once(format!("the variables file {variables}"), at, problems);
        }
        for (cpu, at) in table(seat, "cpus").into_iter().flat_map(|(cpus, _)| integers(cpus, "pin")) {
            self.once(format!("the host's CPU {cpu}"), at, problems);
        }
    }

    fn once(&mut self, what: String, at: Range<usize>, problems: &mut Problems<'_>) {
        let line = problems.line_of(at.start);
        let what: String = what.chars().map(printable).take(120).collect();
        match self.lines.get(&what) {
            Some(first) => problems.add(at, format!("{what} is used twice; first in line {first}"), None),
            None => {
                self.lines.insert(what, line);
            }
        }
    }
}

/// Checks every table of a seat that must choose among its keys.
fn choices(seat: &DeTable<'_>, whole: bool, problems: &mut Problems<'_>) {
    let virtual_functions = tables(seat, "virtual-function");
    let physical = virtual_functions.filter_map(|(function, _)| table(function, "of"));
    for (of, _) in physical.clone() {
        if let Some((_, at)) = text(of, "rom") {
            problems.add(
                at,
                "a physical function has no `rom` here: it stays with the host".to_owned(),
                None,
            );
        }
    }
    for (device, span) in tables(seat, "device").chain(physical) {
        let nothing_but_rom = device.keys().all(|key| key.get_ref() == "rom");
        // A key that nobody knows was meant to say it, and is told as such.
        if whole && nothing_but_rom {
            let help =
                "give its `address`, its `path`, or what is true of it, for example `class = \"display\"`";
            problems.add(span, "nothing says which device is meant".to_owned(), Some(help.to_owned()));
        }
    }
    let cpus = table(seat, "cpus");
    if let Some((cpus, _)) = &cpus
        && cpus.contains_key("pin")
        && let Some((key, shared)) = cpus.get_key_value("shared")
        && matches!(shared.get_ref(), DeValue::Boolean(true))
    {
        let message = "`pin` and `shared` exclude each other".to_owned();
        problems.add(key.span(), message, Some("remove one of the two".to_owned()));
    }
    let cpus = cpus.map(|(cpus, span)| (cpus, whole.then_some(span), ["count", "pin"]));
    // One that is plugged into neither has a network of its own.
    let networks = tables(seat, "network").map(|(network, _)| (network, None, ["bridge", "tap"]));
    for (table, needed, keys) in cpus.into_iter().chain(networks) {
        let given: Vec<_> = keys.iter().filter_map(|key| table.get_key_value(*key)).collect();
        let [first, second] = keys;
        match (given.as_slice(), needed) {
            ([], Some(span)) if table.is_empty() => {
                problems.add(span, format!("one of `{first}` and `{second}` is missing"), None);
            }
            ([(one, _), (other, _)], _) => {
                let key = if one.span().start < other.span().start { other } else { one };
                let message = format!("`{first}` and `{second}` exclude each other");
                problems.add(key.span(), message, Some("remove one of the two".to_owned()));
            }
            _ => {}
        }
    }
}

fn one_start(seat: &DeTable<'_>, problems: &mut Problems<'_>) {
    let firmware = table(seat, "firmware");
    if let (Some(_), Some((_, at))) = (table(seat, "kernel"), &firmware) {
        let help = "a seat starts from a kernel or from firmware; remove one of the two";
        problems.add(
            at.clone(),
            "`kernel` and `firmware` exclude each other".to_owned(),
            Some(help.to_owned()),
        );
    }
    if let Some((firmware, _)) = firmware
        && text(firmware, "kind").is_some_and(|(kind, _)| kind == "bios")
        && let Some((_, at)) = text(firmware, "variables")
    {
        let help = "remove `variables`, or set `kind = \"uefi\"`";
        problems.add(at, "BIOS firmware has no `variables`".to_owned(), Some(help.to_owned()));
    }
}

/// Memory of huge pages must be whole pages.
fn pages(seat: &DeTable<'_>, problems: &mut Problems<'_>) {
    let Some((memory, _)) = table(seat, "memory") else { return };
    let Some((pages, _)) = text(memory, "pages") else { return };
    let Some((size, at)) = text(memory, "size") else { return };
    let page = match pages {
        "2MiB" => Bytes::mib(2),
        "1GiB" => Bytes::gib(1),
        _ => return,
    };
    let Ok(size) = size.parse::<Bytes>() else { return };
    if !size.0.is_multiple_of(page.0) {
        let whole = Bytes(size.0.saturating_add(page.0) / page.0 * page.0);
        let help = format!("write `size = \"{whole}\"`, or other `pages`");
        problems.add(at, format!("{size} is not a whole number of {pages} pages"), Some(help));
    }
}

/// Devices and virtual functions take their slots from the same bus.
fn slots(seat: &DeTable<'_>, span: Range<usize>, problems: &mut Problems<'_>) {
    let devices = tables(seat, "device").count();
    let virtual_functions = tables(seat, "virtual-function").count();
    let each_fits = devices <= MAX_DEVICES_PER_SEAT && virtual_functions <= MAX_DEVICES_PER_SEAT;
    if each_fits && devices + virtual_functions > MAX_DEVICES_PER_SEAT {
        let message = format!(
            "the seat has {devices} devices and {virtual_functions} virtual functions, but at most \
             {MAX_DEVICES_PER_SEAT} of both can be"
        );
        problems.add(span, message, None);
    }
}

fn tables<'t, 'i>(
    parent: &'t DeTable<'i>,
    key: &str,
) -> impl Iterator<Item = (&'t DeTable<'i>, Range<usize>)> + Clone + use<'t, 'i> {
    let items = parent.get(key).and_then(|held| held.get_ref().as_array());
    items.into_iter().flat_map(|items| items.iter()).filter_map(as_table)
}

fn table<'t, 'i>(parent: &'t DeTable<'i>, key: &str) -> Option<(&'t DeTable<'i>, Range<usize>)> {
    parent.get(key).and_then(as_table)
}

fn as_table<'t, 'i>(held: &'t Spanned<DeValue<'i>>) -> Option<(&'t DeTable<'i>, Range<usize>)> {
    held.get_ref().as_table().map(|table| (table, held.span()))
}

fn text<'t>(parent: &'t DeTable<'_>, key: &str) -> Option<(&'t str, Range<usize>)> {
    let held = parent.get(key)?;
    held.get_ref().as_str().map(|text| (text, held.span()))
}

fn integers<'t>(parent: &'t DeTable<'_>, key: &str) -> impl Iterator<Item = (i64, Range<usize>)> + use<'t> {
    let items = parent.get(key).and_then(|held| held.get_ref().as_array());
    items.into_iter().flat_map(|items| items.iter()).filter_map(|held| {
        let number = held.get_ref().as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| (number, held.span()))
    })
}
