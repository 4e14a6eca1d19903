//! In one word: can this function be taken now. For listings; the planner has the last word with all its reasons.

use spec::inventory::{Function, FunctionKind, Hold, HoldStrength, HostInventory};

/// Whether a function can be taken, from the strongest hold in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It is a part of the host's own structure: bridges, what shares a group with the board's own bridge, and
    /// functions without a group.
    Stays,
    /// The host lives on it, or on another function of its group.
    Never(&'a Function, &'a Hold),
    /// A user of it, or of another function of its group, has to let go first.
    InUse(&'a Function, &'a Hold),
    /// It can be taken; the host's screen on it goes away meanwhile.
    HandOver(&'a Function, &'a Hold),
    /// It can be taken.
    Free,
}

impl Standing<'_> {
    /// The word for tables.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Stays => "stays",
            Self::Never(..) => "never",
            Self::InUse(..) => "in use",
            Self::HandOver(..) => "hand over",
            Self::Free => "free",
        }
    }
}

/// The standing of `function`, which is one of `inventory`.
pub fn standing<'a>(inventory: &'a HostInventory, function: &'a Function) -> Standing<'a> {
    let part_of_host = function.kind.forwards()
        || function.class.is_bridge()
        || matches!(function.kind, FunctionKind::HostBridge | FunctionKind::IsaBridge);
    let Some(group) = function.group.and_then(|number| inventory.group(number)).filter(|_| !part_of_host)
    else {
        return Standing::Stays;
    };
    let members: Vec<&Function> = group.functions.iter().filter_map(|at| inventory.function(*at)).collect();
    if members.iter().any(|member| holds_back(member)) {
        return Standing::Stays;
    }
    // On equal strength its own hold is named, then that of the first neighbour.
    let strongest = members
        .into_iter()
        .flat_map(|member| member.holds.iter().map(move |hold| (member, hold)))
        .max_by_key(|(at, hold)| {
            (hold.strength, at.address == function.address, std::cmp::Reverse(at.address))
        });
    match strongest {
        Some((member, hold)) => match hold.strength {
            HoldStrength::Critical | HoldStrength::Unknown => Standing::Never(member, hold),
            HoldStrength::InUse => Standing::InUse(member, hold),
            HoldStrength::HandOver => Standing::HandOver(member, hold),
            HoldStrength::Note => Standing::Free,
        },
        None => Standing::Free,
    }
}

/// Whether a member keeps its whole group with the host: an ISA bridge, or a host bridge that has a driver.
///
/// Bridges to other buses and host bridges without a driver do not (`vfio_dev_viable` in the kernel's
/// drivers/vfio/group.c).
fn holds_back(member: &Function) -> bool {
    let bare_host_bridge = member.kind == FunctionKind::HostBridge && member.driver.bound.is_none();
    member.class.is_bridge() && !member.kind.forwards() && !bare_host_bridge
}

#[cfg(test)]
mod tests {
    use super::standing;
    use crate::{fixtures, inventory};

    #[test]
    fn a_function_stands_as_the_strongest_hold_of_its_group_lets_it() {
        for (make, address, word, because_of) in [
            (fixtures::desktop_with_two_gpus as fn() -> _, "0000:01:00.0", "free", None),
            (fixtures::desktop_with_two_gpus, "0000:00:01.1", "stays", None),
            (fixtures::desktop_with_two_gpus, "0000:0b:00.0", "never", Some("0000:0b:00.0")),
            (fixtures::desktop_with_two_gpus, "0000:0e:00.0", "in use", Some("0000:0e:00.0")),
            (fixtures::desktop_with_two_gpus, "0000:09:00.0", "free", None),
            (fixtures::laptop_with_one_gpu, "0000:00:1f.3", "stays", None),
            (fixtures::amd_board_with_bad_groups, "0000:05:00.0", "never", Some("0000:01:00.1")),
            (fixtures::amd_board_with_bad_groups, "0000:03:00.0", "never", Some("0000:03:00.0")),
            (fixtures::host_booted_over_the_nic, "0000:01:00.1", "hand over", Some("0000:01:00.0")),
        ] {
            let host = inventory::read(&make());
            let function = host.function(address.parse().unwrap()).unwrap();
            let standing = standing(&host, function);
            assert_eq!(standing.word(), word, "{address}: {standing:?}");
            let named = match standing {
                super::Standing::Never(at, _)
                | super::Standing::InUse(at, _)
                | super::Standing::HandOver(at, _) => Some(at.address.to_string()),
                _ => None,
            };
            assert_eq!(named.as_deref(), because_of, "{address}");
        }
    }
}
