//! The last of its kind stays with the host: its console's display, its way to the network, its keyboard.
//!
//! Not here: holds of a single function ([`crate::hold`]). These are questions about all seats of a file together.

use spec::inventory::{Function, HoldKind};
use spec::plan::{NoticeCode, ReasonCode};
use spec::seat_file::ConsoleHandover;

use crate::findings::{Findings, Subject};
use crate::ground::{ASSIGNMENT_DRIVER, Ground, candidate, name};
use crate::hold;
use crate::wish::Wishes;

/// Checks what remains with the host.
pub(crate) fn check(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    console(ground, wishes, findings);
    network(ground, wishes, findings);
    keyboard(ground, wishes, findings);
}

/// Whether the host's console is on this display card.
pub(crate) fn shows_console(function: &Function) -> bool {
    let held = function.holds.iter().any(|hold| hold::is_console(function, hold));
    function.class.is_display() && (held || function.boot_vga == Some(true))
}

fn console(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    let remains = ground.functions().find(|function| {
        let given = function.driver.bound.as_deref() == Some(ASSIGNMENT_DRIVER);
        // 0x0300 is VGA compatible; a 3D controller (0x0302) has no outputs unless the kernel lists some.
        let outputs = function.class.base_and_sub() == 0x0300 || !function.connectors.is_empty();
        let usable = function.driver.bound.is_some() && !given && outputs || shows_console(function);
        let away = wishes.at(function.address).is_some() || ground.claimed_by(function.address).is_some();
        function.class.is_display() && usable && !away
    });
    for (piece, function) in wishes.functions().filter(|(_, function)| shows_console(function)) {
        let Some(seat) = ground.file.seats.get(piece.seat) else { continue };
        let card = format!("{} ({})", function.address, name(function));
        match (remains, seat.console) {
            (Some(other), _) => {
                let sentence = format!(
                    "{card} shows the host's console, which moves to {} ({}) while the seat runs",
                    other.address,
                    name(other)
                );
                let remedy = "connect a monitor there, if the console is needed".to_owned();
                findings.notice(&piece.about, NoticeCode::ConsoleMoves, sentence, remedy);
            }
            (None, ConsoleHandover::Give) => {
                let sentence = format!("the host goes without a picture while the seat has {card}");
                let remedy = "have another way in: ssh, or a serial console".to_owned();
                findings.notice(&piece.about, NoticeCode::ConsoleGoes, sentence, remedy);
            }
            (None, ConsoleHandover::Keep) => {
                let sentence = format!("{card} is the only display of the host's console");
                let remedy =
                    "set `console = \"give\"` in the seat, if the host may go without a picture; or add a \
                              second card"
                        .to_owned();
                findings.refuse(&piece.about, ReasonCode::OnlyConsole, sentence, remedy);
            }
        }
    }
}

/// Two seats may each take a card that is not the only way to the network, and both together take the last.
fn network(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    let is_way = |function: &&Function| {
        let mut holds = function.holds.iter();
        let taken = ground.claimed_by(function.address).is_some();
        !taken && holds.any(|hold| matches!(hold.kind, HoldKind::DefaultRoute { .. }))
    };
    let ways: Vec<&Function> = ground.functions().filter(is_way).collect();
    // The only way is held as such already.
    let all_taken = ways.len() > 1 && ways.iter().all(|way| wishes.at(way.address).is_some());
    let Some(piece) = ways.last().filter(|_| all_taken).and_then(|way| wishes.at(way.address)) else {
        return;
    };
    let sentence = "together the seats take every way of the host to the network".to_owned();
    let remedy = "leave the host one of the cards".to_owned();
    let listed = ways.iter().map(|way| candidate(way, None)).collect();
    findings.refuse_among(&piece.about, ReasonCode::LastNetwork, sentence, remedy, listed);
}

fn keyboard(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    let has_keyboard = |function: &&Function| {
        let mut behind = function.usb_devices.iter().flat_map(|device| &device.functions);
        behind.any(|kind| kind == "keyboard")
    };
    let mut with = ground.functions().filter(has_keyboard).peekable();
    if with.peek().is_none() || with.any(|function| wishes.at(function.address).is_none()) {
        return;
    }
    findings.notice(
        &Subject::host("keyboard"),
        NoticeCode::KeyboardGoes,
        "every USB keyboard is behind a controller that a seat takes".to_owned(),
        "have another way in: ssh, or a keyboard on a controller that stays".to_owned(),
    );
}
