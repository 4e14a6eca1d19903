//! A PCI Express root port: a type 1 header, the slot below it, and its link (PCI Express Base, section 7.5.3).
//!
//! It answers registers; forwarding is the hierarchy's. Hot-plug is not offered yet.

use crate::capability::standard_id;
use crate::register::{self, Register, bridge_control};
use crate::{
    BarRange, Change, ConfigSize, ConfigSpace, Forwarding, Function, Identity, Msi, MsiShape, NoRoom, Pin,
};

/// Red Hat's generic root port. Neither an Intel nor an AMD id: guests key chipset work-arounds on those, and this id
/// is one that Linux, Windows, SeaBIOS and OVMF have met for years without any.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x000c,
    revision: 0,
    class: 0x06_0400,
    subsystem_vendor: 0,
    subsystem: 0,
};

// Offsets in the PCI Express capability.
const EXPRESS_BYTES: u16 = 0x3c;
const FLAGS: u16 = 0x02;
const DEVICE_CAPABILITIES: u16 = 0x04;
const DEVICE_CONTROL: u16 = 0x08;
const DEVICE_STATUS: u16 = 0x0a;
const LINK_CAPABILITIES: u16 = 0x0c;
const LINK_CONTROL: u16 = 0x10;
const LINK_STATUS: u16 = 0x12;
const SLOT_CAPABILITIES: u16 = 0x14;
const SLOT_CONTROL: u16 = 0x18;
const SLOT_STATUS: u16 = 0x1a;
const ROOT_CONTROL: u16 = 0x1c;
const ROOT_STATUS: u16 = 0x20;
const DEVICE_CAPABILITIES_2: u16 = 0x24;
const DEVICE_CONTROL_2: u16 = 0x28;
const LINK_CAPABILITIES_2: u16 = 0x2c;
const LINK_CONTROL_2: u16 = 0x30;

const LINK_DISABLE: u16 = 1 << 4;
const LINK_ACTIVE: u16 = 1 << 13;
const SLOT_CLOCK: u16 = 1 << 12;
const PRESENCE: u16 = 1 << 6;
const PRESENCE_CHANGED: u16 = 1 << 3;
const LINK_CHANGED: u16 = 1 << 8;

/// Transfers per second on each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkSpeed {
    /// 2.5 GT/s.
    Gen1 = 1,
    /// 5 GT/s.
    Gen2,
    /// 8 GT/s.
    Gen3,
    /// 16 GT/s.
    Gen4,
    /// 32 GT/s.
    Gen5,
    /// 64 GT/s.
    Gen6,
}

impl LinkSpeed {
    /// Reads a link register's speed field, bits 3:0.
    pub const fn from_field(field: u8) -> Option<Self> {
        match field {
            1 => Some(Self::Gen1),
            2 => Some(Self::Gen2),
            3 => Some(Self::Gen3),
            4 => Some(Self::Gen4),
            5 => Some(Self::Gen5),
            6 => Some(Self::Gen6),
            _ => None,
        }
    }

    /// The value of a link register's speed field.
    pub const fn field(self) -> u8 {
        self as u8
    }
}

/// A link's speed and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Speed of each lane.
    pub speed: LinkSpeed,
    /// Lanes: 1 to 32.
    pub width: u8,
}

/// What a root port is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootPortOptions {
    /// The number of the port, unique in the machine.
    pub port_number: u8,
    /// The number of the slot as the guest shows it, unique in the machine; 13 bits.
    pub slot_number: u16,
    /// What the port can do and the link runs at. Not below the device's, or its driver warns and may slow down.
    pub link: Link,
    /// A device is in the slot.
    pub occupied: bool,
    /// Atomic operations the host's path completes: bit 0 32-bit, bit 1 64-bit, bit 2 128-bit compare and swap.
    pub atomics: u8,
}

/// A root port.
pub struct RootPort {
    config: ConfigSpace,
    express: u16,
    msi: Msi,
    link: Link,
}

impl RootPort {
    /// Builds a port at power-on.
    ///
    /// # Errors
    /// When its capabilities do not fit, which is a fault of this file.
    pub fn new(options: &RootPortOptions) -> Result<Self, NoRoom> {
        let mut config = ConfigSpace::bridge(ConfigSize::Express, &IDENTITY);
        config.set_interrupt_pin(Some(Pin::A));
        // No power management capability: a guest would put idle ports to sleep, which costs exits and saves nothing.
        let express = config.add_capability(standard_id::EXPRESS, EXPRESS_BYTES)?;
        let msi = Msi::add(&mut config, MsiShape { log2_vectors: 0, wide: true, maskable: true })?;
        let mut port = Self { config, express, msi, link: options.link };
        port.define_device(options);
        port.define_link(options);
        port.define_slot(options);
        Ok(port)
    }

