//! The same work where the kernel offers one file per device and iommufd: groups and containers are not used there.

use lab::{Failure, Host};

use crate::guests::does;
use crate::{attention, dma, groups, transfers};

/// Takes the other way away, so that what works has gone this one.
fn only_device_files(host: &Host) -> Result<(), Failure> {
    does(host, "rm -f /dev/vfio/vfio; test -c /dev/iommu").map(drop)
}

pub(crate) fn nvme(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    transfers::nvme(host)
}

pub(crate) fn dma(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    dma::intel(host)
}

/// The kernel lets nobody have half a group here either; a pin and message interrupts in one slot.
pub(crate) fn one_card(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    groups::one_card(host)
}

pub(crate) fn bus_error(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    attention::bus_error(host)
}

pub(crate) fn asked_back(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    attention::asked_back(host)
}
