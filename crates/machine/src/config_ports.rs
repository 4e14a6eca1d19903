//! Ports 0xCF8 to 0xCFF: PCI's first config mechanism, and the reset register that lies inside it.

use std::sync::{Arc, Weak};

use pci::{ADDRESS_PORT, PortAccess};

use crate::board::reset_control::{self, ResetControl};
use crate::bus::{Device, Effect};
use crate::pci_host::PciHost;

/// The number of ports from [`ADDRESS_PORT`].
pub(crate) const PORTS: u64 = 8;

/// The eight ports.
pub(crate) struct ConfigPorts {
    latch: pci::ConfigPorts,
    reset: ResetControl,
    host: Weak<PciHost>,
}

impl ConfigPorts {
    /// Makes the ports that reach the config space of `host`.
    pub(crate) fn new(host: &Arc<PciHost>) -> Self {
        let (latch, reset) = Default::default();
        Self { latch, reset, host: Arc::downgrade(host) }
    }
}

fn port(offset: u64) -> u16 {
    // The bus hands over offsets below `PORTS` only.
    ADDRESS_PORT + (offset as u16 & 7)
}

impl Device for ConfigPorts {
    fn name(&self) -> &str {
        "PCI config ports"
    }

    fn read(&mut self, offset: u64, data: &mut [u8]) -> Vec<Effect> {
        match (self.latch.read(port(offset), data), self.host.upgrade()) {
            (PortAccess::Config(address), Some(host)) => host.read_config(address, data),
            (PortAccess::NotOurs, _) => {
                if let (reset_control::PORT, [byte]) = (port(offset), data) {
                    *byte = self.reset.read();
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        match (self.latch.write(port(offset), data), self.host.upgrade()) {
            (PortAccess::Config(address), Some(host)) => host.write_config(address, data),
            (PortAccess::NotOurs, _) => match (port(offset), data) {
                (reset_control::PORT, [byte]) => self.reset.write(*byte).into_iter().collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}
