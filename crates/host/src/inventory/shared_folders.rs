//! Folders that a virtual machine has from the host below it: 9p and virtiofs over a virtio function.

use spec::PciAddress;

use super::mounts::Mount;
use super::reader::Reader;

/// The function through which a shared folder comes; `None` for every other file system.
pub(super) fn function(reader: &Reader<'_>, mount: &Mount) -> Option<PciAddress> {
    match mount.file_system.as_str() {
        "9p" => tagged(reader, "/sys/bus/virtio/devices", "mount_tag", &mount.source),
        "virtiofs" => tagged(reader, "/sys/fs/virtiofs", "tag", &mount.source),
        _ => None,
    }
}

/// The function of the entry of `directory` whose attribute `file` is `tag`.
///
/// Entries of `/sys/fs/virtiofs` (since Linux 6.9) link to their virtio device.
fn tagged(reader: &Reader<'_>, directory: &str, file: &str, tag: &str) -> Option<PciAddress> {
    let entries = reader.list(directory).into_iter().map(|entry| format!("{directory}/{entry}"));
    let mut with_tag =
        entries.filter(|entry| reader.text(&format!("{entry}/{file}")).as_deref() == Some(tag));
    let entry = with_tag.next()?;
    let device = format!("{entry}/device");
    // In the virtio directory `device` is the device id, not a link.
    let place = if reader.tree().read_link(&device).is_ok() { device } else { entry };
    reader.function_of(&place)
}
