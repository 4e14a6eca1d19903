//! Virtual functions in the lab: made for seats, named and given away, used by guests, and gone again afterwards.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{Scenario, run_all, shared};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared(
        "two_seats_talk_through_the_card_that_both_have_a_part_of",
        "sriov",
        two_seats_talk_through_the_card_that_both_have_a_part_of,
    ),
    shared(
        "vlans_of_seats_are_apart_and_are_refused_for_a_disk",
        "sriov",
        vlans_of_seats_are_apart_and_are_refused_for_a_disk,
    ),
    shared(
        "a_part_of_a_disk_reads_and_writes_its_bytes",
        "sriov",
        a_part_of_a_disk_reads_and_writes_its_bytes,
    ),
    shared(
        "soak_on_amd_two_seats_talk_through_the_card_that_both_have_a_part_of",
        "amd",
        two_seats_talk_through_the_card_that_both_have_a_part_of,
    ),
];

/// Bytes sent in each direction between two seats.
const EXCHANGED_MIB: u32 = 4;

/// Debian's kernel boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs a shell line that must succeed.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout.trim().to_owned())
}

/// A shell line that waits until a command succeeds, at most two minutes.
fn until(command: &str) -> String {
    format!("n=0; until {command}; do n=$((n+1)); [ $n -lt 1200 ] || exit 9; sleep 0.1; done")
}

/// The physical function with these ids.
fn function(host: &Host, vendor: &str, device: &str) -> Result<String, Failure> {
    does(
        host,
        &format!(
            "for d in /sys/bus/pci/devices/*; do [ $(cat $d/vendor)$(cat $d/device) = 0x{vendor}0x{device} ] && \
             [ ! -e $d/physfn ] && basename $d; done; true"
        ),
    )
}

/// QEMU's igb.
fn card(host: &Host) -> Result<String, Failure> {
    function(host, "8086", "10c9")
}

/// A seat whose guest runs `script` and powers off then.
fn seat(name: &str, script: &str, virtual_function: &str) -> String {
    format!(
        "[[seat]]\nname = \"{name}\"\ncpus = {{ count = 1, shared = true }}\nmemory.size = \"256MiB\"\n\
         kernel.image = \"/boot/vmlinux\"\nkernel.initrd = \"/tmp/initrd\"\n\
         kernel.cmdline = '''console=ttyS0 quiet panic=-1 guest_end=poweroff guest_run=\"{script}\"'''\n\
         [[seat.virtual-function]]\n{virtual_function}\n"
    )
}

/// Writes a seat file into the host, and the guest's RAM disk.
fn write(host: &Host, path: &str, seats: &[String]) -> Result<(), Failure> {
    let text = format!("[host]\nmemory = \"256MiB\"\n{}", seats.concat());
    does(
        host,
        &format!(
            "[ -f /tmp/initrd ] || cat /boot/guest-initrd /boot/guest-modules > /tmp/initrd; \
             cat > {path} <<'END-OF-SEATS'\n{text}\nEND-OF-SEATS"
        ),
    )
    .map(drop)
}

/// That the host has the card as it was: no virtual functions, its switch for their drivers back, its own network works.
fn is_whole(host: &Host, card: &str, interface: &str) -> Result<(), Failure> {
    let device = format!("/sys/bus/pci/devices/{card}");
    let state = does(host, &format!("cat {device}/sriov_numvfs {device}/sriov_drivers_autoprobe"))?;
    assert_eq!(state, "0\n1");
    does(host, &until(&format!("ping -c 1 -W 2 -I {interface} 10.0.2.2"))).map(drop)
}

/// Brings the host's own interface on the card up, and names it.
fn interface(host: &Host, card: &str) -> Result<String, Failure> {
    let name = does(
        host,
        &format!(
            "{}; ls /sys/bus/pci/devices/{card}/net",
            until(&format!("[ -d /sys/bus/pci/devices/{card}/net ]"))
        ),
    )?;
    does(
        host,
        &format!(
            "ip link set {name} up; ip addr replace 10.0.2.15/24 dev {name}; {}",
            until(&format!("ping -c 1 -W 2 -I {name} 10.0.2.2"))
        ),
    )?;
    Ok(name)
}

