//! Reset of a whole slot or bus: which functions it concerns, and the proof that all of them are ours.
//!
//! Pure. The kernel checks the proof again; checking here first gives a count instead of an error number.

use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use spec::PciAddress;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_DEVID_NOT_OWNED, VFIO_PCI_DEVID_OWNED, VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED, vfio_pci_dependent_device, vfio_pci_hot_reset,
    vfio_pci_hot_reset_info,
};

use super::error::Cause;
use super::info::Malformed;
use super::ioctl::u32_at;

/// Most functions one reset may concern: every function of one bus.
pub(crate) const MAX_FUNCTIONS: usize = 256;

/// The functions that a reset of the slot or bus concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResetScope {
    /// Every function, the asking one among them.
    pub functions: Vec<ConcernedFunction>,
    /// Whether the kernel says that one iommufd owns all of them; only known when opened that way.
    pub all_owned: bool,
}

/// A function that a reset of the slot or bus concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcernedFunction {
    /// Its address.
    pub address: PciAddress,
    /// Who holds it.
    pub holder: Holder,
}

/// Who holds a function, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever holds this IOMMU group.
    Group(u32),
    /// The same iommufd as the asking device.
    Same,
    /// Somebody else, or nobody.
    Other,
}

/// What proves that the functions of a scope are ours.
#[derive(Clone, Copy, Debug)]
pub enum Ownership<'a> {
    /// The open files of IOMMU groups.
    Groups(&'a [(u32, BorrowedFd<'a>)]),
    /// The iommufd the device is bound to.
    Iommufd,
}

impl ResetScope {
    /// The number of functions that `ownership` does not cover.
    pub fn foreign(&self, ownership: &Ownership<'_>) -> usize {
        let ours = |function: &&ConcernedFunction| match (function.holder, ownership) {
            (Holder::Group(id), Ownership::Groups(groups)) => groups.iter().any(|(owned, _)| *owned == id),
            (Holder::Same, Ownership::Iommufd) => true,
            _ => false,
        };
        match ownership {
            Ownership::Iommufd if self.all_owned => 0,
            _ => self.functions.len() - self.functions.iter().filter(ours).count(),
        }
    }

    /// The group files that prove `ownership`: each group once and no other, which is what the kernel accepts.
    pub(crate) fn proof<'a>(&self, ownership: &Ownership<'a>) -> Result<Vec<BorrowedFd<'a>>, Cause> {
        match (self.foreign(ownership), ownership) {
            (0, Ownership::Iommufd) => Ok(Vec::new()),
            (0, Ownership::Groups(groups)) => {
                let concerned =
                    |id| self.functions.iter().any(|function| function.holder == Holder::Group(id));
                Ok(groups.iter().filter(|(id, _)| concerned(*id)).map(|(_, fd)| *fd).collect())
            }
            (foreign, _) => Err(Cause::NotOwned(foreign)),
        }
    }
}

/// The bytes of the question, with room for `functions`.
pub(crate) fn question(functions: usize) -> Vec<u8> {
    vec![0; size_of::<vfio_pci_hot_reset_info>() + functions * size_of::<vfio_pci_dependent_device>()]
}

/// The number of functions that the kernel wants room for.
pub(crate) fn counted(answer: &[u8]) -> Option<usize> {
    u32_at(answer, offset_of!(vfio_pci_hot_reset_info, count)).map(|count| count as usize)
}

