//! Are the kernel modules there, and may their nodes be opened.

use spec::inventory::{DeviceNode, Finding, HostInventory, ModuleState, Severity, Virtualization};

use super::finding::{self, command, good, step};

/// KVM: its modules and `/dev/kvm`.
pub(super) fn kvm(inventory: &HostInventory) -> Vec<Finding> {
    let vendor_module = match inventory.cpus.virtualization {
        Virtualization::Svm => "kvm_amd",
        _ => "kvm_intel",
    };
    let node = node(inventory, "/dev/kvm");
    match node {
        Some(node) if node.exists && node.accessible => {
            vec![good("kvm", "KVM is there and may be used", "/dev/kvm opens for reading and writing")]
        }
        Some(node) if node.exists => vec![
            finding::new("kvm-no-access", Severity::Blocker)
                .is("this user may not open /dev/kvm")
                .because("its permissions do not allow it")
                .so("no virtual machine can run")
                .fix(command("usermod -aG kvm $SUDO_USER", "lets this user use KVM from the next login on"))
                .done(),
        ],
        _ => vec![absent(inventory, vendor_module, "/dev/kvm", "no virtual machine can run")],
    }
}

/// VFIO: its modules and `/dev/vfio/vfio`.
pub(super) fn vfio(inventory: &HostInventory) -> Vec<Finding> {
    let consequence = "no device can be given to a seat";
    match state(inventory, "vfio_pci") {
        ModuleState::Present => {}
        ModuleState::Loadable => return vec![loaded_with_the_first_claim()],
        ModuleState::Missing | ModuleState::Unknown => {
            return vec![absent(inventory, "vfio_pci", "/dev/vfio/vfio", consequence)];
        }
    }
    if state(inventory, "vfio_iommu_type1") != ModuleState::Present && !usable(node(inventory, "/dev/iommu"))
    {
        return vec![absent(inventory, "vfio_iommu_type1", "/dev/vfio/vfio", consequence)];
    }
    vec![match node(inventory, "/dev/vfio/vfio") {
        Some(node) if usable(Some(node)) => {
            let iommufd = if usable(self::node(inventory, "/dev/iommu")) { ", and iommufd" } else { "" };
            let is = format!("VFIO is there{iommufd}");
            good("vfio", is, "its modules are loaded and /dev/vfio/vfio opens")
        }
        Some(node) if node.exists => finding::new("vfio-no-access", Severity::Warning)
            .is("this user may not open /dev/vfio/vfio")
            .because("only root may by default, and only root takes devices")
            .so("`allod up` and `allod claim` have to run as root")
            .fix(command("sudo allod doctor", "looks again as root"))
            .done(),
        _ => finding::new("vfio-no-node", Severity::Blocker)
            .is("/dev/vfio/vfio is not there, though the module is")
            .because("a container without it, or a /dev that is not the kernel's own")
            .so(consequence)
            .fix(step("run Allod on the host itself, or give the container /dev/vfio"))
            .done(),
    }]
}

/// Loading vfio-pci loads the rest of VFIO (soft dependencies of the module vfio).
fn loaded_with_the_first_claim() -> Finding {
    finding::new("vfio-pci-not-loaded", Severity::Warning)
        .is("the module vfio_pci is not loaded")
        .because("/sys/module/vfio_pci is not there; the first claim loads it")
        .so("whether VFIO works here is known only then")
        .fix(command("modprobe vfio-pci", "loads it now; `allod doctor` then looks at the rest"))
        .done()
}

pub(super) fn usable(node: Option<&DeviceNode>) -> bool {
    node.is_some_and(|node| node.exists && node.accessible)
}

pub(super) fn node<'a>(inventory: &'a HostInventory, path: &str) -> Option<&'a DeviceNode> {
    inventory.host.device_nodes.iter().find(|node| node.path == path)
}

fn state(inventory: &HostInventory, name: &str) -> ModuleState {
    let module = inventory.host.kernel.modules.iter().find(|module| module.name == name);
    module.map_or(ModuleState::Unknown, |module| module.state)
}

/// A finding about a module that is not loaded.
fn absent(inventory: &HostInventory, name: &str, node: &str, consequence: &str) -> Finding {
    let code = format!("{}-not-loaded", name.replace('_', "-"));
    let release = inventory.host.kernel.release.as_deref().unwrap_or("this kernel");
    let file = name.replace('_', "-");
    let draft = finding::new(&code, Severity::Blocker).so(consequence);
    let draft = match state(inventory, name) {
        ModuleState::Present => draft
            .is(format!("{node} is not there"))
            .because(format!(
                "the module {name} is loaded, but it found nothing to work with; `dmesg` says why"
            ))
            .fix(step(
                "look for its lines in `dmesg`; for KVM most often firmware has switched virtualisation off",
            )),
        ModuleState::Missing => draft
            .is(format!("the kernel has no module {name}"))
            .because(format!("it is neither built into {release} nor in its modules directory"))
            .fix(step("install the kernel of your distribution with all its modules, and restart")),
        ModuleState::Loadable | ModuleState::Unknown => draft
            .is(format!("the module {name} is not loaded"))
            .because(format!("/sys/module/{name} is not there"))
            .fix(command(format!("modprobe {file}"), "loads it now"))
            .fix(command(
                format!("echo {file} >> /etc/modules-load.d/allod.conf"),
                "loads it at every start of the host",
            )),
    };
    draft.done()
}
