//! Whether the host has the memory that the seats ask for, of the right kind, on the right node, beside its own.
//!
//! Not here: allocating it. Huge pages that are missing become steps of the plan.

use std::collections::BTreeMap;

use spec::Bytes;
use spec::plan::{NoticeCode, PlannedMemory, ReasonCode, StepAction};
use spec::seat_file::{PageSize, SeatRequest};

use crate::findings::{Findings, Subject};
use crate::ground::Ground;
use crate::place;

/// What a machine needs besides its guest's memory: the process itself.
const PROCESS: Bytes = Bytes::mib(32);

/// One part in so many of a guest's memory goes into page tables: 8 bytes for each 4 KiB page, once for the
/// processor (EPT, NPT) and once for the IOMMU.
const PAGE_TABLE_SHARE: u64 = 256;

/// The share, the least and the most of the host's memory that stays free when the file does not say.
const RESERVE_SHARE: u64 = 16;
const LEAST_RESERVE: Bytes = Bytes::gib(1);
const MOST_RESERVE: Bytes = Bytes::gib(8);

/// What the choice of memory came to.
pub(crate) struct Choice {
    /// For each seat of the file; without an entry where there was a reason why not.
    pub(crate) seats: BTreeMap<usize, PlannedMemory>,
    /// The steps that reserve huge pages.
    pub(crate) steps: Vec<StepAction>,
    /// What stays free.
    pub(crate) left: Option<Bytes>,
}

/// The huge pages of one size on one node.
#[derive(Clone, Copy, Default)]
struct Pool {
    before: u64,
    total: u64,
    free: u64,
}

/// What is left while seats are served one after the other.
struct Left {
    /// Free for everything, less the host's reserve; unknown when the inventory does not tell.
    all: Option<u64>,
    /// Free on each node, as far as nodes are told.
    nodes: BTreeMap<u32, u64>,
    /// By node and page size.
    pools: BTreeMap<(u32, u64), Pool>,
}

/// Chooses memory for all seats; `homes` is where each seat should be.
pub(crate) fn choose(ground: &Ground<'_>, homes: &[Option<u32>], findings: &mut Findings) -> Choice {
    let reserve = reserve(ground);
    let mut left = left(ground, reserve);
    if left.all.is_none() {
        let sentence = "the inventory does not tell how much memory the host has".to_owned();
        let remedy = "read the inventory anew, as root".to_owned();
        findings.notice(&Subject::host("memory"), NoticeCode::NotKnown, sentence, remedy);
    }
    // Seats that insist on a node choose first: the others can go elsewhere.
    let mut order: Vec<(usize, &SeatRequest)> = ground.file.seats.iter().enumerate().collect();
    order.sort_by_key(|(_, seat)| seat.memory.node.is_none());
    let mut seats = BTreeMap::new();
    for (index, seat) in order {
        let about = Subject::seat(index, &seat.name, "memory");
        let home = homes.get(index).copied().flatten();
        let Ok(candidates) = candidates(ground, seat, home, &about, findings) else { continue };
        let node = match page_size(seat.memory.pages) {
            None => ordinary(&mut left, seat, &candidates, &about, findings),
            Some(page) => huge(&mut left, seat, page, &candidates, &about, findings),
        };
        let Some(node) = node else { continue };
        if let (Some(home), Some(node)) = (home, node)
            && home != node
        {
            let sentence =
                format!("NUMA node {home} has not enough memory free, so it comes from node {node}");
            findings.notice(&about, NoticeCode::MemoryFar, sentence, "ask for less memory".to_owned());
        }
        let memory = &seat.memory;
        let planned = PlannedMemory { size: memory.size, pages: memory.pages, shared: memory.shared, node };
        seats.insert(index, planned);
    }
    let steps = left.pools.iter().filter(|(_, pool)| pool.total > pool.before).map(|((node, page), pool)| {
        let node = ground.inventory.memory.nodes.iter().any(|known| known.number == *node).then_some(*node);
        StepAction::ReserveHugepages { node, page_size: Bytes(*page), from: pool.before, to: pool.total }
    });
    Choice { seats, steps: steps.collect(), left: left.all.map(|all| Bytes(all.saturating_add(reserve))) }
}

