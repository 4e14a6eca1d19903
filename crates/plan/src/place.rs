//! Where a seat is best: the NUMA node of its devices, and the others by distance.
//!
//! Not here: choosing processors ([`crate::cpu`]) or memory ([`crate::memory`]) there.

use std::collections::BTreeSet;

use spec::inventory::Function;
use spec::plan::NoticeCode;
use spec::seat_file::SeatRequest;

use crate::findings::{Findings, Subject};
use crate::ground::Ground;
use crate::wish::{Piece, Wishes};

/// The distance of a node to itself (ACPI 6.5, section 5.2.17, System Locality Information Table).
const DISTANCE_TO_ITSELF: u32 = 10;

/// A distance for nodes of which none is told: farther than any that is.
const DISTANCE_UNKNOWN: u32 = 255;

/// Finds the node that the seat at `index` should be on; none when its devices name none.
///
/// The file's own word counts first, then the display card, then the other devices in the order of the file.
pub(crate) fn node(
    ground: &Ground<'_>,
    wishes: &Wishes<'_>,
    index: usize,
    seat: &SeatRequest,
    findings: &mut Findings,
) -> Option<u32> {
    let mut functions: Vec<&Function> = wishes.of_seat(index).map(Piece::hardware).collect();
    functions.sort_by_key(|function| !function.class.is_display());
    let near: Vec<u32> = functions.iter().filter_map(|function| node_of(ground, function)).collect();
    let different: BTreeSet<u32> = near.iter().copied().collect();
    if different.len() > 1 {
        let listed: Vec<String> = different.iter().map(u32::to_string).collect();
        findings.notice(
            &Subject::seat(index, &seat.name, "devices"),
            NoticeCode::SeveralNodes,
            format!("the seat's devices are on NUMA nodes {}", listed.join(" and ")),
            "choose cards of one node for a seat; `allod devices` shows the nodes".to_owned(),
        );
    }
    let pinned =
        seat.cpus.pin.as_ref().and_then(|pins| pins.first()).and_then(|first| node_of_cpu(ground, *first));
    seat.memory.node.or(near.first().copied()).or(pinned)
}

/// All nodes of the host, the nearest to `from` first.
pub(crate) fn by_distance(ground: &Ground<'_>, from: Option<u32>) -> Vec<u32> {
    let mut nodes: Vec<u32> = ground.inventory.memory.nodes.iter().map(|node| node.number).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.sort_by_key(|node| (distance(ground, from, *node), *node));
    nodes
}

/// How far node `to` is from node `from`.
pub(crate) fn distance(ground: &Ground<'_>, from: Option<u32>, to: u32) -> u32 {
    let Some(from) = from else { return DISTANCE_TO_ITSELF };
    if from == to {
        return DISTANCE_TO_ITSELF;
    }
    let nodes = &ground.inventory.memory.nodes;
    let distances = nodes.iter().find(|node| node.number == from).map(|node| &node.distances);
    // The distances are listed in rising order of node, not by number.
    let position = nodes.iter().filter(|node| node.number < to).count();
    distances.and_then(|distances| distances.get(position)).copied().unwrap_or(DISTANCE_UNKNOWN)
}

fn node_of(ground: &Ground<'_>, function: &Function) -> Option<u32> {
    let local = || function.local_cpus.as_ref()?.iter().next();
    function.numa_node.or_else(|| {
        // On a host with one node, functions name none; where there are several, the processors tell.
        (ground.inventory.memory.nodes.len() > 1)
            .then(local)
            .flatten()
            .and_then(|cpu| node_of_cpu(ground, cpu))
    })
}

/// The node of processor `cpu`, by the processor or by the node.
pub(crate) fn node_of_cpu(ground: &Ground<'_>, cpu: u32) -> Option<u32> {
    let told =
        ground.inventory.cpus.online.iter().find(|known| known.number == cpu).and_then(|known| known.node);
    let nodes = &ground.inventory.memory.nodes;
    told.or_else(|| nodes.iter().find(|node| node.cpus.contains(cpu)).map(|node| node.number))
}
