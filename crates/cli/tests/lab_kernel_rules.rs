//! The rules that the fake kernel of `host::fixtures` keeps, asked of the real one: what each write to sysfs does or says.
//!
//! A row that fails here means that the fake is wrong, and with it every test that stands on it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod bench;

use bench::Bench;

/// `say FILE TEXT` writes and tells what the kernel says to it; `bound ADDRESS` tells the driver.
const WORDS: &str = r#"
at() { lspci -Dn -d "$1" | head -n 1 | cut -d' ' -f1; }
bound() { [ -e /sys/bus/pci/devices/$1/driver ] && basename "$(readlink -f /sys/bus/pci/devices/$1/driver)" || echo none; }
say() { local error; if error=$( { printf "$2" > "$1"; } 2>&1 ); then echo taken; else echo "${error##*: }"; fi; }
disk=$(at 1b36:0010); nic=$(at 8086:10c9); d=/sys/bus/pci/devices/$disk; n=/sys/bus/pci/devices/$nic; drivers=/sys/bus/pci/drivers
modprobe vfio-pci
"#;

struct Row {
    rule: &'static str,
    does: &'static str,
    says: &'static str,
}

const fn row(rule: &'static str, does: &'static str, says: &'static str) -> Row {
    Row { rule, does, says }
}

const BUSY: &str = "Device or resource busy";
const NO_DEVICE: &str = "No such device";
const INVALID: &str = "Invalid argument";

/// In this order: each row finds what those before have left.
const ROWS: [Row; 27] = [
    row("a bound device is busy", "say $drivers/nvme/bind $disk", BUSY),
    row("vfio-pci takes nothing without an override", "say $drivers/vfio-pci/bind $disk", NO_DEVICE),
    row("only its own driver lets a device go", "say $drivers/vfio-pci/unbind $disk", NO_DEVICE),
    row("unbinding leaves no driver", "say $drivers/nvme/unbind $disk; bound $disk", "taken\nnone"),
    row("an override is kept", "say $d/driver_override vfio-pci; cat $d/driver_override", "taken\nvfio-pci"),
    row("an override keeps every other driver out", "say $drivers/nvme/bind $disk", NO_DEVICE),
    row("power may be left to the kernel", "say $d/power/control on; cat $d/power/control", "taken\non"),
    row(
        "the driver of the override takes it",
        "say $drivers/vfio-pci/bind $disk; bound $disk",
        "taken\nvfio-pci",
    ),
    row("vfio-pci lets an idle function be suspended", "cat $d/power/control", "auto"),
    row("a reset wants a 1", "say $d/reset 2; say $d/reset 1", "Invalid argument\ntaken"),
    row("only known resets can be named", "say $d/reset_method warm", INVALID),
    row(
        "one reset can be chosen and all brought back",
        "all=$(cat $d/reset_method); say $d/reset_method flr; cat $d/reset_method; say $d/reset_method \"$all\"; \
         [ \"$(cat $d/reset_method)\" = \"$all\" ] && echo same",
        "taken\nflr\ntaken\nsame",
    ),
    row(
        "vfio-pci forbids suspending when it goes",
        "say $drivers/vfio-pci/unbind $disk; cat $d/power/control",
        "taken\non",
    ),
    row(
        "an empty line takes the override away",
        "say $d/driver_override '\\n'; cat $d/driver_override",
        "taken\n(null)",
    ),
    row("the old driver takes it again", "say $drivers/nvme/bind $disk; bound $disk", "taken\nnvme"),
    row("power has two settings", "say $d/power/control off", INVALID),
    row(
        "d3cold_allowed is a switch",
        "say $d/d3cold_allowed maybe; say $d/d3cold_allowed 0; cat $d/d3cold_allowed; say $d/d3cold_allowed 1",
        "Invalid argument\ntaken\n0\ntaken",
    ),
    row(
        "no more virtual functions than there can be",
        "say $n/sriov_numvfs 500",
        "Numerical result out of range",
    ),
    row(
        "without the switch virtual functions get no driver",
        "modprobe igbvf; say $n/sriov_drivers_autoprobe 0; say $n/sriov_numvfs 2; vf=$(basename $(readlink $n/virtfn0)); bound $vf",
        "taken\ntaken\nnone",
    ),
    row("nor can one be bound by name", "say $drivers/igbvf/bind $vf", NO_DEVICE),
    row(
        "but an override is obeyed",
        "say /sys/bus/pci/devices/$vf/driver_override vfio-pci; say $drivers/vfio-pci/bind $vf; bound $vf",
        "taken\ntaken\nvfio-pci",
    ),
    row("their number changes only from nothing", "say $n/sriov_numvfs 1", BUSY),
    row("the same number is no change", "say $n/sriov_numvfs 2", "taken"),
    row(
        "removing takes them from vfio-pci",
        "say $n/sriov_numvfs 0; ls $drivers/vfio-pci | grep -c :; ls $n | grep -c virtfn",
        "taken\n0\n0",
    ),
    row(
        "the switch is put back",
        "say $n/sriov_drivers_autoprobe 1; cat $n/sriov_drivers_autoprobe",
        "taken\n1",
    ),
    row(
        "without a driver nobody makes them",
        "say $drivers/igb/unbind $nic; say $n/sriov_numvfs 1; say $drivers/igb/bind $nic",
        "taken\nNo such file or directory\ntaken",
    ),
    row(
        "too many huge pages are taken as far as they go, and nothing is said",
        "pool=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; before=$(cat $pool); say $pool 900000; \
         [ $(cat $pool) -lt 900000 ] && echo fewer; say $pool $before; cat $pool",
        "taken\nfewer\ntaken\n0",
    ),
];

#[test]
fn the_kernel_keeps_the_rules_that_the_fake_plays() {
    let Some(bench) = Bench::boot("sriov") else { return };
    // One shell for all rows: what one leaves in a variable the next one reads.
    let rows: String = ROWS.iter().map(|row| format!("echo '== row'\n{}\n", row.does)).collect();
    let output = bench.run(&format!("{WORDS}{rows}true"));
    let parts: Vec<&str> = output.stdout.split("== row\n").skip(1).collect();
    assert_eq!(parts.len(), ROWS.len(), "{output:?}");
    let wrong: Vec<String> = ROWS
        .iter()
        .zip(parts)
        .filter(|(row, said)| said.trim_end() != row.says)
        .map(|(row, said)| format!("{}: {said:?} and not {:?}", row.rule, row.says))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", output.stderr);
}
