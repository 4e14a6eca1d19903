//! Ways around config space that the functions of some makers have: their BARs and ports show it too, as the hardware has it.
//!
//! A driver would read the host's addresses there, and write past the registers that are ours. Each such way is a [`Door`],
//! which leads to what config space says to the guest. Only this folder knows makers by their ids. The facts are those of
//! QEMU's hw/vfio/pci-quirks.c, found on real cards. Not here: carrying an answer out, which is `function`'s.

mod amd;
mod broadcom;
mod mirror;
mod nvidia;
mod realtek;
mod shortcut;
mod window;

use std::ops::Range;

use pci::{Bar, BarIndex};

pub(crate) use broadcom::hides_rom;
pub(crate) use shortcut::{Bell, Shortcuts};

/// The class of VGA controllers.
const VGA_CLASS: u32 = 0x03_0000;

/// What decides which doors a function has.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    /// Base class, subclass and programming interface.
    pub(crate) class: u32,
    pub(crate) bars: Vec<Bar>,
    /// Bytes of its config space.
    pub(crate) config_size: u16,
    /// Where its MSI capability is, if the guest sees one.
    pub(crate) msi: Option<u16>,
    /// Whether the guest has its legacy VGA ranges.
    pub(crate) legacy_vga: bool,
}

/// An access to a BAR or to the legacy VGA ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) bar: BarIndex,
    /// From the start of that range.
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

/// Who answers a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The hardware, as anywhere else.
    Hardware,
    /// Config space from here on, as the guest sees it.
    Config(u16),
    /// The same, and the hardware is read beside it, as it may count on that.
    ConfigBeside(u16),
    /// The MSI-X table from here on, as the guest sees it.
    Table(u64),
    /// Nobody: this is the value.
    Value(u32),
}

/// Who takes a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// The hardware, as anywhere else.
    Hardware,
    /// Config space from here on, as the guest sees it.
    Config(u16),
    /// The same, and the hardware gets it too.
    ConfigAndHardware(u16),
    /// The guest's MSI-X table gets this value here.
    Table(u64, u32),
}

/// A way around config space.
pub(crate) trait Door: Send {
    /// Bytes of a memory BAR that must not be mapped into the guest for it.
    fn trapped(&self) -> Option<(BarIndex, Range<u64>)> {
        None
    }

    /// Says who answers a read.
    fn read(&mut self, access: Access) -> Read;

    /// Says who takes a write.
    fn write(&mut self, access: Access, data: &[u8]) -> Write;
}

/// The doors of one function in one life.
pub(crate) struct Doors(Vec<Box<dyn Door>>);

impl Doors {
    /// All closed, as after a reset.
    pub(crate) fn of(facts: &Facts) -> Self {
        Self(match facts.vendor {
            nvidia::VENDOR => nvidia::doors(facts),
            amd::VENDOR => amd::doors(facts),
            realtek::VENDOR => realtek::doors(facts),
            _ => Vec::new(),
        })
    }

    /// What must not be mapped for them.
    pub(crate) fn trapped(&self) -> impl Iterator<Item = (BarIndex, Range<u64>)> + '_ {
        self.0.iter().filter_map(|door| door.trapped())
    }

    /// Says who answers a read: the first door that it goes through.
    pub(crate) fn read(&mut self, access: Access) -> Read {
        let mut answers = self.0.iter_mut().map(|door| door.read(access));
        answers.find(|answer| *answer != Read::Hardware).unwrap_or(Read::Hardware)
    }

    /// Says who takes a write: the first door that it goes through.
    pub(crate) fn write(&mut self, access: Access, data: &[u8]) -> Write {
        let mut answers = self.0.iter_mut().map(|door| door.write(access, data));
        answers.find(|answer| *answer != Write::Hardware).unwrap_or(Write::Hardware)
    }
}

impl Facts {
    fn bar(&self, number: u8) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.index.get() == number)
    }

    fn is_vga(&self) -> bool {
        self.class & 0xff_ff00 == VGA_CLASS
    }
}

impl Access {
    /// How far into `bytes` of `bar` it begins, when it lies in them as a whole.
    fn within(&self, bar: BarIndex, bytes: &Range<u64>) -> Option<u64> {
        let end = self.offset.checked_add(self.len as u64)?;
        (bar == self.bar && end <= bytes.end).then(|| self.offset.checked_sub(bytes.start)).flatten()
    }
}

/// A value as it is written, least significant byte first; `None` above a dword.
fn value(data: &[u8]) -> Option<u32> {
    let mut bytes = [0; 4];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    Some(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod testing {
    use pci::{Bar, BarIndex, BarKind};

    use super::Facts;

    pub(super) fn bar(number: u8, kind: BarKind, size: u64) -> Bar {
        Bar { index: BarIndex::bar(number).unwrap(), kind, size, prefetchable: false }
    }

    /// A VGA with these BARs that is the first display.
    pub(super) fn vga(vendor: u16, bars: Vec<Bar>) -> Facts {
        Facts {
            vendor,
            device: 1,
            class: 0x03_0000,
            bars,
            config_size: 0x1000,
            msi: Some(0x68),
            legacy_vga: true,
        }
    }
}
