#!/bin/busybox sh
# First program of a small test guest. Says that user space is reached, runs /script if an archive appended to
# this RAM disk brought one, then what the kernel parameter guest_run="..." says, and ends the machine as
# guest_end= says (poweroff, reboot, halt or stay).
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo "GUEST user space reached"
status=0
if [ -f /script ]; then sh /script; status=$?; fi
if [ -n "$guest_run" ]; then sh -c "$guest_run"; status=$?; fi
echo "GUEST script ended with $status"
case "$guest_end" in
  reboot) reboot -f ;;
  halt) halt -f ;;
  stay) exec sh ;;
  *) poweroff -f ;;
esac
