//! The Bochs display interface's ports: an index and its data, 16 bits each, which overlap.

use std::sync::Arc;

use super::Display;
use crate::bus::{Device, Effect};

/// Index at the first port, data at the next one and, for those who align, at the one after.
pub(crate) const DISPI_PORTS: std::ops::Range<u64> = 0x1ce..0x1d2;

/// The ports.
pub(crate) struct DispiPorts(pub(crate) Arc<Display>);

impl Device for DispiPorts {
    fn name(&self) -> &str {
        "display interface ports"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        data.fill(0xff);
        if let [low, high] = data {
            let registers = self.0.lock();
            let value = match offset {
                0 => registers.dispi.index(),
                _ => registers.dispi.read(registers.dispi.index()),
            };
            [*low, *high] = value.to_le_bytes();
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        if let [low, high] = *data {
            let value = u16::from_le_bytes([low, high]);
            if offset == 0 {
                self.0.lock().dispi.set_index(value);
            } else {
                let index = self.0.lock().dispi.index();
                self.0.write_dispi(index, value);
            }
        }
        Vec::new()
    }
}
