#!/bin/bash
# A disk changes hands twice: host, guest, host. Run as root in the lab:
#   allod lab run --profile seats --share docs/examples -- bash /share/hand-over.sh
# The steps that take and give the disk are what `allod` will do by itself for a seat.
set -eu

disk=/dev/nvme0n1
function=$(basename "$(readlink -f /sys/block/${disk#/dev/}/device/device)")
sysfs=/sys/bus/pci/devices/$function

say() { printf '\n== %s\n' "$*"; }
driver() { basename "$(readlink -f "$sysfs/driver")"; }

say "Host: $function is an NVMe disk at the host's driver $(driver). The host writes on it."
echo "written by the host" | dd of=$disk conv=fsync status=none

say "Host: hand $function over."
modprobe vfio-pci
echo vfio-pci > "$sysfs/driver_override"
echo "$function" > "$sysfs/driver/unbind"
echo "$function" > /sys/bus/pci/drivers_probe
echo "It is at the driver $(driver) now; the host has no $disk any more."

say "Guest: a Debian kernel in a machine of Allod's, which owns the disk."
cat /boot/guest-initrd /boot/guest-modules > /tmp/initrd
script="modprobe nvme; while [ ! -b $disk ]; do sleep 0.1; done; \
echo I am \$(uname -sr) and my PCI functions are; ls /sys/bus/pci/devices; \
echo The guest reads: \$(head -n 1 $disk); echo written by the guest > $disk; sync"
allod run --device "$function" --kernel /boot/vmlinux --initrd /tmp/initrd --memory 256M \
    --cmdline "console=ttyS0 quiet guest_run=\"$script\""

say "Host: take $function back."
echo > "$sysfs/driver_override"
echo "$function" > "$sysfs/driver/unbind"
echo "$function" > /sys/bus/pci/drivers_probe
for _ in $(seq 100); do [ -b $disk ] && break; sleep 0.1; done
echo "It is at the driver $(driver) again."
echo "The host reads: $(head -n 1 $disk)"
