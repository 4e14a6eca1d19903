//! OVMF on cards that have no BIOS, by the drivers that OVMF has for them: its shell, and its setup behind that.

use lab::{Failure, Host};

use super::terminal::{Screen, agrees, until_page};
use super::{begin, does, end, shot, take};

/// What is said on the serial console as well.
const CONSOLE: &str = "/tmp/fd-console";

/// What firmware writes is on a VGA too, which was the host's boot display: a driver of OVMF's shows it, and no BIOS.
pub(crate) fn boot_vga(host: &Host) -> Result<(), Failure> {
    let found =
        does(host, "(lspci -Dn -d 1234:1111:0300; lspci -Dn -d 1b36:000d | head -1) | cut -d' ' -f1")?;
    let [card, usb] = found.lines().collect::<Vec<_>>()[..] else { panic!("{found}") };
    take(host, &[card, usb])?;
    begin(host, &format!("--firmware uefi --device {card},rom=none --device {usb}"), "Shell>")?;
    show(host, &["console0"], &["UEFI Interactive Shell v2."])?;
    goes_through_the_setup(host, "usb-a", &["console0"])?;
    end(host)
}

pub(crate) fn every_card(host: &Host) -> Result<(), Failure> {
    // The emulator's names of bochs-display, secondary-vga, virtio-gpu.
    let screens = ["screen0", "screen1", "screen3"];
    let found = does(
        host,
        "(lspci -Dn -d 1234:1111; lspci -Dn -d 1af4:1050; lspci -Dn -d 1b36:000d | head -1) | cut -d' ' -f1",
    )?;
    let cards: Vec<&str> = found.lines().collect();
    assert_eq!(cards.len(), 4, "{found}");
    take(host, &cards)?;
    let devices: String = cards.iter().map(|card| format!("--device {card} ")).collect();
    begin(host, &format!("--firmware uefi {devices}"), "Shell>")?;
    host.key("usb0", "e c h o spc a l l o d ret")?;
    does(
        host,
        &format!(
            "for i in $(seq 600); do tr -d '\\r' < {CONSOLE} | grep -aq 'allod$' && exit 0; sleep 0.1; done; cat {CONSOLE}; exit 1"
        ),
    )?;
    show(host, &screens, &["Shell> echo allod", "allod"])?;
    goes_through_the_setup(host, "usb0", &screens)?;
    end(host)
}

/// Leaves the shell, behind which is the setup's first page, chooses what is next there, and opens that.
fn goes_through_the_setup(host: &Host, keyboard: &str, screens: &[&str]) -> Result<(), Failure> {
    for (keys, last, words) in [
        ("e x i t ret", "Boot Maintenance", [" ► Boot Manager", "<Standard English>"]),
        ("down", "to the Device Manager", [" ► Device Manager", "This selection will take you"]),
        ("ret", "Devices List", ["Device Manager", "Devices List"]),
    ] {
        host.key(keyboard, keys)?;
        does(host, &until_page(CONSOLE, last))?;
        show(host, screens, &words)?;
    }
    Ok(())
}

/// Each screen shows what is on the serial console, these words among it.
fn show(host: &Host, screens: &[&str], words: &[&str]) -> Result<(), Failure> {
    for screen in screens {
        agrees(|| {
            let written = Screen::of(&does(host, &format!("cat {CONSOLE}"))?);
            let shown = shot(host, screen)?;
            let size = (shown.width, shown.height);
            let same = written.has(words).and_then(|()| written.is_shown_by(size, |x, y| shown.pixel(x, y)));
            Ok(same.map_err(|difference| format!("{screen}, {size:?}: {difference}")))
        })?;
    }
    Ok(())
}
