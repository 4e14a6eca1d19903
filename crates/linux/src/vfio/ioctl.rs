//! The ioctls of VFIO and iommufd: one number space, arguments that begin with their own size.
//!
//! Not here: what the arguments mean. All other files of `vfio` and `iommu` call this one; it is the only one of
//! them that speaks to the kernel through raw numbers.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_ulong};
use rustix::io::Errno;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

/// Most bytes an information call is asked for; the kernel's answers are below 1 KiB but for large sparse lists.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Room for the usual answer with its capabilities, which spares the second call.
const USUAL_ANSWER_BYTES: usize = 256;

/// The calls whose argument is a block that begins with its size and holds no address.
///
/// The same number means different things on a container and on a device (`include/uapi/linux/vfio.h`), so each
/// owner of a file descriptor checks what it is before it makes the first other call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Block {
    GroupStatus = VFIO_BASE + 3,
    DeviceInfo = VFIO_BASE + 7,
    RegionInfo = VFIO_BASE + 8,
    IrqInfo = VFIO_BASE + 9,
    SetIrqs = VFIO_BASE + 10,
    /// On a device: the scope of a hot reset. On a container: the limits of the IOMMU.
    HotResetInfoOrIommuInfo = VFIO_BASE + 12,
    /// On a device. On a container this number maps memory, see [`Addressed::MapDma`].
    HotReset = VFIO_BASE + 13,
    WriteOnEvent = VFIO_BASE + 16,
    UnmapDma = VFIO_BASE + 14,
    BindIommufd = VFIO_BASE + 18,
    AttachIoas = VFIO_BASE + 19,
    IoasAlloc = iommufd_bindings::IOMMUFD_CMD_IOAS_ALLOC,
    IoasUnmap = iommufd_bindings::IOMMUFD_CMD_IOAS_UNMAP,
}

/// The calls whose argument block holds an address of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Addressed {
    MapDma = VFIO_BASE + 13,
    IoasIovaRanges = iommufd_bindings::IOMMUFD_CMD_IOAS_IOVA_RANGES,
    IoasMap = iommufd_bindings::IOMMUFD_CMD_IOAS_MAP,
}

/// The calls whose argument is a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Plain {
    ApiVersion = VFIO_BASE,
    CheckExtension = VFIO_BASE + 1,
    SetIommu = VFIO_BASE + 2,
    DeviceReset = VFIO_BASE + 11,
}

/// Makes a call that takes a number; gives what the kernel returned.
pub(crate) fn plain(fd: BorrowedFd<'_>, call: Plain, value: u32) -> Result<u32, Errno> {
    // No library wraps these numbers without losing errors.
    // SAFETY: the argument is a number to the kernel; it reads and writes no memory of this process.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), number(call as u32), c_ulong::from(value)) })
}

/// Makes a call on `argument`, whose first four bytes become its length; gives what the kernel returned.
pub(crate) fn block(fd: BorrowedFd<'_>, call: Block, argument: &mut [u8]) -> Result<u32, Errno> {
    put_size(argument)?;
    // SAFETY: the kernel reads and writes at most the number of bytes stated in the first four, which is the
    // length of this exclusively borrowed slice; by the list of calls no address is among them.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), number(call as u32), argument.as_mut_ptr()) })
}

/// Makes a call on `argument`, whose first four bytes become its length.
///
/// # Safety
///
/// Every address in `argument` must be one the kernel may use as this call does, for as long as it does.
pub(crate) unsafe fn addressed(
    fd: BorrowedFd<'_>,
    call: Addressed,
    argument: &mut [u8],
) -> Result<u32, Errno> {
    put_size(argument)?;
    // SAFETY: as in `block` for the block itself; the addresses in it are the caller's promise.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), number(call as u32), argument.as_mut_ptr()) })
}

