//! The open files behind a set of assigned functions, whichever way the kernel offers.
//!
//! Either opened by path, by a process that may, or inherited by one that may not. An open file is the proof of
//! ownership: nothing here binds drivers or decides who gets what.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use spec::PciAddress;

use super::{Cdev, DeviceError, Group, KernelDevice, Operation, Ownership, attach};
use crate::iommu::{AddressSpace, Ioas, IommuError, IommuOperation, Iommufd, Type1};
use crate::sysfs::Tree;

const CONTAINER: &str = "/dev/vfio/vfio";
const IOMMUFD: &str = "/dev/iommu";

/// The files of a set of functions, and the address space they share.
#[derive(Debug)]
pub struct Access {
    files: Files,
}

#[derive(Debug)]
enum Files {
    Groups { space: Arc<Type1>, groups: Vec<Group>, members: Vec<(PciAddress, u32)> },
    Cdevs { iommufd: Iommufd, space: Arc<Ioas>, devices: Vec<PciAddress>, waiting: Waiting },
}

/// The files of devices that are not open yet, in the order of the devices.
type Waiting = Mutex<Vec<Option<Cdev>>>;

/// Files that were opened by another process.
#[derive(Debug)]
pub enum Inherited {
    /// A container and groups.
    Groups {
        /// The file of the container; groups may lie in it already.
        container: OwnedFd,
        /// Number and file of each group.
        groups: Vec<(u32, OwnedFd)>,
        /// The group of each function.
        members: Vec<(PciAddress, u32)>,
    },
    /// An iommufd and devices.
    Cdevs {
        /// The control file.
        iommufd: OwnedFd,
        /// The address space made there, or `None` to make one.
        space: Option<u32>,
        /// The file of each function.
        devices: Vec<(PciAddress, OwnedFd)>,
    },
}

/// The functions could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No function was named.
    #[error("open no function at all")]
    Nothing,
    /// There is no such function.
    #[error("find function {address}")]
    NoFunction {
        /// Its address.
        address: PciAddress,
    },
    /// The function has no IOMMU group: no IOMMU, or it is off.
    #[error("find the IOMMU group of {address}")]
    NoGroup {
        /// Its address.
        address: PciAddress,
    },
    /// The function is not bound to a VFIO driver.
    #[error("find {address} at a VFIO driver; it is bound to {}", driver.as_deref().unwrap_or("none"))]
    NotBound {
        /// Its address.
        address: PciAddress,
        /// The driver that holds it.
        driver: Option<String>,
    },
    /// The file is open elsewhere: another process has the function.
    #[error("open {path}: it is in use")]
    Busy {
        /// The file.
        path: String,
    },
    /// The address space could not be set up.
    #[error(transparent)]
    Iommu(#[from] IommuError),
}

/// Where the kernel shows a function.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: PciAddress,
    group: u32,
    // The path of its own file, where the kernel has one.
    cdev: Option<String>,
}

impl Access {
    /// Opens what `addresses` need: their own files and iommufd where the kernel offers that for all of them, else
    /// groups and a container. `tree` is the root of the file system. No function is reset yet.
    pub fn open(tree: &dyn Tree, addresses: &[PciAddress]) -> Result<Self, AccessError> {
        let places = addresses.iter().map(|address| find(tree, *address)).collect::<Result<Vec<_>, _>>()?;
        if places.is_empty() {
            return Err(AccessError::Nothing);
        }
        let cdevs: Option<Vec<&String>> = places.iter().map(|place| place.cdev.as_ref()).collect();
        match cdevs {
            Some(paths) if tree.accessible(IOMMUFD) => {
                let devices = places
                    .iter()
                    .zip(paths)
                    .map(|(place, path)| Ok((place.address, open(path)?)))
                    .collect::<Result<_, AccessError>>()?;
                Self::from_fds(Inherited::Cdevs { iommufd: open(IOMMUFD)?, space: None, devices })
            }
            _ => Self::open_groups(&places),
        }
    }

