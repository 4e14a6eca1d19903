//! The same work where the kernel offers one file per device and iommufd: groups and containers are not used there.

use lab::{Failure, Host};

use crate::attention::SAY_AND_HALT;
use crate::guests::{does, find, put_file, run, start, stop, take, wait_for};
use crate::{EDU, HDA, attention, dma, groups, micro_guest, refusals, transfers};

/// Takes the other way away, so that what works has gone this one.
fn only_device_files(host: &Host) -> Result<(), Failure> {
    does(host, "rm -f /dev/vfio/vfio; test -c /dev/iommu").map(drop)
}

pub(crate) fn nvme(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    transfers::nvme_data(host)
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

/// As by groups; and memory counts for all machines of a user together.
pub(crate) fn busy_or_too_large(host: &Host) -> Result<(), Failure> {
    only_device_files(host)?;
    refusals::busy_or_too_large(host)?;
    let (edu, sound) = (find(host, EDU)?, find(host, HDA)?);
    take(host, &[&edu, &sound])?;
    does(host, "chmod 666 /dev/vfio/devices/*")?;
    let machine = |kib: u32, kernel: &str, device: &str| {
        format!(
            "bash -c \"ulimit -l {kib}; exec setpriv --reuid 65534 --clear-groups allod run --kernel {kernel} --memory 64M \
             --device {device} --report /tmp/user/report < /dev/null\""
        )
    };
    put_file(host, "/tmp/waiting-guest", &micro_guest::elf(&SAY_AND_HALT))?;
    does(host, "rm -rf /tmp/user /tmp/report; mkdir -m 777 /tmp/user; ln -sf user/report /tmp/report")?;
    start(host, &machine(96 << 10, "/tmp/waiting-guest", &edu))?;
    wait_for(host, "@")?;
    let second =
        |kib: u32| run(host, &machine(kib, "/tmp/micro-guest", &sound).replace("/report", "/second"));
    let refused = second(96 << 10)?;
    let words = ["which its other machines have 6", "ulimit -l 13"];
    let told = words.iter().all(|word| refused.stderr.contains(word));
    assert!(refused.status == 1 && told, "{refused:?}");
    let enough = second(160 << 10)?;
    assert!(enough.is_success(), "{enough:?}");
    stop(host)
}
