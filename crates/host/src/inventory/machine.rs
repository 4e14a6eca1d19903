//! The host as a whole: machine, firmware, distribution, boot loader, kernel, and the nodes the chain needs.

use std::collections::BTreeMap;

use linux::sysfs::DATABASE_LIMIT;
use spec::inventory::{
    BootLoader, BootMode, DeviceNode, Distribution, Firmware, HostFacts, KernelFacts, KernelModule,
    ModuleState,
};

use super::reader::Reader;

/// The modules that assignment stands on.
const MODULES: [&str; 8] =
    ["vfio", "vfio_pci", "vfio_iommu_type1", "iommufd", "kvm", "kvm_intel", "kvm_amd", "nvidia"];

/// The device nodes that assignment stands on.
const NODES: [&str; 3] = ["/dev/kvm", "/dev/vfio/vfio", "/dev/iommu"];

/// Reads the facts about the host as a whole.
pub(super) fn read(reader: &Reader<'_>) -> HostFacts {
    let kernel = kernel(reader);
    let dmi = |name: &str| reader.text(&format!("/sys/class/dmi/id/{name}"));
    HostFacts {
        name: reader.text("/proc/sys/kernel/hostname"),
        product: joined(dmi("sys_vendor"), dmi("product_name")),
        board: joined(dmi("board_vendor"), dmi("board_name")),
        firmware: Firmware {
            vendor: dmi("bios_vendor"),
            version: dmi("bios_version"),
            date: dmi("bios_date"),
            boot_mode: boot_mode(reader),
            secure_boot: secure_boot(reader),
        },
        distribution: distribution(reader),
        boot_loader: boot_loader(reader),
        hypervisor: hypervisor(reader),
        read_by_uid: status_field(reader, "Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
        device_nodes: NODES.iter().map(|path| node(reader, path)).collect(),
        kernel,
    }
}

/// A line of `/proc/self/status`, without its name.
pub(super) fn status_field(reader: &Reader<'_>, name: &str) -> Option<String> {
    let status = reader.table("/proc/self/status")?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn joined(maker: Option<String>, product: Option<String>) -> Option<String> {
    match (maker, product) {
        (Some(maker), Some(product)) => Some(format!("{maker} {product}")),
        (maker, product) => maker.or(product),
    }
}

fn boot_mode(reader: &Reader<'_>) -> BootMode {
    if reader.tree().exists("/sys/firmware/efi") {
        return BootMode::Uefi;
    }
    if reader.tree().exists("/sys/firmware") { BootMode::Bios } else { BootMode::Unknown }
}

/// The `SecureBoot` variable: four bytes of attributes, then 1 or 0 (UEFI 2.10, section 3.3).
fn secure_boot(reader: &Reader<'_>) -> Option<bool> {
    let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = reader.bytes(variable, super::reader::PAGE)?;
    bytes.get(4).map(|value| *value == 1)
}

fn distribution(reader: &Reader<'_>) -> Distribution {
    let text =
        reader.table("/etc/os-release").or_else(|| reader.table("/usr/lib/os-release")).unwrap_or_default();
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    Distribution { id: field("ID"), like: field("ID_LIKE"), name: field("PRETTY_NAME") }
}

/// Tells the boot loader by the files it leaves; the most special one first.
fn boot_loader(reader: &Reader<'_>) -> BootLoader {
    let any = |paths: &[&str]| paths.iter().any(|path| reader.tree().exists(path));
    if any(&["/run/ostree-booted"]) {
        return BootLoader::RpmOstree;
    }
    if any(&["/etc/kernel/proxmox-boot-uuids"]) {
        return BootLoader::ProxmoxBootTool;
    }
    // systemd-boot names itself in a variable while it runs; GRUB does not.
    if any(&[
        "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
        "/boot/loader/loader.conf",
        "/efi/loader/loader.conf",
        "/boot/efi/loader/loader.conf",
    ]) && !any(&["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"])
    {
        return BootLoader::SystemdBoot;
    }
    if any(&["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/etc/default/grub"]) {
        return BootLoader::Grub;
    }
    BootLoader::Unknown
}

/// The makers by which virtual machines are known in DMI.
const VIRTUAL_MAKERS: [(&str, &str); 7] = [
    ("QEMU", "QEMU"),
    ("VMware", "VMware"),
    ("innotek", "VirtualBox"),
    ("Xen", "Xen"),
    ("Microsoft Corporation", "Hyper-V"),
    ("Amazon EC2", "Amazon EC2"),
    ("Google", "Google Compute Engine"),
];

/// Names the hypervisor below the host, if the processors say that there is one.
fn hypervisor(reader: &Reader<'_>) -> Option<String> {
    if let Some(kind) = reader.text("/sys/hypervisor/type") {
        return Some(kind);
    }
    let cpuinfo = reader.table("/proc/cpuinfo")?;
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    flags.split_whitespace().any(|flag| flag == "hypervisor").then_some(())?;
    let maker = reader.text("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    let known = VIRTUAL_MAKERS.iter().find(|(prefix, _)| maker.starts_with(prefix));
    Some(known.map_or("unknown", |(_, name)| name).to_owned())
}

fn node(reader: &Reader<'_>, path: &str) -> DeviceNode {
    let exists = reader.tree().exists(path);
    DeviceNode { path: path.to_owned(), exists, accessible: exists && reader.tree().accessible(path) }
}

fn kernel(reader: &Reader<'_>) -> KernelFacts {
    let release = reader.needed_text("/proc/sys/kernel/osrelease");
    let modules = Modules::read(reader, release.as_deref());
    // `none [integrity] confidentiality`: the mode in brackets is in force.
    let lockdown = reader.text("/sys/kernel/security/lockdown").and_then(|text| bracketed(&text));
    KernelFacts {
        command_line: reader.needed_text("/proc/cmdline"),
        lockdown,
        modules: MODULES.iter().map(|name| modules.module(reader, name)).collect(),
        release,
    }
}

/// The word in brackets, the kernel's way of showing a choice.
pub(super) fn bracketed(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// Which of the modules that matter come with a kernel.
struct Modules {
    builtin: Vec<&'static str>,
    /// `None` when the list cannot be read.
    loadable: Option<Vec<&'static str>>,
}

impl Modules {
    fn read(reader: &Reader<'_>, release: Option<&str>) -> Self {
        let list = |name: &str| {
            let bytes = reader.bytes(&format!("/lib/modules/{}/{name}", release?), DATABASE_LIMIT)?;
            Some(named_modules(&String::from_utf8_lossy(&bytes)))
        };
        Self { builtin: list("modules.builtin").unwrap_or_default(), loadable: list("modules.dep") }
    }

    fn module(&self, reader: &Reader<'_>, name: &str) -> KernelModule {
        let directory = format!("/sys/module/{name}");
        let state = if reader.tree().exists(&directory) || self.builtin.contains(&name) {
            ModuleState::Present
        } else {
            match &self.loadable {
                Some(loadable) if loadable.contains(&name) => ModuleState::Loadable,
                Some(_) => ModuleState::Missing,
                None => ModuleState::Unknown,
            }
        };
        KernelModule { name: name.to_owned(), state, parameters: parameters(reader, &directory) }
    }
}

/// The modules that matter among the files of a list, one a line, with what they need behind a colon.
fn named_modules(list: &str) -> Vec<&'static str> {
    let files = list.split('\n').filter_map(|line| line.split(':').next()?.rsplit('/').next());
    let stems = files.filter_map(|file| file.split(".ko").next());
    // Files are named with either sign; the kernel takes them as one.
    let known = stems.filter_map(|stem| {
        let same = |name: &&&str| name.len() == stem.len() && stem.replace('-', "_") == **name;
        MODULES.iter().find(same).copied()
    });
    known.collect()
}

/// The parameters that decide something for assignment.
const PARAMETERS: [&str; 9] = [
    "allow_unsafe_interrupts",
    "avic",
    "disable_idle_d3",
    "disable_vga",
    "dma_entry_limit",
    "enable_apicv",
    "enable_sriov",
    "ignore_msrs",
    "nested",
];

/// The parameters of a module; those that only root may read are left out silently.
fn parameters(reader: &Reader<'_>, directory: &str) -> BTreeMap<String, String> {
    let pairs = PARAMETERS.iter().filter_map(|name| {
        let value = reader.tree().text(&format!("{directory}/parameters/{name}")).ok()?;
        Some(((*name).to_owned(), value))
    });
    pairs.collect()
}
