//! Who uses the functions that are asked for: the host's file systems, network, desktop, processes, other seats.
//!
//! Not here: the host's console, which is a question of all displays together ([`crate::last`]).

use spec::inventory::{ConfigAccess, Function, Hold, HoldKind, HoldStrength};
use spec::plan::ReasonCode;

use crate::findings::Findings;
use crate::ground::{Ground, end_of, name};
use crate::wish::{Piece, Wishes};

/// Checks every function that is asked for.
pub(crate) fn check(ground: &Ground<'_>, wishes: &Wishes<'_>, findings: &mut Findings) {
    for (piece, function) in wishes.functions() {
        claimed(ground, piece, function, findings);
        answers(piece, function, findings);
        for hold in &function.holds {
            held(piece, function, hold, findings);
        }
    }
}

/// Whether the console's own part of the planner weighs this hold.
pub(crate) fn is_console(function: &Function, hold: &Hold) -> bool {
    let shown =
        matches!(hold.kind, HoldKind::BootVga | HoldKind::Framebuffer { .. } | HoldKind::Console { .. });
    shown && function.class.is_display() && hold.strength != HoldStrength::Unknown
}

fn claimed(ground: &Ground<'_>, piece: &Piece<'_>, function: &Function, findings: &mut Findings) {
    let Some(claim) = ground.claimed_by(function.address) else { return };
    if piece.about.seat.as_ref().is_some_and(|(_, name)| *name == claim.seat) {
        // That this very seat runs already is told once, not for each of its devices.
        return;
    }
    let sentence = format!("{} ({}) belongs to seat `{}`", function.address, name(function), claim.seat);
    let remedy = format!("end that first: {}", end_of(claim));
    findings.refuse(&piece.about, ReasonCode::Claimed, sentence, remedy);
}

/// In D3cold all ones are what is read of a healthy device; anywhere else they are not.
fn answers(piece: &Piece<'_>, function: &Function, findings: &mut Findings) {
    if function.config != ConfigAccess::AllOnes || function.power_state.as_deref() == Some("D3cold") {
        return;
    }
    let sentence = format!("{} ({}) does not answer", function.address, name(function));
    let remedy =
        "restart the host with its power taken off for a moment; check the card's seat and power plugs";
    findings.refuse(&piece.about, ReasonCode::DeviceGone, sentence, remedy.to_owned());
}

fn held(piece: &Piece<'_>, function: &Function, hold: &Hold, findings: &mut Findings) {
    if hold.strength <= HoldStrength::HandOver || is_console(function, hold) {
        return;
    }
    let (code, fact, remedy) = explain(function, &hold.kind);
    let at = function.address;
    let remedy = match hold.strength {
        HoldStrength::InUse => remedy,
        _ => format!(
            "choose another device: the host lives on this one and no option overrules that; or {remedy}"
        ),
    };
    findings.refuse(&piece.about, code, format!("{at} ({}): {fact}", name(function)), remedy);
}

/// The code of a hold, the fact as a sentence, and how its holder lets go.
type Explained = (ReasonCode, String, String);

fn explain(function: &Function, kind: &HoldKind) -> Explained {
    explain_storage(kind).or_else(|| explain_network(kind)).unwrap_or_else(|| explain_use(function, kind))
}

/// The holds of disks.
fn explain_storage(kind: &HoldKind) -> Option<Explained> {
    Some(match kind {
        HoldKind::FileSystem { device, mount_point, file_system, .. } => {
            let system = file_system.as_deref().unwrap_or("a file system");
            let (place, remedy) = match mount_point {
                Some(at) => (format!(" at {at}"), format!("unmount it: umount {at}")),
                None => (String::new(), format!("unmount {device} where it is mounted")),
            };
            (ReasonCode::HeldByFileSystem, format!("{system} on {device} is mounted{place}"), remedy)
        }
        HoldKind::Swap { device, through } => {
            let area = through.last().unwrap_or(device);
            let fact = format!("the host swaps to {device}");
            (ReasonCode::HeldBySwap, fact, format!("stop that: swapoff on {area}"))
        }
        HoldKind::StorageMember { device, part_of } => {
            let fact = format!("{device} is a part of {part_of}");
            (ReasonCode::HeldByStorage, fact, format!("stop {part_of} first, if nothing needs it"))
        }
        _ => return None,
    })
}

/// The holds of network cards.
fn explain_network(kind: &HoldKind) -> Option<Explained> {
    Some(match kind {
        HoldKind::NetworkStorage { interface, server, used_for } => {
            let fact = format!("{used_for} comes from {server} through {interface}");
            (ReasonCode::HeldByNetworkStorage, fact, format!("move {used_for} away from {interface}"))
        }
        HoldKind::DefaultRoute { interface, only, .. } => {
            let way = if *only { "the only way" } else { "a way" };
            let fact = format!("{way} of the host to the network leads through {interface}");
            let remedy = format!("give the host another way to the network and take {interface} down");
            (ReasonCode::HeldByRoute, fact, remedy)
        }
        HoldKind::Login { interface, peer } => {
            let fact = format!("the session that asks came from {peer} through {interface}");
            (ReasonCode::HeldByLogin, fact, "log in another way first".to_owned())
        }
        HoldKind::NetworkUp { interface } => {
            let fact = format!("the network interface {interface} is up");
            (ReasonCode::HeldByNetwork, fact, format!("take it down: ip link set {interface} down"))
        }
        _ => return None,
    })
}

/// The holds of whoever draws, plays, types, or has a node open.
fn explain_use(function: &Function, kind: &HoldKind) -> Explained {
    match kind {
        HoldKind::DrmMaster { node, process } => {
            let who = process.as_deref().unwrap_or("a desktop");
            let remedy = "end the desktop: systemctl isolate multi-user.target".to_owned();
            (ReasonCode::HeldByDesktop, format!("{who} draws on {node}"), remedy)
        }
        HoldKind::Sound { card, process } => {
            let who = process.as_deref().unwrap_or("a process");
            (ReasonCode::HeldBySound, format!("{who} plays or records on {card}"), format!("end {who}"))
        }
        HoldKind::Open { node, process } => {
            (ReasonCode::HeldByProcess, format!("{process} has {node} open"), format!("end {process}"))
        }
        HoldKind::VirtualFunctions { count } => {
            let fact = format!("{count} virtual functions of it exist");
            let remedy =
                format!("remove them: echo 0 > /sys/bus/pci/devices/{}/sriov_numvfs", function.address);
            (ReasonCode::HeldByVirtualFunctions, fact, remedy)
        }
        HoldKind::Input { device } => {
            let remedy = format!("plug `{device}` into another controller");
            (ReasonCode::HeldByInput, format!("the host's `{device}` is behind it"), remedy)
        }
        HoldKind::Console { device } => {
            let remedy = "move the host's console away from it".to_owned();
            (ReasonCode::HeldByConsole, format!("the host's console is on {device}"), remedy)
        }
        _ => {
            let fact = "something holds it that this version does not know".to_owned();
            (ReasonCode::HeldByUnknown, fact, "use the version of Allod that wrote the inventory".to_owned())
        }
    }
}
