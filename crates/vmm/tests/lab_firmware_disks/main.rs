//! Systems that Debian's own SeaBIOS and OVMF start from disks and discs of every kind, and what those find of the board.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod drives;
#[path = "../firmware/mod.rs"]
#[allow(dead_code, reason = "shared with the other scenarios of firmware")]
mod firmware;
mod full;
mod images;
mod system;
mod tables;
mod windows;

use std::process::ExitCode;

use firmware::disks::guest_disk;
use firmware::{machine, run};
use lab::scenario::{self, Boot, Scenario, run_all};
use lab::{Failure, Host, Output};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("debian_starts_from_a_disk_by_bios", debian_starts_from_a_disk_by_bios),
    shared("debian_starts_from_a_disk_by_uefi", debian_starts_from_a_disk_by_uefi),
    shared(
        "debian_starts_from_a_disc_by_bios_and_by_uefi",
        drives::debian_starts_from_a_disc_by_bios_and_by_uefi,
    ),
    shared(
        "debian_reaches_its_login_prompt_from_a_disk_and_from_a_packed_nvme_disk",
        drives::debian_reaches_its_login_prompt_from_a_disk_and_from_a_packed_nvme_disk,
    ),
    shared("a_full_file_system_is_an_error_to_those_who_write_and_loses_nothing", full::file_system),
    shared("what_was_flushed_outlives_its_machine", images::what_was_flushed_outlives_its_machine),
    shared("damaged_images_are_refused_and_left_alone", images::damaged_ones_are_refused_and_left_alone),
    Scenario {
        profile: "vga",
        boot: Boot::Own,
        ..shared("a_window_larger_than_4_gib_works_by_bios_and_by_uefi", windows::large)
    },
];

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

const USER_SPACE: &str = "GUEST user space reached";

/// What the guest tells of the board: tables by name and sum, and what its kernel complains of.
const LOOK: &str = "cd /sys/firmware/acpi/tables; for t in APIC FACP FACS DSDT MCFG TPM2; do \
                    echo table $t $(wc -c < $t) $(md5sum < $t); done; \
                    for n in 0 4; do echo measured$n=$(cat /sys/class/tpm/tpm0/pcr-sha256/$n); done; \
                    mount -t securityfs none /sys/kernel/security; \
                    echo logged=$(head -c 64 /sys/kernel/security/tpm0/binary_bios_measurements | tr -cd A-Za-z); cat /sys/class/dmi/id/product_serial; \
                    cd /sys/class/dmi/id; echo dmi $(cat sys_vendor product_name product_uuid); \
                    dmesg | grep OS.now.controls; \
                    cat /proc/iomem; ls -d /sys/firmware/efi; dmesg | grep -i bios.bug";

/// The table that describes it names one address that firmware chooses: that of its log.
const TPM: &str = "--tpm /tmp/fw-tpm";

fn debian_starts_from_a_disk_by_bios(host: &Host) -> Result<(), Failure> {
    let disks = guest_disk(host, LOOK)?;
    let (output, report) =
        machine(host, &format!("--no-reboot --name anna --cpus 2 {TPM} --firmware bios {}", disks.by_bios))?;
    agrees_with_a_start_without_firmware(host, &output, disks.by_bios)?;
    assert!(output.stdout.contains("b0000000-bfffffff : PCI ECAM"), "{output:?}");
    measures_and_logs(&output);
    assert_eq!(report["cause"], "power-off", "{output:?}");
    Ok(())
}

fn debian_starts_from_a_disk_by_uefi(host: &Host) -> Result<(), Failure> {
    let disks = guest_disk(host, &format!("{LOOK}; {}", tables::TABLES))?;
    let (output, report) =
        machine(host, &format!("--no-reboot --name anna --cpus 2 {TPM} --firmware uefi {}", disks.by_uefi))?;
    agrees_with_a_start_without_firmware(host, &output, disks.by_uefi)?;
    tables::tables_are_those_made(&output);
    assert!(output.stdout.contains("e0000000-efffffff : PCI ECAM"), "{output:?}");
    assert!(output.stdout.contains("/sys/firmware/efi\r"), "{output:?}");
    measures_and_logs(&output);
    assert_eq!(report["cause"], "power-off", "{output:?}");
    Ok(())
}

/// Firmware has measured what it is into register 0 and the boot loader into register 4, and has logged both: a log begins with
/// the name of its format (TCG PC Client Platform Firmware Profile 1.05, section 10.4.5).
fn measures_and_logs(output: &Output) {
    let value = |name: &str| output.stdout.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
    let registers = ["measured0=", "measured4="].map(value);
    assert!(registers.iter().all(|value| value.len() == 64 && !value.starts_with("0000")), "{output:?}");
    assert_ne!(registers[0], registers[1], "{output:?}");
    assert!(value("logged=").contains("SpecIDEvent"), "{output:?}");
}

/// The guest found the processors and tables that the same machine has when it starts without firmware.
fn agrees_with_a_start_without_firmware(host: &Host, output: &Output, disks: &str) -> Result<(), Failure> {
    let direct = format!(
        "--name anna --cpus 2 {TPM} {disks} --kernel /boot/vmlinux --initrd /boot/guest-initrd \
         --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"{LOOK}\"'"
    );
    let (direct, _) = machine(host, &direct)?;
    let table = |output: &Output, name: &str| {
        let line = output.stdout.lines().find(|line| line.starts_with(&format!("table {name} ")));
        line.unwrap_or("no such table").trim_end().to_owned()
    };
    assert!(output.stdout.contains(USER_SPACE), "{output:?}");
    // The others name addresses: those of tables, and of windows that firmware chose.
    assert_eq!(table(output, "APIC"), table(&direct, "APIC"), "{output:?} {direct:?}");
    assert!(
        direct.stdout.contains("table TPM2 76 ") && direct.stdout.contains("measured0=0000"),
        "{direct:?}"
    );
    assert_eq!(dmi(output), dmi(&direct), "{output:?} {direct:?}");
    assert!(dmi(output).starts_with("dmi Allod "), "{output:?}");
    let length = |line: &str| line.split(' ').nth(2).map(str::to_owned);
    for name in ["FACP", "FACS", "DSDT", "MCFG", "TPM2"] {
        assert_eq!(
            length(&table(output, name)),
            length(&table(&direct, name)),
            "{name}: {output:?} {direct:?}"
        );
    }
    for output in [output, &direct] {
        assert!(output.stdout.contains("\nanna\r"), "the serial number: {output:?}");
        assert!(output.stdout.contains("_OSC: OS now controls ["), "{output:?}");
        assert!(!output.stdout.to_lowercase().contains("bios bug"), "{output:?}");
    }
    Ok(())
}

/// Vendor, name and UUID, as SMBIOS tells them.
fn dmi(output: &Output) -> &str {
    output.stdout.lines().find(|line| line.starts_with("dmi ")).unwrap_or("no dmi").trim_end()
}
