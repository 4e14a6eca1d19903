//! Ports to which firmware tells what it does: the debug console 0x402 and the POST code port 0x80.
//!
//! Not here: where the text goes; it waits in an [`OutputBuffer`] like the serial port's. Both ports are polled by
//! nobody, so a full buffer loses text, and counts it.

use std::sync::Arc;

use super::output::OutputBuffer;
use super::{read_bytes, write_bytes};
use crate::bus::{Device, Effect};

/// The debug console's port (SeaBIOS `CONFIG_DEBUG_IO`, OVMF `PcdDebugIoPort`).
pub const DEBUG_PORT: u64 = 0x402;
/// The POST code port. Linux writes to it for a short delay (`io_delay`).
pub const POST_PORT: u64 = 0x80;

/// What the port reads, by which both firmwares see that it is there.
const PRESENT: u8 = 0xe9;

/// The debug console.
pub struct DebugPort {
    output: Arc<OutputBuffer>,
}

impl DebugPort {
    /// Makes a console that writes into `output`.
    pub fn new(output: Arc<OutputBuffer>) -> Self {
        Self { output }
    }
}

impl Device for DebugPort {
    fn name(&self) -> &str {
        "debug-port"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| if port == 0 { PRESENT } else { 0xff });
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        write_bytes(offset, data, |port, value| {
            if port == 0 && !self.output.offer(value) {
                self.output.count_lost(1);
            }
        });
        Vec::new()
    }
}

/// The POST code port: keeps the last code, which tells where a firmware stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostPort {
    code: u8,
}

impl PostPort {
    /// Tells the last code written.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl Device for PostPort {
    fn name(&self) -> &str {
        "post-port"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        read_bytes(offset, data, |port| if port == 0 { self.code } else { 0xff });
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        write_bytes(offset, data, |port, value| {
            if port == 0 {
                self.code = value;
            }
        });
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{DebugPort, PostPort};
    use crate::board::output::OutputBuffer;
    use crate::board::testing::WakeCount;
    use crate::bus::Device;

    #[test]
    fn the_debug_port_keeps_what_fits_and_counts_the_rest() {
        let output = OutputBuffer::new(4, WakeCount::default().wake());
        let mut port = DebugPort::new(output.clone());
        let mut present = [0; 2];
        port.read(0, &mut present);
        assert_eq!(present, [0xe9, 0xff]);
        // A string instruction with several bytes comes as one access of one port each.
        for byte in b"SeaBIOS" {
            port.write(0, &[*byte, b'?']);
        }
        let mut text = Vec::new();
        let _ = output.drain(&mut text);
        assert_eq!((text.as_slice(), output.lost()), (&b"SeaB"[..], 3));
    }

    #[test]
    fn the_last_post_code_can_be_read() {
        let mut port = PostPort::default();
        port.write(0, &[0x42, 0x43]);
        assert_eq!(port.code(), 0x42);
    }
}
