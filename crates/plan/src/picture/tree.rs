//! The tree of functions: one row each, bridges above what is behind them, groups as brackets beside.
//!
//! Not here: processors and memory ([`super::resources`]).

use std::collections::{BTreeMap, BTreeSet};

use spec::PciAddress;
use spec::inventory::{Function, FunctionKind, HoldStrength, HostInventory, SrIov};
use spec::plan::{Plan, Refusal, Source};

use super::svg::{Svg, cut};
use super::{HOST, LINE, MARGIN, REFUSED, WIDTH, colour};
use crate::ground;

/// How far a function is moved in below its bridge.
const INDENT: u32 = 22;

/// The deepest place that is still moved in.
const MOST_DEPTH: u32 = 12;

/// Where the boxes end and the brackets of the groups begin.
const GROUPS: u32 = 690;

/// Where it says who has a function.
const OWNERS: u32 = 800;

/// The most functions that are drawn: beyond, a picture helps nobody.
const MOST_ROWS: usize = 400;

/// One row.
struct Row<'a> {
    function: &'a Function,
    depth: u32,
    /// The row of the bridge above.
    above: Option<usize>,
}

/// Draws the tree from `y` on and answers where it ends.
pub(super) fn draw(svg: &mut Svg, y: u32, inventory: &HostInventory, answer: Result<&Plan, &Refusal>) -> u32 {
    let rows = rows(inventory);
    let owners = answer.map(|plan| owners(inventory, plan)).unwrap_or_default();
    let named: BTreeSet<PciAddress> = answer
        .err()
        .into_iter()
        .flat_map(|refusal| &refusal.reasons)
        .filter_map(|reason| reason.function)
        .collect();
    svg.text(GROUPS, y, "#5c6370", "IOMMU group");
    svg.text(OWNERS, y, "#5c6370", "has it");
    let top = y + 12;
    let middle = |row: usize| top + row as u32 * LINE + LINE / 2;
    for (number, row) in rows.iter().enumerate() {
        let x = MARGIN + row.depth.min(MOST_DEPTH) * INDENT;
        if let Some(above) = row.above {
            let knee = x - INDENT / 2;
            svg.path("#b9bec7", &[(knee, middle(above) + 9), (knee, middle(number)), (x, middle(number))]);
        }
        let owner = owners.get(&row.function.address).copied();
        one(svg, (x, middle(number)), row.function, owner.map(colour), named.contains(&row.function.address));
        let (tint, text) = owner_text(row.function, owner, answer);
        svg.text(OWNERS, middle(number) + 4, tint, &cut(&text, 42));
    }
    groups(svg, &rows, &owners, top);
    let end = top + rows.len() as u32 * LINE;
    if inventory.functions.len() > rows.len() {
        svg.text(
            MARGIN,
            end + 16,
            "#5c6370",
            &format!("and {} more", inventory.functions.len() - rows.len()),
        );
        return end + LINE;
    }
    end
}

/// All functions in the order of the tree, each after its bridge.
fn rows(inventory: &HostInventory) -> Vec<Row<'_>> {
    let mut sorted: Vec<&Function> = inventory.functions.iter().collect();
    sorted.sort_by(|one, other| {
        one.identity.path.cmp(&other.identity.path).then(one.address.cmp(&other.address))
    });
    let mut rows: Vec<Row<'_>> = Vec::new();
    for function in sorted.into_iter().take(MOST_ROWS) {
        // Slot paths sort what is behind a bridge right after it, so the bridge has its row already.
        let above =
            function.parent.and_then(|parent| rows.iter().rposition(|row| row.function.address == parent));
        let depth = above.and_then(|above| rows.get(above)).map_or(0, |bridge| bridge.depth + 1);
        rows.push(Row { function, depth, above });
    }
    rows
}

/// Which seat has which function.
fn owners(inventory: &HostInventory, plan: &Plan) -> BTreeMap<PciAddress, usize> {
    let of_seat = |(index, seat): (usize, &spec::plan::SeatPlan)| {
        let functions = seat.slots.iter().flat_map(|slot| &slot.functions);
        let taken = functions.filter_map(move |function| match function.source {
            Source::Taken { address, .. } => Some((address, index)),
            Source::Virtual { of, index: which, .. } => match &inventory.function(of)?.sriov {
                Some(SrIov::Physical { functions, .. }) => Some((*functions.get(usize::from(which))?, index)),
                _ => None,
            },
        });
        taken.collect::<Vec<_>>()
    };
    plan.seats.iter().enumerate().flat_map(of_seat).collect()
}

