#!/bin/busybox sh
# First program of the virtual host: loads the modules, mounts the root file system under a writable layer,
# hands over to our own init. Runs from the initial RAM disk.
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
read -r up rest < /proc/uptime
while read -r module; do
  insmod "/modules/$module" || echo "lab: cannot load $module"
done < /modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
mount -t ext4 -o ro,noload /dev/vda /image || { echo "lab: no root file system"; poweroff -f; }
mount -t tmpfs tmpfs /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/image,upperdir=/layer/upper,workdir=/layer/work overlay /new
cp /lab/init /new/usr/lib/allod-lab-init
echo "$up" > /new/run/lab-initrd-uptime
mount --move /proc /new/proc
mount --move /sys /new/sys
mount --move /dev /new/dev
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec switch_root /new /usr/lib/allod-lab-init