    fn open_groups(places: &[Place]) -> Result<Self, AccessError> {
        let members: Vec<_> = places.iter().map(|place| (place.address, place.group)).collect();
        let mut ids: Vec<_> = members.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let groups = ids
            .into_iter()
            .map(|id| Ok((id, open(&format!("/dev/vfio/{id}"))?)))
            .collect::<Result<_, AccessError>>()?;
        Self::from_fds(Inherited::Groups { container: open(CONTAINER)?, groups, members })
    }

    /// Takes files that were opened elsewhere; opens nothing.
    pub fn from_fds(files: Inherited) -> Result<Self, AccessError> {
        let files = match files {
            Inherited::Groups { container, groups, members } => {
                let groups = groups.into_iter().map(|(id, file)| Group::from_fd(id, file)).collect::<Result<
                    Vec<_>,
                    _,
                >>(
                )?;
                Files::Groups { space: Arc::new(Type1::new(container, &groups)?), groups, members }
            }
            Inherited::Cdevs { iommufd, space, devices } => {
                let iommufd = Iommufd::from_fd(iommufd);
                let space = match space {
                    Some(id) => iommufd.inherited(id)?,
                    None => iommufd.allocate()?,
                };
                let (devices, waiting) = devices
                    .into_iter()
                    .map(|(address, file)| (address, Some(Cdev::from_fd(address.to_string(), file))))
                    .unzip();
                Files::Cdevs { iommufd, space: Arc::new(space), devices, waiting: Mutex::new(waiting) }
            }
        };
        Ok(Self { files })
    }

    /// The address space that all functions share. It can be mapped before any function is open.
    pub fn space(&self) -> Arc<dyn AddressSpace> {
        match &self.files {
            Files::Groups { space, .. } => Arc::clone(space) as _,
            Files::Cdevs { space, .. } => Arc::clone(space) as _,
        }
    }

    /// Opens a function; the kernel resets it here. Different functions can be opened by different threads at once,
    /// and while memory is mapped.
    pub fn open_device(&self, address: PciAddress) -> Result<KernelDevice, DeviceError> {
        let unknown = || DeviceError::new(Operation::Open { name: address.to_string() }, Errno::NODEV);
        match &self.files {
            Files::Groups { groups, members, .. } => {
                let (_, id) = members.iter().find(|(member, _)| *member == address).ok_or_else(unknown)?;
                groups.iter().find(|group| group.id() == *id).ok_or_else(unknown)?.open_device(address)
            }
            Files::Cdevs { iommufd, space, devices, waiting } => {
                let index = devices.iter().position(|device| *device == address).ok_or_else(unknown)?;
                // The lock is gone before the call that takes long.
                let cdev = {
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.get_mut(index).and_then(Option::take)
                };
                let device = cdev.ok_or_else(unknown)?.bind(iommufd)?;
                attach(&device, space)?;
                Ok(device)
            }
        }
    }

    /// The groups held, for [`Ownership::Groups`]; empty when devices are open by their own files.
    pub fn groups(&self) -> Vec<(u32, BorrowedFd<'_>)> {
        match &self.files {
            Files::Groups { groups, .. } => groups.iter().map(|group| (group.id(), group.as_fd())).collect(),
            Files::Cdevs { .. } => Vec::new(),
        }
    }

    /// The proof of ownership for a hot reset; `groups` is what [`Access::groups`] gave.
    pub fn ownership<'a>(&self, groups: &'a [(u32, BorrowedFd<'a>)]) -> Ownership<'a> {
        match &self.files {
            Files::Groups { .. } => Ownership::Groups(groups),
            Files::Cdevs { .. } => Ownership::Iommufd,
        }
    }

    /// The files that KVM has to know: of the groups, or of `devices` when they were opened by their own files.
    pub fn kvm_files<'a>(
        &'a self,
        devices: impl IntoIterator<Item = &'a KernelDevice>,
    ) -> Vec<BorrowedFd<'a>> {
        match &self.files {
            Files::Groups { groups, .. } => groups.iter().map(Group::as_fd).collect(),
            Files::Cdevs { .. } => devices.into_iter().map(KernelDevice::as_fd).collect(),
        }
    }
}

