//! Acts on the emulated hardware of a running host from outside: pictures, keys, pulling cards.
//!
//! The host knows nothing of it, as it knows nothing of a hand on the keyboard.

use crate::failure::Failure;
use crate::machine::Places;
use crate::profile::{Card, Part, Port, Profile};
use crate::qmp::Qmp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time a key is held, and the pause between two keys: shorter ones get lost in a busy guest.
const KEY_TIME: Duration = Duration::from_millis(60);
/// Keys one call may press.
const KEY_LIMIT: usize = 1000;
/// Short names of keys people write in chords, and QEMU's.
const KEY_NAMES: [(&str, &str); 6] = [
    ("enter", "ret"),
    ("space", "spc"),
    ("super", "meta_l"),
    ("meta", "meta_l"),
    ("del", "delete"),
    ("escape", "esc"),
];
/// Greatest coordinate of an absolute pointer, as USB tablets report it.
pub const POINTER_LIMIT: u32 = 0x7fff;

/// Legacy access to configuration space: address and data port (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CAPABILITY_POINTER: u8 = 0x34;
const EXPRESS_CAPABILITY: u8 = 0x10;
/// Offset of Slot Control in the PCI Express capability, and its bits (PCI Express Base Specification, 7.5.3.10).
const SLOT_CONTROL: u8 = 0x18;
const PRESENCE_CHANGE_ENABLE: u32 = 1 << 3;
const POWER_INDICATOR_OFF: u32 = 3 << 8;
const POWER_OFF: u32 = 1 << 10;
/// Capabilities walked at most: as many as fit between the header and the end of the space.
const CAPABILITY_LIMIT: usize = 48;

/// The hardware of a running host, seen from outside.
#[derive(Debug, Clone)]
pub struct Hardware {
    pub(crate) profile: Profile,
    pub(crate) places: Places,
}

impl Hardware {
    /// Writes what a graphics card shows on one of its heads as a PNG file.
    pub fn screenshot(&self, card: &str, head: u32, file: &Path) -> Result<(), Failure> {
        self.known_card(card)?;
        let file = std::path::absolute(file).map_err(Failure::setup(format!("find {}", file.display())))?;
        let arguments = json!({ "filename": file, "device": card, "head": head, "format": "png" });
        self.control()?.execute("screendump", arguments)?;
        Ok(())
    }

    /// Presses keys on the keyboard of a card, one chord after the other: `a`, `shift-b`, `ctrl-alt-f2`.
    ///
    /// The card is a keyboard, the controller it is plugged into, or the screen its user sits at.
    pub fn key(&self, card: &str, chords: &str) -> Result<(), Failure> {
        let keyboard = self.find_input(card, "usb-kbd")?;
        let chords: Vec<Vec<String>> = chords.split_whitespace().map(chord).take(KEY_LIMIT).collect();
        let mut control = self.control()?;
        for keys in chords {
            self.send_input(&mut control, &keyboard, keys.iter().map(|key| key_event(key, true)).collect())?;
            std::thread::sleep(KEY_TIME);
            self.send_input(
                &mut control,
                &keyboard,
                keys.iter().rev().map(|key| key_event(key, false)).collect(),
            )?;
            std::thread::sleep(KEY_TIME);
        }
        Ok(())
    }

    /// Moves the tablet of a card to a place (each coordinate up to [`POINTER_LIMIT`]) and clicks there.
    pub fn click(&self, card: &str, x: u32, y: u32) -> Result<(), Failure> {
        let tablet = self.find_input(card, "usb-tablet")?;
        let mut control = self.control()?;
        let axis = |axis: &str, value: u32| json!({ "type": "abs", "data": { "axis": axis, "value": value.min(POINTER_LIMIT) } });
        let button = |down: bool| json!({ "type": "btn", "data": { "down": down, "button": "left" } });
        self.send_input(&mut control, &tablet, vec![axis("x", x), axis("y", y)])?;
        for down in [true, false] {
            self.send_input(&mut control, &tablet, vec![button(down)])?;
            std::thread::sleep(KEY_TIME);
        }
        Ok(())
    }

