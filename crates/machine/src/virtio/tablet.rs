//! The input device (section 5.8) as a tablet: a pointer that says where it is and not how far it moved, so that it is
//! where the person who looks at the display has put it.
//!
//! Not here: who moves it (the machine), and the PS/2 mouse, which systems without this device's driver have.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::Request;
use super::{Broken, Kind, VirtioDevice};

const DEVICE_ID: u16 = 18;
/// An input device of no special kind.
const CLASS: u32 = 0x09_8000;
/// Events, and what the driver answers (lights, of which there are none).
const EVENTS: usize = 0;
const QUEUE: u16 = 64;
/// Bytes of an event: kind, code and value.
const EVENT_BYTES: usize = 8;
/// Events that wait at most: a guest that takes none loses those that come then.
const WAITING: usize = 256;

/// The largest value of an axis; the smallest is 0.
const AXIS: u32 = 0x7fff;

/// Kinds and codes of events (Linux include/uapi/linux/input-event-codes.h).
mod event {
    pub(super) const SYNC: u16 = 0;
    pub(super) const KEY: u16 = 1;
    pub(super) const RELATIVE: u16 = 2;
    pub(super) const ABSOLUTE: u16 = 3;
    pub(super) const WHEEL: u16 = 8;
    /// Left, right, middle, and those at the side.
    pub(super) const BUTTONS: [u16; 5] = [0x110, 0x111, 0x112, 0x113, 0x114];
}

/// What the driver can ask for (section 5.8.4).
mod select {
    pub(super) const NAME: u8 = 0x01;
    pub(super) const IDS: u8 = 0x03;
    pub(super) const EVENT_BITS: u8 = 0x11;
    pub(super) const AXIS: u8 = 0x12;
}
/// Bytes of the configuration, and where what was asked for begins.
const CONFIG_BYTES: usize = 136;
const ANSWER_AT: usize = 8;

/// Where the pointer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// From the picture's left, and its width, in pixels.
    pub(crate) x: (u16, u32),
    /// From its top, and its height.
    pub(crate) y: (u16, u32),
    /// Clicks of the wheel toward the person.
    pub(crate) wheel: i32,
    /// Buttons that are down: bit 0 left, 1 right, 2 middle, 3 and 4 those at the side.
    pub(crate) buttons: u8,
}

/// The events that wait for the driver, as the device and whoever moves the pointer share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pointer(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<[u8; EVENT_BYTES]>,
    buttons: u8,
}

impl Waiting {
    fn tell(&mut self, kind: u16, code: u16, value: u32) {
        let [k0, k1] = kind.to_le_bytes();
        let [c0, c1] = code.to_le_bytes();
        let [v0, v1, v2, v3] = value.to_le_bytes();
        self.events.push_back([k0, k1, c0, c1, v0, v1, v2, v3]);
    }
}

