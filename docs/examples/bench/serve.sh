# What a guest of `allod bench` does once the lab's disk is its root: it loads the drivers of the devices it was given, then
# does what its console is told. The words are what the bench waits for.
export PATH=/run:/usr/sbin:/usr/bin
modprobe drm
# The mode of the one monitor, where the RAM disk has brought one.
[ -z "$EDID" ] || echo "$EDID" > /sys/module/drm/parameters/edid_firmware
for device in /sys/bus/pci/devices/* /sys/bus/virtio/devices/*; do
    [ -e "$device/modalias" ] || continue
    read -r class 2> /dev/null < "$device/class" || class=virtio
    # Displays, NVMe disks and network cards, whoever has made them, and nothing that is not measured.
    case $class in
        0x03* | 0x0108* | 0x02* | virtio) read -r name < "$device/modalias" && modprobe --quiet "$name" ;;
    esac
done
ip link set lo up
# In a changed root the program of that name does nothing.
poweroff() { echo o > /proc/sysrq-trigger; sleep 60; }
echo bench-guest ready
while read -r line; do
    eval "$line"
    echo "bench-guest done $?"
done
