//! Firmware that shows itself on assigned cards: a BIOS by the card's own BIOS, UEFI by its drivers.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod bios;
mod screen;
#[path = "../terminal/mod.rs"]
mod terminal;
mod uefi;
mod vesa;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Scenario, run_all, shared};
use lab::{Failure, Host};
use screen::{Picture, picture_of};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("a_bios_writes_on_the_assigned_vga_what_it_writes_on_an_emulated_one", "vga", bios::primary),
    shared("a_vesa_mode_and_what_is_drawn_in_it_are_on_the_assigned_vga", "vga", vesa::mode),
    shared("a_seat_whose_card_has_run_its_rom_gets_the_clean_one_that_is_kept", "vga", bios::kept_rom),
    shared("a_guest_finds_its_own_addresses_by_the_ports_of_an_ati_card", "screens", window::config_space),
    shared("uefi_is_on_an_assigned_vga_that_the_host_has_booted_with", "seats", uefi::boot_vga),
    shared("uefi_is_on_every_assigned_card_and_hears_the_assigned_keyboard", "screens", uefi::every_card),
];

/// Firmware is there within half a minute in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// The address of the first function with these ids.
fn find(host: &Host, ids: &str) -> Result<String, Failure> {
    Ok(does(host, &format!("lspci -Dn -d {ids} | cut -d' ' -f1 | head -1"))?.trim().to_owned())
}

/// Hands functions of the host to vfio-pci.
fn take(host: &Host, addresses: &[&str]) -> Result<(), Failure> {
    let list = addresses.join(" ");
    does(
        host,
        &format!(
            "modprobe vfio-pci; for a in {list}; do d=/sys/bus/pci/devices/$a; echo vfio-pci > $d/driver_override; \
             [ -e $d/driver ] && echo $a > $d/driver/unbind; echo $a > /sys/bus/pci/drivers_probe; \
             [ \"$(basename $(readlink $d/driver))\" = vfio-pci ] || exit 1; done"
        ),
    )?;
    Ok(())
}

/// Starts a machine in the background and waits until its firmware has said `word`, on its debug port or the console.
fn begin(host: &Host, flags: &str, word: &str) -> Result<(), Failure> {
    does(
        host,
        &format!(
            "cd /tmp; rm -f fd-*; allod run --name anna --memory 512M --firmware-log fd-log --control fd-control {flags} \
             < /dev/null > fd-console 2>&1 & cd /tmp; for i in $(seq 2400); do \
             grep -aqs '{word}' fd-log fd-console && exit 0; \
             kill -0 $! || break; sleep 0.1; done; cat fd-console fd-log; exit 1"
        ),
    )?;
    Ok(())
}

/// Makes a disk of 1 MiB in the host that begins with a boot sector.
fn put_disk(host: &Host, path: &str, sector: &[u8]) -> Result<(), Failure> {
    let bytes: String = sector.iter().map(|byte| format!("\\{byte:03o}")).collect();
    does(host, &format!("printf '{bytes}' > {path}; truncate -s 1M {path}")).map(drop)
}

/// What the lab's card shows.
fn shot(host: &Host, card: &str) -> Result<Picture, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.png");
    host.screenshot(card, 0, &file)?;
    Ok(picture_of(&std::fs::read(&file).unwrap()))
}

/// Ends the machine.
fn end(host: &Host) -> Result<(), Failure> {
    does(
        host,
        "printf '{\"command\":\"quit\"}\\n' | socat -t 60 - UNIX-CONNECT:/tmp/fd-control; \
         while [ -e /tmp/fd-control ]; do sleep 0.1; done",
    )?;
    Ok(())
}
