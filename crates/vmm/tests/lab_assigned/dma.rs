//! DMA ends where the guest's memory ends, and reaches the other cards of the guest.

use lab::{Failure, Host};

use crate::EDU;
use crate::cards::{Card, Kind};
use crate::deeds::Deeds;
use crate::guests::{debian, does, find, prepare, run, take};

/// The cards of [`between_cards`], and memory of the guest for them.
const CARRIER: Card = Card { kind: Kind::Edu, slot: 0 };
const SCREEN: Card = Card { kind: Kind::Screen, slot: 1 };
const MEMORY: u32 = 0x120_0000;
const ALL: u32 = u32::MAX;

/// One card writes into another's memory and reads from it, wherever the guest has put that.
pub(crate) fn between_cards(host: &Host) -> Result<(), Failure> {
    let cards = carrier_and_screen(host)?;
    let mut deeds = Deeds::default();
    reach(&mut deeds, 0);
    deeds.say("REACHED ");
    // Moved, it is reached where it is now.
    reach(&mut deeds, 1);
    is_out_of_reach(&mut deeds, 1, 0);
    deeds.say("MOVED");
    deeds.power_off();
    let said = deeds.run(host, &cards.each_ref().map(String::as_str))?;
    assert!(said.contains("REACHED MOVED"), "{said}");
    Ok(())
}

/// What one life has let a card reach, the next does not unless its guest puts it there again.
pub(crate) fn between_cards_after_a_reset(host: &Host) -> Result<(), Failure> {
    let cards = carrier_and_screen(host)?;
    let (mut first, mut second) = (Deeds::default(), Deeds::default());
    reach(&mut first, 0);
    first.say("FIRST ");
    reach(&mut second, 1);
    is_out_of_reach(&mut second, 1, 0);
    second.say("SECOND");
    second.power_off();
    let said = Deeds::two_lives(first, second).run(host, &cards.each_ref().map(String::as_str))?;
    assert!(said.contains("FIRST SECOND"), "{said}");
    Ok(())
}

fn carrier_and_screen(host: &Host) -> Result<[String; 2], Failure> {
    // Of two with these ids the one that is no VGA.
    let screen = does(host, "lspci -Dn -d 1234:1111:0380 | cut -d' ' -f1 | head -1")?.trim().to_owned();
    let cards = [find(host, EDU)?, screen];
    take(host, &cards.each_ref().map(String::as_str))?;
    Ok(cards)
}

/// Puts both cards into place, the screen at `place`; bytes go from memory to the screen and back by the other card.
fn reach(deeds: &mut Deeds, place: u32) {
    for (card, place) in [(CARRIER, 0), (SCREEN, place)] {
        card.open(deeds);
        card.place(deeds, place);
    }
    let picture = SCREEN.at(place, 0);
    for (offset, value) in [(0x1000, 0x600d_0001 + place), (0x50_0000, 0x600d_1000 + place)] {
        deeds.write32(MEMORY, value);
        deeds.write32(picture + offset, 0);
        CARRIER.carry(deeds, 0, MEMORY, picture + offset);
        deeds.expect(picture + offset, value, ALL);
        deeds.write32(picture + offset, !value);
        CARRIER.carry(deeds, 0, picture + offset, MEMORY + 0x1000);
        deeds.expect(MEMORY + 0x1000, !value, ALL);
    }
}

/// Nothing that is sent to where the screen was, at `before`, reaches it at `place`.
fn is_out_of_reach(deeds: &mut Deeds, place: u32, before: u32) {
    let picture = SCREEN.at(place, 0);
    deeds.write32(picture + 0x1000, 0x0bad_0000);
    deeds.write32(MEMORY, 0x0bad_0001);
    CARRIER.carry(deeds, 0, MEMORY, SCREEN.at(before, 0) + 0x1000);
    deeds.expect(picture + 0x1000, 0x0bad_0000, ALL);
}

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
        move() { reg 0x80 $1; reg 0x84 0; reg 0x88 $2; reg 0x8c 0; reg 0x90 8; reg 0x94 0; reg 0x98 $3; \
            while [ $(($(reg 0x98) & 1)) = 1 ]; do :; done; }; \
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