fn two_seats_talk_through_the_card_that_both_have_a_part_of(host: &Host) -> Result<(), Failure> {
    let card = card(host)?;
    let interface = interface(host, &card)?;
    // Random bytes both ways at once: one waits, the other tries until it is heard.
    let script = |own: u8, other: u8, exchange: &str| {
        format!(
            "modprobe -a igbvf button evdev; until ip link set eth0 up; do sleep 0.2; done; \
             echo mac=$(cat /sys/class/net/eth0/address); ip addr add 10.0.2.{own}/24 dev eth0; \
             until ping -c 1 -W 1 10.0.2.{other}; do true; done; ping -c 5 -W 5 10.0.2.{other}; \
             ping -c 2 -W 5 10.0.2.15; dd if=/dev/urandom of=/up bs=1M count={EXCHANGED_MIB}; {exchange}; \
             echo up=$(sha256sum /up); echo down=$(sha256sum /down); echo size=$(wc -c /down); \
             echo talked; head -c 24 /dev/input/event0 | wc -c"
        )
    };
    let waits = "nc -l -p 7000 < /up > /down";
    let tries = "until nc 10.0.2.21 7000 < /up > /down; do sleep 0.2; done";
    let of = format!("of = {{ address = \"{card}\" }}");
    let seats = [
        seat("left", &script(21, 22, waits), &format!("{of}\nmac = \"52:54:00:aa:00:01\"")),
        seat("right", &script(22, 21, tries), &format!("{of}\nmac = \"52:54:00:aa:00:02\"")),
    ];
    write(host, "/tmp/both.toml", &seats)?;
    let up = does(host, "allod up /tmp/both.toml")?;
    println!("{up}");
    let set = does(host, &format!("ip link show {interface}"))?;
    for mac in ["52:54:00:aa:00:01", "52:54:00:aa:00:02"] {
        assert!(set.contains(mac), "no {mac} in {set}");
    }
    let mut sums = Vec::new();
    for (name, mac) in [("left", "52:54:00:aa:00:01"), ("right", "52:54:00:aa:00:02")] {
        does(host, &until(&format!("allod logs {name} | grep -q talked")))?;
        let said = does(host, &format!("allod logs {name}"))?;
        assert!(said.contains(&format!("mac={mac}")), "{said}");
        assert!(said.contains("5 packets transmitted, 5 packets received"), "{said}");
        assert!(said.contains("2 packets transmitted, 2 packets received"), "the host's part: {said}");
        assert!(said.contains(&format!("size={} ", EXCHANGED_MIB << 20)), "{said}");
        let sum = |mark: &str| {
            let sum = said.split(mark).nth(1).and_then(|rest| rest.split_whitespace().next());
            sum.unwrap_or_else(|| panic!("no {mark} in {said}")).to_owned()
        };
        sums.push((sum("up="), sum("down=")));
    }
    let [(left_up, left_down), (right_up, right_down)] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!((left_up, right_up), (right_down, left_down), "what each has is what the other sent");
    let down = does(host, "allod down --all --deadline 100")?;
    assert_eq!(down.matches("ended: the guest powered off").count(), 2, "{down}");
    is_whole(host, &card, &interface)
}

