//! Debian's own SeaBIOS and OVMF in our machines: what they find, show and keep, and what they start from the network. UEFI
//! variables outlive the machine, however it ends.
//!
//! Not here: systems that they start from disks (`lab_firmware_disks`).
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "../firmware/mod.rs"]
#[allow(dead_code, reason = "shared with the scenarios of what firmware starts from disks")]
mod firmware;
mod look;
mod network;
mod order;
#[path = "../picture/mod.rs"]
mod picture;
mod screen;
#[path = "../terminal/mod.rs"]
mod terminal;

use std::process::ExitCode;

use firmware::disks::{self, shell_disk};
use firmware::kills::{self, KEPT, OURS};
use firmware::{LIMIT, machine, run, without_escapes};
use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host, greeting};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared(
        "a_bios_without_a_disk_says_so_on_the_serial_console",
        a_bios_without_a_disk_says_so_on_the_serial_console,
    ),
    shared("variables_stay_over_a_restart", variables_stay_over_a_restart),
    shared(
        "variables_stay_when_the_machine_is_killed_while_it_writes_others",
        variables_stay_when_the_machine_is_killed_while_it_writes_others,
    ),
    shared("files_that_are_no_firmware_are_refused", files_that_are_no_firmware_are_refused),
    shared("the_order_to_boot_in_stays_as_it_was_chosen", order::stays),
    shared("the_uefi_shell_finds_what_the_machine_was_built_with", look::shell_agrees),
    shared("what_a_bios_writes_is_on_the_display", screen::what_a_bios_writes_is_on_the_display),
    shared(
        "what_uefi_firmware_writes_is_on_the_display",
        screen::what_uefi_firmware_writes_is_on_the_display,
    ),
    shared("firmware_starts_a_program_from_the_network", network::virtual_card),
    // These take a card from the host.
    with_cards(
        "the_rom_of_an_assigned_card_runs_its_own_or_that_of_a_file",
        the_rom_of_an_assigned_card_runs_its_own_or_that_of_a_file,
    ),
    with_cards("uefi_firmware_starts_a_program_by_the_rom_of_an_assigned_card", network::assigned_card),
];

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

const fn with_cards(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "cards", check)
}

fn a_bios_without_a_disk_says_so_on_the_serial_console(host: &Host) -> Result<(), Failure> {
    // What the firmware says there, it says on its debug port too.
    let output = run(
        host,
        "rm -f /tmp/fw-control; allod run --firmware bios --firmware-log /tmp/fw-log --control /tmp/fw-control < /dev/null | \
         while read -r line; do echo \"$line\"; case \"$line\" in *'No bootable device'*) \
         echo '{\"command\":\"quit\"}' | socat -t 60 - UNIX-CONNECT:/tmp/fw-control;; esac; done; cat /tmp/fw-log",
    )?;
    for words in
        ["Running on QEMU (q35)", "fw_cfg DMA interface supported", "using q35 mmconfig at 0xb0000000"]
    {
        assert!(output.stdout.contains(words), "no `{words}` in {output:?}");
    }
    assert_eq!(output.stdout.matches("No bootable device").count(), 2, "{output:?}");
    Ok(())
}

fn variables_stay_over_a_restart(host: &Host) -> Result<(), Failure> {
    run(host, "rm -f /tmp/fw-vars")?;
    let flags = "--firmware uefi --vars /tmp/fw-vars";
    // Sets it in a first life, and sees it in the second.
    let set = shell_disk(
        host,
        &format!(
            "setvar Kept {OURS}\r\nif %lasterror% ne 0x0 then\r\nsetvar Kept {OURS} -nv -bs -rt =0x6F766572\r\nreset\r\n\
             endif\r\nreset -s\r\n"
        ),
    )?;
    let (output, report) = machine(host, &format!("{flags} --disk {set}"))?;
    assert_eq!((&report["cause"], &report["resets"]), (&"power-off".into(), &1.into()), "{output:?}");
    assert!(without_escapes(&output.stdout).contains(KEPT), "{output:?}");
    let show = shell_disk(host, &format!("setvar Kept {OURS}\r\nreset -s\r\n"))?;
    let (output, _) = machine(host, &format!("{flags} --disk {show}"))?;
    assert!(without_escapes(&output.stdout).contains(KEPT), "{output:?}");
    // Another file has none of it.
    let (output, _) = machine(host, &format!("--firmware uefi --disk {show}"))?;
    assert!(!without_escapes(&output.stdout).contains(KEPT), "{output:?}");
    Ok(())
}

