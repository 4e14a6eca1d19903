//! Machines that start from the network: by iPXE as our own card's ROM, by the ROM of a card of the host, and by OVMF, which
//! has the rest of what it takes.

use lab::{Failure, Host, Output, greeting};

use crate::run;

/// A shell function that runs a machine until it says that the program was started, or ends.
const UNTIL_GREETED: &str = "greeted() { rm -f nb-control; allod run \"$@\" --boot network --control nb-control < /dev/null | \
    while read -r line; do echo \"$line\"; case \"$line\" in *'greeting of'*|*'No bootable'*|*'Shell>'*) \
    echo '{\"command\":\"quit\"}' | socat -t 60 - UNIX-CONNECT:nb-control;; esac; done; };";

/// Runs a machine that is to start from the network until it has, or cannot.
pub(crate) fn start(host: &Host, firmware: &str, flags: &str) -> Result<Output, Failure> {
    run(host, &format!("cd /tmp; {UNTIL_GREETED} greeted --firmware {firmware} {flags}"))
}

pub(crate) fn virtual_card(host: &Host) -> Result<(), Failure> {
    let program: String = greeting::program().iter().map(|byte| format!("\\{byte:03o}")).collect();
    let ready = run(
        host,
        &format!(
            "set -e; modprobe tun; ip tuntap add lab1 mode tap; ip addr add 10.76.0.1/24 dev lab1; ip link set lab1 up; \
             mkdir -p /tmp/nb-served; printf '{program}' > /tmp/nb-served/start; \
             dnsmasq --conf-file=/dev/null --user=root --port=0 --interface=lab1 --bind-interfaces --pid-file=/tmp/nb-pid \
             --dhcp-leasefile=/tmp/nb-leases --dhcp-range=10.76.0.10,10.76.0.99 --dhcp-boot=start --enable-tftp \
             --tftp-root=/tmp/nb-served"
        ),
    )?;
    assert!(ready.is_success(), "{ready:?}");
    for (firmware, word) in [("bios", greeting::BY_BIOS), ("uefi", greeting::BY_UEFI)] {
        let output = start(host, firmware, "--net tap=lab1")?;
        assert!(output.stdout.contains(word), "{firmware}: {output:?}");
    }
    let ended = run(host, "kill $(cat /tmp/nb-pid); ip link del lab1")?;
    assert!(ended.is_success(), "{ended:?}");
    Ok(())
}

pub(crate) fn assigned_card(host: &Host) -> Result<(), Failure> {
    let card = run(
        host,
        "set -e; card=$(lspci -Dn -d 8086:10d3 | cut -d' ' -f1); modprobe vfio-pci; sysfs=/sys/bus/pci/devices/$card; \
         echo vfio-pci > $sysfs/driver_override; [ ! -e $sysfs/driver ] || echo $card > $sysfs/driver/unbind; \
         echo $card > /sys/bus/pci/drivers_probe; echo $card",
    )?;
    assert!(card.is_success(), "{card:?}");
    // OVMF has no driver for it: the wire is that of the ROM's driver.
    let output = start(host, "uefi", &format!("--device {}", card.stdout.trim()))?;
    assert!(output.stdout.contains(greeting::BY_UEFI), "{output:?}");
    Ok(())
}
