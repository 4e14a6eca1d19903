//! Who has a file open, as far as this process may look: for refusals that name the one to end. `functions` asks.

use linux::sysfs::Tree;

use super::reason::Holder;

/// The first process besides this one that has each of the files open.
pub(super) fn of<'a>(tree: &dyn Tree, paths: &[&'a str]) -> Vec<(&'a str, Holder)> {
    let mut found: Vec<(&str, Holder)> = Vec::new();
    let own = std::process::id();
    let processes = tree.list("/proc").unwrap_or_default();
    for process in processes.iter().filter_map(|name| name.parse().ok()).filter(|process| *process != own) {
        // Those of other users are closed to an ordinary one, and any may be gone by now.
        for file in tree.list(&format!("/proc/{process}/fd")).unwrap_or_default() {
            let Ok(target) = tree.read_link(&format!("/proc/{process}/fd/{file}")) else { continue };
            let Some(path) = paths.iter().find(|path| **path == target) else { continue };
            if !found.iter().any(|(known, _)| known == path) {
                let name = tree.text(&format!("/proc/{process}/comm")).unwrap_or_default();
                found.push((path, Holder { process, name }));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use linux::sysfs::FakeTree;

    use super::{Holder, of};

    #[test]
    fn the_process_that_has_a_file_is_named() {
        let tree = FakeTree::new();
        tree.edit(|nodes| {
            nodes.put_directory("/proc/acpi");
            for (process, name, files) in [
                (1_u32, "init", vec!["/dev/null"]),
                (77, "allod-vmm", vec!["/dev/null", "/dev/vfio/devices/vfio4", "anon_inode:kvm-vm"]),
                (78, "other", vec!["/dev/vfio/devices/vfio4"]),
            ] {
                nodes.put_file(&format!("/proc/{process}/comm"), format!("{name}\n"));
                for (number, file) in files.iter().enumerate() {
                    nodes.put_link(&format!("/proc/{process}/fd/{number}"), file);
                }
            }
            // One of another user.
            nodes.put_file("/proc/79/comm", "closed\n");
        });
        let wanted = ["/dev/vfio/devices/vfio3", "/dev/vfio/devices/vfio4"];
        assert_eq!(of(&tree, &wanted), [(wanted[1], Holder { process: 77, name: "allod-vmm".into() })]);
        assert_eq!(of(&tree, &wanted[..1]), []);
    }
}