    /// Pulls a card out of its slot without asking: it is gone before the host hears of it.
    ///
    /// All functions in the slot go. Only cards behind a root port of their own can be pulled.
    pub fn pull(&self, card: &str) -> Result<(), Failure> {
        let card = self.known_card(card)?;
        let port = match &card.port {
            Port::OwnRootPort => &card.id,
            Port::WithCard(first) => first,
            Port::Bridge(bridge) => bridge,
            Port::RootBus => {
                let refusal =
                    format!("`{}` is soldered to the root bus: only a card in a slot can be pulled", card.id);
                return Err(Failure::Request(refusal));
            }
        };
        let mut control = self.control()?;
        let slot = root_bus_slot(&control.execute("query-pci", json!({}))?, &format!("port-{port}"))
            .ok_or_else(|| Failure::Request(format!("the port of `{}` is not there", card.id)))?;
        // Nothing inside may use the configuration ports between our two accesses.
        control.execute("stop", json!({}))?;
        let result = drop_slot_power(&mut control, slot);
        control.execute("cont", json!({}))?;
        result
    }

    /// Returns the file behind a card's drive, to look at what reached it.
    pub fn drive(&self, id: &str) -> PathBuf {
        self.places.drive(id)
    }

    /// Returns the sound file a card's output was written to; complete when the host is down.
    pub fn sound(&self, id: &str) -> PathBuf {
        self.places.sound(id)
    }

    /// Returns the file that the kernel's console is written to.
    pub fn console_file(&self) -> PathBuf {
        self.places.console()
    }

    /// Connects to the emulator's control socket.
    pub fn control(&self) -> Result<Qmp, Failure> {
        Ok(Qmp::connect(&self.places.control())?)
    }