/// Finds where the kernel shows a function.
fn find(tree: &dyn Tree, address: PciAddress) -> Result<Place, AccessError> {
    let function = format!("/sys/bus/pci/devices/{address}");
    if !tree.exists(&function) {
        return Err(AccessError::NoFunction { address });
    }
    let last_name = |link: &str| {
        let target = tree.read_link(&format!("{function}/{link}")).ok()?;
        target.rsplit('/').next().map(str::to_owned)
    };
    let group = last_name("iommu_group")
        .and_then(|name| name.parse().ok())
        .ok_or(AccessError::NoGroup { address })?;
    let not_bound = || AccessError::NotBound { address, driver: last_name("driver") };
    let shown = tree.list(&format!("{function}/vfio-dev")).unwrap_or_default();
    let cdev = shown.first().map(|name| format!("/dev/vfio/devices/{name}"));
    // Kernels before 6.1 do not show `vfio-dev`; the group's file exists only while a VFIO driver has a function of it.
    if cdev.is_none() && !last_name("driver").is_some_and(|driver| driver.contains("vfio")) {
        return Err(not_bound());
    }
    let cdev = cdev.filter(|path| tree.accessible(path));
    Ok(Place { address, group, cdev })
}

fn open(path: &str) -> Result<OwnedFd, AccessError> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
        Errno::BUSY => AccessError::Busy { path: path.to_owned() },
        errno => IommuError::new(IommuOperation::Open { path: path.to_owned() }, errno).into(),
    })
}

#[cfg(test)]
mod tests {
    use spec::PciAddress;

    use super::{Access, AccessError, Place, find};
    use crate::sysfs::{FakeTree, NodeKind};

    const FUNCTION: &str = "/sys/bus/pci/devices/0000:03:00.0";

    fn address() -> PciAddress {
        PciAddress::new(0, 3, 0, 0).unwrap()
    }

    /// A function with its group and driver, and what else the kernel shows of it.
    fn tree(group: Option<&str>, driver: Option<&str>, vfio_dev: bool, cdev: bool) -> FakeTree {
        let tree = FakeTree::new();
        tree.edit(|nodes| {
            nodes.put_directory(FUNCTION);
            if let Some(group) = group {
                let target = format!("../../../../kernel/iommu_groups/{group}");
                nodes.put_link(&format!("{FUNCTION}/iommu_group"), &target);
            }
            if let Some(driver) = driver {
                nodes.put_link(
                    &format!("{FUNCTION}/driver"),
                    &format!("../../../../bus/pci/drivers/{driver}"),
                );
            }
            if vfio_dev {
                nodes.put_directory(&format!("{FUNCTION}/vfio-dev/vfio4"));
            }
            if cdev {
                nodes.put_device(
                    "/dev/vfio/devices/vfio4",
                    NodeKind::CharacterDevice { major: 511, minor: 4 },
                );
            }
        });
        tree
    }

    #[test]
    fn a_function_at_a_vfio_driver_has_a_group_and_maybe_its_own_file() {
        let own = Some("/dev/vfio/devices/vfio4".to_owned());
        for (driver, vfio_dev, cdev, expected) in [
            ("vfio-pci", true, true, own.clone()),
            ("vfio-pci", true, false, None),
            ("vfio-pci", false, false, None),
            ("mlx5_vfio_pci", true, true, own),
        ] {
            let tree = tree(Some("7"), Some(driver), vfio_dev, cdev);
            let place = find(&tree, address()).unwrap();
            assert_eq!(
                place,
                Place { address: address(), group: 7, cdev: expected },
                "{driver} {vfio_dev} {cdev}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(find(&FakeTree::new(), address()), Err(AccessError::NoFunction { .. })));
        for group in [None, Some("noiommu-0")] {
            let found = find(&tree(group, Some("vfio-pci"), true, false), address());
            assert!(matches!(found, Err(AccessError::NoGroup { .. })), "{group:?}");
        }
        for (driver, said) in [
            (Some("nvme"), "find 0000:03:00.0 at a VFIO driver; it is bound to nvme"),
            (None, "find 0000:03:00.0 at a VFIO driver; it is bound to none"),
        ] {
            let refused = find(&tree(Some("7"), driver, false, false), address()).unwrap_err();
            assert_eq!(refused.to_string(), said);
        }
        assert!(matches!(Access::open(&FakeTree::new(), &[]), Err(AccessError::Nothing)));
    }
}
