//! Display outputs with their monitors, and what the host itself draws on: framebuffers, consoles, desktops.

use linux::sysfs::Tree;
use spec::PciAddress;
use spec::inventory::{Connector, ConnectorState, Function, HoldKind, HoldStrength};

use super::edid;
use super::holders::Holders;
use super::reader::{Reader, full_address};

const DRM: &str = "/sys/class/drm";
const FRAMEBUFFERS: &str = "/sys/class/graphics";
const CONSOLES: &str = "/sys/class/vtconsole";

/// The names that firmware framebuffers have in `/proc/iomem`: `BOOTFB` and `simple-framebuffer` from
/// `drivers/firmware/sysfb*.c`, the others from the drivers of the same name in `drivers/video/fbdev` and
/// `drivers/gpu/drm/sysfb` (`drivers/gpu/drm/tiny` before 6.16).
const GENERIC_FRAMEBUFFERS: [&str; 9] = [
    "BOOTFB",
    "efifb",
    "vesafb",
    "simplefb",
    "simple-framebuffer",
    "simpledrm",
    "efidrm",
    "vesadrm",
    "efi-framebuffer",
];

/// Tells each function its display outputs.
pub(super) fn name_connectors(reader: &Reader<'_>, functions: &mut [Function]) {
    for name in reader.list(DRM) {
        // `card0-DP-1`: the card has no part behind a hyphen.
        let Some((card, connector)) = name.split_once('-').filter(|(card, _)| card_number(card).is_some())
        else {
            continue;
        };
        let Some(address) = reader.function_of(&format!("{DRM}/{card}/device")) else { continue };
        if let Some(function) = functions.iter_mut().find(|function| function.address == address) {
            function.connectors.push(read_connector(reader, &format!("{DRM}/{name}"), connector));
        }
    }
}

fn card_number(name: &str) -> Option<u32> {
    name.strip_prefix("card")?.parse().ok()
}

fn read_connector(reader: &Reader<'_>, directory: &str, name: &str) -> Connector {
    let state = match reader.text(&format!("{directory}/status")).as_deref() {
        Some("connected") => ConnectorState::Connected,
        Some("disconnected") => ConnectorState::Disconnected,
        _ => ConnectorState::Unknown,
    };
    let path = format!("{directory}/edid");
    let bytes = reader.bytes(&path, edid::MOST_BYTES).filter(|bytes| !bytes.is_empty());
    let monitor = bytes.and_then(|bytes| {
        let monitor = edid::parse(&bytes);
        monitor.map_err(|problem| reader.note(&path, problem.to_string())).ok()
    });
    Connector {
        name: name.to_owned(),
        state,
        enabled: reader.text(&format!("{directory}/enabled")).map(|text| text == "enabled"),
        monitor,
    }
}

/// Adds the holds of boot display, framebuffers, consoles and DRM masters.
pub(super) fn hold(reader: &Reader<'_>, functions: &[Function], holders: &mut Holders) {
    let boot = functions.iter().find(|function| function.boot_vga == Some(true));
    if let Some(boot) = boot {
        holders.add(boot.address, HoldStrength::Note, HoldKind::BootVga);
    }
    for (function, owner) in generic_framebuffers(&reader.table("/proc/iomem").unwrap_or_default()) {
        holders.add(function, HoldStrength::HandOver, HoldKind::Framebuffer { owner });
    }
    hold_consoles(reader, boot.map(|boot| boot.address), holders);
    hold_serial_consoles(reader, holders);
    hold_masters(reader, holders);
}

/// Whether a framebuffer of the firmware lies inside a BAR of this function.
pub(crate) fn framebuffer_lies_in(tree: &dyn Tree, function: PciAddress) -> bool {
    let iomem = tree.table("/proc/iomem").unwrap_or_default();
    generic_framebuffers(&iomem).iter().any(|(around, _)| *around == function)
}

/// The firmware framebuffers that lie inside a function's BAR, by the nesting of `/proc/iomem`.
///
/// The nesting is there for ordinary users too, who see zeros for the addresses.
fn generic_framebuffers(iomem: &str) -> Vec<(PciAddress, String)> {
    let mut above: Vec<(usize, Option<PciAddress>)> = Vec::new();
    let mut found = Vec::new();
    for line in iomem.lines() {
        let depth = line.bytes().take_while(|byte| *byte == b' ').count();
        let Some((_, name)) = line.split_once(" : ") else { continue };
        above.retain(|(outer, _)| *outer < depth);
        let holder = above.iter().rev().find_map(|(_, function)| *function);
        if let Some(function) = holder.filter(|_| GENERIC_FRAMEBUFFERS.contains(&name)) {
            found.push((function, name.to_owned()));
        }
        above.push((depth, full_address(name)));
    }
    found
}

