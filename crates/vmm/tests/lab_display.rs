//! The emulated graphics card under Debian's own driver, in machines inside the lab: what the guest draws is what a
//! screenshot shows.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "picture/mod.rs"]
mod picture;

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Boot, Check, Scenario, run_all};
use lab::{Failure, Host};
use scene::judge::judge;
use scene::layout::Facts;

fn main() -> ExitCode {
    run_all(&[
        shared("what_the_guest_draws_is_in_the_screenshot", what_the_guest_draws_is_in_the_screenshot),
        shared("what_a_person_types_reaches_the_guest", what_a_person_types_reaches_the_guest),
        shared("what_a_person_points_at_reaches_the_guest", what_a_person_points_at_reaches_the_guest),
    ])
}

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    let programs = &["allod", "allod-vmm", "allod-scene"];
    Scenario { name, profile: "plain", programs, boot: Boot::Shared, check: Check::Inside(check) }
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// Makes the RAM disk that the desk of the demo starts from: it has a program that draws.
const GUEST: &str = include_str!("../../../docs/examples/desk/guest.sh");

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Starts a machine with a display in the background, whose guest has its modules and runs `script`, and waits until it
/// has said `word`.
fn begin(host: &Host, flags: &str, script: &str, word: &str) -> Result<(), Failure> {
    does(host, GUEST)?;
    begin_prepared(host, flags, script, word)
}

