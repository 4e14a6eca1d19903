//! The emulated graphics card under Debian's own driver, in machines inside the lab: what the guest draws is what a
//! screenshot shows.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(&[
        shared("what_the_guest_draws_is_in_the_screenshot", what_the_guest_draws_is_in_the_screenshot),
        shared("what_a_person_types_reaches_the_guest", what_a_person_types_reaches_the_guest),
    ])
}

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    let programs = &["allod", "allod-vmm"];
    Scenario { name, profile: "plain", programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Starts a machine with a display in the background, whose guest has its modules and runs `script`, and waits until it
/// has said `word`.
fn begin(host: &Host, flags: &str, script: &str, word: &str) -> Result<(), Failure> {
    does(
        host,
        &format!(
            "cat /boot/guest-initrd /boot/guest-modules > /tmp/display-initrd; rm -f /tmp/display-*.sock; \
             allod run --control /tmp/display-control.sock {flags} --kernel /boot/vmlinux \
             --initrd /tmp/display-initrd --cmdline 'console=ttyS0 quiet panic=-1 \
             guest_run=\"cd /lib/modules/*/; {script}\"' < /dev/null > /tmp/display-console 2>&1 & \
             for i in $(seq 2400); do grep -q '^{word}' /tmp/display-console && exit 0; sleep 0.1; done; \
             cat /tmp/display-console; exit 1"
        ),
    )?;
    Ok(())
}

/// Sends requests to the machine, and gives its answers.
fn ask(host: &Host, requests: &str) -> Result<String, Failure> {
    does(host, &format!("printf '{requests}' | socat -t 60 - UNIX-CONNECT:/tmp/display-control.sock"))
}

fn end(host: &Host) -> Result<(), Failure> {
    does(
        host,
        "printf '{\"command\":\"quit\"}\\n' | socat -t 60 - UNIX-CONNECT:/tmp/display-control.sock; \
         while [ -e /tmp/display-control.sock ]; do sleep 0.1; done",
    )?;
    Ok(())
}

/// Red, green and blue of a pixel made of `y`, newline, `y`, newline.
const DRAWN: [u8; 3] = [b'y', b'\n', b'y'];

/// A picture taken in the host.
struct Shot {
    width: usize,
    height: usize,
    colors: Vec<u8>,
}

impl Shot {
    fn take(host: &Host) -> Result<Self, Failure> {
        let hex = does(
            host,
            "allod screenshot /tmp/display-control.sock -o /tmp/display.png > /dev/null && od -An -v -tx1 /tmp/display.png",
        )?;
        let file: Vec<u8> =
            hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut colors = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut colors).unwrap();
        Ok(Self { width: frame.width as usize, height: frame.height as usize, colors })
    }

    /// The one colour of all these rows; `None` when they have several.
    fn color_of(&self, rows: std::ops::Range<usize>) -> Option<[u8; 3]> {
        let bytes = self.width * 3;
        let pixels = self.colors[rows.start * bytes..rows.end * bytes].chunks_exact(3);
        let mut found = pixels.map(|pixel| [pixel[0], pixel[1], pixel[2]]);
        let first = found.next()?;
        found.all(|pixel| pixel == first).then_some(first)
    }
}

fn what_the_guest_draws_is_in_the_screenshot(host: &Host) -> Result<(), Failure> {
    // A hundred rows of bytes `y` and newline in turn, which as pixels have one colour. Above them, out of their way, the kernel's own console has its cursor.
    let script = "modprobe bochs; cat /sys/class/graphics/fb0/virtual_size; \
                  yes | head -c 512000 > /tmp/rows; \
                  dd if=/tmp/rows of=/dev/fb0 bs=5120 seek=200 count=100; echo drawn; sleep 600";
    begin(host, "--display", script, "drawn")?;
    let mut shot = Shot::take(host)?;
    // The guest's kernel copies what was written a moment later.
    for _ in 0..100 {
        if shot.color_of(200..300) == Some(DRAWN) {
            break;
        }
        shot = Shot::take(host)?;
    }
    assert_eq!((shot.width, shot.height), (1280, 800));
    assert_eq!(shot.color_of(200..300), Some(DRAWN), "what was drawn");
    assert_eq!(shot.color_of(300..800), Some([0; 3]), "what was not");
    end(host)
}

/// "allod" and return, as Linux event codes.
const TYPED: [u16; 6] = [30, 38, 38, 24, 32, 28];

fn what_a_person_types_reaches_the_guest(host: &Host) -> Result<(), Failure> {
    // The terminal keeps what is typed from the moment it is open.
    let script = "exec 3< /dev/tty1; echo listening; head -n 1 <&3 | sed s/^/typed:/; echo heard; sleep 600";
    begin(host, "--display=1024x768", script, "listening")?;
    let keys = TYPED.iter().flat_map(|code| [(code, true), (code, false)]);
    let requests =
        keys.map(|(code, down)| format!("{{\"command\":\"key\",\"code\":{code},\"down\":{down}}}\\n"));
    let answers = ask(host, &requests.collect::<String>())?;
    assert_eq!(answers.matches("done").count(), 2 * TYPED.len(), "{answers}");
    does(host, "for i in $(seq 600); do grep -q ^heard /tmp/display-console && break; sleep 0.1; done")?;
    let console = does(host, "cat /tmp/display-console")?;
    assert!(console.contains("typed:allod"), "{console}");
    let refused = ask(host, "{\"command\":\"key\",\"code\":0,\"down\":true}\\n")?;
    assert!(refused.contains("no keyboard with such a key"), "{refused}");

    // A viewer: version, no security, shared; then all of the picture. It is in text mode, which no firmware has set up:
    // dark, but a picture.
    let seen = does(
        host,
        "allod view /tmp/display-control.sock --listen unix:/tmp/display-view.sock --name desk > /dev/null 2>&1 & \
         while [ ! -e /tmp/display-view.sock ]; do sleep 0.1; done; \
         (printf 'RFB 003.008\\n\\001\\001\\003\\000\\000\\000\\000\\000\\002\\200\\001\\340'; sleep 3) | \
         socat -t 5 - UNIX-CONNECT:/tmp/display-view.sock > /tmp/display-seen; wc -c < /tmp/display-seen; \
         head -c 12 /tmp/display-seen",
    )?;
    let size: usize = seen.lines().next().unwrap().trim().parse().unwrap();
    assert!(seen.contains("RFB 003.008") && size > 640 * 480 * 4, "{seen}");
    end(host)
}
