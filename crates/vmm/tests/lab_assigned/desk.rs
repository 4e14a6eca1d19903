//! What a person meets at a desk: pictures, keys and sound.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::{Failure, Host};

use crate::guests::{
    TOOLS, TOOLS_DISK, debian, does, find, guest, prepare, start, take, wait_for, wait_for_end,
};
use crate::transfers::{Exchange, NOT_FOR_GUESTS};
use crate::{AC97, E1000, HDA, VIRTIO_GPU, XHCI, groups};

/// The screens of the desk: the emulator's name, the ids and which of several, the driver.
const SCREENS: [(&str, &str, usize, &str); 4] = [
    ("screen0", "1234:1111", 2, "bochs"),
    ("screen1", "1234:1111", 1, "bochs"),
    ("screen2", "1002:5046", 1, "aty128fb"),
    ("screen3", VIRTIO_GPU, 1, "virtio_gpu"),
];

/// Each card's half pictures: red, green and blue above and below.
const COLOURS: [[[u8; 3]; 2]; 4] = [
    [[254, 2, 1], [1, 2, 254]],
    [[2, 250, 1], [240, 240, 3]],
    // From a palette of six bits a colour, which the emulator shows as they are: 170 of 255 is 42 of 63.
    [[42, 0, 0], [0, 0, 42]],
    [[20, 230, 230], [230, 20, 230]],
];

/// A desk of one guest: its screens, its keyboard and pointer, and sound.
pub(crate) fn desk(host: &Host) -> Result<(), Failure> {
    let sound = sound_cards(host)?;
    let console = at_a_desk(host, &sound.each_ref().map(String::as_str), sound_work())?;
    is_heard(host, &console);
    Ok(())
}

/// The same without sound.
pub(crate) fn screens_and_keys(host: &Host) -> Result<(), Failure> {
    at_a_desk(host, &[], "").map(drop)
}

/// A guest draws, hears keys, and does some more `work` with these other functions; gives its console.
fn at_a_desk(host: &Host, others: &[&str], work: &str) -> Result<String, Failure> {
    let mut functions = Vec::new();
    for (_, ids, which, _) in SCREENS {
        functions.push(find_nth(host, ids, which)?);
    }
    functions.push(find(host, XHCI)?);
    let functions: Vec<_> = functions.iter().map(String::as_str).chain(others.iter().copied()).collect();
    take(host, &functions)?;
    prepare(host, &format!("{TOOLS} {} {INPUT_WORK} {work}", drawing_work()))?;
    // The second controller stays with the host: its key is what the host hears, and all it hears.
    does(
        host,
        "rm -f /tmp/heard*; modprobe evdev; for e in /dev/input/event*; do cat $e > /tmp/heard-$(basename $e) & done; true",
    )?;
    start(host, &debian(&functions, TOOLS_DISK, "vt.global_cursor_default=0 fbcon=map:0123"))?;
    let console = wait_for(host, "DRAWN")?;
    // One of them could have its own dealings with the host's IOMMU.
    assert!(console.contains("KEPT 0"), "{console}");
    are_seen(host, &console)?;
    wait_for(host, "READY")?;
    host.key("keyboard1", "b")?;
    host.key("keyboard0", "a")?;
    host.hardware().click("tablet0", 0x1000, 0x2000)?;
    let (console, _) = wait_for_end(host)?;
    are_told_apart(host, &console)?;
    Ok(console)
}

