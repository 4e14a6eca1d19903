#!/bin/sh
# Makes the RAM disk that the seats of this desk start from, out of what the lab's host has: a small user space, the
# drivers of the assigned cards, and the program that draws the scene with the libraries it is linked to.
set -eu
out=/run/desk-initrd
tree=$(mktemp -d)
mkdir -p "$tree/bin" "$tree/lib64" "$tree/lib/x86_64-linux-gnu"
cp "$(command -v allod-scene)" "$tree/bin/"
cp -L /lib64/ld-linux-x86-64.so.2 "$tree/lib64/"
cp -L /lib/x86_64-linux-gnu/libc.so.6 /lib/x86_64-linux-gnu/libgcc_s.so.1 "$tree/lib/x86_64-linux-gnu/"
# Says which address the seat's own part of the network card has, and whether the gateway answers it.
cat > "$tree/bin/network" <<'END'
until ip link set eth0 up 2> /dev/null; do sleep 0.2; done
ip address add "$1" dev eth0
echo "network: address $(cat /sys/class/net/eth0/address)"
until ping -c 1 -W 1 10.0.2.2 > /dev/null 2>&1; do sleep 0.2; done
echo "network: $(ping -c 3 10.0.2.2 | grep transmitted)"
END
# Says what the host wrote at the start of the seat's own disk, and writes an answer behind it.
cat > "$tree/bin/disk" <<'END'
until [ -b /dev/nvme0n1 ]; do sleep 0.2; done
echo "disk: $(head -n 1 /dev/nvme0n1)"
echo "$1 was here" | dd of=/dev/nvme0n1 bs=4096 seek=1 conv=fsync 2> /dev/null && echo "disk: answered"
END
(cd "$tree" && find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd /boot/guest-modules - > "$out"
rm -r "$tree"
ls -l "$out"
