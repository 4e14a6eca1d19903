//! DMA ends where the guest's memory ends.

use lab::{Failure, Host};

use crate::EDU;
use crate::guests::{debian, does, find, prepare, run, take};

/// Moves bytes by the DMA engine of `edu` (QEMU docs/specs/edu.rst): guest memory that the guest's kernel leaves alone
/// through the card's buffer and back to another place; then to a place behind the guest's memory.
pub(crate) fn intel(host: &Host) -> Result<(), Failure> {
    let log = move_bytes(host)?;
    assert!(log.contains("DMAR: [DMA Write") && log.contains("fault addr 0xf000000"), "outside: {log}");
    Ok(())
}

/// What the emulator's AMD-Vi blocks, it does not log.
pub(crate) fn amd(host: &Host) -> Result<(), Failure> {
    move_bytes(host).map(drop)
}

/// Stands in the kernel's log where this begins; nothing is taken out of it, for others look at it, too.
const MARK: &str = "bytes are about to be moved";

/// Lets a guest move bytes by the card, and gives what the host's kernel said of it.
fn move_bytes(host: &Host) -> Result<String, Failure> {
    let edu = find(host, EDU)?;
    take(host, &[&edu])?;
    does(host, &format!("echo '{MARK}' > /dev/kmsg"))?;
    let script = "for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x11e8 ] && E=$d; done; \
        echo 1 > $E/enable; printf '\\006' | dd of=$E/config bs=1 seek=4 conv=notrunc 2>/dev/null; \
        B=$(head -1 $E/resource | cut -d' ' -f1); at() { printf '0x%x' $((B + $1)); }; \
        reg() { devmem $(at $1) 32 $2; }; \
        move() { reg 0x80 $1; reg 0x84 0; reg 0x88 $2; reg 0x8c 0; reg 0x90 8; reg 0x94 0; reg 0x98 $3; sleep 1; }; \
        echo ID $(reg 0); \
        devmem 0xc800000 32 0x12345678; devmem 0xc800004 32 0x9abcdef0; \
        move 0xc800000 0x40000 1; move 0x40000 0xc900000 3; echo BACK $(devmem 0xc900000) $(devmem 0xc900004); \
        move 0x40000 0xf000000 3; move 0xca00000 0x40000 1; move 0xf000000 0x40000 1; move 0x40000 0xcb00000 3; \
        echo OUTSIDE $(devmem 0xcb00000); echo ALIVE $(reg 0)";
    prepare(host, script)?;
    let output = run(host, &debian(&[&edu], "--memory 224M", "mem=192M iomem=relaxed"))?;
    assert!(output.stdout.contains("ID 0x010000ED"), "{output:?}");
    assert!(output.stdout.contains("BACK 0x12345678 0x9ABCDEF0"), "inside: {output:?}");
    assert!(
        output.stdout.contains("OUTSIDE 0x") && !output.stdout.contains("OUTSIDE 0x12345678"),
        "{output:?}"
    );
    assert!(output.stdout.contains("ALIVE 0x010000ED"), "{output:?}");
    does(host, &format!("dmesg | tac | sed '/{MARK}/q'"))
}
