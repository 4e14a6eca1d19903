//! Is there an IOMMU, does the kernel use it, and does it guard interrupts too.

use spec::inventory::{Finding, HostInventory, IommuKind, ModuleState, Severity};

use super::boot;
use super::finding::{self, command, firmware, good, step};

/// Words on the kernel command line that keep the IOMMU off.
const OFF: [&str; 4] = ["iommu=off", "intel_iommu=off", "amd_iommu=off", "iommu=soft"];
/// Words that keep interrupt remapping off.
const REMAPPING_OFF: [&str; 2] = ["intremap=off", "nointremap"];

/// Whether DMA of devices is translated: groups exist.
pub(super) fn translation(inventory: &HostInventory) -> Vec<Finding> {
    if !inventory.groups.is_empty() {
        return vec![good(
            "iommu",
            format!(
                "the kernel uses the IOMMU ({}): {} groups",
                kind(inventory.iommu.kind),
                inventory.groups.len()
            ),
            "/sys/kernel/iommu_groups",
        )];
    }
    let consequence =
        "no device can be given to a seat: nothing would keep its DMA inside that seat's memory";
    let host = &inventory.host;
    let switched_off: Vec<&str> = boot::parameters(host).filter(|word| OFF.contains(word)).collect();
    let finding = match (&inventory.iommu.firmware_table, switched_off.is_empty()) {
        (_, false) => finding::new("iommu-off-kernel", Severity::Blocker)
            .is("the kernel was told not to use the IOMMU")
            .because(format!("the kernel command line has `{}`", switched_off.join("` and `")))
            .so(consequence)
            .fix_all(boot::remove(host, &switched_off)),
        (Some(table), _) => finding::new("iommu-off-kernel", Severity::Blocker)
            .is("the kernel does not use the IOMMU")
            .because(format!(
                "firmware announces one (ACPI table {table}), but there are no groups: this kernel waits to be asked"
            ))
            .so(consequence)
            .fix_all(boot::add(host, parameter(inventory, table))),
        (None, _) => no_table(inventory).so(consequence),
    };
    vec![finding.done()]
}

fn no_table(inventory: &HostInventory) -> finding::Draft {
    let amd = inventory.cpus.vendor.as_deref() == Some("AuthenticAMD");
    let setting = match amd {
        true => "IOMMU: Enabled, not Auto (often under Advanced > AMD CBS > NBIO Common Options)",
        false => {
            "Intel VT-d, VT for Directed I/O: Enabled (often under Advanced > System Agent Configuration)"
        }
    };
    let (code, is, because) = match inventory.iommu.firmware_tables_read {
        true => (
            "iommu-off-firmware",
            "firmware keeps the IOMMU off, or the board has none",
            "there is no DMAR, IVRS or VIOT table in /sys/firmware/acpi/tables",
        ),
        false => {
            ("iommu-unknown", "there is no IOMMU group", "firmware's ACPI tables could not be looked at")
        }
    };
    let draft = finding::new(code, Severity::Blocker).is(is).because(because);
    match inventory.host.hypervisor {
        Some(_) => {
            draft.fix(step("give this virtual machine an IOMMU on the host below (see `virtual-host`)"))
        }
        None => draft.fix(firmware(setting)),
    }
}

/// What asks the kernel to use the IOMMU that a table announces.
fn parameter(inventory: &HostInventory, table: &str) -> &'static str {
    match (table, inventory.cpus.vendor.as_deref()) {
        ("IVRS", _) | (_, Some("AuthenticAMD")) => "amd_iommu=on",
        _ => "intel_iommu=on",
    }
}

fn kind(kind: IommuKind) -> &'static str {
    match kind {
        IommuKind::Intel => "Intel VT-d",
        IommuKind::Amd => "AMD-Vi",
        IommuKind::Virtio => "virtio-iommu",
        IommuKind::None | IommuKind::Unknown => "of an unknown kind",
    }
}

/// Whether a device can forge the interrupts of others.
pub(super) fn interrupts(inventory: &HostInventory) -> Vec<Finding> {
    // Without an IOMMU that is the finding; this one would only repeat it.
    if inventory.groups.is_empty() {
        return Vec::new();
    }
    match inventory.iommu.interrupt_remapping {
        Some(true) => {
            return vec![good(
                "interrupt-remapping",
                "interrupts of devices are remapped",
                "the interrupt chips in /proc/interrupts are named IR-",
            )];
        }
        Some(false) => {}
        None => {
            let finding = finding::new("interrupt-remapping-unknown", Severity::Warning)
                .is("whether interrupts of devices are remapped is not known")
                .because("/proc/interrupts could not be read")
                .so("taking a device may be refused by the kernel");
            return vec![finding.done()];
        }
    }
    let allowed = inventory.host.kernel.modules.iter().any(|module| {
        let unsafe_ones = module.parameters.get("allow_unsafe_interrupts").map(String::as_str);
        module.name == "vfio_iommu_type1" && matches!(unsafe_ones, Some("Y" | "1"))
    });
    vec![not_remapped(inventory, allowed).done()]
}

fn not_remapped(inventory: &HostInventory, allowed: bool) -> finding::Draft {
    let host = &inventory.host;
    let off: Vec<&str> = boot::parameters(host).filter(|word| REMAPPING_OFF.contains(word)).collect();
    let draft = finding::new(
        "interrupt-remapping-off",
        if allowed { Severity::Warning } else { Severity::Blocker },
    )
    .is("interrupts of devices are not remapped")
    .because(match off.first() {
        Some(word) => format!("the kernel command line has `{word}`"),
        None => "no interrupt chip in /proc/interrupts is named IR-".to_owned(),
    })
    .so(match allowed {
        true => {
            "devices can be given away (allow_unsafe_interrupts is set), but a guest that controls one can \
                     forge interrupts of the host"
        }
        false => "the kernel refuses every device (`No interrupt remapping support`)",
    });
    let draft = match (off.is_empty(), inventory.iommu.kind) {
        (false, _) => draft.fix_all(boot::remove(host, &off)),
        (true, IommuKind::Virtio) => draft,
        (true, IommuKind::Amd) => {
            draft.fix(firmware("IOMMU: Enabled, and SVM Mode: Enabled; update the firmware"))
        }
        (true, _) => {
            draft.fix(firmware("Interrupt Remapping (under VT-d) and x2APIC: Enabled; update the firmware"))
        }
    };
    let loaded = host
        .kernel
        .modules
        .iter()
        .any(|module| module.name == "vfio_iommu_type1" && module.state == ModuleState::Present);
    draft
        .fix_if(
            !allowed && loaded,
            command(
                "echo Y > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
                "only where every guest is trusted: lets guests forge interrupts; until the next start",
            ),
        )
        .fix_if(
            !allowed,
            command(
                "echo 'options vfio_iommu_type1 allow_unsafe_interrupts=1' > /etc/modprobe.d/allod-vfio.conf",
                "only where every guest is trusted: the same from the next start on",
            ),
        )
}
