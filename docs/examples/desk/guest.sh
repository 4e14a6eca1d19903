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
(cd "$tree" && find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd /boot/guest-modules - > "$out"
rm -r "$tree"
ls -l "$out"
