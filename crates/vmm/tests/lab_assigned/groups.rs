//! Cards of several functions, and groups of several cards.

use lab::{Failure, Host};

use crate::guests::{TOOLS, TOOLS_DISK, debian, does, find, guest, prepare, run, take};
use crate::transfers::{Exchange, Whole};
use crate::{E1000, EDU};

/// The two functions of one card: a network card and a USB controller.
pub(crate) fn pair(host: &Host) -> Result<(String, String), Failure> {
    let card = does(host, "lspci -Dn | grep -E '\\.[1-7] .*1b36:000d' | cut -d' ' -f1")?.trim().to_owned();
    let first = format!("{}0", &card[..card.len() - 1]);
    Ok((first, card))
}

/// The guest has both in its slot of this number, and the USB controller's driver has its own.
pub(crate) fn has_pair(console: &str, slot: u32) {
    let both = [format!("0{slot}00\t808610d3"), format!("0{slot}01\t1b36000d"), "xhci-hcd".to_owned()];
    assert!(both.iter().all(|words| console.contains(words)), "{console}");
}

/// Its functions, and beside them a card that could be split.
pub(crate) fn one_card_and_whole(host: &Host) -> Result<(), Failure> {
    let split = Whole::take(host)?;
    let console = pair_at_work(host, &[&split.card], &format!("rmmod e1000e; {TOOLS} {}", split.script()))?;
    split.compare(&console);
    Ok(())
}

pub(crate) fn one_card(host: &Host) -> Result<(), Failure> {
    pair_at_work(host, &[], "").map(drop)
}

/// A guest with the pair does some more `work` with these other functions; gives its console.
fn pair_at_work(host: &Host, others: &[&str], work: &str) -> Result<String, Failure> {
    let (first, card) = pair(host)?;
    take(host, &[&first])?;
    let output = run(host, &debian(&[&first], "", ""))?;
    assert!(
        output.status == 1 && output.stderr.contains(&card),
        "its other function is the host's: {output:?}"
    );
    take(host, &[&card])?;
    let exchange = Exchange::listen();
    let script = format!(
        "cut -f1,2 /proc/bus/pci/devices; modprobe xhci_pci; cat /sys/bus/usb/devices/usb1/manufacturer; {}; {work}",
        exchange.script("e1000e")
    );
    let functions = [&[card.as_str(), first.as_str()], others].concat();
    let (output, _) = guest(host, &functions, TOOLS_DISK, &script)?;
    has_pair(&output.stdout, 1);
    exchange.compare(&output.stdout);
    Ok(output.stdout)
}

/// The bridge makes one group of itself and the two cards behind it.
pub(crate) fn behind_a_bridge(host: &Host) -> Result<(), Failure> {
    let (nic, edu) = (find(host, E1000)?, find(host, EDU)?);
    prepare(host, "true")?;
    take(host, &[&edu])?;
    let refused = run(host, &debian(&[&edu], "", ""))?;
    let named = refused.stderr.contains(&format!("{nic} (driver e1000)"));
    assert!(refused.status == 1 && named, "the network card is the host's: {refused:?}");
    take(host, &[&nic])?;
    // The bridge above has a driver that the kernel counts as the host's.
    let bridge = does(host, &format!("basename $(dirname $(readlink -f /sys/bus/pci/devices/{nic}))"))?;
    let bridge = bridge.trim();
    let refused = run(host, &debian(&[&nic, &edu], "", ""))?;
    let named = refused.stderr.contains(&format!("{bridge} (driver shpchp)"));
    assert!(refused.status == 1 && named, "{refused:?}");
    does(host, &format!("echo {bridge} > /sys/bus/pci/drivers/shpchp/unbind"))?;
    let exchange = Exchange::listen();
    let (output, _) = guest(host, &[&nic, &edu], "", &exchange.script("e1000"))?;
    exchange.compare(&output.stdout);
    loads_pin(&output.stdout);
    Ok(())
}

/// Megabytes have come by a pin that many interrupts have gone through.
pub(crate) fn loads_pin(console: &str) {
    let line = console.lines().find(|line| line.contains("fasteoi") && line.contains("eth0"));
    let interrupts = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
    assert!(interrupts.is_some_and(|count| count > LOAD), "by its pin: {console}");
}

/// Interrupts that count as load.
const LOAD: u32 = 100;
