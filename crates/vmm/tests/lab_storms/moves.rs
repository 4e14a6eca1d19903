//! Guests without a kernel that move the BARs of their cards about and scribble over all they can reach.

use lab::{Failure, Host};

use crate::cards::{Card, Kind};
use crate::deeds::Deeds;
use crate::guests::{find, report, run, take};
use crate::{E1000E, EDU, NVME, OHCI, TEST_DEVICE, XHCI};

/// How often everything is moved.
const MOVES: u32 = 48;
/// Transfers of `edu` take a tenth of a second, so that not every move has one.
const EDU_EVERY: u32 = 6;

/// Writes to each card's config space and to its MSI-X pages.
const SCRIBBLES: u32 = 600;
const SEED: u64 = 0x5eed_0fa1_10d0;

fn cards(host: &Host) -> Result<(Vec<String>, Vec<Card>), Failure> {
    let kinds = [
        (Kind::Edu, EDU),
        (Kind::TestDevice, TEST_DEVICE),
        (Kind::Nvme, NVME),
        (Kind::Xhci, XHCI),
        (Kind::E1000e, E1000E),
    ];
    let addresses = kinds.iter().map(|(_, ids)| find(host, ids)).collect::<Result<Vec<_>, _>>()?;
    let cards = (0..).zip(kinds).map(|(slot, (kind, _))| Card { kind, slot }).collect();
    take(host, &addresses.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok((addresses, cards))
}

/// Brings all cards to their first place, ready for work, and lets each do some.
fn begin(deeds: &mut Deeds, cards: &[Card]) {
    for card in cards {
        card.open(deeds);
        card.place(deeds, 0);
        card.set_up(deeds, 0);
        card.answers_at(deeds, 0, 0xa110_d000);
        card.begin_work(deeds, 0, 0);
        card.end_work(deeds, 0, 0);
    }
}

/// Every BAR is moved again and again while the cards work; work begun before a move ends behind it. In the end each card
/// that can is put to sleep, where it answers nothing, and woken.
pub(crate) fn moved(host: &Host) -> Result<(), Failure> {
    let (addresses, cards) = cards(host)?;
    let mut deeds = Deeds::default();
    begin(&mut deeds, &cards);
    deeds.say("READY ");
    for number in 1..=MOVES {
        // Another order of places in each round: no card returns to where it was just before.
        let (from, to) = ((number - 1) * 7, number * 7);
        let busy = |card: &&Card| card.kind != Kind::Edu || number % EDU_EVERY == 0;
        cards.iter().filter(busy).for_each(|card| card.begin_work(&mut deeds, from, number));
        for card in &cards {
            card.place(&mut deeds, to);
            card.is_gone_from(&mut deeds, from);
            card.answers_at(&mut deeds, to, number);
        }
        cards.iter().filter(busy).for_each(|card| card.end_work(&mut deeds, to, number));
    }
    deeds.say("MOVED ");
    let place = MOVES * 7;
    for card in &cards {
        card.decode(&mut deeds, false);
        card.is_gone_from(&mut deeds, place);
        card.decode(&mut deeds, true);
        card.answers_at(&mut deeds, place, 1);
        // Nowhere, the sizing of BARs with decode left on, and outside of the port's window.
        for nowhere in [0, u32::MAX, 0xf000_0000] {
            card.throw(&mut deeds, nowhere);
            card.is_gone_from(&mut deeds, place);
        }
        card.place(&mut deeds, place);
        card.answers_at(&mut deeds, place, 2);
    }
    deeds.say("BACK ");
    let mut asleep = 0;
    for (card, address) in cards.iter().zip(&addresses) {
        let Some(power) = capability(host, address, "Power Management")? else { continue };
        card.power(&mut deeds, power, false);
        card.is_gone_from(&mut deeds, place);
        card.power(&mut deeds, power, true);
        // What a card forgets in its sleep, its driver puts back.
        card.place(&mut deeds, place);
        card.answers_at(&mut deeds, place, 3);
        asleep += 1;
    }
    assert!(asleep > 0, "no card has power states");
    deeds.say("AWAKE");
    deeds.power_off();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let said = deeds.run(host, &addresses)?;
    assert!(said.contains("READY MOVED BACK AWAKE"), "{said}");
    assert_eq!(report(host)?["cause"], "power-off");
    Ok(())
}

/// The registers of a card whose BAR is smaller than a page, where the BAR begins a page and where it does not.
pub(crate) fn below_a_page(host: &Host) -> Result<(), Failure> {
    let address = find(host, OHCI)?;
    take(host, &[&address])?;
    let card = Card { kind: Kind::Ohci, slot: 0 };
    let mut exits = Vec::new();
    for into_page in [0, 0x100] {
        let mut deeds = Deeds::default();
        card.open(&mut deeds);
        card.place(&mut deeds, 0);
        deeds.write16(card.config(0x04), 0);
        deeds.write32(card.config(0x10), card.at(0, 0) + into_page);
        deeds.write16(card.config(0x04), 2);
        for _ in 0..READS {
            deeds.expect(card.at(0, 0) + into_page, 0x10, 0xff);
        }
        deeds.say("READ");
        deeds.power_off();
        let said = deeds.run(host, &[&address])?;
        assert!(said.contains("READ"), "{said}");
        exits.push(report(host)?["exits"].as_u64().unwrap_or(0));
    }
    let [shown, trapped] = exits[..] else { panic!("{exits:?}") };
    println!(
        "        {READS} reads: {shown} exits of the machine where a page begins, {trapped} where none does"
    );
    assert!(shown > 0 && shown + u64::from(READS) <= trapped, "{shown} {trapped}");
    Ok(())
}

/// Reads of a register.
const READS: u32 = 1000;

/// Random writes over all of config space and the MSI-X pages of cards at work; the machine's second life finds them in
/// order.
pub(crate) fn scribbled(host: &Host) -> Result<(), Failure> {
    let (addresses, cards) = cards(host)?;
    println!("        seed {SEED:#x}");
    let mut random = Random(SEED);
    let mut first = Deeds::default();
    begin(&mut first, &cards);
    first.say("READY ");
    for (card, address) in cards.iter().zip(&addresses) {
        card.begin_work(&mut first, 0, 1);
        if let Some(capability) = capability(host, address, "MSI-X:")? {
            // Enabled, so that every vector that is unmasked is armed.
            first.write16(card.config(capability + 2), 0x8000);
            let pages = match card.kind {
                Kind::Nvme => card.at(0, 0) + 0x2000,
                Kind::Xhci => card.at(0, 0) + 0x3000,
                _ => card.at(0, 3),
            };
            for _ in 0..SCRIBBLES {
                first.write32(pages + random.below(0x400) * 4, random.word());
            }
        }
        for _ in 0..SCRIBBLES {
            let (offset, value) = (random.below(0x1000), random.word());
            match random.below(3) {
                0 => first.write8(card.config(offset), value),
                1 => first.write16(card.config(offset & !1), value),
                _ => first.write32(card.config(offset & !3), value),
            }
        }
    }
    first.say("SCRIBBLED ");
    let mut second = Deeds::default();
    second.say("SECOND ");
    begin(&mut second, &cards);
    second.say("AGAIN");
    second.power_off();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let said = Deeds::two_lives(first, second).run(host, &addresses)?;
    assert!(said.contains("READY SCRIBBLED SECOND AGAIN"), "{said}");
    let report = report(host)?;
    assert_eq!((&report["cause"], &report["resets"]), (&"power-off".into(), &1.into()), "{report}");
    for address in addresses {
        let told =
            report["assigned"].as_array().and_then(|all| all.iter().find(|one| one["address"] == address));
        let told = told.map(|one| (one["last_reset"].as_str(), one["resets"] != 0));
        let way = best_way(host, address)?;
        assert_eq!(told, Some((way, way.is_some())), "{address}: {report}");
    }
    Ok(())
}

/// The way by which a machine should reset a function, of those that the host's kernel has for it: the function alone, by
/// whatever the kernel has for that, and its slot before its power states, as many functions only claim to have those.
fn best_way(host: &Host, address: &str) -> Result<Option<&'static str>, Failure> {
    let known = run(host, &format!("cat /sys/bus/pci/devices/{address}/reset_method"))?.stdout;
    let has = |method| known.split_whitespace().any(|one| one == method);
    Ok(match (has("flr"), has("bus"), has("pm")) {
        (true, ..) | (false, true, false) => Some("function"),
        (false, true, true) => Some("slot"),
        (false, false, true) => Some("power"),
        (false, false, false) => None,
    })
}

/// Where a capability of a function is.
fn capability(host: &Host, address: &str, name: &str) -> Result<Option<u32>, Failure> {
    let list = run(host, &format!("lspci -vs {address}"))?.stdout;
    let line = list.lines().find(|line| line.contains("Capabilities:") && line.contains(name));
    let digits = line.and_then(|line| line.split(['[', ']']).nth(1));
    Ok(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()))
}

/// Numbers that are the same in each run (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn word(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        self.word() % end
    }
}
