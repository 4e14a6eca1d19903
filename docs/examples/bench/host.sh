#!/bin/sh
# Makes the lab's host ready to be measured: a monitor with one mode on a card with three dimensions, two virtual
# functions of a network card that splits, and somebody for them to talk to.
#   sh host.sh
set -eu
here=$(dirname "$0")
modprobe drm
mkdir -p /lib/firmware/edid
sh "$here/edid.sh" /lib/firmware/edid/one-mode.bin
echo edid/one-mode.bin > /sys/module/drm/parameters/edid_firmware
modprobe virtio_gpu
for card in /sys/bus/pci/devices/*/sriov_numvfs; do
    [ -e "$card" ] && [ -d "${card%/*}/net" ] || continue
    name=$(basename "$(ls -d "${card%/*}"/net/*)")
    ip link set "$name" up
    ip address replace 10.77.0.1/24 dev "$name"
    echo 2 > "$card"
    modprobe igbvf
    for port in 5201 5202; do iperf3 --server --daemon --port $port; done
done
