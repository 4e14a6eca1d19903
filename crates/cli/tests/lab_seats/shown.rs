//! Seats that start by firmware and have an emulated display: what is seen and read of them by name, and what they keep.

use lab::{Failure, Host};

use crate::disks::shell_disk;
use crate::seats::{DISK, does, driver, functions, seat, until, write};

const VARIABLE: &str = "setvar Kept -guid 7235c51c-0c80-4cab-87ac-3b084a6304b1";

pub(crate) fn seats_with_firmware_are_seen_by_name_and_keep_their_variables(
    host: &Host,
) -> Result<(), Failure> {
    let card = functions(host, DISK)?[0];
    let script = format!(
        "{VARIABLE}\r\nif %lasterror% ne 0x0 then\r\n{VARIABLE} -nv -bs -rt =0x6F766572\r\necho LIFE-ONE\r\nelse\r\n\
         echo LIFE-TWO\r\nendif\r\n"
    );
    let disk = shell_disk(host, &script)?;
    let display = "display = \"emulated\"\npower-off-seconds = 1\n";
    let nvme = format!("{display}disk = [{{ path = \"{disk}\", as = \"nvme\" }}]");
    let both = [
        seat("anna", "firmware.kind = \"uefi\"", &[card], &nvme),
        seat("ben", "firmware.kind = \"bios\"", &[], display),
    ];
    write(host, "/tmp/shown.toml", &both)?;
    does(host, "allod up /tmp/shown.toml")?;
    does(host, &until("allod logs anna | grep -aq LIFE-ONE"))?;
    does(host, &until("allod logs ben --firmware | grep -aq 'No bootable device'"))?;
    for (name, size) in [("anna", (1280, 800)), ("ben", (720, 400))] {
        let shot = does(host, &format!("allod screenshot {name} -o /tmp/{name}.png --json"))?;
        let shot: serde_json::Value = serde_json::from_str(&shot).unwrap();
        assert_eq!((&shot["width"], &shot["height"]), (&size.0.into(), &size.1.into()), "{name}");
        assert_eq!(does(host, &format!("head -c 4 /tmp/{name}.png | tail -c 3"))?, "PNG");
    }
    assert!(does(host, "allod logs ben --firmware")?.contains("SeaBIOS (version "));
    is_seen_by_a_viewer(host)?;
    does(host, "allod down --all")?;
    assert_eq!(driver(host, card)?, "nvme");
    does(host, "allod up /tmp/shown.toml anna")?;
    does(host, &until("allod logs anna | grep -aq LIFE-"))?;
    assert!(does(host, "allod logs anna")?.contains("LIFE-TWO"), "its variables stay with the seat");
    does(host, "allod down anna")?;
    Ok(())
}

/// A viewer (RFC 6143) asks for all of the picture, 1280 by 800 points of four bytes; some have ink.
fn is_seen_by_a_viewer(host: &Host) -> Result<(), Failure> {
    let seen = does(
        host,
        "rm -f /tmp/anna-view; allod view anna --listen unix:/tmp/anna-view > /dev/null 2>&1 & \
         until [ -S /tmp/anna-view ]; do sleep 0.1; done; : > /tmp/anna-seen; \
         (printf 'RFB 003.008\\n\\001\\001\\003\\000\\000\\000\\000\\000\\005\\000\\003\\040'; \
         for i in $(seq 600); do [ $(stat -c %s /tmp/anna-seen) -lt 4096000 ] || break; sleep 0.1; done) | \
         socat - UNIX-CONNECT:/tmp/anna-view > /tmp/anna-seen; \
         stat -c %s /tmp/anna-seen; tail -c 4096000 /tmp/anna-seen | tr -d '\\000' | wc -c",
    )?;
    let numbers: Vec<u64> = seen.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] > 4_096_000 && numbers[1] > 1000, "{seen}");
    Ok(())
}
