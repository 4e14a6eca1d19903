//! Interrupts that are sent from one processor of the guest to the other while they come.

use lab::{Failure, Host};

use crate::guests::{TOOLS, TOOLS_DISK, debian, find, prepare, report, run, take};
use crate::transfers::{Exchange, VERIFIED, said};
use crate::{E1000E, NVME};

/// What a kernel says when an interrupt has not come, or has come to the wrong place.
const LOST: &str =
    "QID.*timeout|completion polled|NETDEV WATCHDOG|No irq handler|blocked for more|nobody cared";

/// Changes of a vector's processor that make a test.
const ENOUGH: u32 = 20;

/// A disk and a network card carry data both ways while the guest moves their vectors to and fro: it writes the processors of those that it
/// may, and takes one processor away and back, which moves the disk's queues.
pub(crate) fn flipped(host: &Host) -> Result<(), Failure> {
    let (nvme, nic) = (find(host, NVME)?, find(host, E1000E)?);
    take(host, &[&nvme, &nic])?;
    let exchange = Exchange::listen();
    let script = format!(
        "modprobe nvme; {TOOLS} while ! [ -b /dev/nvme0n1 ]; do sleep 0.1; done; \
         ({}; true) > /tmp/exchanged 2>&1 && touch /tmp/one & \
         (in_host {VERIFIED}) > /tmp/verified && touch /tmp/two & \
         while ! grep -q eth0 /proc/interrupts; do sleep 0.1; done; \
         flipped=0; cycles=0; C=/sys/devices/system/cpu/cpu1/online; \
         while ! [ -e /tmp/one ] || ! [ -e /tmp/two ]; do \
           for mask in 2 1; do \
             for i in $(grep -E 'nvme0q|eth0' /proc/interrupts | cut -d: -f1); do \
               echo $mask > /proc/irq/$i/smp_affinity && flipped=$((flipped + 1)); done 2> /dev/null; \
             in_host /usr/sbin/nvme id-ctrl /dev/nvme0 > /dev/null || echo ADMIN QUEUE FAILED; done; \
           echo 0 > $C && echo 1 > $C && cycles=$((cycles + 1)); done; \
         cat /tmp/exchanged; echo VERIFIED $(cat /tmp/verified); echo FLIPPED $flipped; echo CYCLES $cycles; \
         grep -E 'CPU|nvme0q|eth0' /proc/interrupts; dmesg | grep -E '{LOST}' || echo NONE LOST",
        exchange.script("e1000e")
    );
    prepare(host, &script)?;
    let output = run(host, &debian(&[&nvme, &nic], &format!("--cpus 2 {TOOLS_DISK}"), ""))?;
    let text = &output.stdout;
    let report = report(host)?;
    assert_eq!(report["cause"], "power-off", "{output:?}");
    // The error number of the whole job.
    assert_eq!(said(text, "VERIFIED "), "0", "{output:?}");
    exchange.compare(text);
    let by_messages = |card: &str| text.lines().any(|line| line.contains("PCI-MSIX") && line.contains(card));
    assert!(by_messages("nvme0q") && by_messages("eth0"), "{output:?}");
    let number = |mark: &str| said(text, mark).parse::<u32>().unwrap_or(0);
    assert!(number("FLIPPED ") > ENOUGH && number("CYCLES ") > 0, "{output:?}");
    assert!(text.contains("NONE LOST") && !text.contains("ADMIN QUEUE FAILED"), "{output:?}");
    // Both processors were interrupted by either card.
    for card in ["nvme0q0", "eth0-rx-0"] {
        let line = text.lines().rfind(|line| line.contains(card)).unwrap_or_default();
        let counts: Vec<u32> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        assert!(matches!(counts[..], [one, other] if one > 0 && other > 0), "{card}: {output:?}");
    }
    println!("        {} changes of affinity, {} of processors", number("FLIPPED "), number("CYCLES "));
    Ok(())
}
