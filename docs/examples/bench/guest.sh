#!/bin/sh
# Makes the RAM disk of a guest that does what its console is told (serve.sh), for `allod bench` in the lab. It holds little:
# the programs that measure are on the lab's own disk, which the guest reads too (`--guest-disk /dev/vda`). Elsewhere,
# `allod lab guest` makes RAM disk, disk and kernel.
#   sh guest.sh OUT
set -eu
out=$1
here=$(dirname "$0")
tree=$(mktemp -d)
mkdir -p "$tree/bin" "$tree/image" "$tree/lib/firmware/edid"
cp "$(command -v allod-scene)" "$tree/bin/"
# ext4 asks for this one by name, so that nothing says that it needs it.
checksum=$(modinfo -n crc32c_generic)
case $checksum in
    *.xz) busybox xz -dc "$checksum" > "$tree/lib/crc32c_generic.ko" ;;
    *) cp "$checksum" "$tree/lib/crc32c_generic.ko" ;;
esac
sh "$here/edid.sh" "$tree/lib/firmware/edid/one-mode.bin"
cp "$here/serve.sh" "$tree/serve"
# What the guest's first program runs.
cat > "$tree/script" <<'END'
stty -echo
insmod /lib/crc32c_generic.ko
modprobe -a virtio_blk ext4
n=0; while [ ! -b /dev/vda ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
mount -t ext4 -o ro,noload /dev/vda /image
for folder in proc sys dev; do mount --move /$folder /image/$folder; done
for folder in run tmp; do mount -t tmpfs tmpfs /image/$folder; done
cp /bin/allod-scene /serve /image/run/
EDID=edid/one-mode.bin exec chroot /image /usr/bin/bash /run/serve
END
(cd "$tree" && find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd /boot/guest-modules - > "$out"
rm -r "$tree"
ls -l "$out"
