//! What firmware and boot loaders write on the emulated display, read from its picture; and what a person types at them.

use std::collections::HashMap;

use lab::{Failure, Host};
use scene::judge::Picture;

use crate::{picture, run};

const CONTROL: &str = "/tmp/fw-screen";
const CONSOLE: &str = "/tmp/fw-screen-console";
/// A BIOS with a display writes nothing on the serial console.
const LOG: &str = "/tmp/fw-screen-log";

/// The pixels of a character's cell, line by line, eight columns of each.
type Glyph = Vec<u8>;

/// Starts a machine with a display, and waits until it has written `word` on its serial console or debug port.
fn begin(host: &Host, flags: &str, word: &str) -> Result<(), Failure> {
    let begun = run(
        host,
        &format!(
            "rm -f {CONTROL}; : > {LOG}; \
             allod run --display --control {CONTROL} --firmware-log {LOG} {flags} < /dev/null > {CONSOLE} 2>&1 & {}",
            wait_for(word)
        ),
    )?;
    assert!(begun.is_success(), "{begun:?}");
    Ok(())
}

/// A line that waits for `word`.
fn wait_for(word: &str) -> String {
    format!(
        "for i in $(seq 2400); do grep -qa '{word}' {CONSOLE} {LOG} && exit 0; sleep 0.1; done; cat {CONSOLE}; exit 1"
    )
}

/// Types keys, by Linux' event codes, and waits for `word` on the serial console.
fn type_until(host: &Host, codes: &[u16], word: &str) -> Result<(), Failure> {
    let keys = codes.iter().flat_map(|code| [(code, true), (code, false)]);
    let requests =
        keys.map(|(code, down)| format!("{{\"command\":\"key\",\"code\":{code},\"down\":{down}}}\\n"));
    let requests: String = requests.collect();
    let typed = run(
        host,
        &format!(
            "printf '{requests}' | socat -t 60 - UNIX-CONNECT:{CONTROL} > /dev/null; {}",
            wait_for(word)
        ),
    )?;
    assert!(typed.is_success(), "{typed:?}");
    Ok(())
}

/// Ends the machine, and gives what it has written on its serial console.
fn end(host: &Host) -> Result<String, Failure> {
    let ended = run(
        host,
        &format!(
            "echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:{CONTROL} > /dev/null; \
             while [ -e {CONTROL} ]; do sleep 0.1; done; cat {CONSOLE}"
        ),
    )?;
    Ok(ended.stdout)
}

/// "allod" and return.
const TYPED: [u16; 6] = [30, 38, 38, 24, 32, 28];

pub(crate) fn what_a_bios_writes_is_on_the_display(host: &Host) -> Result<(), Failure> {
    let font = bios_font(host)?;
    begin(host, "--firmware bios", "No bootable device")?;
    let lines = read_text(&picture::take(host, CONTROL)?, &font);
    end(host)?;
    assert!(lines[0].starts_with("SeaBIOS (version "), "{lines:?}");
    for line in ["Booting from Hard Disk...", "No bootable device.  Retrying in 60 seconds."] {
        assert!(lines.iter().any(|found| found.trim_end() == line), "no `{line}` in {lines:?}");
    }

    // A boot loader that waits for a person at the keyboard.
    let made = run(
        host,
        "set -e; cd /tmp; printf 'serial\\nterminal_output serial console\\nterminal_input console\\n\
         echo listening\\nread word\\necho heard $word\\nread word\\n' > fw-keys.cfg\n\
         grub-mkimage -O i386-pc -o fw-core -p / -c fw-keys.cfg biosdisk part_msdos serial normal echo read\n\
         cat /usr/lib/grub/i386-pc/boot.img fw-core > fw-keys; truncate -s 1M fw-keys",
    )?;
    assert!(made.is_success(), "{made:?}");
    begin(host, "--firmware bios --disk /tmp/fw-keys", "listening")?;
    type_until(host, &TYPED, "heard allod")?;
    let lines = read_text(&picture::take(host, CONTROL)?, &font);
    end(host)?;
    assert!(lines.iter().any(|line| line.trim_end().ends_with("heard allod")), "{lines:?}");
    Ok(())
}

/// The 256 characters of 8 by 16 pixels that the card's BIOS has.
fn bios_font(host: &Host) -> Result<Vec<Glyph>, Failure> {
    /// How it draws an A.
    const LETTER: [u8; 16] = [0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];
    let hex = run(host, "od -An -v -tx1 /usr/share/seabios/vgabios-stdvga.bin")?.stdout;
    let rom: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let letter = rom.windows(16).position(|bytes| bytes == LETTER).expect("a font with an A");
    let font = &rom[letter - 16 * usize::from(b'A')..];
    Ok(font.chunks(16).take(256).map(<[u8]>::to_vec).collect())
}

