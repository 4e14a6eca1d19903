//! Whether the main job can be done on this very host: which of its graphics cards are spare, and the seat file that
//! would take them. Pure, but for [`Offer::accepted`], which asks; nothing is taken here.

use host::doctor;
use plan::plan;
use spec::PciAddress;
use spec::inventory::{HostInventory, Verdict};
use spec::plan::{ClaimRecord, NoticeCode, TrialRecord};
use spec::seat_file::SeatFile;
use std::io::{BufRead, Write};
use std::path::Path;

/// Seats that a demo shows.
const SEAT_LIMIT: usize = 2;
/// What the seats are called: no name that a user of the host would have given.
const NAMES: [&str; SEAT_LIMIT] = ["demo-first", "demo-second"];
/// The colours of what they show, in degrees.
const HUES: [u16; SEAT_LIMIT] = [20, 200];
/// The one answer that takes something.
const YES: &str = "yes";

/// What seats on this host would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The seats' names.
    pub(super) seats: Vec<&'static str>,
    /// The cards, a line each.
    pub(super) cards: Vec<String>,
    /// Where they are.
    pub(super) addresses: Vec<PciAddress>,
    /// The seat file.
    pub(super) file: String,
}

/// What the seats start: the host's own kernel, and a RAM disk that draws.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
}

/// What is known of the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground<'a> {
    pub(super) inventory: &'a HostInventory,
    /// What belongs to seats already.
    pub(super) claims: &'a [ClaimRecord],
    /// What trials have shown.
    pub(super) trials: &'a [TrialRecord],
}

/// Finds the graphics cards that the planner would give to seats; none where there is none, or where the doctor says
/// that no seat can work.
///
/// A card that shows the host's console is never among them. Keyboards are not either: which of them the host can do
/// without, it does not know.
pub(super) fn offer(host: &Ground<'_>, start: Start<'_>) -> Option<Offer> {
    let inventory = host.inventory;
    if doctor::examine(inventory).verdict == Verdict::Blocked {
        return None;
    }
    let mut found: Vec<PciAddress> = Vec::new();
    let displays = inventory.functions.iter().filter(|function| function.class.is_display());
    for display in displays {
        let mut with = found.clone();
        with.push(display.address);
        if found.len() < SEAT_LIMIT && is_possible(host, &text(&with, start)) {
            found = with;
        }
    }
    let file = text(&found, start);
    let named = |address: &PciAddress| {
        let function = inventory.functions.iter().find(|function| function.address == *address);
        let names = function.map(|function| &function.names);
        let name = names.and_then(|names| names.device.clone()).unwrap_or_else(|| "graphics card".into());
        format!("{address} {name}")
    };
    let cards: Vec<String> = found.iter().map(named).collect();
    (!cards.is_empty()).then(|| Offer { seats: NAMES[..cards.len()].to_vec(), cards, addresses: found, file })
}

fn is_possible(host: &Ground<'_>, text: &str) -> bool {
    let Ok(file) = SeatFile::parse("demo.toml", text) else { return false };
    // The planner lets the console move to a card that is left. Nobody who says yes to a demo expects that.
    let moves = |code| matches!(code, NoticeCode::ConsoleMoves | NoticeCode::ConsoleGoes);
    plan(host.inventory, &file, host.claims, host.trials)
        .is_ok_and(|plan| !plan.notices.iter().any(|notice| moves(notice.code)))
}

/// Writes the seat file of seats with a card each.
fn text(cards: &[PciAddress], start: Start<'_>) -> String {
    let seat = |((name, hue), card): ((&&str, &u16), &PciAddress)| {
        format!(
            "[[seat]]\nname = \"{name}\"\ncpus = {{ count = 1, shared = true }}\nmemory.size = \"1GiB\"\n\
             kernel.image = {:?}\nkernel.initrd = {:?}\n\
             kernel.cmdline = \"console=tty0 console=ttyS0 quiet scene_name={name} scene_hue={hue}\"\ndevice = [{{ address = \"{card}\" }}]\n\n",
            start.kernel, start.initrd
        )
    };
    NAMES.iter().zip(&HUES).zip(cards).map(seat).collect()
}

