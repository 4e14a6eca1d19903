//! The common configuration structure (section 4.1.4.3) and the device status machine (section 3.1.1): what the driver
//! writes, as commands to the device.
//!
//! Pure. What a register is not made for is ignored, as the specification leaves it to the device; a driver that
//! ends up with a device that does not start has misread it.

use super::interrupt::{NO_VECTOR, Vectors};
use super::ring::{EVENT_INDEX, Placement};

/// Bytes of the structure: up to the features that nobody here offers.
pub(super) const COMMON_BYTES: u32 = 0x38;

/// Bits of the device status.
pub(super) mod status {
    /// The driver's steps: it saw the device, knows how to drive it, is ready, and accepted features.
    pub(crate) const ACKNOWLEDGE: u8 = 1;
    pub(crate) const DRIVER: u8 = 2;
    pub(crate) const DRIVER_OK: u8 = 4;
    pub(crate) const FEATURES_OK: u8 = 8;
    /// The device has met nonsense.
    pub(crate) const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub(crate) const FAILED: u8 = 128;
}

/// Not a legacy device. Without this bit there is nothing to agree on.
const VERSION_1: u64 = 1 << 32;
/// Descriptor tables in descriptors.
const INDIRECT: u64 = 1 << 28;

/// Offsets (section 4.1.4.3).
mod offset {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_VECTOR: u64 = 0x10;
    pub(super) const QUEUE_COUNT: u64 = 0x12;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY: u64 = 0x1e;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub(super) const QUEUE_AVAILABLE: u64 = 0x28;
    pub(super) const QUEUE_USED: u64 = 0x30;
}

/// What a write asks for beyond the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Stop, and forget everything.
    Reset,
    /// Start with these queues.
    Start { features: u64, queues: Vec<Option<Placement>> },
    /// Use one more queue.
    Add { features: u64, index: usize, at: Placement },
    /// Interrupts go by other vectors.
    Vectors(Vectors),
}

/// The registers.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    offered: u64,
    vectors: u16,
    queue_limits: Vec<u16>,
    state: State,
}

#[derive(Clone, Debug)]
struct State {
    device_select: u32,
    driver_select: u32,
    accepted: u64,
    status: u8,
    config_vector: u16,
    queue_select: u16,
    queues: Vec<QueueState>,
}

#[derive(Clone, Debug)]
struct QueueState {
    at: Placement,
    vector: u16,
    enabled: bool,
}

impl Registers {
    /// Registers of a device with these feature bits and queues, and with this many interrupt vectors.
    pub(super) fn new(features: u64, queue_limits: &[u16], vectors: u16) -> Self {
        let offered = features | VERSION_1 | INDIRECT | EVENT_INDEX;
        Self { offered, vectors, queue_limits: queue_limits.to_vec(), state: State::new(queue_limits) }
    }

    /// Goes back to the state after power-on.
    pub(super) fn reset(&mut self) {
        self.state = State::new(&self.queue_limits);
    }

    /// Answers a read of any width; `broken` is the device's word on that.
    pub(super) fn read(&self, offset: u64, data: &mut [u8], broken: bool) {
        let image = self.image(broken);
        for (index, byte) in (0..).zip(data) {
            let at = usize::try_from(offset.saturating_add(index)).ok();
            *byte = at.and_then(|at| image.get(at)).copied().unwrap_or(0);
        }
    }

