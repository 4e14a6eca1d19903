//! Mounted file systems and swap areas, as the kernel lists them.

use super::reader::Reader;

/// One line of `/proc/self/mountinfo` (Linux Documentation/filesystems/proc.rst, section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device number as `major:minor`; major 0 when the file system has no device of its own.
    pub(super) device: String,
    pub(super) mount_point: String,
    pub(super) file_system: String,
    pub(super) source: String,
    pub(super) super_options: String,
}

/// One line of `/proc/swaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    pub(super) path: String,
    pub(super) is_file: bool,
}

/// The mounts in the order they were made; later ones cover earlier ones.
pub(super) fn mounts(reader: &Reader<'_>) -> Vec<Mount> {
    let table = reader.needed_table("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let device = place.next()?.to_owned();
    let mount_point = unescape(place.nth(1)?);
    let mut kind = kind.split(' ');
    Some(Mount {
        device,
        mount_point,
        file_system: kind.next()?.to_owned(),
        source: unescape(kind.next()?),
        super_options: kind.next().unwrap_or_default().to_owned(),
    })
}

/// The swap areas in use.
pub(super) fn swaps(reader: &Reader<'_>) -> Vec<Swap> {
    let table = reader.table("/proc/swaps").unwrap_or_default();
    let areas = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some(Swap { path: unescape(words.next()?), is_file: words.next()? == "file" })
    });
    areas.collect()
}

/// Turns the kernel's octal escapes (`\040` for a space) back into characters.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits {
            Some([a, b, c]) if *first == b'\\' => {
                let value = u32::from(a - b'0') << 6 | u32::from(b - b'0') << 3 | u32::from(c - b'0');
                bytes.push(value as u8);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount that a path lies in: the last one with the longest mount point that is a parent of it.
pub(super) fn mount_of<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let holds = |mount: &&Mount| {
        let point = mount.mount_point.trim_end_matches('/');
        path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.iter().filter(holds).max_by_key(|mount| mount.mount_point.len())
}

/// Whether the host cannot go on without what is mounted there.
pub(super) fn is_system(mount_point: &str) -> bool {
    const EXACT: [&str; 9] = ["/", "/home", "/root", "/opt", "/srv", "/tmp", "/lib", "/bin", "/sbin"];
    const WITH_ALL_BELOW: [&str; 8] = ["/boot", "/efi", "/usr", "/var", "/etc", "/nix", "/gnu", "/sysroot"];
    let below = |top: &str| {
        mount_point.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    EXACT.contains(&mount_point) || WITH_ALL_BELOW.iter().any(|top| below(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read_with_optional_fields_and_escapes() {
        let line = r"36 35 259:2 / /mnt/my\040disk rw,noatime shared:1 master:2 - ext4 /dev/nvme0n1p2 rw,errors=continue";
        let mount = mount(line).unwrap();
        assert_eq!(mount.device, "259:2");
        assert_eq!(mount.mount_point, "/mnt/my disk");
        assert_eq!((mount.file_system.as_str(), mount.source.as_str()), ("ext4", "/dev/nvme0n1p2"));
        assert_eq!(super::mount("nonsense"), None);
        assert_eq!(unescape(r"a\04"), r"a\04");
        assert_eq!(unescape(r"\134\777"), "\\\u{fffd}");
    }

    #[test]
    fn a_file_lies_in_the_nearest_mount_and_in_the_last_one_there() {
        let at = |point: &str, device: &str| Mount {
            device: device.to_owned(),
            mount_point: point.to_owned(),
            file_system: String::new(),
            source: String::new(),
            super_options: String::new(),
        };
        let mounts = [at("/", "1:1"), at("/home", "1:2"), at("/home", "1:3")];
        for (path, device) in [("/swapfile", "1:1"), ("/home/x", "1:3"), ("/homes/x", "1:1")] {
            assert_eq!(mount_of(&mounts, path).unwrap().device, device, "{path}");
        }
    }

    #[test]
    fn the_hosts_own_directories_are_told_from_data() {
        for (point, system) in [
            ("/", true),
            ("/boot/efi", true),
            ("/var/lib/docker", true),
            ("/home", true),
            ("/home/ann/games", false),
            ("/mnt/data", false),
            ("/media/usb", false),
            ("/usrlocal", false),
        ] {
            assert_eq!(is_system(point), system, "{point}");
        }
    }
}
