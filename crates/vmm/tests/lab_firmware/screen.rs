//! What firmware and boot loaders write on the emulated display, read from its picture; and what a person types at them.

use lab::{Failure, Host};
use scene::judge::Picture;

use crate::terminal::{Glyph, Screen, agrees, glyph, until_page};
use crate::{picture, run};

const CONTROL: &str = "/tmp/fw-screen";
const CONSOLE: &str = "/tmp/fw-screen-console";
/// A BIOS with a display writes nothing on the serial console.
const LOG: &str = "/tmp/fw-screen-log";

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

/// Types keys, by Linux' event codes, and waits as a line says.
fn type_until(host: &Host, codes: &[u16], wait: &str) -> Result<(), Failure> {
    let keys = codes.iter().flat_map(|code| [(code, true), (code, false)]);
    let requests =
        keys.map(|(code, down)| format!("{{\"command\":\"key\",\"code\":{code},\"down\":{down}}}\\n"));
    let requests: String = requests.collect();
    let typed = run(
        host,
        &format!("printf '{requests}' | socat -t 60 - UNIX-CONNECT:{CONTROL} > /dev/null; {wait}",),
    )?;
    assert!(typed.is_success(), "{typed:?}");
    Ok(())
}

/// Ends the machine.
fn end(host: &Host) -> Result<(), Failure> {
    let ended = run(
        host,
        &format!(
            "echo '{{\"command\":\"quit\"}}' | socat -t 60 - UNIX-CONNECT:{CONTROL} > /dev/null; \
             while [ -e {CONTROL} ]; do sleep 0.1; done"
        ),
    )?;
    assert!(ended.is_success(), "{ended:?}");
    Ok(())
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
    type_until(host, &TYPED, &wait_for("heard allod"))?;
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
    let letter = rom.windows(16).position(|bytes| bytes == LETTER).unwrap();
    let font = &rom[letter - 16 * usize::from(b'A')..];
    Ok(font.chunks(16).take(256).map(<[u8]>::to_vec).collect())
}

/// The text of a picture whose characters are 9 by 16 pixels, the ninth column between them.
fn read_text(picture: &Picture, font: &[Glyph]) -> Vec<String> {
    assert_eq!((picture.width, picture.height), (720, 400), "80 by 25 characters");
    let character = |column: usize, row: usize| {
        let glyph = glyph(pixel(picture), (column * 9, row * 16), 16);
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

/// The color at a place.
fn pixel(picture: &Picture) -> impl Fn(usize, usize) -> [u8; 3] {
    |x, y| picture.bytes[(y * picture.width as usize + x) * 3..][..3].try_into().unwrap()
}

pub(crate) fn what_uefi_firmware_writes_is_on_the_display(host: &Host) -> Result<(), Failure> {
    // It writes the same on the serial console and on the display, in a font of its own.
    begin(host, "--firmware uefi", "Shell>")?;
    let echo = [18, 46, 35, 24, 57];
    type_until(host, &[&echo[..], &TYPED[..]].concat(), &wait_for("^[^a-z]*allod"))?;
    shows(host, &["allod"])?;
    // Behind the shell is the setup. "exit" and return; down; return.
    for (codes, last, lines) in [
        (&[18, 45, 23, 20, 28][..], "Boot Maintenance", &[" ► Boot Manager", "Standard English"][..]),
        (&[108], "to the Device Manager", &["This selection will take you", " ► Device Manager"]),
        (&[28], "Devices List", &["Device Manager", "Devices List", "Esc=Exit"]),
    ] {
        type_until(host, codes, &until_page(CONSOLE, last))?;
        shows(host, lines)?;
    }
    end(host)
}

/// The display shows what is on the serial console, these words among it.
fn shows(host: &Host, words: &[&str]) -> Result<(), Failure> {
    agrees(|| {
        let written = Screen::of(&run(host, &format!("cat {CONSOLE}"))?.stdout);
        let shown = picture::take(host, CONTROL)?;
        assert_eq!((shown.width, shown.height), (1280, 800));
        Ok(written.has(words).and_then(|()| written.is_shown_by((1280, 800), pixel(&shown))))
    })
}
