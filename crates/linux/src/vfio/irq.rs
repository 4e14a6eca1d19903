//! Interrupts of a device: what the kernel says of them, and the request that changes them, byte for byte.
//!
//! Pure. [`super::vectors`] decides which requests are made for MSI and MSI-X.

use std::fmt;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE,
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX, vfio_irq_info, vfio_irq_set,
};

use super::info::Malformed;
use super::ioctl::u32_at;

/// Most vectors a function can have: the MSI-X table size field has 11 bits (PCIe 6.0, 7.7.2.2).
pub const MAX_VECTORS: u32 = 2048;

/// The kinds of interrupts of a PCI function (`VFIO_PCI_*_IRQ_INDEX`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IrqIndex {
    /// The pin.
    Intx,
    /// Message signalled, up to 32 vectors in one block.
    Msi,
    /// Message signalled, by table.
    Msix,
    /// The host has seen an uncorrectable error of the function.
    Error,
    /// The host asks for the function back.
    Request,
}

/// What the kernel says of one kind of interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IrqInfo {
    /// Vectors the function has; 0 when it has none of this kind.
    pub count: u32,
    /// Whether it can be delivered by eventfd.
    pub event_fd: bool,
    /// Whether the kernel can mask it.
    pub maskable: bool,
    /// Whether it masks itself when it fires, until unmasked.
    pub automasked: bool,
    /// Whether vectors beyond those first enabled can be added later.
    pub growable: bool,
}

/// A change to interrupts.
#[derive(Clone, Copy, Debug)]
pub enum IrqAction<'a> {
    /// Signal vectors `start..` through these eventfds; `None` takes the vector's eventfd away.
    ///
    /// The first such call enables the kind of interrupt, with the vectors up to the last one named.
    Signal {
        /// First vector.
        start: u32,
        /// One entry for each vector.
        fds: &'a [Option<BorrowedFd<'a>>],
    },
    /// Disables the kind of interrupt and forgets its eventfds.
    Disable,
    /// Signals the eventfds of vectors as if the device had fired.
    Fire {
        /// First vector.
        start: u32,
        /// Number of vectors.
        count: u32,
    },
    /// Masks the pin.
    Mask,
    /// Unmasks the pin.
    Unmask,
    /// Unmasks the pin whenever this eventfd is signalled; `None` ends that.
    UnmaskOn(Option<BorrowedFd<'a>>),
}

impl IrqIndex {
    /// All kinds, by index.
    pub const ALL: [Self; 5] = [Self::Intx, Self::Msi, Self::Msix, Self::Error, Self::Request];

    /// The number of the kernel.
    pub const fn number(self) -> u32 {
        match self {
            Self::Intx => VFIO_PCI_INTX_IRQ_INDEX,
            Self::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            Self::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
            Self::Error => VFIO_PCI_ERR_IRQ_INDEX,
            Self::Request => VFIO_PCI_REQ_IRQ_INDEX,
        }
    }
}

impl fmt::Display for IrqIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intx => "INTx",
            Self::Msi => "MSI",
            Self::Msix => "MSI-X",
            Self::Error => "error",
            Self::Request => "request",
        })
    }
}

impl IrqAction<'_> {
    /// The action in a word, the first vector and the number of vectors.
    pub(crate) fn summary(&self) -> (&'static str, u32, u32) {
        match *self {
            Self::Signal { start, fds } => ("signal", start, u32::try_from(fds.len()).unwrap_or(u32::MAX)),
            Self::Disable => ("disable", 0, 0),
            Self::Fire { start, count } => ("fire", start, count),
            Self::Mask => ("mask", 0, 1),
            Self::Unmask => ("unmask", 0, 1),
            Self::UnmaskOn(_) => ("unmask by eventfd", 0, 1),
        }
    }
}

/// Reads the answer to `VFIO_DEVICE_GET_IRQ_INFO`.
pub(crate) fn irq_info(answer: &[u8]) -> Result<IrqInfo, Malformed> {
    let field = |offset| u32_at(answer, offset).ok_or(Malformed("interrupt information is cut off"));
    let flags = field(offset_of!(vfio_irq_info, flags))?;
    let count = field(offset_of!(vfio_irq_info, count))?;
    if count > MAX_VECTORS {
        return Err(Malformed("more vectors than a function can have"));
    }
    Ok(IrqInfo {
        count,
        event_fd: flags & VFIO_IRQ_INFO_EVENTFD != 0,
        maskable: flags & VFIO_IRQ_INFO_MASKABLE != 0,
        automasked: flags & VFIO_IRQ_INFO_AUTOMASKED != 0,
        growable: flags & VFIO_IRQ_INFO_NORESIZE == 0,
    })
}