    /// Takes a write. Drivers access each field at its width, 64-bit ones in halves too (section 4.1.3.1); anything else
    /// is ignored.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Option<Command> {
        match *data {
            [byte] if offset == offset::STATUS => self.write_status(byte),
            [a, b] => self.write_word(offset, u16::from_le_bytes([a, b])),
            [a, b, c, d] => {
                self.write_dword(offset, u32::from_le_bytes([a, b, c, d]));
                None
            }
            [a, b, c, d, e, f, g, h] if offset.is_multiple_of(8) => {
                self.write_address(offset, u32::from_le_bytes([a, b, c, d]));
                self.write_address(offset + 4, u32::from_le_bytes([e, f, g, h]));
                None
            }
            _ => None,
        }
    }

    fn image(&self, broken: bool) -> [u8; COMMON_BYTES as usize] {
        let state = &self.state;
        let mut image = [0; COMMON_BYTES as usize];
        let mut put = |offset: u64, bytes: &[u8]| {
            for (place, byte) in image.iter_mut().skip(offset as usize).zip(bytes) {
                *place = *byte;
            }
        };
        put(offset::DEVICE_FEATURE_SELECT, &state.device_select.to_le_bytes());
        put(offset::DEVICE_FEATURE, &half(self.offered, state.device_select).to_le_bytes());
        put(offset::DRIVER_FEATURE_SELECT, &state.driver_select.to_le_bytes());
        put(offset::DRIVER_FEATURE, &half(state.accepted, state.driver_select).to_le_bytes());
        put(offset::CONFIG_VECTOR, &state.config_vector.to_le_bytes());
        put(offset::QUEUE_COUNT, &(state.queues.len() as u16).to_le_bytes());
        put(offset::STATUS, &[state.status | if broken { status::NEEDS_RESET } else { 0 }]);
        put(offset::QUEUE_SELECT, &state.queue_select.to_le_bytes());
        // A queue that does not exist reads as one of size 0.
        if let Some(queue) = state.queues.get(usize::from(state.queue_select)) {
            put(offset::QUEUE_SIZE, &queue.at.size.to_le_bytes());
            put(offset::QUEUE_VECTOR, &queue.vector.to_le_bytes());
            put(offset::QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            put(offset::QUEUE_NOTIFY, &state.queue_select.to_le_bytes());
            put(offset::QUEUE_DESCRIPTORS, &queue.at.descriptors.to_le_bytes());
            put(offset::QUEUE_AVAILABLE, &queue.at.available.to_le_bytes());
            put(offset::QUEUE_USED, &queue.at.used.to_le_bytes());
        }
        image
    }

    fn write_status(&mut self, written: u8) -> Option<Command> {
        if written == 0 {
            self.reset();
            return Some(Command::Reset);
        }
        let state = &mut self.state;
        // Bits are only ever added (section 2.1.1), and in order: what the features are is settled before the start.
        let mut added = written & !state.status;
        let agreed = state.accepted & VERSION_1 != 0 && state.accepted & !self.offered == 0;
        if !agreed {
            added &= !status::FEATURES_OK;
        }
        if (state.status | added) & status::FEATURES_OK == 0 {
            added &= !status::DRIVER_OK;
        }
        let known =
            status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK | status::FAILED;
        added &= known;
        state.status |= added;
        (added & status::DRIVER_OK != 0).then(|| Command::Start {
            features: state.accepted,
            queues: state.queues.iter().map(|queue| queue.enabled.then_some(queue.at)).collect(),
        })
    }

    fn write_word(&mut self, offset: u64, value: u16) -> Option<Command> {
        let vector = if value < self.vectors { value } else { NO_VECTOR };
        let index = usize::from(self.state.queue_select);
        match offset {
            offset::CONFIG_VECTOR => {
                self.state.config_vector = vector;
                return Some(Command::Vectors(self.state.vectors()));
            }
            offset::QUEUE_SELECT => self.state.queue_select = value,
            offset::QUEUE_VECTOR => {
                self.state.queues.get_mut(index)?.vector = vector;
                return Some(Command::Vectors(self.state.vectors()));
            }
            offset::QUEUE_SIZE => {
                let limit = *self.queue_limits.get(index)?;
                let queue = self.state.idle_queue()?;
                if value.is_power_of_two() && value <= limit {
                    queue.at.size = value;
                }
            }
            offset::QUEUE_ENABLE if value == 1 => {
                let queue = self.state.idle_queue()?;
                queue.enabled = true;
                let at = queue.at;
                let started = self.state.status & status::DRIVER_OK != 0;
                return started.then_some(Command::Add { features: self.state.accepted, index, at });
            }
            _ => {}
        }
        None
    }

    fn write_dword(&mut self, offset: u64, value: u32) {
        let state = &mut self.state;
        match offset {
            offset::DEVICE_FEATURE_SELECT => state.device_select = value,
            offset::DRIVER_FEATURE_SELECT => state.driver_select = value,
            // What was agreed on stays.
            offset::DRIVER_FEATURE if state.status & status::FEATURES_OK == 0 => match state.driver_select {
                0 => state.accepted = state.accepted & !0xffff_ffff | u64::from(value),
                1 => state.accepted = state.accepted & 0xffff_ffff | u64::from(value) << 32,
                _ => {}
            },
            _ => self.write_address(offset, value),
        }
    }

    fn write_address(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.state.idle_queue() else { return };
        let address = match offset & !7 {
            offset::QUEUE_DESCRIPTORS => &mut queue.at.descriptors,
            offset::QUEUE_AVAILABLE => &mut queue.at.available,
            offset::QUEUE_USED => &mut queue.at.used,
            _ => return,
        };
        match offset & 7 {
            0 => *address = *address & !0xffff_ffff | u64::from(value),
            4 => *address = *address & 0xffff_ffff | u64::from(value) << 32,
            _ => {}
        }
    }
}

impl State {
    fn new(queue_limits: &[u16]) -> Self {
        let queue = |&size| QueueState {
            at: Placement { size, ..Placement::default() },
            vector: NO_VECTOR,
            enabled: false,
        };
        Self {
            device_select: 0,
            driver_select: 0,
            accepted: 0,
            status: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: queue_limits.iter().map(queue).collect(),
        }
    }

    /// The selected queue, if it exists and is not enabled: one in use stays as it is.
    fn idle_queue(&mut self) -> Option<&mut QueueState> {
        let queue = self.queues.get_mut(usize::from(self.queue_select))?;
        (!queue.enabled).then_some(queue)
    }

    fn vectors(&self) -> Vectors {
        Vectors { config: self.config_vector, queues: self.queues.iter().map(|queue| queue.vector).collect() }
    }
}

/// One half of the feature bits; there are no more than two.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