/// One guest has all four screens; each slot's number tells it which is which. A card is switched on when a console of the
/// kernel is mapped to it, though only one of them is ever seen.
///
/// Each half is one write: the kernel draws some time later what its list of changed areas names, and one that begins
/// within a line and ends with it has no width there (drivers/gpu/drm/drm_fb_helper.c, `drm_fb_helper_memory_range_to_clip`),
/// so that of pieces of a page some are never drawn.
fn drawing_work() -> String {
    let drivers: String = SCREENS.iter().map(|(.., driver)| format!("in_host modprobe {driver}; ")).collect();
    // Blue, green, red and one byte unused for each pixel; a card with one byte for a pixel has the sixteen colours of
    // text: 4 is red and 1 is blue.
    let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let mut fills = String::new();
    for (slot, halves) in COLOURS.iter().enumerate() {
        let wide = halves.map(|[red, green, blue]| octal(&[blue, green, red, 3]));
        fills.push_str(&format!("{}) above='{}'; below='{}';; ", slot + 1, wide[0], wide[1]));
    }
    format!(
        "{drivers} sleep 1; \
         fill() {{ yes \"$(printf \"$1\")\" | tr -d '\\n' | in_host dd bs=$((s * h / 2)) count=1 iflag=fullblock 2>/dev/null; }}; \
         for f in /sys/class/graphics/fb*; do \
           [ -e $f/device ] || continue; s=$(cat $f/stride); h=$(cut -d, -f2 $f/virtual_size); \
           slot=$(readlink -f $f/device | grep -o '0000:0[1-9]:' | cut -c7); \
           case $slot in {fills} esac; \
           [ $(cat $f/bits_per_pixel) = 8 ] && {{ above='\\004'; below='\\001'; }}; \
           echo 0 > $f/blank; (fill $above; fill $below) > /dev/$(basename $f); echo SLOT $slot $(cat $f/name) $s $h $(cat $f/bits_per_pixel); \
         done; echo KEPT $(in_host lspci -vv | grep -cE '{NOT_FOR_GUESTS}'); echo DRAWN;"
    )
}