/// A few places, for every day; `soak_firmware` has more.
fn variables_stay_when_the_machine_is_killed_while_it_writes_others(host: &Host) -> Result<(), Failure> {
    kills::leave_variables(host, &[("pwritev", 2), ("fdatasync", 3)])
}

fn files_that_are_no_firmware_are_refused(host: &Host) -> Result<(), Failure> {
    run(
        host,
        "cd /tmp; head -c 4096 /usr/share/OVMF/OVMF_CODE_4M.fd > fw-small; truncate -s 16M fw-large; \
         head -c 256K /dev/zero > fw-zero; head -c 100000 /usr/share/OVMF/OVMF_VARS_4M.fd > fw-cut; \
         truncate -s 540672 fw-none; head -c 131072 /usr/share/OVMF/OVMF_VARS_4M.fd > fw-other; : > fw-used",
    )?;
    for (flags, status, words) in [
        ("bios --firmware-image /nowhere", 1, "open the firmware /nowhere"),
        ("bios --firmware-image /tmp/fw-small", 1, "4096 bytes"),
        ("bios --firmware-image /tmp/fw-large", 1, "8 MiB"),
        ("bios --firmware-image /tmp/fw-zero", 1, "no BIOS"),
        ("bios --vars /tmp/fw-new", 1, "keeps no UEFI variables"),
        ("uefi --firmware-image /usr/share/seabios/bios-256k.bin", 1, "no `CODE` in its name"),
        ("uefi --vars /tmp/fw-cut", 1, "100000 bytes"),
        ("uefi --vars /tmp/fw-none", 1, "does not begin with a firmware volume"),
        ("uefi --vars /tmp/fw-other", 1, "different builds"),
        ("uefi --vars /nowhere/fw-new", 1, "its folder must exist"),
        ("uefi --memory 64M", 1, "at least 128 MiB"),
        ("bios --kernel /boot/vmlinux", 2, "cannot be used with"),
    ] {
        let output = run(host, &format!("allod run --firmware {flags} < /dev/null"))?;
        assert_eq!(output.status, status, "{flags}: {output:?}");
        assert!(output.stderr.contains(words), "{flags}: no `{words}` in {}", output.stderr);
    }
    let in_use = run(host, "flock /tmp/fw-used allod run --firmware uefi --vars /tmp/fw-used < /dev/null")?;
    assert!(in_use.status == 1 && in_use.stderr.contains("in use by another machine"), "{in_use:?}");
    Ok(())
}

fn the_rom_of_an_assigned_card_runs_its_own_or_that_of_a_file(host: &Host) -> Result<(), Failure> {
    // The card's ROM has an image of each kind, by iPXE. What is said of it is what is true of it.
    let shown = run(
        host,
        "card=$(lspci -Dn -d 8086:10d3 | cut -d' ' -f1); sysfs=/sys/bus/pci/devices/$card; echo $card > /tmp/fw-card; \
         allod rom check $card && echo 1 > $sysfs/rom && cat $sysfs/rom > /tmp/fw-rom && allod rom show --json /tmp/fw-rom; \
         head -c 100000 /tmp/fw-rom > /tmp/fw-cut-rom; allod rom check /tmp/fw-cut-rom || echo told; \
         modprobe vfio-pci; echo vfio-pci > $sysfs/driver_override; echo $card > $sysfs/driver/unbind; \
         echo $card > /sys/bus/pci/drivers_probe",
    )?;
    for words in ["nothing is wrong with its 2 images", "x86 BIOS", "EFI", "cut short", "told"] {
        assert!(shown.stdout.contains(words), "no `{words}` in {shown:?}");
    }
    for rom in ["", ",rom=/tmp/fw-rom"] {
        let output = network::start(host, "bios", &format!("--device $(cat /tmp/fw-card){rom}"))?;
        assert!(output.stdout.contains("starting execution...ok"), "{rom}: {output:?}");
        assert!(output.stdout.contains(greeting::BY_BIOS), "{rom}: {output:?}");
    }
    Ok(())
}