/// One function: a box for a device, a thin line of text for what only leads to devices.
fn one(
    svg: &mut Svg,
    (x, middle): (u32, u32),
    function: &Function,
    seat: Option<(&'static str, &'static str)>,
    named: bool,
) {
    let address = function.address.to_string();
    let short = address.strip_prefix("0000:").unwrap_or(&address);
    let name = ground::name(function);
    let room = ((GROUPS - x - 100) / 7) as usize;
    if !ground::is_device(function) {
        let kind = match function.kind {
            FunctionKind::RootPort => "root port",
            FunctionKind::SwitchUpstream => "switch",
            FunctionKind::SwitchDownstream => "switch port",
            FunctionKind::HostBridge => "host bridge",
            FunctionKind::IsaBridge => "ISA bridge",
            _ => "bridge",
        };
        svg.code(x + 4, middle + 4, "#8a8f98", short);
        svg.text(x + 76, middle + 4, "#8a8f98", &cut(&format!("{kind} \u{b7} {name}"), room));
        return;
    }
    let (strong, pale) = if named { REFUSED } else { seat.unwrap_or(HOST) };
    let width = GROUPS - 14 - x;
    svg.boxed((x, middle - 9), (width, 18), (strong, pale));
    svg.filled(x, middle - 9, 4, 18, strong);
    svg.code(x + 10, middle + 4, "#1b1e24", short);
    svg.text(x + 76, middle + 4, "#1b1e24", &cut(&name, room));
}

/// Who has a function, or will have it, and the colour to say it in.
fn owner_text(
    function: &Function,
    seat: Option<usize>,
    answer: Result<&Plan, &Refusal>,
) -> (&'static str, String) {
    if let (Some(index), Ok(plan)) = (seat, answer) {
        let name = plan.seats.get(index).map_or("", |seat| seat.name.as_str());
        return (colour(index).0, format!("seat {name}"));
    }
    if let Err(refusal) = answer {
        let reasons = refusal.reasons.iter().filter(|reason| reason.function == Some(function.address));
        let codes: BTreeSet<&str> = reasons.map(|reason| reason.code.as_str()).collect();
        if !codes.is_empty() {
            return (REFUSED.0, codes.into_iter().collect::<Vec<_>>().join(", "));
        }
    }
    let lent: Vec<String> = answer.map(|plan| lent(plan, function.address)).unwrap_or_default();
    if !lent.is_empty() {
        return ("#30343b", format!("host; lends {}", lent.join(", ")));
    }
    if !ground::is_device(function) {
        return (HOST.0, String::new());
    }
    let critical = function.holds.iter().any(|hold| hold.strength >= HoldStrength::Critical);
    let driver = function.driver.bound.as_deref().unwrap_or("no driver");
    match critical {
        true => (REFUSED.0, format!("host lives on it ({driver})")),
        false => ("#5c6370", format!("host ({driver})")),
    }
}

/// The virtual functions of `physical` that seats get.
fn lent(plan: &Plan, physical: PciAddress) -> Vec<String> {
    let functions = |seat: &spec::plan::SeatPlan| {
        let functions = seat.slots.iter().flat_map(|slot| &slot.functions);
        let lent = functions.filter_map(|function| match function.source {
            Source::Virtual { of, index, .. } if of == physical => {
                Some(format!("vf{index} to {}", seat.name))
            }
            _ => None,
        });
        lent.collect::<Vec<_>>()
    };
    plan.seats.iter().flat_map(functions).collect()
}

/// A bracket beside each run of rows that are of one group, in the colour of the seat that has it whole.
fn groups(svg: &mut Svg, rows: &[Row<'_>], owners: &BTreeMap<PciAddress, usize>, top: u32) {
    let mut start = 0;
    while let Some(first) = rows.get(start) {
        let group = first.function.group;
        let length = rows.iter().skip(start).take_while(|row| row.function.group == group).count();
        let run = rows.get(start..start + length).unwrap_or_default();
        if let Some(group) = group {
            let seat = run.iter().find_map(|row| owners.get(&row.function.address));
            let tint = seat.map_or("#8a8f98", |seat| colour(*seat).0);
            let (from, to) = (top + start as u32 * LINE + 3, top + (start + length) as u32 * LINE - 3);
            svg.path(tint, &[(GROUPS, from), (GROUPS + 7, from), (GROUPS + 7, to), (GROUPS, to)]);
            svg.code(GROUPS + 14, (from + to) / 2 + 4, tint, &group.to_string());
        }
        start += length;
    }
    svg.path("#e3e5e9", &[(MARGIN, top - 4), (WIDTH - MARGIN, top - 4)]);
}