impl Pointer {
    /// Puts the pointer somewhere.
    pub(crate) fn put(&self, point: &Point) {
        let mut waiting = self.lock();
        if waiting.events.len() + event::BUTTONS.len() + 4 > WAITING {
            return;
        }
        for (axis, (at, size)) in (0..).zip([point.x, point.y]) {
            let last = size.saturating_sub(1).max(1);
            waiting.tell(event::ABSOLUTE, axis, u32::from(at).min(last) * AXIS / last);
        }
        if point.wheel != 0 {
            // Away from the person is up.
            waiting.tell(event::RELATIVE, event::WHEEL, point.wheel.wrapping_neg() as u32);
        }
        let changed = waiting.buttons ^ point.buttons;
        for (bit, code) in event::BUTTONS.iter().enumerate() {
            if changed >> bit & 1 != 0 {
                waiting.tell(event::KEY, *code, u32::from(point.buttons >> bit & 1));
            }
        }
        waiting.buttons = point.buttons;
        waiting.tell(event::SYNC, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device.
pub(crate) struct Tablet {
    pointer: Pointer,
    config: [u8; CONFIG_BYTES],
}

impl Tablet {
    /// A tablet whose pointer is where `pointer` was put.
    pub(crate) fn new(pointer: Pointer) -> Self {
        Self { pointer, config: [0; CONFIG_BYTES] }
    }
}

/// What the driver is told of a thing it asks for; nothing for what the tablet has not.
fn told(what: u8, which: u8) -> Vec<u8> {
    match (what, u16::from(which)) {
        (select::NAME, 0) => b"Allod tablet".to_vec(),
        // A virtual bus, and ids that QEMU's tablet has, by which systems know that it is one.
        (select::IDS, 0) => [6_u16, 0x0627, 0x0003, 0x0002].iter().flat_map(|id| id.to_le_bytes()).collect(),
        (select::EVENT_BITS, event::KEY) => bits(&event::BUTTONS),
        (select::EVENT_BITS, event::RELATIVE) => bits(&[event::WHEEL]),
        (select::EVENT_BITS, event::ABSOLUTE) => bits(&[0, 1]),
        // Smallest, largest, noise, flat, units a millimetre.
        (select::AXIS, 0 | 1) => {
            [0, AXIS, 0, 0, 0].iter().flat_map(|value: &u32| value.to_le_bytes()).collect()
        }
        _ => Vec::new(),
    }
}

/// Codes as bits.
fn bits(codes: &[u16]) -> Vec<u8> {
    let most = codes.iter().max().copied().unwrap_or(0);
    let mut bytes = vec![0; usize::from(most / 8) + 1];
    for code in codes {
        if let Some(byte) = bytes.get_mut(usize::from(code / 8)) {
            *byte |= 1 << (code % 8);
        }
    }
    bytes
}

impl VirtioDevice for Tablet {
    fn kind(&self) -> Kind {
        Kind {
            name: "tablet".to_owned(),
            id: DEVICE_ID,
            class: CLASS,
            features: 0,
            queues: vec![QUEUE, QUEUE],
            frugal: false,
            config: self.config.to_vec(),
            rom: None,
        }
    }

    /// The first two bytes say what the driver asks for; size and answer follow.
    fn configure(&mut self, offset: usize, data: &[u8]) -> Option<Vec<u8>> {
        for (at, value) in (offset..2).zip(data) {
            if let Some(byte) = self.config.get_mut(at) {
                *byte = *value;
            }
        }
        let [what, which, ..] = self.config;
        let answer = told(what, which);
        self.config = [0; CONFIG_BYTES];
        let size = answer.len() as u8;
        for (place, byte) in self.config.iter_mut().zip([what, which, size]) {
            *place = byte;
        }
        for (place, byte) in self.config.iter_mut().skip(ANSWER_AT).zip(answer) {
            *place = byte;
        }
        Some(self.config.to_vec())
    }

    fn is_ready(&mut self, queue: usize) -> bool {
        queue != EVENTS || !self.pointer.lock().events.is_empty()
    }

    fn answer(&mut self, queue: usize, request: Request<'_>) -> Result<u32, Broken> {
        if queue != EVENTS {
            return Ok(0);
        }
        if request.writable.len() < EVENT_BYTES as u64 {
            return Err(Broken::Request);
        }
        let event = self.pointer.lock().events.pop_front();
        Ok(event.map_or(0, |event| request.writable.write(&event) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::{Point, Pointer, Tablet};
    use crate::virtio::testing::{Driver, Piece};
    use crate::virtio::{Broken, VirtioDevice};

    fn events(tablet: &mut Tablet) -> Vec<(u16, u16, i32)> {
        let mut events = Vec::new();
        while tablet.is_ready(0) {
            let driver = Driver::new();
            let pieces = [Piece::writable(0x1_0000, 8)];
            assert_eq!(driver.with_request(&pieces, |request| tablet.answer(0, request)), Ok(8));
            let value = u32::from(driver.word(0x1_0004)) | u32::from(driver.word(0x1_0006)) << 16;
            events.push((driver.word(0x1_0000), driver.word(0x1_0002), value as i32));
        }
        events
    }

    #[test]
    fn a_pointer_is_told_of_by_place_buttons_and_wheel() {
        let pointer = Pointer::default();
        let mut tablet = Tablet::new(pointer.clone());
        let at = |x, y, wheel, buttons| Point { x: (x, 1280), y: (y, 800), wheel, buttons };
        for (point, told) in [
            (at(0, 799, 0, 0), vec![(3, 0, 0), (3, 1, 0x7fff), (0, 0, 0)]),
            (at(1279, 400, 0, 1), vec![(3, 0, 0x7fff), (3, 1, 16404), (1, 0x110, 1), (0, 0, 0)]),
            (
                at(9999, 0, 2, 2),
                vec![(3, 0, 0x7fff), (3, 1, 0), (2, 8, -2), (1, 0x110, 0), (1, 0x111, 1), (0, 0, 0)],
            ),
        ] {
            pointer.put(&point);
            assert_eq!(events(&mut tablet), told, "{point:?}");
        }
        // A picture of no size, and a guest that takes nothing.
        pointer.put(&Point { x: (5, 0), y: (5, 1), wheel: 0, buttons: 0 });
        for _ in 0..1000 {
            pointer.put(&at(1, 1, 1, 0));
        }
        assert!(events(&mut tablet).len() <= 256);
    }

    #[test]
    fn a_driver_is_told_what_it_asks_for() {
        let mut tablet = Tablet::new(Pointer::default());
        for (what, which, size, answer) in [
            (1, 0, 12, &b"Allod tablet"[..]),
            (0x11, 3, 1, &[3][..]),
            (0x11, 2, 2, &[0, 1][..]),
            (0x11, 1, 35, &[0; 34][..]),
            (0x12, 1, 20, &[0, 0, 0, 0, 0xff, 0x7f][..]),
            (0x12, 2, 0, &[0; 8][..]),
            (0xff, 0xff, 0, &[0; 8][..]),
        ] {
            tablet.configure(0, &[what]);
            let config = tablet.configure(1, &[which]).unwrap();
            assert_eq!((config[2], &config[8..8 + answer.len()]), (size, answer), "{what:#x} {which}");
        }
        let unchanged = tablet.kind().config;
        assert_eq!(tablet.configure(2, &[7; 8]), Some(unchanged));
        assert!(tablet.configure(usize::MAX, &[1]).is_some());
    }

    #[test]
    fn buffers_without_room_for_an_event_break_it() {
        let pointer = Pointer::default();
        let mut tablet = Tablet::new(pointer.clone());
        pointer.put(&Point { x: (0, 9), y: (0, 9), wheel: 0, buttons: 0 });
        let driver = Driver::new();
        let result =
            driver.with_request(&[Piece::writable(0x1_0000, 7)], |request| tablet.answer(0, request));
        assert_eq!(result, Err(Broken::Request));
        let result =
            driver.with_request(&[Piece::readable(0x1_0000, 8)], |request| tablet.answer(1, request));
        assert_eq!(result, Ok(0));
    }
}