/// Each seat has a part in either VLAN. Within one they reach each other; from the one to the other nothing goes, though the
/// addresses would: a kernel asked on one card does not answer for another (`arp_ignore`).
fn vlans_of_seats_are_apart_and_are_refused_for_a_disk(host: &Host) -> Result<(), Failure> {
    let card = card(host)?;
    let interface = interface(host, &card)?;
    let parts = |vlans: [u16; 2]| {
        let part = |vlan| format!("of = {{ address = \"{card}\" }}\nvlan = {vlan}");
        vlans.map(part).join("\n[[seat.virtual-function]]\n")
    };
    let begin = "modprobe -a igbvf button evdev; echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore; \
                 for i in 0 1; do until ip link set eth$i up; do sleep 0.2; done; done";
    let (end, add) = ("head -c 24 /dev/input/event0 | wc -c", "ip addr add");
    let left = format!(
        "{begin}; {add} 10.0.9.21/24 dev eth0; {add} 10.0.7.21/24 dev eth0; {add} 10.0.8.21/24 dev eth1; \
         until ping -c 1 -W 1 10.0.7.22 && ping -c 1 -W 1 10.0.8.22; do true; done; \
         ping -c 3 -W 1 10.0.9.22 && echo leaked; echo tried; {end}"
    );
    let right = format!(
        "{begin}; {add} 10.0.9.22/24 dev eth1; {add} 10.0.7.22/24 dev eth0; {add} 10.0.8.22/24 dev eth1; echo ready; {end}"
    );
    let seats = [seat("left", &left, &parts([7, 8])), seat("right", &right, &parts([7, 8]))];
    write(host, "/tmp/vlan.toml", &seats)?;
    does(host, "allod up /tmp/vlan.toml")?;
    let set = does(host, &format!("ip link show {interface}"))?;
    assert!(["vlan 7", "vlan 8"].iter().all(|vlan| set.matches(vlan).count() == 2), "{set}");
    does(host, &until("allod logs left | grep -q tried"))?;
    let said = does(host, "allod logs left; allod logs right")?;
    assert!(said.contains("3 packets transmitted, 0 packets received") && !said.contains("leaked"), "{said}");
    does(host, "allod down --all --deadline 100")?;
    is_whole(host, &card, &interface)?;

    let script = format!("modprobe -a button evdev; {end}");
    let disk = function(host, "1b36", "0010")?;
    let of = format!("of = {{ address = \"{disk}\" }}\nvlan = 7");
    write(host, "/tmp/disk.toml", &[seat("tagged", &script, &of)])?;
    let refused = host.run_within("allod up /tmp/disk.toml", LIMIT)?;
    assert!(!refused.is_success() && refused.stderr.contains("no network card"), "{refused:?}");
    does(host, &format!("grep -qx 0 /sys/bus/pci/devices/{disk}/sriov_numvfs")).map(drop)
}

fn a_part_of_a_disk_reads_and_writes_its_bytes(host: &Host) -> Result<(), Failure> {
    let disk = function(host, "1b36", "0010")?;
    let device = format!("/sys/bus/pci/devices/{disk}");
    // A virtual controller is dead until its physical one has given it queues and interrupts, and switched it on.
    does(
        host,
        &format!(
            "set -e; modprobe vfio-pci; [ -f /tmp/initrd ] || cat /boot/guest-initrd /boot/guest-modules > /tmp/initrd; \
             echo written by the host | dd of=/dev/nvme0n1 conv=fsync status=none; \
             echo 0 > {device}/sriov_drivers_autoprobe; echo 1 > {device}/sriov_numvfs; \
             nvme virt-mgmt /dev/nvme0 -c 1 -r 0 -a 8 -n 2; nvme virt-mgmt /dev/nvme0 -c 1 -r 1 -a 8 -n 1; \
             echo 1 > {device}/virtfn0/reset; nvme virt-mgmt /dev/nvme0 -c 1 -a 9; \
             echo vfio-pci > {device}/virtfn0/driver_override; \
             basename $(readlink {device}/virtfn0) > /sys/bus/pci/drivers_probe"
        ),
    )?;
    let script = "modprobe nvme; until [ -b /dev/nvme0n1 ]; do sleep 0.1; done; head -n1 /dev/nvme0n1; \
                  echo written by the guest | dd of=/dev/nvme0n1 bs=512 seek=8 conv=sync,fsync; sync";
    let said = does(
        host,
        &format!(
            "allod run --device $(basename $(readlink {device}/virtfn0)) --memory 256M --kernel /boot/vmlinux \
             --initrd /tmp/initrd --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"{script}\"' < /dev/null"
        ),
    )?;
    assert!(said.contains("written by the host"), "{said}");
    let seen = does(host, "dd if=/dev/nvme0n1 bs=512 skip=8 count=1 iflag=direct status=none | head -n1")?;
    assert_eq!(seen, "written by the guest");
    let file = std::fs::read(host.hardware().drive("space0")).unwrap();
    assert!(file[8 * 512..].starts_with(b"written by the guest\n"), "the file behind the disk");
    does(
        host,
        &format!(
            "set -e; echo 0 > {device}/sriov_numvfs; echo 1 > {device}/sriov_drivers_autoprobe; [ ! -e {device}/virtfn0 ]; \
             head -n1 /dev/nvme0n1 | grep -q 'written by the host'"
        ),
    )
    .map(drop)
}