/// The same from a RAM disk that is there.
fn begin_prepared(host: &Host, flags: &str, script: &str, word: &str) -> Result<(), Failure> {
    does(
        host,
        &format!(
            "rm -f /tmp/display-*.sock; \
             allod run --control /tmp/display-control.sock {flags} --kernel /boot/vmlinux \
             --initrd /run/desk-initrd --cmdline 'console=ttyS0 quiet panic=-1 \
             guest_run=\"{script}\"' < /dev/null > /tmp/display-console 2>&1 & \
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

fn what_the_guest_draws_is_in_the_screenshot(host: &Host) -> Result<(), Failure> {
    let script = "modprobe bochs; allod-scene show --name guest --hue 120";
    begin(host, "--display", script, "scene: frame")?;
    let picture = picture::take(host, "/tmp/display-control.sock")?;
    assert_eq!((picture.width, picture.height), (1280, 800));
    let facts = Facts { name: "guest".into(), hue: 120, typed: String::new() };
    judge(&picture, &facts).unwrap();
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
         while [ ! -e /tmp/display-view.sock ]; do sleep 0.1; done; : > /tmp/display-seen; \
         (printf 'RFB 003.008\\n\\001\\001\\003\\000\\000\\000\\000\\000\\002\\200\\001\\340'; \
         for i in $(seq 600); do [ $(stat -c %s /tmp/display-seen) -le 1228800 ] || break; sleep 0.1; done) | \
         socat -t 5 - UNIX-CONNECT:/tmp/display-view.sock > /tmp/display-seen; wc -c < /tmp/display-seen; \
         head -c 12 /tmp/display-seen",
    )?;
    let size: usize = seen.lines().next().unwrap().trim().parse().unwrap();
    assert!(seen.contains("RFB 003.008") && size > 640 * 480 * 4, "{seen}");
    a_port_is_for_those_who_know_the_password(host)?;
    end(host)
}

/// A viewer on a port enciphers the challenge by DES, whose key is the password with each byte's bits reversed (RFC 6143,
/// section 7.2.2): `answer KEY` does so, and gives what it is told in hexadecimal digits.
const VIEWER: &str = r#"ip link set lo up; echo secret > /tmp/display-password
    allod view /tmp/display-control.sock --listen 127.0.0.1:5907 --password-file /tmp/display-password > /tmp/display-port 2>&1 &
    until grep -q 'viewers connect' /tmp/display-port; do sleep 0.1; done
    answer() {
        exec 3<> /dev/tcp/127.0.0.1/5907; head -c 12 <&3; printf 'RFB 003.008
' >&3
        [ "$(head -c 2 <&3 | od -An -tx1)" = ' 01 02' ] || echo other security
        head -c 16 <&3 | openssl enc -des-ecb -nopad -K $1 -provider legacy -provider default >&3
        printf '' >&3; echo told $(head -c 8 <&3 | od -An -tx1)
        exec 3>&-
    }
    answer cea6c64ea62e0000; answer cea6c64ea62ece00
    for i in $(seq 100); do grep 'a viewer was let go' /tmp/display-port && break; sleep 0.1; done"#;

fn a_port_is_for_those_who_know_the_password(host: &Host) -> Result<(), Failure> {
    let said = does(host, VIEWER)?;
    // Let in and told of a picture of 640 by 480; kept out, and told that a reason of 14 letters follows.
    for told in ["told 00 00 00 00 02 80 01 e0\n", "told 00 00 00 01 00 00 00 0e\n"] {
        assert!(said.contains(told), "no `{told}`: {said}");
    }
    assert!(said.contains("a viewer was let go: it does not know the password"), "{said}");
    let open = host.run_within("allod view /tmp/display-control.sock --listen 127.0.0.1:5908 2>&1", LIMIT)?;
    assert!(open.status == 2 && open.stdout.contains("give it a --password-file"), "{open:?}");
    Ok(())
}

/// Adds to the RAM disk the drivers of both pointers, and the guest's work: it listens to the mouse, which is all it has a
/// driver for, then to the tablet, and tells kind, code and value of seven events of each.
const POINTERS: &str = r#"t=$(mktemp -d); for m in psmouse virtio_input; do
    busybox unxz -c $(find /lib/modules/ -name $m.ko.xz) > $t/$m.ko; done
cat > $t/pointers.sh <<'END'
of() { grep -A5 "Name=.*$1" /proc/bus/input/devices | grep -o 'event[0-9]*' | head -n 1; }
listen() {
    while [ -z "$(of $1)" ]; do sleep 0.1; done
    exec 3< /dev/input/$(of $1); echo "listening to $1"
    timeout 60 head -c 168 <&3 | hexdump -v -e '24/1 "%02x" "\n"' | cut -c33- | sed "s/^/$1 /"; echo "heard $1"
}
modprobe evdev; insmod /psmouse.ko; listen Mouse
modprobe virtio_rng; insmod /virtio_input.ko; listen tablet
sleep 600
END
(cd $t; find . | busybox cpio -o -H newc 2> /dev/null) >> /run/desk-initrd"#;

fn what_a_person_points_at_reaches_the_guest(host: &Host) -> Result<(), Failure> {
    does(host, GUEST)?;
    does(host, POINTERS)?;
    begin_prepared(host, "--display", "sh /pointers.sh", "listening to Mouse")?;
    let view = "allod view /tmp/display-control.sock --listen unix:/tmp/display-pointed.sock --name desk > /dev/null 2>&1 & \
        while [ ! -e /tmp/display-pointed.sock ]; do sleep 0.1; done";
    does(host, view)?;
    // A viewer (RFC 6143): version, no security, shared; the pointer at 100, 100, then with the left button at 200, 150.
    let point = |heard: &str| {
        format!(
            "(printf 'RFB 003.008\\n\\001\\001\\005\\000\\000\\144\\000\\144\\005\\001\\000\\310\\000\\226'; \
             for i in $(seq 1200); do grep -q '^heard {heard}' /tmp/display-console && break; sleep 0.1; done) | \
             socat -t 5 - UNIX-CONNECT:/tmp/display-pointed.sock > /dev/null"
        )
    };
    does(host, &point("Mouse"))?;
    does(
        host,
        "for i in $(seq 600); do grep -q '^listening to tablet' /tmp/display-console && exit 0; sleep 0.1; done; exit 1",
    )?;
    does(host, &point("tablet"))?;
    let console = does(host, "cat /tmp/display-console")?;
    // Kinds are 1 (key), 2 (moved by) and 3 (is at), codes 0 and 1 the axes and 0x110 the left button.
    for line in [
        "Mouse 0200000064000000",
        "Mouse 0200010032000000",
        "Mouse 0100100101000000",
        "tablet 0100100101000000",
    ] {
        assert!(console.contains(line), "no `{line}`: {console}");
    }
    for axis in ["tablet 03000000", "tablet 03000100"] {
        assert_eq!(console.matches(axis).count(), 2, "{axis}: {console}");
    }
    assert!(!console.contains("tablet 0200"), "the mouse moves no more: {console}");
    end(host)
}
