//! The MSI capability as registers (PCI Local Bus 3.0, section 6.8.1): what the guest programmed, as messages.
//!
//! It sends nothing: `raise` says which message to send, and changes tell the machine which routes to set.

use crate::capability::standard_id;
use crate::register::Register;
use crate::{ConfigSpace, NoRoom};

/// A message: a write of `data` to `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub address: u64,
    /// What; MSI has 16 bits of it.
    pub data: u32,
}

/// What an MSI capability can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiShape {
    /// Vectors it asks for, as a power of two: 0 to 5.
    pub log2_vectors: u8,
    /// It has 64 address bits.
    pub wide: bool,
    /// It has a mask and a pending bit for each vector.
    pub maskable: bool,
}

/// What the guest programmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiState {
    /// Messages are sent, and INTx is not.
    pub enabled: bool,
    /// Vectors granted: 1 to 32, never more than asked for.
    pub vectors: u8,
    /// The address of all messages.
    pub address: u64,
    /// The data of vector 0's message; the low bits count vectors.
    pub data: u16,
    /// A bit for each masked vector.
    pub masked: u32,
}

/// A change of what the guest programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiChange {
    /// Counts the changes of the function, in the order in which they were made.
    pub number: u64,
    /// The new state.
    pub state: MsiState,
    /// A bit for each vector that was pending and is free to go now: send its message once.
    pub fire: u32,
}

/// An MSI capability in a config space.
#[derive(Clone, Debug)]
pub struct Msi {
    offset: u16,
    shape: MsiShape,
    reported: MsiState,
    changes: u64,
}

const CONTROL: u16 = 2;
const ADDRESS: u16 = 4;
const ADDRESS_UPPER: u16 = 8;
const ENABLE: u16 = 1 << 0;
const LOG2_VECTORS_LIMIT: u8 = 5;

impl MsiShape {
    /// Reads a capability's control word.
    pub const fn read(control: u16) -> Self {
        Self {
            log2_vectors: (control >> 1 & 7) as u8,
            wide: control & 1 << 7 != 0,
            maskable: control & 1 << 8 != 0,
        }
    }

    /// Bytes of the capability, its header included.
    pub const fn bytes(self) -> u16 {
        match (self.wide, self.maskable) {
            (false, false) => 10,
            (true, false) => 14,
            (false, true) => 20,
            (true, true) => 24,
        }
    }
}

impl MsiState {
    /// The message of a vector; `None` while it is masked, not granted, or all is disabled.
    pub fn message(&self, vector: u8) -> Option<Message> {
        let masked = self.masked.checked_shr(vector.into()).is_none_or(|bits| bits & 1 != 0);
        if !self.enabled || vector >= self.vectors || masked {
            return None;
        }
        // The device may change only as many low bits of the data as it was granted vectors for.
        let base = self.data & !u16::from(self.vectors.wrapping_sub(1));
        Some(Message { address: self.address, data: u32::from(base | u16::from(vector)) })
    }
}

impl Msi {
    /// Appends the capability to `config`.
    ///
    /// # Errors
    /// When there is no room.
    pub fn add(config: &mut ConfigSpace, shape: MsiShape) -> Result<Self, NoRoom> {
        let offset = config.add_capability(standard_id::MSI, shape.bytes())?;
        Ok(Self::at(config, offset, shape))
    }

    /// Puts the registers of a capability at `offset`, where a device has it. Its header of two bytes stays as it is.
    pub fn at(config: &mut ConfigSpace, offset: u16, shape: MsiShape) -> Self {
        let shape = MsiShape { log2_vectors: shape.log2_vectors.min(LOG2_VECTORS_LIMIT), ..shape };
        let control =
            u16::from(shape.log2_vectors) << 1 | u16::from(shape.wide) << 7 | u16::from(shape.maskable) << 8;
        config.define(offset + CONTROL, Register::word(control).writable(0x0071));
        config.define(offset + ADDRESS, Register::dword(0).writable(0xffff_fffc));
        if shape.wide {
            config.define(offset + ADDRESS_UPPER, Register::dword(0).writable(u32::MAX));
        }
        let mut msi = Self { offset, shape, reported: MsiState::default(), changes: 0 };
        config.define(msi.data(), Register::word(0).writable(0xffff));
        if shape.maskable {
            config.define(msi.mask(), Register::dword(0).writable(msi.all()));
            config.define(msi.pending(), Register::dword(0));
        }
        msi.reported = msi.state(config);
        msi
    }

    /// Where the capability is.
    pub fn offset(&self) -> u16 {
        self.offset
    }

    /// What the guest programmed.
    pub fn state(&self, config: &ConfigSpace) -> MsiState {
        let control = config.u16(self.offset + CONTROL);
        let upper = if self.shape.wide { config.u32(self.offset + ADDRESS_UPPER) } else { 0 };
        let granted = (control >> 4 & 7).min(self.shape.log2_vectors.into());
        MsiState {
            enabled: control & ENABLE != 0,
            vectors: 1 << granted,
            address: u64::from(upper) << 32 | u64::from(config.u32(self.offset + ADDRESS)),
            data: config.u16(self.data()),
            masked: if self.shape.maskable { config.u32(self.mask()) } else { 0 },
        }
    }