const fn page_size(pages: PageSize) -> Option<u64> {
    match pages {
        PageSize::Transparent | PageSize::Small => None,
        PageSize::Huge2M => Some(Bytes::mib(2).0),
        PageSize::Huge1G => Some(Bytes::gib(1).0),
    }
}

fn reserve(ground: &Ground<'_>) -> u64 {
    let share = ground.inventory.memory.total.map_or(0, |total| total.0 / RESERVE_SHARE);
    let usual = share.clamp(LEAST_RESERVE.0, MOST_RESERVE.0);
    ground.file.host.memory.map_or(usual, |memory| memory.0)
}

fn left(ground: &Ground<'_>, reserve: u64) -> Left {
    let memory = &ground.inventory.memory;
    let free = memory.available.or(memory.total);
    let told: u64 =
        memory.nodes.iter().filter_map(|node| node.free).fold(0, |sum, free| sum.saturating_add(free.0));
    let sizes: u64 =
        memory.nodes.iter().filter_map(|node| node.total).fold(0, |sum, all| sum.saturating_add(all.0));
    // A node's free memory leaves the file cache out, which the kernel gives up: its share by the node's size.
    let cache = free.map_or(0, |free| free.0.saturating_sub(told));
    let share = |all: u64| {
        let share = u128::from(cache) * u128::from(all) / u128::from(sizes.max(1));
        u64::try_from(share).unwrap_or(cache)
    };
    let mut nodes = BTreeMap::new();
    let mut pools = BTreeMap::new();
    for node in &memory.nodes {
        if let (Some(free), Some(all)) = (node.free, node.total) {
            nodes.insert(node.number, free.0.saturating_add(share(all.0)));
        }
        for pool in &node.hugepages {
            let known = Pool { before: pool.total, total: pool.total, free: pool.free };
            pools.insert((node.number, pool.page_size.0), known);
        }
    }
    Left { all: free.map(|free| free.0.saturating_sub(reserve)), nodes, pools }
}

/// The nodes that may serve a seat, the best first; empty: the host names none.
fn candidates(
    ground: &Ground<'_>,
    seat: &SeatRequest,
    home: Option<u32>,
    about: &Subject,
    findings: &mut Findings,
) -> Result<Vec<u32>, ()> {
    let nodes = place::by_distance(ground, home);
    match seat.memory.node {
        Some(node) if nodes.contains(&node) => Ok(vec![node]),
        Some(node) => {
            let listed: Vec<String> = nodes.iter().map(u32::to_string).collect();
            let sentence = format!("the host has no NUMA node {node}");
            let remedy = match listed.as_slice() {
                [] => "remove `memory.node`: the host names no nodes".to_owned(),
                _ => format!("choose one of {}, or remove `memory.node`", listed.join(", ")),
            };
            findings.refuse(about, ReasonCode::NodeUnknown, sentence, remedy);
            Err(())
        }
        None => Ok(nodes),
    }
}

/// Takes ordinary pages: the answer is the node, or none of them in particular.
fn ordinary(
    left: &mut Left,
    seat: &SeatRequest,
    candidates: &[u32],
    about: &Subject,
    findings: &mut Findings,
) -> Option<Option<u32>> {
    let size = seat.memory.size.0;
    let need = size.saturating_add(overhead(size));
    if left.all.is_some_and(|all| all < need) {
        short(left, seat, about, findings);
        return None;
    }
    let known = candidates.iter().filter(|node| left.nodes.contains_key(node)).count();
    let fits = candidates.iter().copied().find(|node| left.nodes.get(node).is_some_and(|free| *free >= need));
    match (fits, seat.memory.node) {
        (Some(node), _) => {
            take(left, need, Some(node));
            Some(Some(node))
        }
        (None, Some(node)) if known > 0 => {
            let free = left.nodes.get(&node).copied().unwrap_or(0);
            let sentence = format!(
                "{} and {} for its tables are asked for, but NUMA node {node} has {} left",
                seat.memory.size,
                rounded(overhead(size)),
                rounded(free)
            );
            let remedy = "ask for less, or remove `memory.node`".to_owned();
            findings.refuse(about, ReasonCode::NodeMemoryShort, sentence, remedy);
            None
        }
        (None, node) => {
            if known > 1 {
                let sentence =
                    "no NUMA node alone has so much memory free, so it comes from several".to_owned();
                findings.notice(about, NoticeCode::MemoryFar, sentence, "ask for less memory".to_owned());
            }
            take(left, need, None);
            Some(node)
        }
    }
}