fn hold_consoles(reader: &Reader<'_>, boot: Option<PciAddress>, holders: &mut Holders) {
    let consoles = reader.list(CONSOLES).into_iter().filter(|name| name.starts_with("vtcon"));
    let bound = consoles.filter(|name| reader.flag(&format!("{CONSOLES}/{name}/bind")) == Some(true));
    let names: Vec<String> =
        bound.filter_map(|name| reader.text(&format!("{CONSOLES}/{name}/name"))).collect();
    if names.iter().any(|name| name.contains("VGA+"))
        && let Some(boot) = boot
    {
        holders.add(boot, HoldStrength::HandOver, HoldKind::Console { device: "vgacon".to_owned() });
    }
    if !names.iter().any(|name| name.contains("frame buffer")) {
        return;
    }
    // The console is drawn on the first framebuffer unless a console map says otherwise.
    let mut framebuffers: Vec<(u32, String)> = reader
        .list(FRAMEBUFFERS)
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix("fb")?.parse().ok()?, name)))
        .collect();
    framebuffers.sort();
    let Some((_, first)) = framebuffers.into_iter().next() else { return };
    let own = reader.function_of(&format!("{FRAMEBUFFERS}/{first}"));
    // A firmware framebuffer is a platform device: the function is the one whose BAR it lies in.
    let behind = || holders.functions_with(|kind| matches!(kind, HoldKind::Framebuffer { .. }));
    let owners = own.map_or_else(behind, |function| vec![function]);
    for function in owners {
        holders.add(function, HoldStrength::HandOver, HoldKind::Console { device: first.clone() });
    }
}

/// A serial port on a PCI card that is a console of the kernel.
fn hold_serial_consoles(reader: &Reader<'_>, holders: &mut Holders) {
    let active = reader.text("/sys/class/tty/console/active").unwrap_or_default();
    for port in active.split_whitespace().filter(|name| name.starts_with("ttyS")) {
        let device = format!("/sys/class/tty/{port}/device");
        if let Some(function) = reader.tree().exists(&device).then(|| reader.function_of(&device)).flatten() {
            holders.add(function, HoldStrength::InUse, HoldKind::Console { device: port.to_owned() });
        }
    }
}

fn hold_masters(reader: &Reader<'_>, holders: &mut Holders) {
    for node in reader.list(DRM) {
        let Some(number) = card_number(&node) else { continue };
        // The file is for root only; without it open nodes still tell who has the card.
        let path = format!("/sys/kernel/debug/dri/{number}/clients");
        let Some(clients) = readable_table(reader.tree(), &path) else { continue };
        let Some(function) = reader.function_of(&format!("{DRM}/{node}/device")) else { continue };
        for process in clients.lines().filter_map(master) {
            let kind = HoldKind::DrmMaster { node: node.clone(), process: Some(process) };
            holders.add(function, HoldStrength::InUse, kind);
        }
    }
}

fn readable_table(tree: &dyn Tree, path: &str) -> Option<String> {
    tree.table(path).ok()
}

/// The process of a line of `clients` whose `master` column says `y`: `command tgid dev master a uid magic`.
fn master(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // The command may have spaces in it; behind it come two numbers and two flags.
    let number = |word: &str| word.parse::<u64>().is_ok();
    let flag = |word: &str| matches!(word, "y" | "n");
    let columns = words.windows(4).position(|columns| match columns {
        [id, device, master, authenticated] => {
            number(id) && number(device) && flag(master) && flag(authenticated)
        }
        _ => false,
    })?;
    let (command, columns) = words.split_at_checked(columns)?;
    (columns.get(2) == Some(&"y")).then(|| format!("{} ({})", command.join(" "), columns[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_framebuffer_belongs_to_the_function_around_it() {
        let iomem = "e0000000-efffffff : PCI Bus 0000:01\n\
                     \x20 e0000000-e7ffffff : 0000:01:00.0\n\
                     \x20   e0000000-e02fffff : BOOTFB\n\
                     \x20 e8000000-e8ffffff : 0000:01:00.1\n\
                     \x20 ea000000-ea2fffff : BOOTFB\n\
                     f0000000-f0ffffff : efifb\n";
        let found = generic_framebuffers(iomem);
        assert_eq!(found, [("0000:01:00.0".parse().unwrap(), "BOOTFB".to_owned())]);
        let hidden: String = iomem.lines().map(|line| format!("{}\n", hide(line))).collect();
        assert_eq!(generic_framebuffers(&hidden), found);
    }

    /// What an ordinary user sees of a line.
    fn hide(line: &str) -> String {
        let (range, name) = line.split_once(" : ").unwrap();
        let indent = range.len() - range.trim_start().len();
        format!("{}00000000-00000000 : {name}", &range[..indent])
    }

    #[test]
    fn the_master_of_a_card_is_the_client_that_says_so() {
        for (line, process) in [
            ("             command   tgid dev master a   uid      magic", None),
            ("                Xorg   1234   0   y    y     0          0", Some("Xorg (1234)")),
            ("        Isolated Web   1300 128   n    n  1000          0", None),
            (
                "       gnome shell 3   1300   0   y    y  1000          0 1 name",
                Some("gnome shell 3 (1300)"),
            ),
            ("", None),
        ] {
            assert_eq!(master(line).as_deref(), process, "{line}");
        }
    }
}
