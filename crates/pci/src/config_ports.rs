//! Ports 0xCF8 and 0xCFC, configuration mechanism 1 (PCI Local Bus 3.0, section 3.2.2.3.2).
//!
//! A decoder only: it holds the latch and names the register; `machine` puts it on the port bus, asks the hierarchy,
//! and gives the accesses that are not its own (byte 0xCF9 is the reset register) to whoever has them.

use crate::Bdf;

/// The latch: which function and register the data ports show.
pub const ADDRESS_PORT: u16 = 0xcf8;
/// The first of the four data ports.
pub const DATA_PORT: u16 = 0xcfc;

const ENABLE: u32 = 1 << 31;
// Bits 30:24 are reserved and 1:0 are the byte enables: neither can be set.
const LATCHED: u32 = ENABLE | 0x00ff_fffc;

/// A register of a function, and how many bytes of an access reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAddress {
    /// The function.
    pub bdf: Bdf,
    /// The first byte in its config space.
    pub offset: u16,
    /// The bytes of the access, from its first, that reach config space; the others read as ones and are dropped.
    pub len: usize,
}

/// What a port access means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortAccess {
    /// It was the latch, and is done.
    Done,
    /// It is for a register.
    Config(ConfigAddress),
    /// It is not for the config mechanism: another device's, or nobody's.
    NotOurs,
}

/// The two ports' state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigPorts {
    address: u32,
}

impl ConfigPorts {
    /// Decodes a read of `port`, having filled `data` with the latch or with ones for the caller to replace.
    pub fn read(&self, port: u16, data: &mut [u8]) -> PortAccess {
        data.fill(0xff);
        if port == ADDRESS_PORT && data.len() == 4 {
            data.copy_from_slice(&self.address.to_le_bytes());
            return PortAccess::Done;
        }
        self.decode(port, data.len())
    }

    /// Decodes a write of `port`; a full dword at 0xCF8 sets the latch, narrower ones pass it by as on real chips.
    pub fn write(&mut self, port: u16, data: &[u8]) -> PortAccess {
        if port == ADDRESS_PORT
            && let Ok(bytes) = data.try_into()
        {
            self.address = u32::from_le_bytes(bytes) & LATCHED;
            return PortAccess::Done;
        }
        self.decode(port, data.len())
    }

    /// Clears the latch.
    pub fn reset(&mut self) {
        self.address = 0;
    }

    fn decode(&self, port: u16, len: usize) -> PortAccess {
        let Some(lane @ 0..4) = port.checked_sub(DATA_PORT) else {
            return PortAccess::NotOurs;
        };
        if self.address & ENABLE == 0 {
            return PortAccess::NotOurs;
        }
        let [register, low, bus, _] = self.address.to_le_bytes();
        let bdf = Bdf::from_requester_id(u16::from_be_bytes([bus, low]));
        // The bus splits an access that runs past 0xCFF; its second half goes to port 0xD00.
        let len = len.min(usize::from(4 - lane));
        PortAccess::Config(ConfigAddress { bdf, offset: u16::from(register) + lane, len })
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigPorts, PortAccess};

    #[test]
    fn only_a_dword_sets_the_latch() {
        let mut ports = ConfigPorts::default();
        for (port, data, result, latch) in [
            (0xcf8, &[0xff; 4][..], PortAccess::Done, 0x80ff_fffc),
            (0xcf8, &[0x00][..], PortAccess::NotOurs, 0x80ff_fffc),
            (0xcfb, &[0x01][..], PortAccess::NotOurs, 0x80ff_fffc),
            (0xcf9, &[0x06][..], PortAccess::NotOurs, 0x80ff_fffc),
            (0xcf9, &[0, 0, 0, 0][..], PortAccess::NotOurs, 0x80ff_fffc),
            (0xcf8, &[0x04, 0xf8, 0x00, 0x80][..], PortAccess::Done, 0x8000_f804),
        ] {
            assert_eq!(ports.write(port, data), result, "{port:#x} {data:x?}");
            let mut read = [0; 4];
            assert_eq!(ports.read(0xcf8, &mut read), PortAccess::Done);
            assert_eq!(u32::from_le_bytes(read), latch);
        }
    }

    #[test]
    fn data_ports_reach_the_bytes_of_the_latched_register() {
        let mut ports = ConfigPorts::default();
        ports.write(0xcf8, &0x8001_f904_u32.to_le_bytes());
        for (port, len, expected) in [
            (0xcfc, 4, Some((4, 4))),
            (0xcfd, 1, Some((5, 1))),
            (0xcfe, 2, Some((6, 2))),
            (0xcfe, 4, Some((6, 2))),
            (0xcff, 4, Some((7, 1))),
            (0xd00, 1, None),
            (0xcf9, 1, None),
            (0, 1, None),
        ] {
            let found = match ports.read(port, &mut vec![0; len]) {
                PortAccess::Config(address) => {
                    assert_eq!(address.bdf.to_string(), "01:1f.1");
                    Some((address.offset, address.len))
                }
                PortAccess::Done | PortAccess::NotOurs => None,
            };
            assert_eq!(found, expected, "{port:#x}+{len}");
        }
    }

    #[test]
    fn without_the_enable_bit_data_ports_are_not_ours_and_read_as_ones() {
        let mut ports = ConfigPorts::default();
        ports.write(0xcf8, &0x0000_f800_u32.to_le_bytes());
        let mut data = [0; 4];
        assert_eq!(ports.read(0xcfc, &mut data), PortAccess::NotOurs);
        assert_eq!(data, [0xff; 4]);
        assert_eq!(ports.write(0xcfc, &data), PortAccess::NotOurs);
    }
}