impl Offer {
    /// Asks whether the cards may be taken; anything but a written-out yes, and no answer, is a no.
    pub(super) fn accepted(&self, answers: &mut dyn BufRead, questions: &mut dyn Write) -> bool {
        let cards = self.cards.join(", ");
        let asked = write!(
            questions,
            "This host could do it for real: {cards} would be taken from its drivers for as long as the demo runs. Each \
             shows a moving picture then, drawn by a guest with this host's kernel and its driver for the card.\nWrite `{YES}` for that; anything else shows the lab: "
        );
        let mut answer = String::new();
        asked.and_then(|()| questions.flush()).is_ok()
            && answers.read_line(&mut answer).is_ok()
            && answer.trim() == YES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spec::CpuSet;
    use spec::plan::{ClaimKind, ClaimState, ClaimedFunction};

    fn offered(inventory: &str) -> Option<Offer> {
        offered_beside(&serde_json::from_str(inventory).unwrap(), &[])
    }

    fn offered_beside(inventory: &HostInventory, claims: &[ClaimRecord]) -> Option<Offer> {
        let start = Start { kernel: Path::new("/boot/vmlinuz"), initrd: Path::new("/boot/initrd.img") };
        offer(&Ground { inventory, claims, trials: &[] }, start)
    }

    #[test]
    fn a_card_that_a_seat_has_is_not_offered() {
        let desktop = include_str!("../../../crates/plan/tests/inventories/desktop-two-gpus.json");
        let inventory: HostInventory = serde_json::from_str(desktop).unwrap();
        let taken = "0000:01:00.0";
        let function =
            inventory.functions.iter().find(|function| function.address.to_string() == taken).unwrap();
        let claim = ClaimRecord {
            seat: "anna".into(),
            kind: ClaimKind::Seat,
            state: ClaimState::Taken,
            functions: vec![ClaimedFunction {
                address: function.address,
                identity: function.identity.clone(),
                group: function.group,
                former_driver: None,
            }],
            cpus: CpuSet::default(),
        };
        let cards = offered_beside(&inventory, &[claim]).unwrap().cards;
        assert!(cards.iter().all(|card| !card.starts_with(taken)) && cards.len() == 1, "{cards:?}");
    }

    #[test]
    fn a_host_on_which_no_seat_can_work_offers_nothing() {
        let desktop = include_str!("../../../crates/plan/tests/inventories/desktop-two-gpus.json");
        let mut inventory: HostInventory = serde_json::from_str(desktop).unwrap();
        assert!(offered_beside(&inventory, &[]).is_some());
        inventory.host.device_nodes.iter_mut().for_each(|node| node.exists &= node.path != "/dev/kvm");
        assert_eq!(offered_beside(&inventory, &[]), None);
    }

    #[test]
    fn only_spare_cards_are_offered() {
        let laptop = include_str!("../../../crates/plan/tests/inventories/laptop-one-gpu.json");
        let desktop = include_str!("../../../crates/plan/tests/inventories/desktop-two-gpus.json");
        let server = include_str!("../../../crates/plan/tests/inventories/server-four-gpus.json");
        let other = include_str!("../../../crates/plan/tests/inventories/nic-boot.json");
        // The laptop's card and the last one's show the console, as does the desktop's third, the processor's own.
        let rows: [(&str, &[&str]); 4] = [
            (laptop, &[]),
            (desktop, &["0000:01:00.0", "0000:04:00.0"]),
            (server, &["0000:03:00.0", "0000:04:00.0"]),
            (other, &[]),
        ];
        for (inventory, expected) in rows {
            let cards = offered(inventory).map_or(Vec::new(), |offer| offer.cards);
            let addresses: Vec<&str> = cards.iter().filter_map(|card| card.split(' ').next()).collect();
            assert_eq!(addresses, expected);
        }
    }

    #[test]
    fn the_card_that_shows_the_console_is_not_offered_though_others_are_left() {
        let desktop = include_str!("../../../crates/plan/tests/inventories/desktop-two-gpus.json");
        let mut inventory: HostInventory = serde_json::from_str(desktop).unwrap();
        // The console on the first card instead of the last, which has a monitor then.
        for function in inventory.functions.iter_mut().filter(|function| function.class.is_display()) {
            function.boot_vga = Some(function.address.to_string() == "0000:01:00.0");
            function.holds.clear();
        }
        let offered = offered_beside(&inventory, &[]).unwrap();
        assert!(offered.cards.iter().all(|card| !card.starts_with("0000:01:00.0")), "{offered:?}");
    }

    #[test]
    fn without_an_iommu_nothing_is_offered() {
        let desktop = include_str!("../../../crates/plan/tests/inventories/desktop-two-gpus.json");
        let mut inventory: serde_json::Value = serde_json::from_str(desktop).unwrap();
        inventory["groups"] = serde_json::json!([]);
        for function in inventory["functions"].as_array_mut().unwrap() {
            function["group"] = serde_json::Value::Null;
        }
        assert_eq!(offered(&inventory.to_string()), None);
    }

    #[test]
    fn nothing_but_a_yes_takes_anything() {
        let offer = Offer {
            seats: vec!["demo-first"],
            cards: vec!["a card".into()],
            addresses: Vec::new(),
            file: String::new(),
        };
        let rows = [
            ("yes\n", true),
            ("y\n", false),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yes please\n", false),
        ];
        for (answer, expected) in rows {
            let mut asked = Vec::new();
            assert_eq!(offer.accepted(&mut answer.as_bytes(), &mut asked), expected, "{answer:?}");
            assert!(String::from_utf8(asked).unwrap().contains("a card"));
        }
    }
}
