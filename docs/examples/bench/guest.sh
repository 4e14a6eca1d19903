#!/bin/sh
# Makes the RAM disk of a guest that does what its console is told, for `allod bench` in the lab: a small user space, the
# drivers of the assigned cards, and the programs that measure with the libraries they are linked to.
#   sh guest.sh OUT
set -eu
out=$1
tree=$(mktemp -d)
mkdir -p "$tree/bin"
loader=/lib64/ld-linux-x86-64.so.2
for program in allod-scene fio; do
    program=$(command -v $program)
    cp "$program" "$tree/bin/"
    for library in $("$loader" --list "$program" | grep -o '/[^ ]*') "$loader"; do
        mkdir -p "$tree$(dirname "$library")"
        cp -L "$library" "$tree$library"
    done
done
# What the guest's first program runs; the words are what `allod bench` waits for.
cat > "$tree/script" <<'END'
stty -echo
for module in bochs virtio_gpu nvme; do modprobe $module; done 2> /dev/null
echo bench-guest ready
while read -r line; do
    eval "$line"
    echo "bench-guest done $?"
done
END
(cd "$tree" && find . | busybox cpio -o -H newc 2> /dev/null) | cat /boot/guest-initrd /boot/guest-modules - > "$out"
rm -r "$tree"
ls -l "$out"