    /// Says what changed since it was last asked; to call after each write and reset of `config`.
    pub fn follow(&mut self, config: &mut ConfigSpace) -> Option<MsiChange> {
        let state = self.state(config);
        if state == self.reported {
            return None;
        }
        self.reported = state;
        let mut fire = 0;
        if self.shape.maskable {
            let pending = config.u32(self.pending());
            let free = |vector: &u8| pending >> vector & 1 != 0 && state.message(*vector).is_some();
            fire = (0..state.vectors).filter(free).fold(0, |bits, vector| bits | 1 << vector);
            config.set(self.pending(), &(pending & !fire).to_le_bytes());
        }
        self.changes += 1;
        Some(MsiChange { number: self.changes, state, fire })
    }

    /// Gives the message to send for an interrupt; a masked vector becomes pending and sends none.
    pub fn raise(&self, config: &mut ConfigSpace, vector: u8) -> Option<Message> {
        let state = self.state(config);
        let message = state.message(vector);
        if message.is_none() && state.enabled && self.shape.maskable && vector < state.vectors {
            let pending = config.u32(self.pending()) | 1 << vector;
            config.set(self.pending(), &pending.to_le_bytes());
        }
        message
    }

    fn data(&self) -> u16 {
        self.offset + if self.shape.wide { 0xc } else { 0x8 }
    }

    fn mask(&self) -> u16 {
        self.data() + 4
    }

    fn pending(&self) -> u16 {
        self.data() + 8
    }

    fn all(&self) -> u32 {
        u32::MAX >> (32 - (1_u32 << self.shape.log2_vectors))
    }
}

#[cfg(test)]
mod tests {
    use super::{Message, Msi, MsiShape};
    use crate::test_function::endpoint;

    const ADDRESS: u32 = 0xfee0_1000;

    #[test]
    fn a_capability_at_a_devices_own_place_keeps_its_header() {
        for control in [0x0000, 0x0088, 0x010a, 0x0182] {
            let shape = MsiShape::read(control);
            let mut config = endpoint();
            config.define(0x70, crate::register::Register::word(0x9005));
            let mut msi = Msi::at(&mut config, 0x70, shape);
            assert_eq!((config.u16(0x70), config.u16(0x72)), (0x9005, control), "{control:#x}");
            config.write(0x72, &[0x01]);
            assert!(msi.follow(&mut config).unwrap().state.enabled);
            assert_eq!(config.u16(0x70 + shape.bytes()), 0, "nothing behind it");
        }
    }

    #[test]
    fn messages_follow_the_registers_of_each_shape() {
        for (wide, maskable, data, length) in
            [(false, false, 8, 12), (true, false, 12, 16), (false, true, 8, 20), (true, true, 12, 24)]
        {
            let mut config = endpoint();
            let mut msi = Msi::add(&mut config, MsiShape { log2_vectors: 2, wide, maskable }).unwrap();
            assert_eq!(config.add_capability(1, 8).unwrap(), 0x40 + length);
            config.write(0x44, &(ADDRESS | 3).to_le_bytes());
            config.write(0x40 + data, &0x4567_u16.to_le_bytes());
            if wide {
                config.write(0x48, &1_u32.to_le_bytes());
            }
            msi.follow(&mut config);
            // Enabled, with eight vectors granted where four were asked for.
            config.write(0x42, &0x0031_u16.to_le_bytes());
            let state = msi.follow(&mut config).unwrap().state;
            let address = u64::from(ADDRESS) | if wide { 1 << 32 } else { 0 };
            assert_eq!(state.vectors, 4);
            assert_eq!(state.message(0), Some(Message { address, data: 0x4564 }));
            assert_eq!(state.message(3), Some(Message { address, data: 0x4567 }));
            assert_eq!(state.message(4), None);
            assert_eq!(state.message(255), None);
            assert_eq!(msi.follow(&mut config), None);
        }
    }

    #[test]
    fn a_masked_vector_waits_and_fires_once() {
        let mut config = endpoint();
        let mut msi =
            Msi::add(&mut config, MsiShape { log2_vectors: 1, wide: true, maskable: true }).unwrap();
        config.write(0x42, &0x0011_u16.to_le_bytes());
        config.write(0x50, &0xffff_ffff_u32.to_le_bytes());
        assert_eq!(config.u32(0x50), 3, "only existing vectors have mask bits");
        msi.follow(&mut config);
        assert_eq!(msi.raise(&mut config, 1), None);
        assert_eq!(msi.raise(&mut config, 7), None);
        assert_eq!(config.u32(0x54), 2);
        config.write(0x54, &[0; 4]);
        assert_eq!(config.u32(0x54), 2, "pending bits are read-only");
        config.write(0x50, &[0; 4]);
        assert_eq!(msi.follow(&mut config).unwrap().fire, 2);
        assert_eq!(config.u32(0x54), 0);
        assert!(msi.raise(&mut config, 1).is_some());
    }
}
