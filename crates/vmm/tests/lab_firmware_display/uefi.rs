//! OVMF on cards that have no BIOS, by the drivers that OVMF has for them.

use lab::{Failure, Host};

use super::{LIMIT, begin, does, end, shot, take};

/// The emulator's names of the screens: bochs-display, secondary-vga, virtio-gpu.
const SCREENS: [&str; 3] = ["screen0", "screen1", "screen3"];

/// The largest console that OVMF offers and all pictures of at least 800x600 have room for.
const COLUMNS: usize = 100;
const ROWS: usize = 31;

/// What is typed, and stands twice on the screen: behind the prompt, and alone in the next line.
const WORD: &str = "allod";
const PROMPT: &str = "Shell> echo ";

/// What firmware writes is on a VGA too, which was the host's boot display: a driver of OVMF's shows it, and no BIOS.
pub(crate) fn boot_vga(host: &Host) -> Result<(), Failure> {
    let found = does(host, "lspci -Dn -d 1234:1111:0300 | cut -d' ' -f1")?;
    let card = found.trim();
    take(host, &[card])?;
    begin(host, &format!("--firmware uefi --device {card},rom=none"), "Shell>")?;
    let text = shot(host, "console0")?.console(COLUMNS, ROWS);
    // The greeting, in which the same letter has the same shape.
    let is_greeting = |row: &Vec<[u8; 19]>| {
        let letters: Vec<_> = GREETING.chars().zip(row).collect();
        letters
            .iter()
            .all(|(letter, shape)| letters.iter().all(|(other, same)| (letter == other) == (shape == same)))
    };
    assert!(text.iter().any(is_greeting), "no `{GREETING}`");
    end(host)
}

const GREETING: &str = "UEFI Interactive Shell v2.";

pub(crate) fn shell(host: &Host) -> Result<(), Failure> {
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
    // The shell says the same on the serial console.
    let heard = "for i in $(seq 600); do tr -d '\\r' < /tmp/fd-console | grep -aq 'allod$' && exit 0; sleep 0.1; done; \
                 cat /tmp/fd-console; exit 1";
    let heard = host.run_within(heard, LIMIT)?;
    assert!(heard.is_success(), "{heard:?}");
    for screen in SCREENS {
        let picture = shot(host, screen)?;
        let text = picture.console(COLUMNS, ROWS);
        let is_written = |row: &usize| {
            let (line, next) = (&text[*row], &text[*row + 1]);
            let typed = &line[PROMPT.len()..PROMPT.len() + WORD.len()];
            let [a, l, same, ..] = typed else { return false };
            *typed == next[..WORD.len()] && l == same && a != l && a.iter().any(|bits| *bits != 0)
        };
        let found = (0..ROWS - 1).find(is_written);
        assert!(
            found.is_some(),
            "{screen}, {}x{}: no `{WORD}` under `{PROMPT}{WORD}`",
            picture.width,
            picture.height
        );
    }
    end(host)
}
