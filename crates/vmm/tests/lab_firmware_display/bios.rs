//! SeaBIOS on a VGA of the host.

use lab::{Failure, Host};

use super::screen::{Picture, picture_of, picture_of_text};
use super::{begin, does, end, find, take};

const CIRRUS: &str = "1013:00b8";
const BOCHS_DISPLAY: &str = "1234:1111";

/// What SeaBIOS says last when there is nothing to boot.
const LAST_WORDS: &str = "No bootable device";

pub(crate) fn primary(host: &Host) -> Result<(), Failure> {
    // What is expected: the same firmware, drawn by ourselves.
    begin(host, "--firmware bios --display", LAST_WORDS)?;
    let hex = does(
        host,
        "allod screenshot /tmp/fd-control -o /tmp/fd-picture.png > /dev/null && od -An -v -tx1 /tmp/fd-picture.png",
    )?;
    let expected = picture_of_text(&hex);
    end(host)?;

    let (card, other) = (find(host, CIRRUS)?, find(host, BOCHS_DISPLAY)?);
    take(host, &[&card, &other])?;
    // A card without legacy ranges is refused before anything starts.
    let refused = host.run(&format!("allod run --firmware bios --primary {other} < /dev/null"))?;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("its class is 0x038000") && refused.stderr.contains("UEFI"),
        "{refused:?}"
    );

    let rom = "/usr/share/seabios/vgabios-cirrus.bin";
    begin(host, &format!("--firmware bios --device {other} --primary {card},rom={rom}"), LAST_WORDS)?;
    let shown = shot(host)?;
    assert_eq!(shown.cells(), expected.cells(), "{:#?}", does(host, "cat /tmp/fd-log")?);
    assert!(expected.lines() >= 3, "{} lines of text", expected.lines());
    end(host)
}

/// What the card shows.
fn shot(host: &Host) -> Result<Picture, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.png");
    host.screenshot("vga0", 0, &file)?;
    if let Ok(copy) = std::env::var("ALLOD_KEEP_PICTURE") {
        std::fs::copy(&file, copy).unwrap();
    }
    Ok(picture_of(&std::fs::read(&file).unwrap()))
}
