//! SeaBIOS on a VGA of the host.

use std::sync::OnceLock;

use lab::{Failure, Host};

use super::screen::{Glyph, picture_of_text};
use super::{begin, does, end, find, shot, take};

pub(crate) const CIRRUS: &str = "1013:00b8";
const BOCHS_DISPLAY: &str = "1234:1111";

/// The card's own BIOS, in a file.
pub(crate) const ROM: &str = "/usr/share/seabios/vgabios-cirrus.bin";

/// What SeaBIOS says last when there is nothing to boot.
const LAST_WORDS: &str = "No bootable device.  Retrying in 60 seconds.";

/// Waits until SeaBIOS has written its last line to its end: each letter goes to the log first and to the screen then.
fn written(host: &Host, log: &str) -> Result<(), Failure> {
    does(host, &format!("until [ -z \"$(tail -c 1 {log})\" ]; do sleep 0.1; done")).map(drop)
}

/// What SeaBIOS writes in a machine called `anna` without anything to boot, drawn by ourselves.
fn expected(host: &Host) -> Result<&'static [Vec<Glyph>], Failure> {
    static EXPECTED: OnceLock<Vec<Vec<Glyph>>> = OnceLock::new();
    if let Some(cells) = EXPECTED.get() {
        return Ok(cells);
    }
    begin(host, "--firmware bios --display", LAST_WORDS)?;
    written(host, "/tmp/fd-log")?;
    let hex = does(
        host,
        "allod screenshot /tmp/fd-control -o /tmp/fd-picture.png > /dev/null && od -An -v -tx1 /tmp/fd-picture.png",
    )?;
    end(host)?;
    let picture = picture_of_text(&hex);
    assert!(picture.lines() >= 3, "{} lines of text", picture.lines());
    Ok(EXPECTED.get_or_init(|| picture.cells()))
}

pub(crate) fn primary(host: &Host) -> Result<(), Failure> {
    let expected = expected(host)?;
    let (card, other) = (find(host, CIRRUS)?, find(host, BOCHS_DISPLAY)?);
    take(host, &[&card, &other])?;
    // A card without legacy ranges is refused before anything starts.
    let refused = host.run(&format!("allod run --firmware bios --primary {other} < /dev/null"))?;
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("its class is 0x038000") && refused.stderr.contains("UEFI"),
        "{refused:?}"
    );

    begin(host, &format!("--firmware bios --device {other} --primary {card},rom={ROM}"), LAST_WORDS)?;
    written(host, "/tmp/fd-log")?;
    let shown = shot(host, "vga0")?;
    assert_eq!(shown.cells(), expected, "{:#?}", does(host, "cat /tmp/fd-log")?);
    end(host)
}

/// The host has booted with this card, so all that can be read of its ROM is what firmware left of it.
pub(crate) fn kept_rom(host: &Host) -> Result<(), Failure> {
    let expected = expected(host)?;
    let card = find(host, CIRRUS)?;
    // The same is read through sysfs and through VFIO.
    for _ in 0..2 {
        let refused = host.run(&format!("allod rom check {card}; allod rom dump {card}"))?;
        assert_eq!(refused.status, 1, "{refused:?}");
        for said in [&refused.stdout, &refused.stderr] {
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains("the copy that this host's firmware has run"), "{refused:?}");
        }
        take(host, &[&card])?;
    }
    let foreign = host.run(&format!("allod rom dump {card} --from /usr/share/seabios/vgabios-stdvga.bin"))?;
    assert!(foreign.status == 1 && foreign.stderr.contains("it is for another card"), "{foreign:?}");

    let seat = format!(
        "[host]\nmemory = \"256MiB\"\n[[seat]]\nname = \"anna\"\ncpus = {{ count = 1, shared = true }}\n\
         memory.size = \"512MiB\"\nfirmware.kind = \"bios\"\nconsole = \"give\"\n[[seat.device]]\naddress = \"{card}\"\n"
    );
    let plan =
        does(host, &format!("cat > /tmp/fd-seats.toml <<'END'\n{seat}END\nallod plan /tmp/fd-seats.toml"))?;
    assert!(plan.contains("allod rom dump"), "no clean one is kept yet: {plan}");
    does(host, &format!("allod rom dump {card} --from {ROM}; allod rom list"))?;
    let differs = host.run(&format!("allod rom check {card}"))?.stdout;
    assert!(
        differs.split_whitespace().collect::<Vec<_>>().join(" ").contains("clean one that is kept in"),
        "{differs}"
    );
    let list = does(host, "allod rom list --json")?;
    assert!(list.contains("1013-00b8-") && list.contains(&card), "{list}");
    let plan = does(host, "allod plan --json /tmp/fd-seats.toml")?;
    assert!(
        plan.contains("/var/lib/allod/roms/1013-00b8-") && plan.contains("\"legacy_vga\": true"),
        "{plan}"
    );

    does(
        host,
        &format!(
            "allod up /tmp/fd-seats.toml && for i in $(seq 1200); do \
             grep -aqs '{LAST_WORDS}' /var/lib/allod/seats/anna/firmware.log && exit 0; sleep 0.1; done; \
             allod logs anna; cat /var/lib/allod/seats/anna/*.log; exit 1"
        ),
    )?;
    written(host, "/var/lib/allod/seats/anna/firmware.log")?;
    let shown = shot(host, "vga0")?;
    assert_eq!(shown.cells(), expected);
    does(host, "allod kill anna").map(drop)
}