/// Each screen shows its colours, in every pixel.
fn are_seen(host: &Host, console: &str) -> Result<(), Failure> {
    let file = tempfile::NamedTempFile::new().unwrap();
    for ((id, ..), halves) in SCREENS.iter().zip(&COLOURS) {
        let begin = Instant::now();
        loop {
            host.screenshot(id, 0, file.path())?;
            let Some(wrong) = first_wrong(file.path(), halves) else { break };
            assert!(begin.elapsed() < DRAWN_WITHIN, "{id}: {wrong}: {console}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

/// How long after a write at most the whole of it is to be seen; a guest on a busy machine takes seconds.
const DRAWN_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which pixels of a picture are not of the colours of its halves, if any.
fn first_wrong(file: &Path, halves: &[[u8; 3]; 2]) -> Option<String> {
    let (pixels, width, height, bytes) = read_png(file);
    let is_wrong = |(at, pixel): &(usize, &[u8])| pixel[..3] != halves[usize::from(at / width >= height / 2)];
    let mut wrong = pixels.chunks_exact(bytes).enumerate().filter(is_wrong);
    let (at, pixel) = wrong.next()?;
    let (x, y) = (at % width, at / width);
    Some(format!(
        "{} of {width}x{height} pixels are wrong, the first at {x},{y}: {pixel:?}",
        wrong.count() + 1
    ))
}

/// Waits for a key and a click, and prints both.
const INPUT_WORK: &str = "modprobe xhci_pci; modprobe usbhid; modprobe hid_generic; modprobe evdev; \
    of() { grep -A5 \"$1\" /proc/bus/input/devices | grep -o 'event[0-9]*' | head -1; }; \
    while [ -z \"$(of Keyboard)\" ] || [ -z \"$(of Tablet)\" ]; do sleep 0.2; done; \
    cat /dev/input/$(of Keyboard) > /tmp/keys & cat /dev/input/$(of Tablet) > /tmp/clicks & \
    while ! [ -e /tmp/clicks ]; do sleep 0.1; done; sleep 0.5; echo READY; \
    while ! [ -s /tmp/keys ] || ! [ -s /tmp/clicks ]; do sleep 0.2; done; sleep 1; \
    for f in keys clicks; do echo $f $(hexdump -v -e '24/1 \"%02x\" \"\n\"' /tmp/$f | cut -c33-); done; kill %1 %2;";

/// The guest has heard its own keyboard and pointer, the host the other keyboard, and neither more.
fn are_told_apart(host: &Host, console: &str) -> Result<(), Failure> {
    let heard = does(host, "cat /tmp/heard-* | hexdump -v -e '24/1 \"%02x\" \"\n\"' | cut -c33-")?;
    // Type 1 (key), code 30 (a) or 48 (b), value 1 (pressed), as linux/input-event-codes.h has them; then type 3 (place),
    // code 0 (across); and code 0x110 (left button).
    let (a, b) = ("01001e0001000000", "0100300001000000");
    assert!(console.contains(a) && !console.contains(b), "{console}");
    assert!(console.contains("0300000000100000") && console.contains("0100100101000000"), "{console}");
    assert!(heard.contains(b) && !heard.contains(a) && !heard.contains("0300000000100000"), "{heard}");
    Ok(())
}

/// Beside sound, what a network card does that has no interrupt but its pin, and both functions of one card.
pub(crate) fn amd(host: &Host) -> Result<(), Failure> {
    let (first, second) = groups::pair(host)?;
    let nic = find(host, E1000)?;
    let (of_pair, by_pin) = (Exchange::listen(), Exchange::listen());
    let work = format!(
        "{}; rmmod e1000e; modprobe xhci_pci; cat /sys/bus/usb/devices/usb1/manufacturer; cut -f1,2 /proc/bus/pci/devices; \
         echo BY PIN; {}",
        of_pair.script("e1000e"),
        by_pin.script("e1000")
    );
    let [pin, messages] = sound_cards(host)?;
    let functions = [&*pin, &*messages, &*first, &*second, &*nic];
    take(host, &functions)?;
    let script = format!("{TOOLS} {} {work}", sound_work());
    let (output, _) = guest(host, &functions, TOOLS_DISK, &script)?;
    let console = output.stdout;
    is_heard(host, &console);
    let (before, after) = console.split_once("BY PIN").unwrap();
    groups::has_pair(before, 3);
    of_pair.compare(before);
    by_pin.compare(after);
    groups::loads_pin(after);
    Ok(())
}

/// The one card has no interrupt but its pin and uses it many times a second, the other sends messages.
fn sound_cards(host: &Host) -> Result<[String; 2], Failure> {
    Ok([find(host, AC97)?, find(host, HDA)?])
}

/// Plays by both cards.
fn sound_work() -> &'static str {
    // A square wave of 500 Hz, a little longer than two seconds: 48 samples of two channels up, 48 down. The module of the
    // codec is loaded by hand, because the kernel would look for it outside of the host's disk.
    "in_host modprobe -a snd_intel8x0 snd_hda_codec_generic; in_host modprobe snd_hda_intel; \
     for i in $(seq 100); do ls /proc/asound/card0/pcm0p /proc/asound/card1/pcm0p > /dev/null 2>&1 && break; sleep 0.2; done; \
     half() { yes \"$(printf \"$1\")\" | tr -d '\\n' | head -c 192; }; \
     (half '\\001\\100'; half '\\001\\300') > /tmp/wave; \
     for i in 1 2 3 4 5 6 7 8 9 10; do cat /tmp/wave /tmp/wave > /tmp/longer; mv /tmp/longer /tmp/wave; done; \
     for card in 0 1; do \
       for s in Master PCM; do in_host amixer -q -c $card sset $s 100% unmute 2> /dev/null; done; \
       in_host aplay -q -D hw:$card,0 -t raw -f S16_LE -c 2 -r 48000 --period-size=480 --buffer-size=4800 /tmp/wave \
         && echo PLAYED $(cat /proc/asound/card$card/id); \
     done; grep snd_ /proc/interrupts;"
}

/// Both cards have played, each by its own kind of interrupt, and were heard outside.
fn is_heard(host: &Host, console: &str) {
    assert_eq!(console.matches("PLAYED").count(), 2, "{console}");
    for (driver, way, enough) in [("snd_intel8x0", "fasteoi", 50), ("snd_hda_intel", "PCI-MSI", 50)] {
        let line = console.lines().find(|line| line.contains(way) && line.contains(driver));
        let interrupts = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
        assert!(interrupts.is_some_and(|count| count > enough), "{driver} by {way}: {console}");
    }
    for card in ["sound0", "sound1"] {
        let heard = std::fs::read(host.hardware().sound(card)).unwrap();
        // Behind the header of the file.
        let loud = heard.iter().skip(44).filter(|byte| **byte != 0).count();
        assert!(loud > 10_000, "{card}: {loud} of {} bytes are not silent: {console}", heard.len());
    }
}

/// The address of one of several functions with these ids, in the order of their addresses.
fn find_nth(host: &Host, ids: &str, which: usize) -> Result<String, Failure> {
    let address = does(host, &format!("lspci -Dn -d {ids} | cut -d' ' -f1 | sed -n {which}p"))?;
    Ok(address.trim().to_owned())
}

/// The pixels of a picture, its width and height, and bytes per pixel.
fn read_png(file: &Path) -> (Vec<u8>, usize, usize, usize) {
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (pixels, info.width as usize, info.height as usize, info.color_type.samples())
}
