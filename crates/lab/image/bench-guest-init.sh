#!/bin/busybox sh
# First program of a guest that is measured in, on a host that is no lab: mounts the image's root file system, and hands over
# to what does the console's bidding there.
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
stty -echo
while read -r module; do insmod "/modules/$module"; done < /modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 -o ro,noload /dev/vda /image || { echo "bench: there is no disk"; poweroff -f; }
for folder in proc sys dev; do mount --move /$folder /image/$folder; done
for folder in run tmp; do mount -t tmpfs tmpfs /image/$folder; done
cp /bench/* /image/run/
exec chroot /image /usr/bin/bash /run/serve