/// The text of a picture whose characters are 9 by 16 pixels, the ninth column between them.
fn read_text(picture: &Picture, font: &[Glyph]) -> Vec<String> {
    assert_eq!((picture.width, picture.height), (720, 400), "80 by 25 characters");
    let character = |column: u32, row: u32| {
        let glyph = glyph(picture, (column * 9, row * 16), 16);
        let found = font.iter().position(|known| *known == glyph);
        match found {
            // The first character is as empty as the space.
            Some(0) => ' ',
            Some(code) => u8::try_from(code).map_or('\u{fffd}', char::from),
            None => '\u{fffd}',
        }
    };
    (0..25).map(|row| (0..80).map(|column| character(column, row)).collect()).collect()
}

/// The cell at a place: what is not black is ink.
fn glyph(picture: &Picture, at: (u32, u32), height: u32) -> Glyph {
    let ink = |x: u32, y: u32| {
        let pixel = ((at.1 + y) * picture.width + at.0 + x) as usize * 3;
        picture.bytes[pixel..pixel + 3].iter().any(|value| *value > 0x40)
    };
    (0..height).map(|y| (0..8).fold(0, |bits, x| bits << 1 | u8::from(ink(x, y)))).collect()
}

pub(crate) fn what_uefi_firmware_writes_is_on_the_display(host: &Host) -> Result<(), Failure> {
    // It writes the same on the serial console and on the display, in a font of its own.
    begin(host, "--firmware uefi", "Shell>")?;
    let echo = [18, 46, 35, 24, 57];
    type_until(host, &[&echo[..], &TYPED[..]].concat(), "^[^a-z]*allod")?;
    let shown = picture::take(host, CONTROL)?;
    let written = Screen::of(&end(host)?);
    assert!(written.lines().any(|line| line.trim_end() == "allod"), "{:?}", written.0);
    assert_eq!((shown.width, shown.height), (1280, 800));
    written.is_shown_by(&shown).unwrap();
    Ok(())
}

/// What stands on a terminal after some text.
struct Screen(Vec<Vec<char>>);

impl Screen {
    const COLUMNS: usize = 100;
    const ROWS: usize = 31;
    /// OVMF's font.
    const CELL: (u32, u32) = (8, 19);

    fn of(text: &str) -> Self {
        let mut cells = vec![vec![' '; Self::COLUMNS]; Self::ROWS];
        let (mut row, mut column) = (0_usize, 0_usize);
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            match next {
                '\r' => column = 0,
                '\n' => row += 1,
                '\x08' => column = column.saturating_sub(1),
                '\x1b' => {
                    // A command: numbers between semicolons, and a letter.
                    let mut command = String::new();
                    for next in rest.by_ref() {
                        command.push(next);
                        if next.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    let numbers: Vec<usize> = command
                        .trim_start_matches('[')
                        .trim_end_matches(char::is_alphabetic)
                        .split(';')
                        .map(|number| number.parse().unwrap_or(1))
                        .collect();
                    match command.chars().last() {
                        Some('H') => (row, column) = (numbers[0] - 1, numbers.get(1).map_or(0, |x| x - 1)),
                        Some('J') => cells.iter_mut().for_each(|row| row.fill(' ')),
                        _ => {}
                    }
                }
                shown => {
                    if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                        *cell = shown;
                    }
                    column += 1;
                }
            }
        }
        Self(cells)
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|row| row.iter().collect())
    }

    /// Whether each character stands in its place: the same one always in the same shape, and no two in one.
    fn is_shown_by(&self, picture: &Picture) -> Result<(), String> {
        let left = (picture.width - Self::COLUMNS as u32 * Self::CELL.0) / 2;
        let top = (picture.height - Self::ROWS as u32 * Self::CELL.1) / 2;
        let mut shapes: HashMap<char, Glyph> = HashMap::new();
        for (row, line) in (0..).zip(&self.0) {
            for (column, written) in (0..).zip(line) {
                let at = (left + column * Self::CELL.0, top + row * Self::CELL.1);
                // The last lines of a cell have the cursor.
                let found = glyph(picture, at, Self::CELL.1 - 4);
                let known = shapes.entry(*written).or_insert_with(|| found.clone());
                if *known != found {
                    return Err(format!("`{written}` in row {row}, column {column} looks like another one"));
                }
            }
        }
        let different: std::collections::HashSet<_> = shapes.values().collect();
        if different.len() != shapes.len() || shapes.len() < 20 {
            return Err(format!("{} characters have {} shapes", shapes.len(), different.len()));
        }
        Ok(())
    }
}