/// The argument of `VFIO_DEVICE_SET_IRQS` for `action`; its size field is left to the call.
pub(crate) fn encode(irq: IrqIndex, action: &IrqAction<'_>) -> Vec<u8> {
    let (_, start, count) = action.summary();
    let mut data: Vec<i32> = Vec::new();
    let flags = match *action {
        IrqAction::Signal { fds, .. } => {
            data.extend(fds.iter().map(|fd| fd.map_or(NO_FD, |fd| fd.as_raw_fd())));
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER
        }
        IrqAction::Disable | IrqAction::Fire { .. } => VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
        IrqAction::Mask => VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK,
        IrqAction::Unmask => VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
        IrqAction::UnmaskOn(fd) => {
            data.push(fd.map_or(NO_FD, |fd| fd.as_raw_fd()));
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK
        }
    };
    let mut argument = vec![0; size_of::<vfio_irq_set>()];
    for (offset, value) in [
        (offset_of!(vfio_irq_set, flags), flags),
        (offset_of!(vfio_irq_set, index), irq.number()),
        (offset_of!(vfio_irq_set, start), start),
        (offset_of!(vfio_irq_set, count), count),
    ] {
        if let Some(place) = argument.get_mut(offset..offset + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    argument.extend(data.iter().flat_map(|fd| fd.to_le_bytes()));
    argument
}

/// In the place of a descriptor: this vector has none.
const NO_FD: i32 = -1;

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::{IrqAction, IrqIndex, IrqInfo, encode, irq_info};

    fn words(words: &[i32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn requests_are_the_kernels_bytes() {
        let out = std::io::stdout();
        let fd = out.as_fd();
        let n = fd.as_raw_fd();
        for (irq, action, expected) in [
            (IrqIndex::Intx, IrqAction::Signal { start: 0, fds: &[Some(fd)] }, vec![0, 0x24, 0, 0, 1, n]),
            (
                IrqIndex::Msix,
                IrqAction::Signal { start: 3, fds: &[None, Some(fd), None] },
                vec![0, 0x24, 2, 3, 3, -1, n, -1],
            ),
            (IrqIndex::Msi, IrqAction::Disable, vec![0, 0x21, 1, 0, 0]),
            (IrqIndex::Msix, IrqAction::Fire { start: 5, count: 2 }, vec![0, 0x21, 2, 5, 2]),
            (IrqIndex::Intx, IrqAction::Mask, vec![0, 0x09, 0, 0, 1]),
            (IrqIndex::Intx, IrqAction::Unmask, vec![0, 0x11, 0, 0, 1]),
            (IrqIndex::Intx, IrqAction::UnmaskOn(Some(fd)), vec![0, 0x14, 0, 0, 1, n]),
            (IrqIndex::Intx, IrqAction::UnmaskOn(None), vec![0, 0x14, 0, 0, 1, -1]),
            (IrqIndex::Error, IrqAction::Signal { start: 0, fds: &[None] }, vec![0, 0x24, 3, 0, 1, -1]),
            (IrqIndex::Request, IrqAction::Disable, vec![0, 0x21, 4, 0, 0]),
        ] {
            assert_eq!(encode(irq, &action), words(&expected), "{irq} {action:?}");
        }
    }

    #[test]
    fn flags_of_a_kind_are_read() {
        let pin = IrqInfo { count: 1, event_fd: true, maskable: true, automasked: true, growable: true };
        for (flags, count, expected) in [
            (0b0111, 1, pin),
            (0b1001, 32, IrqInfo { count: 32, event_fd: true, ..IrqInfo::default() }),
            (0b0001, 2048, IrqInfo { count: 2048, event_fd: true, growable: true, ..IrqInfo::default() }),
        ] {
            assert_eq!(irq_info(&words(&[16, flags, 0, count])), Ok(expected));
        }
        assert!(irq_info(&words(&[16, 1, 2, 2049])).is_err());
        assert!(irq_info(&words(&[16, 1])).is_err());
    }
}