    /// Tells the port that a device came into its slot, or left it, now and at each reset.
    pub fn set_occupied(&mut self, occupied: bool) {
        let status = self.config.u16(self.express + SLOT_STATUS);
        let presence = if occupied { PRESENCE } else { 0 };
        let changed = status & !PRESENCE | presence | PRESENCE_CHANGED | LINK_CHANGED;
        self.config.preset(self.express + SLOT_STATUS, &presence.to_le_bytes());
        self.config.set(self.express + SLOT_STATUS, &changed.to_le_bytes());
        let link = self.link_status(occupied);
        self.config.preset(self.express + LINK_STATUS, &link.to_le_bytes());
        self.follow_link();
    }

    fn define_device(&mut self, options: &RootPortOptions) {
        let at = self.express;
        let config = &mut self.config;
        // Version 2, root port, with a slot.
        config.define(at + FLAGS, Register::word(2 | 4 << 4 | 1 << 8));
        // Role-based error reporting, which version 1.1 and later must have; payloads of 128 bytes.
        config.define(at + DEVICE_CAPABILITIES, Register::dword(1 << 15));
        config.define(at + DEVICE_CONTROL, Register::word(0).writable(0x00ff));
        config.define(at + DEVICE_STATUS, Register::word(0).clears(0x000f));
        config.define(at + ROOT_CONTROL, Register::word(0).writable(0x000f));
        config.define(at + ROOT_STATUS, Register::dword(0).clears(1 << 16));
        let atomics = u32::from(options.atomics & 7) << 7;
        config.define(at + DEVICE_CAPABILITIES_2, Register::dword(atomics));
        config.define(at + DEVICE_CONTROL_2, Register::word(0).writable(0x00d0));
    }

    fn define_link(&mut self, options: &RootPortOptions) {
        let at = self.express;
        let speed = u32::from(options.link.speed.field());
        let width = u32::from(options.link.width & 0x3f);
        // Link active reporting (20), no power states, and that is allowed (22).
        let capabilities = speed | width << 4 | 1 << 20 | 1 << 22 | u32::from(options.port_number) << 24;
        let status = self.link_status(options.occupied);
        let config = &mut self.config;
        config.define(at + LINK_CAPABILITIES, Register::dword(capabilities));
        // Retraining (5) is over at once, so the bit reads as zero always, as it must.
        config.define(at + LINK_CONTROL, Register::word(0).writable(0x00d0));
        config.define(at + LINK_STATUS, Register::word(status));
        // Every speed up to the fastest, from bit 1.
        let speeds = (1_u32 << (speed + 1)) - 2;
        config.define(at + LINK_CAPABILITIES_2, Register::dword(speeds));
        config
            .define(at + LINK_CONTROL_2, Register::word(options.link.speed.field().into()).writable(0x000f));
    }

    fn define_slot(&mut self, options: &RootPortOptions) {
        let at = self.express;
        let number = u32::from(options.slot_number & 0x1fff) << 19;
        // No command completed support (18): commands take effect at once.
        self.config.define(at + SLOT_CAPABILITIES, Register::dword(number | 1 << 18));
        self.config.define(at + SLOT_CONTROL, Register::word(0).writable(0x1008));
        let presence = if options.occupied { PRESENCE } else { 0 };
        let changes = (PRESENCE_CHANGED | LINK_CHANGED).into();
        self.config.define(at + SLOT_STATUS, Register::word(presence).clears(changes));
    }

    fn link_status(&self, occupied: bool) -> u16 {
        if !occupied {
            // The width and speed fields are undefined while the link is down; Linux reads the speed all the same.
            return SLOT_CLOCK | u16::from(LinkSpeed::Gen1.field()) | 1 << 4;
        }
        let width = u16::from(self.link.width & 0x3f) << 4;
        SLOT_CLOCK | LINK_ACTIVE | width | u16::from(self.link.speed.field())
    }

    fn occupied(&self) -> bool {
        self.config.u16(self.express + SLOT_STATUS) & PRESENCE != 0
    }

    fn follow_link(&mut self) {
        let disabled = self.config.u16(self.express + LINK_CONTROL) & LINK_DISABLE != 0;
        let status = self.link_status(self.occupied() && !disabled);
        self.config.set(self.express + LINK_STATUS, &status.to_le_bytes());
    }

    /// The bits that, when they rise, put the slot in reset: the bridge's own, and a link that goes down.
    fn resets(&self) -> u16 {
        self.config.u16(register::BRIDGE_CONTROL) & bridge_control::SECONDARY_BUS_RESET
            | self.config.u16(self.express + LINK_CONTROL) & LINK_DISABLE
    }
}

