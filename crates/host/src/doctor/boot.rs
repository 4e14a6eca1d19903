//! How the kernel command line is changed on this host, by its boot loader and distribution.

use spec::inventory::{BootLoader, HostFacts, Remedy};

use super::finding::{command, step};

/// The families of distributions whose GRUB is handled differently.
enum GrubFamily {
    Debian,
    Fedora,
    Arch,
    Suse,
    Other,
}

/// The words of the kernel command line.
pub(super) fn parameters(host: &HostFacts) -> impl Iterator<Item = &str> {
    host.kernel.command_line.as_deref().unwrap_or_default().split_whitespace()
}

/// The steps that add `parameter` to the kernel command line.
pub(super) fn add(host: &HostFacts, parameter: &str) -> Vec<Remedy> {
    let purpose = format!("adds `{parameter}` to the kernel command line");
    let change = match host.boot_loader {
        BootLoader::Grub => add_with_grub(host, parameter, purpose),
        BootLoader::SystemdBoot => command(
            format!("sed -i '/^options / s/$/ {parameter}/' /boot/loader/entries/*.conf"),
            format!(
                "{purpose} (the entries may be under /efi or /boot/efi instead; where kernel-install makes them, add \
                 it to /etc/kernel/cmdline and run `kernel-install add-all` instead)"
            ),
        ),
        BootLoader::ProxmoxBootTool => command(
            format!("sed -i '1 s/$/ {parameter}/' /etc/kernel/cmdline && proxmox-boot-tool refresh"),
            purpose,
        ),
        BootLoader::RpmOstree => {
            command(format!("rpm-ostree kargs --append-if-missing={parameter}"), purpose)
        }
        BootLoader::Unknown => {
            step(format!("add `{parameter}` to the kernel command line where your boot loader keeps it"))
        }
    };
    vec![change, step("restart the host")]
}

fn add_with_grub(host: &HostFacts, parameter: &str, purpose: String) -> Remedy {
    let edit = format!("sed -i 's/^GRUB_CMDLINE_LINUX_DEFAULT=\"/&{parameter} /' /etc/default/grub");
    match grub_family(host) {
        GrubFamily::Debian => command(format!("{edit} && update-grub"), purpose),
        GrubFamily::Fedora => command(format!("grubby --update-kernel=ALL --args={parameter}"), purpose),
        GrubFamily::Arch => command(format!("{edit} && grub-mkconfig -o /boot/grub/grub.cfg"), purpose),
        GrubFamily::Suse => command(format!("{edit} && grub2-mkconfig -o /boot/grub2/grub.cfg"), purpose),
        GrubFamily::Other => step(format!(
            "add `{parameter}` to GRUB_CMDLINE_LINUX_DEFAULT in /etc/default/grub and make grub.cfg anew"
        )),
    }
}

/// The steps that take the words matching `bad` off the kernel command line.
pub(super) fn remove(host: &HostFacts, bad: &[&str]) -> Vec<Remedy> {
    let words = bad.join("` and `");
    let change = match (host.boot_loader, grub_family(host)) {
        (BootLoader::Grub, GrubFamily::Fedora) => command(
            format!("grubby --update-kernel=ALL --remove-args=\"{}\"", bad.join(" ")),
            format!("takes `{words}` off the kernel command line"),
        ),
        (BootLoader::RpmOstree, _) => {
            let deletions: Vec<String> =
                bad.iter().map(|word| format!("--delete-if-present={word}")).collect();
            command(format!("rpm-ostree kargs {}", deletions.join(" ")), format!("takes `{words}` off it"))
        }
        (BootLoader::Grub, GrubFamily::Debian) => {
            let edits: Vec<String> = bad.iter().map(|word| format!("-e 's/{word} \\?//'")).collect();
            command(
                format!("sed -i {} /etc/default/grub && update-grub", edits.join(" ")),
                format!("takes `{words}` off the kernel command line"),
            )
        }
        (BootLoader::ProxmoxBootTool, _) => {
            let edits: Vec<String> = bad.iter().map(|word| format!("-e 's/ \\?{word}//'")).collect();
            command(
                format!("sed -i {} /etc/kernel/cmdline && proxmox-boot-tool refresh", edits.join(" ")),
                format!("takes `{words}` off the kernel command line"),
            )
        }
        _ => step(format!("take `{words}` off the kernel command line where your boot loader keeps it")),
    };
    vec![change, step("restart the host")]
}

fn grub_family(host: &HostFacts) -> GrubFamily {
    let id = host.distribution.id.as_deref().unwrap_or_default();
    let like = host.distribution.like.as_deref().unwrap_or_default();
    let is = |name: &str| id == name || like.split_whitespace().any(|word| word == name);
    match () {
        () if is("debian") || is("ubuntu") => GrubFamily::Debian,
        () if is("fedora") || is("rhel") || is("centos") => GrubFamily::Fedora,
        () if is("arch") => GrubFamily::Arch,
        () if is("suse") || is("opensuse") || id.starts_with("opensuse") => GrubFamily::Suse,
        () => GrubFamily::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(boot_loader: BootLoader, id: &str, like: &str) -> HostFacts {
        let mut host = HostFacts { boot_loader, ..HostFacts::default() };
        host.distribution.id = Some(id.to_owned());
        host.distribution.like = Some(like.to_owned());
        host
    }

    #[test]
    fn every_boot_loader_has_its_own_way_to_the_command_line() {
        for (loader, id, like, expected) in [
            (BootLoader::Grub, "linuxmint", "ubuntu debian", "update-grub"),
            (
                BootLoader::Grub,
                "rocky",
                "rhel centos fedora",
                "grubby --update-kernel=ALL --args=intel_iommu=on",
            ),
            (BootLoader::Grub, "opensuse-tumbleweed", "opensuse suse", "grub2-mkconfig"),
            (BootLoader::Grub, "endeavouros", "arch", "grub-mkconfig -o /boot/grub/grub.cfg"),
            (BootLoader::Grub, "gentoo", "", "/etc/default/grub"),
            (BootLoader::SystemdBoot, "arch", "", "/boot/loader/entries/*.conf"),
            (BootLoader::ProxmoxBootTool, "debian", "", "proxmox-boot-tool refresh"),
            (BootLoader::RpmOstree, "fedora", "", "rpm-ostree kargs --append-if-missing=intel_iommu=on"),
            (BootLoader::Unknown, "", "", "where your boot loader keeps it"),
        ] {
            let remedies = add(&host(loader, id, like), "intel_iommu=on");
            let text = match &remedies[0] {
                Remedy::Command { command, purpose } => format!("{command} {purpose}"),
                Remedy::Step { step } => step.clone(),
                other => panic!("{other:?}"),
            };
            assert!(text.contains(expected) && text.contains("intel_iommu=on"), "{id}: {text}");
            assert_eq!(remedies.len(), 2);
        }
    }
}
