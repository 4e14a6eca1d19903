//! Virtual network cards under Debian's own driver, in machines inside the lab: frames reach the host by tap and bridge, and
//! by passt without any rights.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{self, Scenario, run_all};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(&[
        shared(
            "a_guest_reaches_the_host_by_tap_and_by_bridge",
            a_guest_reaches_the_host_by_tap_and_by_bridge,
        ),
        shared("a_guest_reaches_the_host_through_passt", a_guest_reaches_the_host_through_passt),
    ])
}

const fn shared(name: &'static str, check: fn(&Host) -> Result<(), Failure>) -> Scenario {
    scenario::shared(name, "plain", check)
}

/// A guest with its modules boots in ten seconds in the lab; in many times that when the machine under it is busy.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a shell line in the host; it must go well.
fn does(host: &Host, script: &str) -> Result<String, Failure> {
    let output = host.run_within(script, LIMIT)?;
    assert!(output.is_success(), "{script}: {output:?}");
    Ok(output.stdout)
}

/// Runs a machine with these flags whose guest runs `script` in its modules' folder, and gives what it said.
fn machine(host: &Host, flags: &str, script: &str) -> Result<String, Failure> {
    machine_of("", host, flags, script)
}

/// The same, started by a command that makes somebody else of root.
fn machine_of(user: &str, host: &Host, flags: &str, script: &str) -> Result<String, Failure> {
    does(
        host,
        &format!(
            "cat /boot/guest-initrd /boot/guest-modules > /tmp/network-initrd; \
             {user} allod run {flags} --kernel /boot/vmlinux --initrd /tmp/network-initrd \
             --cmdline 'console=ttyS0 quiet panic=-1 guest_run=\"cd /lib/modules/*/; {script}\"' < /dev/null"
        ),
    )
}

fn a_guest_reaches_the_host_by_tap_and_by_bridge(host: &Host) -> Result<(), Failure> {
    does(
        host,
        "modprobe tun; modprobe bridge; ip tuntap add lab0 mode tap; ip addr add 10.77.0.1/24 dev lab0; \
         ip link set lab0 up; ip link add labbr type bridge && ip addr add 10.78.0.1/24 dev labbr && \
         ip link set labbr up",
    )?;
    // A megabyte there and back, beside the ping: many frames, of all sizes.
    let script = "modprobe virtio_net; ifconfig eth0 10.77.0.2; ifconfig eth1 10.78.0.2; \
                  cat /sys/class/net/eth0/address; ping -c 3 -s 1400 10.77.0.1; ping -c 3 10.78.0.1; \
                  nc 10.77.0.1 7777 < /lib/modules/*/drm.ko | wc -c; wc -c < drm.ko";
    does(host, "socat TCP-LISTEN:7777,bind=10.77.0.1 PIPE > /dev/null 2>&1 &")?;
    let said = machine(host, "--net tap=lab0,mac=52:54:00:12:34:56 --net bridge=labbr", script)?;
    assert!(said.contains("52:54:00:12:34:56"), "{said}");
    assert_eq!(said.matches("3 packets received").count(), 2, "{said}");
    Ok(())
}

fn a_guest_reaches_the_host_through_passt(host: &Host) -> Result<(), Failure> {
    // passt shows the host at its gateway's address; a host without a network needs one to have a gateway.
    does(
        host,
        "modprobe dummy; ip link add labout type dummy; ip addr add 10.79.0.2/24 dev labout; ip link set labout up; \
         ip route add default via 10.79.0.1 dev labout; \
         (while :; do echo reached | socat -u - TCP-LISTEN:7778,bind=127.0.0.1,reuseaddr; done) > /dev/null 2>&1 &",
    )?;
    let script =
        "modprobe virtio_net; ifconfig eth0 10.79.0.2; route add default gw 10.79.0.1; nc 10.79.0.1 7778";
    // As a user who may do nothing but open /dev/kvm.
    does(host, "chmod 666 /dev/kvm")?;
    let said = machine_of("setpriv --reuid 65534 --regid 65534 --clear-groups", host, "--net user", script)?;
    assert!(said.contains("reached"), "{said}");
    Ok(())
}
