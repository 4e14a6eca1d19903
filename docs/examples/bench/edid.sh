#!/bin/sh
# Writes what a monitor with one mode, 800x600, says of itself (EDID 1.4): a program that takes the largest mode there is
# takes this one, on the host and in a guest.
#   sh edid.sh OUT
set -eu
# Header; maker, product, date; version 1.4; digital, 30 by 20 cm; the usual colours; no standard modes.
bytes="00 ff ff ff ff ff ff 00 30 64 01 00 01 00 00 00 01 22 01 04 a5 1e 14 78 02 ee 91 a3 54 4c 99 26 0f 50 54 00 00 00"
bytes="$bytes 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01"
# 40 MHz; 800 + 256 columns, 600 + 28 lines; the pulses of both; its size in millimetres.
bytes="$bytes a0 0f 20 00 31 58 1c 20 28 80 14 00 2c c8 00 00 00 1e"
# Its name, and two places that are empty.
bytes="$bytes 00 00 00 fc 00 4f 6e 65 20 6d 6f 64 65 0a 20 20 20 20"
bytes="$bytes 00 00 00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
bytes="$bytes 00 00 00 10 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
sum=0
: > "$1"
for byte in $bytes; do
    sum=$((sum + 0x$byte))
    printf "\\$(printf %03o "0x$byte")" >> "$1"
done
# All bytes add up to a multiple of 256.
printf "\\$(printf %03o $(((256 - sum % 256) % 256)))" >> "$1"
