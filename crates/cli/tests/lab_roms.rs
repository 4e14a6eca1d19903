//! What doctor and planner say of option ROMs that show nothing in a seat, before anything is taken for it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;

use lab::scenario::{Scenario, run_all, shared};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[shared(
    "a_rom_that_shows_nothing_is_told_of_before_a_seat_starts",
    "vga",
    a_rom_that_shows_nothing_is_told_of_before_a_seat_starts,
)];

/// That of Debian's `seabios` for this card: for a BIOS alone.
const ROM: &str = "/usr/share/seabios/vgabios-cirrus.bin";

fn a_rom_that_shows_nothing_is_told_of_before_a_seat_starts(host: &Host) -> Result<(), Failure> {
    let seat = |name: &str, rest: &str| {
        format!(
            "cat > /tmp/{name} <<END\n[host]\nmemory = \"256MiB\"\n[[seat]]\nname = \"anna\"\n\
             cpus = {{ count = 1, shared = true }}\nmemory.size = \"512MiB\"\nconsole = \"give\"\n{rest}\nEND\n"
        )
    };
    let card = |rom: &str| format!("device = [{{ address = \"$card\"{rom} }}]");
    let said = host.run(&format!(
        "card=$(lspci -Dn -d 1013: | cut -d' ' -f1)\n{}{}{}{}\
         printf '\\125\\252\\0' > /tmp/ro-endless; head -c 21 /dev/zero >> /tmp/ro-endless; printf '\\034\\0\\0\\0PCIR\\023\\020\\270' \
         >> /tmp/ro-endless; head -c 474 /dev/zero >> /tmp/ro-endless\n\
         head -c 2048 /dev/zero | tr '\\000' '\\377' > /tmp/ro-ones\n\
         echo from a file; allod plan --json /tmp/ro-uefi.toml; echo one that lies; allod plan --json /tmp/ro-lies.toml\n\
         echo one that is none; allod plan --json /tmp/ro-ones.toml\n\
         allod rom dump $card --from {ROM} >&2\n\
         echo kept; allod plan --json /tmp/ro-kept.toml; echo doctor; allod doctor --json; rm -r /var/lib/allod/roms",
        seat("ro-uefi.toml", &card(&format!(", rom = \"{ROM}\""))),
        seat("ro-lies.toml", &card(", rom = \"/tmp/ro-endless\"")),
        seat("ro-ones.toml", &card(", rom = \"/tmp/ro-ones\"")),
        seat("ro-kept.toml", &card("")),
    ))?;
    let part = |from: &str, to: &str| {
        let rest = said.stdout.split_once(&format!("{from}\n")).unwrap_or_default().1;
        rest.split_once(&format!("{to}\n")).map_or(rest, |(part, _)| part).to_owned()
    };
    for (from, to, words) in [
        ("from a file", "one that lies", &["rom-of-other-kind", "has no image for UEFI"][..]),
        (
            "one that lies",
            "one that is none",
            &["file-unfit", "is not what it says", "says that it has no bytes"],
        ),
        ("one that is none", "kept", &["file-unfit", "is no option ROM", "all of it is ones"]),
        ("kept", "doctor", &["rom-of-other-kind", "has no image for UEFI"]),
        ("doctor", "the end", &["rom-of-one-kind", "firmware.kind = \\\"bios\\\""]),
    ] {
        let text = part(from, to);
        assert!(words.iter().all(|word| text.contains(word)), "no {words:?} in `{from}`: {said:?}");
    }
    Ok(())
}