/// Takes huge pages: those that are reserved already, else those that can be reserved now.
fn huge(
    left: &mut Left,
    seat: &SeatRequest,
    page: u64,
    candidates: &[u32],
    about: &Subject,
    findings: &mut Findings,
) -> Option<Option<u32>> {
    let need = seat.memory.size.0.div_ceil(page);
    let tables = overhead(0);
    if left.all.is_some_and(|all| all < tables) {
        short(left, seat, about, findings);
        return None;
    }
    let missing = |left: &Left, node: u32| {
        let pool = left.pools.get(&(node, page)).copied().unwrap_or_default();
        need.saturating_sub(pool.free)
    };
    let can_add = |left: &Left, node: u32| {
        let bytes = missing(left, node).saturating_mul(page);
        let everywhere = left.all.is_none_or(|all| all.saturating_sub(tables) >= bytes);
        everywhere && left.nodes.get(&node).is_none_or(|free| *free >= bytes)
    };
    // Large pages are rarely found once the host has run for a while: a pool that has them is better than a near one.
    let ready = candidates.iter().copied().find(|node| missing(left, *node) == 0);
    let prefer_ready = page >= Bytes::gib(1).0;
    let nearest = candidates.iter().copied().find(|node| can_add(left, *node));
    let Some(node) = (if prefer_ready { ready.or(nearest) } else { nearest }) else {
        let free: u64 =
            candidates.iter().map(|node| need.saturating_sub(missing(left, *node))).max().unwrap_or(0);
        let sentence = format!(
            "{need} pages of {} are asked for, but {free} are free on one node and there is no memory left for more",
            Bytes(page)
        );
        let remedy = "ask for less, or set `pages = \"transparent\"`".to_owned();
        findings.refuse(about, ReasonCode::HugepagesShort, sentence, remedy);
        return None;
    };
    let added = missing(left, node);
    let pool = left.pools.entry((node, page)).or_default();
    pool.total = pool.total.saturating_add(added);
    pool.free = pool.free.saturating_add(added).saturating_sub(need);
    take(left, added.saturating_mul(page), Some(node));
    take(left, tables, None);
    if added > 0 {
        let sentence =
            format!("{added} pages of {} have to be found when the seat starts, which may fail", Bytes(page));
        let remedy = format!(
            "reserve them when the host starts: add hugepagesz={}M hugepages={added} to the kernel's command line",
            page >> 20
        );
        findings.notice(about, NoticeCode::HugepagesAtStart, sentence, remedy);
    }
    Some(Some(node))
}

const fn overhead(size: u64) -> u64 {
    PROCESS.0 + size / PAGE_TABLE_SHARE
}

fn take(left: &mut Left, bytes: u64, node: Option<u32>) {
    left.all = left.all.map(|all| all.saturating_sub(bytes));
    if let Some(free) = node.and_then(|node| left.nodes.get_mut(&node)) {
        *free = free.saturating_sub(bytes);
        return;
    }
    // From everywhere: the fullest node first, as the kernel would.
    let mut rest = bytes;
    let mut nodes: Vec<&mut u64> = left.nodes.values_mut().collect();
    nodes.sort_by_key(|free| std::cmp::Reverse(**free));
    for free in nodes {
        let part = rest.min(*free);
        *free -= part;
        rest -= part;
    }
}

fn short(left: &Left, seat: &SeatRequest, about: &Subject, findings: &mut Findings) {
    let all = left.all.unwrap_or(0);
    let sentence = format!(
        "{} are asked for, but beside the host's reserve and the other seats {} are left",
        seat.memory.size,
        rounded(all)
    );
    let fits = all.saturating_sub(PROCESS.0) / (PAGE_TABLE_SHARE + 1) * PAGE_TABLE_SHARE;
    let remedy = match fits >> 20 {
        0..64 => "ask for less in the other seats, or lower `host.memory`".to_owned(),
        mib => format!("set `memory.size` to at most {mib}MiB, or lower `host.memory`"),
    };
    findings.refuse(about, ReasonCode::MemoryShort, sentence, remedy);
}

/// An amount for people: whole MiB.
fn rounded(bytes: u64) -> Bytes {
    Bytes(bytes >> 20 << 20)
}
