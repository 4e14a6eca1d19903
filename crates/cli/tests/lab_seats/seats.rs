//! The host's hardware, seat files and guests that the scenarios use.

use std::time::Duration;

use lab::{Failure, Host, Output};
use spec::PciAddress;
use spec::inventory::HostInventory;

use crate::micro_guest;

/// Debian's kernel boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs a shell line in the host.
pub(crate) fn run(host: &Host, script: &str) -> Result<Output, Failure> {
    host.run_within(script, LIMIT)
}

/// Runs a shell line that must succeed.
pub(crate) fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = run(host, script)?;
    assert_eq!(output.status, 0, "{script}: {output:?}");
    Ok(output.stdout)
}

/// The functions with these ids, in the order of their addresses.
pub(crate) fn functions(host: &Host, ids: &str) -> Result<Vec<PciAddress>, Failure> {
    let inventory: HostInventory = serde_json::from_str(&does(host, "allod devices --json")?).unwrap();
    let all = inventory.functions.iter();
    let ours =
        all.filter(|function| format!("{}:{}", function.identity.vendor, function.identity.device) == ids);
    Ok(ours.map(|function| function.address).collect())
}

/// QEMU's NVMe disk.
pub(crate) const DISK: &str = "1b36:0010";
/// QEMU's e1000e network card.
pub(crate) const CARD: &str = "8086:10d3";

/// A seat of the file: 256 MiB, one processor that it shares.
pub(crate) fn seat(name: &str, kernel: &str, devices: &[PciAddress], rest: &str) -> String {
    let devices: String =
        devices.iter().map(|address| format!("[[seat.device]]\naddress = \"{address}\"\n")).collect();
    format!(
        "[[seat]]\nname = \"{name}\"\ncpus = {{ count = 1, shared = true }}\nmemory.size = \"256MiB\"\n\
         {kernel}\n{rest}\n{devices}"
    )
}

/// Writes a seat file into the host.
pub(crate) fn write(host: &Host, path: &str, seats: &[String]) -> Result<(), Failure> {
    let text = format!("[host]\nmemory = \"256MiB\"\n{}", seats.concat());
    // What a scenario that failed has left is none of this one's.
    run(host, "allod down --all --deadline 1")?;
    does(host, &format!("cat > {path} <<'END-OF-SEATS'\n{text}\nEND-OF-SEATS")).map(drop)
}

/// A guest of a few instructions that powers off when its power button is pressed.
pub(crate) fn obedient(host: &Host) -> Result<String, Failure> {
    micro(host, "obedient", &micro_guest::POWER_OFF_ON_BUTTON)
}

/// A guest of a few instructions that never ends by itself.
pub(crate) fn deaf(host: &Host) -> Result<String, Failure> {
    micro(host, "deaf", &micro_guest::SPIN_IN_HALT)
}

fn micro(host: &Host, name: &str, code: &[u8]) -> Result<String, Failure> {
    let escaped: String = micro_guest::elf(code).iter().map(|byte| format!("\\x{byte:02x}")).collect();
    does(host, &format!("printf '{escaped}' > /tmp/{name}"))?;
    Ok(format!("kernel.image = \"/tmp/{name}\""))
}

/// Debian's kernel with the small guest, which runs `script` and then powers off.
pub(crate) fn debian(host: &Host, script: &str) -> Result<String, Failure> {
    does(host, "[ -f /tmp/initrd ] || cat /boot/guest-initrd /boot/guest-modules > /tmp/initrd")?;
    Ok(format!(
        "kernel.image = \"/boot/vmlinux\"\nkernel.initrd = \"/tmp/initrd\"\n\
         kernel.cmdline = '''console=ttyS0 quiet panic=-1 guest_end=poweroff guest_run=\"{script}\"'''"
    ))
}

/// The driver that has a function now.
pub(crate) fn driver(host: &Host, address: PciAddress) -> Result<String, Failure> {
    let path = format!("/sys/bus/pci/devices/{address}/driver");
    Ok(run(host, &format!("basename \"$(readlink -f {path})\""))?.stdout.trim().to_owned())
}

/// A shell line that waits until a command succeeds, at most two minutes.
pub(crate) fn until(command: &str) -> String {
    format!("n=0; until {command}; do n=$((n+1)); [ $n -lt 1200 ] || exit 9; sleep 0.1; done")
}
