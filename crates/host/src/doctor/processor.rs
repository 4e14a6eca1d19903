//! Can the processor run virtual machines, and is this host one itself.

use spec::inventory::{Finding, HostInventory, Severity, Virtualization};

use super::finding::{self, firmware, good, step};
use super::modules;

/// Looks for the virtualisation extension.
pub(super) fn virtualization(inventory: &HostInventory) -> Vec<Finding> {
    let name = inventory.cpus.model.as_deref().unwrap_or("the processor");
    let nested = inventory.host.hypervisor.is_some();
    let amd = inventory.cpus.vendor.as_deref() == Some("AuthenticAMD");
    let (extension, setting) = match amd {
        true => ("AMD-V", "SVM Mode: Enabled (often under Advanced > CPU Configuration)"),
        false => (
            "VT-x",
            "Intel Virtualization Technology (VMX): Enabled (often under Advanced > CPU Configuration)",
        ),
    };
    let finding = match inventory.cpus.virtualization {
        Virtualization::Vmx | Virtualization::Svm => {
            return vec![good(
                "cpu-virtualization",
                format!("{name} can run virtual machines ({extension})"),
                "/proc/cpuinfo shows the flag",
            )];
        }
        Virtualization::None if modules::usable(modules::node(inventory, "/dev/kvm")) => {
            let finding = finding::new("cpu-virtualization-hidden", Severity::Note)
                .is(format!("{extension} is not shown, yet KVM works"))
                .because("/proc/cpuinfo shows neither `vmx` nor `svm`, but /dev/kvm opens: another engine is behind it")
                .so("guests run, perhaps much slower and with parts of the machine missing");
            return vec![finding.done()];
        }
        Virtualization::None => finding::new("cpu-virtualization-off", Severity::Blocker)
            .is(format!("{extension} is not there"))
            .because("/proc/cpuinfo shows neither `vmx` nor `svm`: firmware switched it off, or the processor has none")
            .so("no virtual machine can run on this host"),
        Virtualization::Unknown => finding::new("cpu-virtualization-unknown", Severity::Warning)
            .is("whether the processor can run virtual machines is not known")
            .because("/proc/cpuinfo could not be read")
            .so("a seat may not start"),
    };
    let remedy = match nested {
        true => step(
            "this host is a virtual machine: give it nested virtualisation on the host below (`-cpu host` with \
             `kvm_intel nested=1` or `kvm_amd nested=1`)",
        ),
        false => firmware(setting),
    };
    vec![finding.fix(remedy).done()]
}

/// Says what follows when the host is a virtual machine.
pub(super) fn nested(inventory: &HostInventory) -> Vec<Finding> {
    let Some(below) = &inventory.host.hypervisor else { return Vec::new() };
    let finding = finding::new("virtual-host", Severity::Note)
        .is(format!("this host is itself a virtual machine ({below})"))
        .because("the processor shows the `hypervisor` flag")
        .so("seats work if the host below gives it an IOMMU and nested virtualisation; they are slower than on hardware")
        .fix_if(
            inventory.groups.is_empty(),
            step(
                "with QEMU, start it with `-machine q35,kernel-irqchip=split -device \
                 intel-iommu,intremap=on,caching-mode=on`",
            ),
        );
    vec![finding.done()]
}
