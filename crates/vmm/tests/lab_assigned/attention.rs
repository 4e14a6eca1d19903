//! What the host tells of a function while its machine runs: each ends that machine, says why, and nothing else ends.

use lab::{Failure, Host};
use serde_json::json;

use crate::guests::{debian, does, find, prepare, put_file, run, start, take, wait_for, wait_for_end};
use crate::micro_guest;
use crate::{E1000E, NVME, VIRTIO_GPU};

/// `mov dx, 0x3f8; mov al, '@'; out dx, al; halt: hlt; jmp halt`
pub(crate) const SAY_AND_HALT: [u8; 10] = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'@', 0xee, 0xf4, 0xeb, 0xfd];

/// The card reports an error on its bus. The guest is a few instructions: no kernel of its could have a part in what comes.
pub(crate) fn bus_error(host: &Host) -> Result<(), Failure> {
    let card = find(host, VIRTIO_GPU)?;
    take(host, &[&card])?;
    put_file(host, "/tmp/micro-guest", &micro_guest::elf(&SAY_AND_HALT))?;
    let command = format!(
        "allod run --report /tmp/report --kernel /tmp/micro-guest --memory 32M --device {card} < /dev/null"
    );
    does(host, "rm -f /tmp/report")?;
    start(host, &command)?;
    wait_for(host, "@")?;
    // One that cannot be corrected and is not fatal to the link.
    let answer = host.hardware().control()?.monitor("pcie_aer_inject_error gpu0 COMP_ABORT")?;
    let (console, report) = wait_for_end(host)?;
    let message = report["message"].as_str().unwrap_or_default();
    assert_eq!(report["cause"], "fault", "{answer} {console} {report}");
    assert!(message.contains("AER") && message.contains(&card), "{report}");
    assert!(console.contains("AER") && console.contains(&card), "the user is told, too: {console}");
    // The card is the host's, to use again.
    let again = run(
        host,
        &format!(
            "cd /sys/bus/pci/devices/{card}; echo {card} > driver/unbind; echo > driver_override; \
             echo {card} > /sys/bus/pci/drivers_probe; basename $(readlink driver); pgrep -cx allod-vmm; \
             dmesg | grep -c 'AER.*{card}'"
        ),
    )?;
    let words: Vec<_> = again.stdout.lines().collect();
    assert!(matches!(words[..], ["virtio-pci", "0", reports] if reports != "0"), "{again:?}");
    Ok(())
}

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