impl Function for RootPort {
    fn name(&self) -> &str {
        "root port"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        let before = self.resets();
        self.config.write(offset, data);
        self.follow_link();
        let mut changes = Vec::new();
        if self.resets() & !before != 0 {
            changes.push(Change::SecondaryBusReset);
        }
        changes.extend(self.msi.follow(&mut self.config).map(Change::Msi));
        changes
    }

    fn bars(&self) -> Vec<BarRange> {
        self.config.bars()
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        self.msi.follow(&mut self.config).map(Change::Msi).into_iter().collect()
    }

    fn forwarding(&self) -> Option<Forwarding> {
        Some(Forwarding::of(&self.config))
    }
}

#[cfg(test)]
mod tests {
    use super::{Link, LinkSpeed, RootPort, RootPortOptions};
    use crate::capability::{standard_length, walk_standard};
    use crate::{Change, Function};

    const OPTIONS: RootPortOptions = RootPortOptions {
        port_number: 3,
        slot_number: 7,
        link: Link { speed: LinkSpeed::Gen4, width: 16 },
        occupied: true,
        atomics: 0b011,
    };

    fn read(port: &mut RootPort, offset: u16) -> u32 {
        let mut data = [0; 4];
        port.read_config(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn its_header_and_capabilities_say_root_port() {
        let mut port = RootPort::new(&OPTIONS).unwrap();
        for (offset, value) in [
            (0x00, 0x000c_1b36),
            (0x08, 0x0604_0000),
            (0x0c, 0x0001_0000),
            (0x18, 0),
            (0x1c, 0x0000_00f0),
            (0x20, 0x0000_fff0),
            (0x24, 0x0001_fff1),
            (0x3c, 0x0000_0100),
            (0x100, 0),
        ] {
            assert_eq!(read(&mut port, offset), value, "{offset:#x}");
        }
        let chain = walk_standard(|offset| port.config.u8(offset));
        let found: Vec<_> = chain
            .capabilities
            .iter()
            .map(|found| (found.id, standard_length(found, |offset| port.config.u8(offset))))
            .collect();
        assert_eq!((found, chain.flaw), (vec![(0x10, 0x3c), (0x05, 24)], None));
    }

    #[test]
    fn the_link_is_as_fast_and_wide_as_built() {
        for (link, occupied, capabilities, status, speeds) in [
            (OPTIONS.link, true, 0x0350_0104, 0x3104, 0x1e),
            (OPTIONS.link, false, 0x0350_0104, 0x1011, 0x1e),
            (Link { speed: LinkSpeed::Gen1, width: 1 }, true, 0x0350_0011, 0x3011, 0x02),
            (Link { speed: LinkSpeed::Gen6, width: 32 }, true, 0x0350_0206, 0x3206, 0x7e),
        ] {
            let mut port = RootPort::new(&RootPortOptions { link, occupied, ..OPTIONS }).unwrap();
            assert_eq!(read(&mut port, 0x4c), capabilities);
            assert_eq!(read(&mut port, 0x50) >> 16, status);
            assert_eq!(read(&mut port, 0x6c), speeds);
            assert_eq!(read(&mut port, 0x58) >> 22 & 1, u32::from(occupied));
        }
    }

    #[test]
    fn reset_bits_reset_the_slot_when_they_rise() {
        let mut port = RootPort::new(&OPTIONS).unwrap();
        for (offset, data, resets, active) in [
            (0x3e, 0x40, true, 1),
            (0x3e, 0x48, false, 1),
            (0x3e, 0x08, false, 1),
            (0x50, 0x10, true, 0),
            (0x50, 0x20, false, 1),
        ] {
            let changes = port.write_config(offset, &[data, 0]);
            assert_eq!(changes.contains(&Change::SecondaryBusReset), resets, "{offset:#x} {data:#x}");
            assert_eq!(read(&mut port, 0x50) >> 29 & 1, active);
        }
        assert_eq!(read(&mut port, 0x50) & 0x20, 0, "retraining is over at once");
    }

    #[test]
    fn a_device_that_leaves_takes_the_link_down_for_good() {
        let mut port = RootPort::new(&OPTIONS).unwrap();
        port.set_occupied(false);
        assert_eq!(read(&mut port, 0x50) >> 29 & 1, 0);
        assert_eq!(read(&mut port, 0x58) >> 16, 0x108);
        port.write_config(0x5a, &0x0108_u16.to_le_bytes());
        assert_eq!(read(&mut port, 0x58) >> 16, 0);
        port.reset();
        assert_eq!(read(&mut port, 0x50) >> 29 & 1, 0);
        port.set_occupied(true);
        assert_eq!(read(&mut port, 0x50) >> 29 & 1, 1);
        assert_eq!(read(&mut port, 0x58) >> 22 & 1, 1);
    }
}
