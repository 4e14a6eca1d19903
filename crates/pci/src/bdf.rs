//! Where a function sits as the guest numbers it, and the interrupt pins.
//!
//! Guest numbers only: there is one segment, so no domain. Host addresses are `spec::PciAddress`.

use std::fmt;

/// Devices on one bus.
pub const DEVICES: u8 = 32;
/// Functions of one device.
pub const FUNCTIONS: u8 = 8;

/// Bus, device and function inside the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    bus: u8,
    device: u8,
    function: u8,
}

impl Bdf {
    /// Makes an address; `None` when the device is above 31 or the function above 7.
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device < DEVICES && function < FUNCTIONS { Some(Self { bus, device, function }) } else { None }
    }

    /// Takes an address apart that is packed as on the wire: bus 15:8, device 7:3, function 2:0.
    pub const fn from_requester_id(id: u16) -> Self {
        let [bus, low] = id.to_be_bytes();
        Self { bus, device: low >> 3, function: low & 7 }
    }

    /// Packs the address as on the wire.
    pub const fn requester_id(self) -> u16 {
        u16::from_be_bytes([self.bus, self.device << 3 | self.function])
    }

    /// The bus number, as the guest programmed it.
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device number, below 32.
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number, below 8.
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// An interrupt pin of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pin {
    /// INTA#.
    A,
    /// INTB#.
    B,
    /// INTC#.
    C,
    /// INTD#.
    D,
}

impl Pin {
    /// All pins, in order.
    pub const ALL: [Self; 4] = [Self::A, Self::B, Self::C, Self::D];

    /// Reads the interrupt pin register: 1 to 4, anything else is no pin.
    pub const fn from_register(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::A),
            2 => Some(Self::B),
            3 => Some(Self::C),
            4 => Some(Self::D),
            _ => None,
        }
    }

    /// The value of the interrupt pin register.
    pub const fn register(self) -> u8 {
        self.index() + 1
    }

    /// Counts from 0, as _PRT does.
    pub const fn index(self) -> u8 {
        self as u8
    }

    /// The pin of the bus above on which this pin of `device` arrives (PCI-to-PCI Bridge 1.2, section 9.1).
    pub const fn swizzle(self, device: u8) -> Self {
        match (self.index() + device % 4) % 4 {
            0 => Self::A,
            1 => Self::B,
            2 => Self::C,
            _ => Self::D,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bdf, Pin};

    #[test]
    fn addresses_pack_as_on_the_wire() {
        for (bus, device, function, id, text) in [
            (0, 0, 0, 0, "00:00.0"),
            (0, 0x1f, 0, 0xf8, "00:1f.0"),
            (0xff, 0x1f, 7, 0xffff, "ff:1f.7"),
            (1, 0, 1, 0x101, "01:00.1"),
        ] {
            let bdf = Bdf::new(bus, device, function).unwrap();
            assert_eq!(bdf.requester_id(), id);
            assert_eq!(Bdf::from_requester_id(id), bdf);
            assert_eq!(bdf.to_string(), text);
        }
        assert_eq!(Bdf::new(0, 32, 0), None);
        assert_eq!(Bdf::new(0, 0, 8), None);
    }

    #[test]
    fn pins_rotate_with_the_device_number() {
        for (pin, device, above) in [
            (Pin::A, 0, Pin::A),
            (Pin::A, 1, Pin::B),
            (Pin::D, 1, Pin::A),
            (Pin::B, 31, Pin::A),
            (Pin::C, 255, Pin::B),
        ] {
            assert_eq!(pin.swizzle(device), above, "{pin:?} of device {device}");
        }
        for pin in Pin::ALL {
            assert_eq!(Pin::from_register(pin.register()), Some(pin));
        }
        assert_eq!(Pin::from_register(0), None);
        assert_eq!(Pin::from_register(5), None);
    }
}