/// Reads the answer to `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`.
pub(crate) fn reset_scope(answer: &[u8]) -> Result<ResetScope, Malformed> {
    let cut = Malformed("the scope of the reset is cut off");
    let flags = u32_at(answer, offset_of!(vfio_pci_hot_reset_info, flags)).ok_or(cut)?;
    let by_device = flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0;
    let count = counted(answer).ok_or(cut)?;
    if count > MAX_FUNCTIONS {
        return Err(Malformed("a reset concerns more functions than a bus has"));
    }
    let mut functions = Vec::with_capacity(count);
    for index in 0..count {
        let at = size_of::<vfio_pci_hot_reset_info>() + index * size_of::<vfio_pci_dependent_device>();
        let holder = u32_at(answer, at).ok_or(cut)?;
        // Segment in the low half, then bus, then device and function.
        let place = u32_at(answer, at + offset_of!(vfio_pci_dependent_device, segment)).ok_or(cut)?;
        let [low, high, bus, devfn] = place.to_le_bytes();
        let address = PciAddress::new(u16::from_le_bytes([low, high]), bus, devfn >> 3, devfn & 7)
            .ok_or(Malformed("a concerned function has no address"))?;
        let holder = match holder {
            id if !by_device => Holder::Group(id),
            id if id == VFIO_PCI_DEVID_NOT_OWNED as u32 => Holder::Other,
            // 0 is owned without being open: a function of the same group.
            VFIO_PCI_DEVID_OWNED.. => Holder::Same,
        };
        functions.push(ConcernedFunction { address, holder });
    }
    Ok(ResetScope { functions, all_owned: flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED != 0 })
}

/// The argument of `VFIO_DEVICE_PCI_HOT_RESET`.
pub(crate) fn request(proof: &[BorrowedFd<'_>]) -> Vec<u8> {
    let mut argument = vec![0; offset_of!(vfio_pci_hot_reset, count)];
    argument.extend(u32::try_from(proof.len()).unwrap_or(u32::MAX).to_le_bytes());
    argument.extend(proof.iter().flat_map(|fd| fd.as_raw_fd().to_le_bytes()));
    argument
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::{Holder, Ownership, request, reset_scope};
    use crate::vfio::error::Cause;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_scope_names_functions_and_their_groups() {
        // 0000:03:00.0 in group 7 and 0001:03:00.1 in group 8.
        let scope = reset_scope(&words(&[28, 0, 2, 7, 0x0003_0000, 8, 0x0103_0001])).unwrap();
        let seen: Vec<_> =
            scope.functions.iter().map(|function| (function.address.to_string(), function.holder)).collect();
        assert_eq!(
            seen,
            [("0000:03:00.0".to_owned(), Holder::Group(7)), ("0001:03:00.1".to_owned(), Holder::Group(8))]
        );
    }

    #[test]
    fn holders_by_device_are_same_or_other() {
        let scope = reset_scope(&words(&[36, 1, 3, 5, 0, 0, 0, u32::MAX, 0])).unwrap();
        let holders: Vec<_> = scope.functions.iter().map(|function| function.holder).collect();
        assert_eq!(holders, [Holder::Same, Holder::Same, Holder::Other]);
        assert_eq!(scope.foreign(&Ownership::Iommufd), 1);
        let owned = reset_scope(&words(&[20, 3, 1, 5, 0])).unwrap();
        assert_eq!(owned.foreign(&Ownership::Iommufd), 0);
    }

    #[test]
    fn a_lying_scope_is_refused() {
        assert!(reset_scope(&words(&[28, 0, 2, 7, 0])).is_err());
        assert!(reset_scope(&words(&[28, 0, 257])).is_err());
    }

    #[test]
    fn the_proof_is_each_concerned_group_once_or_a_refusal() {
        let (first, second) = (std::io::stdout(), std::io::stderr());
        let groups = [(7, first.as_fd()), (9, second.as_fd())];
        let alone = reset_scope(&words(&[28, 0, 2, 7, 0, 7, 0x0100_0000])).unwrap();
        let proof = alone.proof(&Ownership::Groups(&groups)).unwrap();
        assert_eq!(proof.iter().map(|fd| fd.as_raw_fd()).collect::<Vec<_>>(), [first.as_raw_fd()]);
        let shared = reset_scope(&words(&[28, 0, 2, 7, 0, 8, 0x0100_0000])).unwrap();
        assert_eq!(shared.proof(&Ownership::Groups(&groups)).err(), Some(Cause::NotOwned(1)));
    }

    #[test]
    fn the_request_is_the_kernels_bytes() {
        let out = std::io::stdout();
        let n = out.as_raw_fd() as u32;
        assert_eq!(request(&[out.as_fd()]), words(&[0, 0, 1, n]));
        assert_eq!(request(&[]), words(&[0, 0, 0]));
    }
}