/// Puts a group into a container.
pub(crate) fn set_container(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> Result<(), Errno> {
    let container = container.as_raw_fd();
    // SAFETY: the kernel reads one int at the address, that of a local which outlives the call.
    let returned = unsafe { libc::ioctl(group.as_raw_fd(), number(VFIO_BASE + 4), &raw const container) };
    answer(returned).map(drop)
}

/// Opens a device of a group; the kernel resets a device that can be reset before it answers.
pub(crate) fn get_device_fd(group: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads a string that ends with a zero byte, which a CStr does.
    let returned = unsafe { libc::ioctl(group.as_raw_fd(), number(VFIO_BASE + 6), name.as_ptr()) };
    if returned < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(returned) })
}

/// Adds or removes a VFIO file (a group or a device) at KVM's VFIO device.
pub(crate) fn kvm_vfio_file(
    kvm_device: BorrowedFd<'_>,
    attribute: u32,
    file: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let file = file.as_raw_fd();
    let argument = kvm_bindings::kvm_device_attr {
        flags: 0,
        group: kvm_bindings::KVM_DEV_VFIO_FILE,
        attr: u64::from(attribute),
        addr: (&raw const file).addr() as u64,
    };
    // _IOW(KVMIO, 0xe1, struct kvm_device_attr), include/uapi/linux/kvm.h
    const SET_DEVICE_ATTR: c_ulong = 0x4018_aee1;
    // SAFETY: the kernel reads the attribute block and, at its address, one int: two locals that outlive the call.
    answer(unsafe { libc::ioctl(kvm_device.as_raw_fd(), SET_DEVICE_ATTR, &raw const argument) }).map(drop)
}

/// Makes an information call until the whole answer fits; `request` is the fixed part of the argument.
pub(crate) fn whole_answer(fd: BorrowedFd<'_>, call: Block, request: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut argument = request.to_vec();
    argument.resize(request.len().max(USUAL_ANSWER_BYTES), 0);
    block(fd, call, &mut argument)?;
    let wanted = u32_at(&argument, 0).map_or(0, |size| size as usize);
    if wanted > MAX_ANSWER_BYTES {
        return Err(Errno::TOOBIG);
    }
    if wanted > argument.len() {
        argument = request.to_vec();
        argument.resize(wanted, 0);
        block(fd, call, &mut argument)?;
    }
    Ok(argument)
}

/// The little-endian number at `offset`; the kernel's blocks have the byte order of the machine, an x86.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The little-endian number at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn put_size(argument: &mut [u8]) -> Result<(), Errno> {
    let size = u32::try_from(argument.len()).map_err(|_| Errno::TOOBIG)?;
    let place = argument.first_chunk_mut::<4>().ok_or(Errno::INVAL)?;
    *place = size.to_le_bytes();
    Ok(())
}

/// All of them are `_IO(';', n)`: the size is in the argument, not in the number.
fn number(call: u32) -> c_ulong {
    (c_ulong::from(VFIO_TYPE) << 8) | c_ulong::from(call)
}

fn answer(returned: c_int) -> Result<u32, Errno> {
    u32::try_from(returned).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::{number, put_size, u32_at, u64_at};

    #[test]
    fn numbers_are_those_of_the_kernel_headers() {
        // printf("%x", VFIO_GET_API_VERSION), VFIO_DEVICE_SET_IRQS, IOMMU_IOAS_MAP
        for (call, expected) in [(100, 0x3b64), (110, 0x3b6e), (133, 0x3b85)] {
            assert_eq!(number(call), expected);
        }
    }

    #[test]
    fn an_argument_states_its_length_first() {
        let mut argument = [0xff; 12];
        put_size(&mut argument).unwrap();
        assert_eq!(argument[..5], [12, 0, 0, 0, 0xff]);
        assert!(put_size(&mut [0; 3]).is_err());
    }

    #[test]
    fn numbers_outside_the_answer_are_absent() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 9];
        assert_eq!((u32_at(&bytes, 4), u32_at(&bytes, 6), u32_at(&bytes, 20)), (Some(2), None, None));
        assert_eq!((u64_at(&bytes, 0), u64_at(&bytes, 2)), (Some(0x2_0000_0001), None));
    }
}
