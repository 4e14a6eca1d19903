//! What the host tells of a function while its machine runs: each ends that machine, says why, and nothing else ends.

use lab::{Failure, Host};
use serde_json::json;

use crate::guests::{debian, does, find, prepare, start, take, wait_for, wait_for_end};
use crate::{E1000E, NVME};

/// Somebody asks the host to let a card go, in the middle of its work.
pub(crate) fn asked_back(host: &Host) -> Result<(), Failure> {
    let (nvme, nic) = (find(host, NVME)?, find(host, E1000E)?);
    take(host, &[&nvme])?;
    prepare(
        host,
        "modprobe nvme; while ! [ -b /dev/nvme0n1 ]; do sleep 0.1; done; echo READY; \
         while true; do dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null || sleep 1; done",
    )?;
    start(host, &debian(&[&nvme], "", ""))?;
    wait_for(host, "READY")?;
    host.hardware().control()?.execute("device_del", json!({ "id": "disk0" }))?;
    let (console, report) = wait_for_end(host)?;
    let message = report["message"].as_str().unwrap_or_default();
    assert_eq!(report["cause"], "fault", "{console} {report}");
    assert!(message.contains("the host asks for it back") && message.contains(&nvme), "{report}");
    // The host has let it go and goes on with the others.
    does(
        host,
        &format!(
            "for i in $(seq 300); do [ -e /sys/bus/pci/devices/{nvme} ] || exit 0; sleep 0.1; done; exit 1"
        ),
    )?;
    let after = does(
        host,
        &format!(
            "dmesg | grep -c 'Relaying device request to user'; ls -d /sys/bus/pci/devices/{nic}; pgrep -cx allod-vmm || true"
        ),
    )?;
    let words: Vec<_> = after.lines().collect();
    assert!(matches!(words[..], [relayed, _, "0"] if relayed != "0"), "{after}");
    Ok(())
}
