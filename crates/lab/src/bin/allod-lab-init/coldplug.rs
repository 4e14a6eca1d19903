//! Loads the drivers of the hardware that is there, as a distribution's device manager does.
//!
//! It goes by the kernel's own `modalias` files, so that a card is held by its native driver before anybody
//! takes it, exactly as on a real host.

use crate::mounts::{Stages, complain};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Buses whose devices are looked at; the processor's aliases would load a dozen modules nobody needs.
const BUSES: [&str; 5] = ["pci", "virtio", "usb", "hid", "hdaudio"];
/// Classes whose members ask for drivers of their own (`evdev`, for example).
const CLASSES: [&str; 1] = ["input"];
/// The chipset's own functions. They hold nothing in a lab, and their drivers take a second; a profile that wants
/// them names them.
const CHIPSET: &str = "0000:00:1f.";
/// Times the buses are read again because loading a driver revealed more devices.
const ROUNDS: usize = 4;
/// What makes this a host for virtual machines.
const ALWAYS: [&str; 3] = ["kvm_amd", "vfio_pci", "vfio_iommu_type1"];

/// Loads KVM, VFIO and a driver for every device found.
pub(crate) fn load_drivers(stages: &mut Stages) {
    // First, so that nothing loads the distribution's modules of the same names.
    if let Some(name) = parameter("lab.rebuilt") {
        let status = Command::new(format!("/opt/{name}/load")).status();
        complain("the rebuilt modules", status.map(drop));
    }
    let mut wanted: BTreeSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
    wanted.extend(
        parameter("lab.modules")
            .into_iter()
            .flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()),
    );
    let mut known = BTreeSet::new();
    for _ in 0..ROUNDS {
        wanted.extend(aliases());
        let fresh: Vec<&String> = wanted.difference(&known).collect();
        if fresh.is_empty() {
            break;
        }
        // Quiet about aliases that no module has: bridges, for example.
        let status = Command::new("modprobe").args(["--all", "--quiet", "--"]).args(fresh).status();
        complain("modprobe", status.map(drop));
        known = wanted.clone();
    }
    stages.reached("drivers");
}

/// Returns the value of a kernel parameter.
fn parameter(name: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

fn aliases() -> Vec<String> {
    let buses = BUSES.iter().map(|bus| format!("/sys/bus/{bus}/devices"));
    buses
        .chain(CLASSES.iter().map(|class| format!("/sys/class/{class}")))
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter(|device| !device.file_name().to_string_lossy().starts_with(CHIPSET))
        .filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok())
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty())
        .collect()
}
