//! Processors and memory: who has which core, and how much of each node.
//!
//! Not here: the tree of functions ([`super::tree`]).

use std::collections::BTreeMap;

use spec::inventory::HostInventory;
use spec::plan::{Plan, Refusal};

use super::svg::Svg;
use super::{HOST, LINE, MARGIN, WIDTH, colour};

/// The side of the square of one processor.
const SQUARE: u32 = 24;

/// The most processors that are drawn.
const MOST_CPUS: usize = 512;

/// Draws processors and memory from `y` on and answers where they end.
pub(super) fn draw(svg: &mut Svg, y: u32, inventory: &HostInventory, answer: Result<&Plan, &Refusal>) -> u32 {
    let Ok(plan) = answer else { return y };
    let y = processors(svg, y, inventory, plan);
    memory(svg, y + LINE, inventory, plan)
}

/// The squares of a core stand side by side; each node begins a new line.
fn processors(svg: &mut Svg, y: u32, inventory: &HostInventory, plan: &Plan) -> u32 {
    let mut seats: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, seat) in plan.seats.iter().enumerate() {
        seats.extend(seat.cpus.kept.iter().map(|cpu| (cpu, index)));
    }
    let mut cpus: Vec<_> = inventory.cpus.online.iter().take(MOST_CPUS).collect();
    let core = |cpu: &spec::inventory::Cpu| cpu.threads.iter().next().unwrap_or(cpu.number);
    cpus.sort_by_key(|cpu| (cpu.node, core(cpu), cpu.number));
    svg.text(MARGIN, y, "#5c6370", "processors (cores side by side; pale: kept for a core's other thread)");
    let (mut x, mut row) = (MARGIN, y + 12);
    let mut before: Option<&spec::inventory::Cpu> = None;
    for cpu in cpus {
        if let Some(before) = before {
            x += if core(before) == core(cpu) { SQUARE } else { SQUARE + 7 };
            if before.node != cpu.node || x + 2 * SQUARE > WIDTH - MARGIN && core(before) != core(cpu) {
                (x, row) = (MARGIN, row + SQUARE + 8);
            }
        }
        let seat = seats.get(&cpu.number).copied();
        let pinned = seat
            .and_then(|seat| plan.seats.get(seat))
            .is_some_and(|seat| seat.cpus.pins.contains(&cpu.number));
        let (strong, pale) = seat.map_or(HOST, colour);
        let (fill, ink) = if pinned { (strong, "#ffffff") } else { (pale, "#30343b") };
        svg.boxed((x, row), (SQUARE, SQUARE), (strong, fill));
        let digits = cpu.number.to_string();
        let inset = (SQUARE.saturating_sub(7 * digits.len() as u32)) / 2;
        svg.code(x + inset, row + 16, ink, &digits);
        before = Some(cpu);
    }
    row + SQUARE
}

/// One bar for each node, as long as all of it; what comes from everywhere has a bar of its own.
fn memory(svg: &mut Svg, y: u32, inventory: &HostInventory, plan: &Plan) -> u32 {
    let nodes = &inventory.memory.nodes;
    let largest = nodes.iter().filter_map(|node| node.total).map(|total| total.0).max().unwrap_or(0).max(1);
    let length = WIDTH - 2 * MARGIN - 90;
    let scaled = |bytes: u64| {
        let pixels = u128::from(bytes.min(largest)) * u128::from(length) / u128::from(largest);
        u32::try_from(pixels).unwrap_or(length)
    };
    svg.text(MARGIN, y, "#5c6370", "memory");
    let mut row = y + 12;
    for node in nodes {
        svg.text(MARGIN, row + 16, "#30343b", &format!("node {}", node.number));
        let whole = scaled(node.total.map_or(0, |total| total.0));
        svg.boxed((MARGIN + 90, row), (whole.max(1), SQUARE), HOST);
        let mut x = MARGIN + 90;
        for (index, seat) in
            plan.seats.iter().enumerate().filter(|(_, seat)| seat.memory.node == Some(node.number))
        {
            let width = scaled(seat.memory.size.0).min((MARGIN + 90 + whole).saturating_sub(x));
            svg.filled(x, row, width, SQUARE, colour(index).0);
            if width > 70 {
                svg.text(x + 8, row + 16, "#ffffff", &seat.memory.size.to_string());
            }
            x += width;
        }
        row += SQUARE + 8;
    }
    for (index, seat) in plan.seats.iter().enumerate().filter(|(_, seat)| seat.memory.node.is_none()) {
        svg.text(MARGIN, row + 16, "#30343b", "all nodes");
        let width = scaled(seat.memory.size.0).max(80);
        svg.filled(MARGIN + 90, row, width, SQUARE, colour(index).0);
        svg.text(MARGIN + 98, row + 16, "#ffffff", &seat.memory.size.to_string());
        row += SQUARE + 8;
    }
    row
}