    fn known_card(&self, id: &str) -> Result<&Card, Failure> {
        self.profile.card(id).ok_or_else(|| {
            let known: Vec<&str> = self.profile.cards.iter().map(|card| card.id.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Failure::Request(format!("no card `{id}` in this host; there are: {known}"))
        })
    }

    /// Finds the input device of a kind that a name stands for.
    fn find_input(&self, name: &str, device: &str) -> Result<Part, Failure> {
        let all =
            self.profile.cards.iter().flat_map(|card| card.plugged.iter().map(move |part| (card, part)));
        all.filter(|(_, part)| part.device == device)
            .find(|(card, part)| part.id == name || card.id == name || part.display.as_deref() == Some(name))
            .map(|(_, part)| part.clone())
            .ok_or_else(|| Failure::Request(format!("`{name}` has no {device} in this host")))
    }

    fn send_input(&self, control: &mut Qmp, part: &Part, events: Vec<Value>) -> Result<(), Failure> {
        let mut arguments = json!({ "events": events });
        if let Some(display) = &part.display {
            // A keyboard tied to a screen gets what is meant for that screen.
            arguments["device"] = json!(display);
        }
        control.execute("input-send-event", arguments)?;
        Ok(())
    }
}

fn key_event(key: &str, down: bool) -> Value {
    json!({ "type": "key", "data": { "down": down, "key": { "type": "qcode", "data": key } } })
}

/// Splits a chord into QEMU's key names.
fn chord(text: &str) -> Vec<String> {
    if text == "-" {
        return vec!["minus".to_owned()];
    }
    let name = |key: &str| {
        KEY_NAMES.iter().find(|(short, _)| *short == key).map_or(key, |(_, full)| full).to_owned()
    };
    text.split('-').filter(|key| !key.is_empty()).map(|key| name(&key.to_lowercase())).collect()
}

/// Finds the slot of a device on the root bus in the emulator's list.
fn root_bus_slot(list: &Value, id: &str) -> Option<u32> {
    let devices = list.as_array()?.iter().find(|bus| bus["bus"] == 0)?["devices"].as_array()?;
    let device = devices.iter().find(|device| device["qdev_id"] == id)?;
    device["slot"].as_u64().and_then(|slot| u32::try_from(slot).ok())
}

/// Takes a card out of its slot through the port's own registers: QEMU drops it at once when the slot's power goes,
/// where its orderly way would ask the host first.
fn drop_slot_power(control: &mut Qmp, slot: u32) -> Result<(), Failure> {
    let register = express_capability(control, slot)? + SLOT_CONTROL;
    let before = read_config(control, slot, register)? & 0xffff;
    // The presence interrupt is enabled along the way: at a slot with an attention button the kernel leaves it
    // off and would wait for a button that nobody presses.
    let after = before | PRESENCE_CHANGE_ENABLE;
    // Power comes back at once, because the kernel takes a slot without power for one it emptied itself.
    for value in [after | POWER_OFF | POWER_INDICATOR_OFF, after] {
        select_config(control, slot, register)?;
        control.monitor(&format!("o/h {CONFIG_DATA:#x} {value:#x}"))?;
    }
    Ok(())
}

fn express_capability(control: &mut Qmp, slot: u32) -> Result<u8, Failure> {
    let mut at = read_config(control, slot, CAPABILITY_POINTER)? as u8 & !3;
    for _ in 0..CAPABILITY_LIMIT {
        if at < 0x40 {
            break;
        }
        let header = read_config(control, slot, at)?;
        if header as u8 == EXPRESS_CAPABILITY {
            return Ok(at);
        }
        at = (header >> 8) as u8 & !3;
    }
    Err(Failure::Request(format!("slot {slot:#x} is not behind a PCI Express port")))
}

fn select_config(control: &mut Qmp, slot: u32, register: u8) -> Result<(), Failure> {
    let address = 0x8000_0000 | slot << 11 | u32::from(register & !3);
    control.monitor(&format!("o/w {CONFIG_ADDRESS:#x} {address:#x}"))?;
    Ok(())
}

fn read_config(control: &mut Qmp, slot: u32, register: u8) -> Result<u32, Failure> {
    select_config(control, slot, register)?;
    // The monitor's words are those of gdb: w is 32 bits wide, h 16. Prints "portl[0x0cfc] = 0x12345678".
    let answer = control.monitor(&format!("i/w {CONFIG_DATA:#x}"))?;
    let value = answer.rsplit("0x").next().and_then(|digits| u32::from_str_radix(digits.trim(), 16).ok());
    value.ok_or_else(|| Failure::Request(format!("the emulator's answer `{answer}` is no register value")))
}

#[cfg(test)]
mod tests {
    use super::{chord, root_bus_slot};
    use serde_json::json;

    #[test]
    fn chords_become_qemu_key_names() {
        let rows: [(&str, &[&str]); 5] = [
            ("a", &["a"]),
            ("Ctrl-Alt-F2", &["ctrl", "alt", "f2"]),
            ("super-Enter", &["meta_l", "ret"]),
            ("-", &["minus"]),
            ("shift-", &["shift"]),
        ];
        for (text, keys) in rows {
            assert_eq!(chord(text), keys, "{text}");
        }
    }

    #[test]
    fn only_ports_of_the_root_bus_are_found() {
        let list = json!([
            { "bus": 1, "devices": [{ "qdev_id": "port-a", "slot": 9 }] },
            { "bus": 0, "devices": [{ "qdev_id": "", "slot": 0 }, { "qdev_id": "port-b", "slot": 5 }] },
        ]);
        assert_eq!(root_bus_slot(&list, "port-b"), Some(5));
        assert_eq!(root_bus_slot(&list, "port-a"), None);
        assert_eq!(root_bus_slot(&json!({}), "port-a"), None);
    }
}
