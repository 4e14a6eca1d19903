//! Which processors each seat gets: whole cores, near its devices, never the last ones of the host.
//!
//! Not here: pinning. Explicit pins of the file come first, then the host's own cores, then the seats in order.

use std::collections::{BTreeMap, BTreeSet};

use spec::CpuSet;
use spec::plan::{NoticeCode, PlannedCpus, ReasonCode};

use crate::findings::{Findings, Subject};
use crate::ground::Ground;
use crate::place;

/// How many cores stay with the host when the file does not say.
const DEFAULT_HOST_CORES: u32 = 1;

/// One core with all its threads that are online.
#[derive(Clone)]
struct Core {
    threads: Vec<u32>,
    node: Option<u32>,
    /// The lowest processor of its last-level cache: names the cache.
    cache: Option<u32>,
    max_khz: u32,
    isolated: bool,
}

impl Core {
    fn first(&self) -> u32 {
        self.threads.first().copied().unwrap_or(u32::MAX)
    }

    fn has_any(&self, cpus: &BTreeSet<u32>) -> bool {
        self.threads.iter().any(|thread| cpus.contains(thread))
    }
}

/// What the choice of processors came to.
pub(crate) struct Choice {
    /// For each seat of the file; without an entry where there was a reason why not.
    pub(crate) seats: BTreeMap<usize, PlannedCpus>,
    /// The processors on which no seat runs.
    pub(crate) kept: CpuSet,
}

/// Chooses processors for all seats; `nodes` is where each seat should be.
pub(crate) fn choose(ground: &Ground<'_>, nodes: &[Option<u32>], findings: &mut Findings) -> Choice {
    let cores = cores(ground);
    let mut used: BTreeMap<u32, String> = BTreeMap::new();
    for claim in ground.claims {
        used.extend(claim.cpus.iter().map(|cpu| (cpu, claim.seat.clone())));
    }
    let mut seats = BTreeMap::new();
    if cores.is_empty() {
        let sentence = "the inventory lists no processor that is online".to_owned();
        let remedy = "read the inventory anew".to_owned();
        findings.refuse(&Subject::host("cpus"), ReasonCode::CpuUnknown, sentence, remedy);
        return Choice { seats, kept: CpuSet::new() };
    }
    pinned(ground, &cores, &mut used, &mut seats, findings);
    let reserve = reserve(ground, &cores, &used, findings);
    counted(ground, nodes, &Free { cores: &cores, reserve: &reserve }, &mut used, &mut seats, findings);
    let kept: CpuSet =
        cores.iter().flat_map(|core| &core.threads).copied().filter(|cpu| !used.contains_key(cpu)).collect();
    shared(ground, &kept, &mut seats, findings);
    Choice { seats, kept }
}

/// Groups the processors that are online into cores; each processor is in one core, whatever the inventory says.
fn cores(ground: &Ground<'_>) -> Vec<Core> {
    let facts = &ground.inventory.cpus;
    let online: BTreeSet<u32> = facts.online.iter().map(|cpu| cpu.number).collect();
    let mut placed = BTreeSet::new();
    let mut cores = Vec::new();
    let mut cpus: Vec<_> = facts.online.iter().collect();
    cpus.sort_by_key(|cpu| cpu.number);
    for cpu in cpus {
        let siblings = cpu.threads.iter().filter(|sibling| online.contains(sibling));
        let together: BTreeSet<u32> = siblings.chain([cpu.number]).collect();
        let threads: Vec<u32> = together.into_iter().filter(|thread| !placed.contains(thread)).collect();
        if placed.contains(&cpu.number) {
            continue;
        }
        placed.extend(threads.iter().copied());
        cores.push(Core {
            node: place::node_of_cpu(ground, cpu.number),
            cache: cpu.l3.as_ref().and_then(|cache| cache.iter().next()),
            max_khz: cpu.max_khz.unwrap_or(0),
            isolated: threads.iter().all(|thread| facts.isolated.contains(*thread)),
            threads,
        });
    }
    cores
}

/// Seats that name their processors get exactly those.
fn pinned(
    ground: &Ground<'_>,
    cores: &[Core],
    used: &mut BTreeMap<u32, String>,
    seats: &mut BTreeMap<usize, PlannedCpus>,
    findings: &mut Findings,
) {
    for (index, seat) in ground.file.seats.iter().enumerate() {
        let Some(pins) = &seat.cpus.pin else { continue };
        let about = Subject::seat(index, &seat.name, "cpus");
        for pin in pins {
            if !cores.iter().any(|core| core.threads.contains(pin)) {
                let sentence = format!("the host has no processor {pin} online");
                let online: CpuSet = cores.iter().flat_map(|core| core.threads.iter().copied()).collect();
                findings.refuse(&about, ReasonCode::CpuUnknown, sentence, format!("pin to some of {online}"));
            } else if let Some(owner) = used.insert(*pin, seat.name.clone()) {
                let sentence = format!("processor {pin} belongs to seat `{owner}`");
                let remedy = "pin to others, or ask for a `count` and let the planner choose".to_owned();
                findings.refuse(&about, ReasonCode::CpuTaken, sentence, remedy);
            }
        }
        let kept = pins.iter().copied().collect();
        let threads_per_core = threads(cores, pins);
        seats.insert(index, own(pins.clone(), kept, threads_per_core));
    }
    for (index, seat) in ground.file.seats.iter().enumerate() {
        for core in cores.iter().filter(|_| seat.cpus.pin.is_some()) {
            let of_seat = |thread: &&u32| used.get(*thread) == Some(&seat.name);
            let (ours, others): (Vec<u32>, Vec<u32>) =
                core.threads.iter().partition(|thread| of_seat(thread));
            if let (Some(ours), Some(other)) = (ours.first(), others.first()) {
                let owner = used.get(other).map_or("the host".to_owned(), |owner| format!("seat `{owner}`"));
                findings.notice(
                    &Subject::seat(index, &seat.name, "cpus"),
                    NoticeCode::CoreShared,
                    format!(
                        "processor {ours} shares its core with {other} of {owner}: they slow each other down"
                    ),
                    format!("pin to both {ours} and {other}, or to neither"),
                );
            }
        }
    }
}

/// How many threads of one core stand side by side in `pins`.
fn threads(cores: &[Core], pins: &[u32]) -> u8 {
    let core_of = |cpu: &u32| cores.iter().position(|core| core.threads.contains(cpu));
    let width = pins.iter().take_while(|cpu| core_of(cpu) == pins.first().and_then(core_of)).count();
    let even = pins.chunks(width.max(1)).all(|chunk| {
        chunk.len() == width && chunk.iter().all(|cpu| core_of(cpu) == chunk.first().and_then(core_of))
    });
    let cores_apart: BTreeSet<_> =
        pins.chunks(width.max(1)).map(|chunk| chunk.first().and_then(core_of)).collect();
    let whole = even && cores_apart.len() == pins.len() / width.max(1);
    if whole { u8::try_from(width).unwrap_or(1) } else { 1 }
}

/// Chooses the host's own cores: untouched by any seat, the one with the lowest processor first, because the kernel
/// starts on it and keeps its timers there.
fn reserve(
    ground: &Ground<'_>,
    cores: &[Core],
    used: &BTreeMap<u32, String>,
    findings: &mut Findings,
) -> BTreeSet<u32> {
    let wanted = ground.file.host.cores.unwrap_or(DEFAULT_HOST_CORES).max(1) as usize;
    let used: BTreeSet<u32> = used.keys().copied().collect();
    let mut free: Vec<&Core> = cores.iter().filter(|core| !core.has_any(&used)).collect();
    free.sort_by_key(|core| (core.isolated, core.first()));
    if free.len() < wanted {
        let sentence = format!(
            "{wanted} whole cores have to stay with the host, but of {} only {} are untouched by pins and running seats",
            cores.len(),
            free.len()
        );
        let remedy = "pin fewer processors".to_owned();
        findings.refuse(&Subject::host("cpus"), ReasonCode::CpusShort, sentence, remedy);
    }
    free.into_iter().take(wanted).flat_map(|core| core.threads.iter().copied()).collect()
}

/// The cores to choose from.
struct Free<'c> {
    cores: &'c [Core],
    reserve: &'c BTreeSet<u32>,
}

/// Seats that ask for a number get the nearest whole cores that are free; seats with a place of their own first.
fn counted(
    ground: &Ground<'_>,
    nodes: &[Option<u32>],
    free: &Free<'_>,
    used: &mut BTreeMap<u32, String>,
    seats: &mut BTreeMap<usize, PlannedCpus>,
    findings: &mut Findings,
) {
    let mut order: Vec<usize> = (0..ground.file.seats.len()).collect();
    let node = |index: usize| nodes.get(index).copied().flatten();
    order.sort_by_key(|index| node(*index).is_none());
    for index in order {
        let Some(seat) =
            ground.file.seats.get(index).filter(|seat| seat.cpus.pin.is_none() && !seat.cpus.shared)
        else {
            continue;
        };
        let about = Subject::seat(index, &seat.name, "cpus");
        let count = seat.cpus.count.unwrap_or(1).max(1) as usize;
        let taken: BTreeSet<u32> = used.keys().chain(free.reserve).copied().collect();
        let left: Vec<&Core> = free.cores.iter().filter(|core| !core.has_any(&taken)).collect();
        let Some(chosen) = nearest(ground, &left, count, node(index)) else {
            short(&about, count, free, &left, findings);
            continue;
        };
        let threads: Vec<u32> = chosen.iter().flat_map(|core| core.threads.iter().copied()).collect();
        used.extend(threads.iter().map(|cpu| (*cpu, seat.name.clone())));
        let pins: Vec<u32> = threads.iter().copied().take(count).collect();
        if let Some(home) =
            node(index).filter(|home| chosen.iter().any(|core| core.node.is_some_and(|at| at != *home)))
        {
            let sentence =
                format!("not enough processors of NUMA node {home} are free, so others are used too");
            let remedy = "ask for fewer, or move another seat's devices to another node".to_owned();
            findings.notice(&about, NoticeCode::CpusFar, sentence, remedy);
        }
        let threads_per_core = self::threads(free.cores, &pins);
        seats.insert(index, own(pins, threads.into_iter().collect(), threads_per_core));
    }
}

/// Seats that share run on every processor that no seat has for itself.
fn shared(
    ground: &Ground<'_>,
    rest: &CpuSet,
    seats: &mut BTreeMap<usize, PlannedCpus>,
    findings: &mut Findings,
) {
    for (index, seat) in ground.file.seats.iter().enumerate().filter(|(_, seat)| seat.cpus.shared) {
        let about = Subject::seat(index, &seat.name, "cpus");
        let sentence =
            format!("its processors run on {rest} beside the host: what either does slows the other down");
        let remedy = "leave `cpus.shared` out when the host has cores to spare".to_owned();
        findings.notice(&about, NoticeCode::CoreShared, sentence, remedy);
        let count = seat.cpus.count.unwrap_or(1).max(1);
        let (pins, kept) = (Vec::new(), CpuSet::new());
        seats.insert(index, PlannedCpus { count, pins, shared: rest.clone(), kept, threads_per_core: 1 });
    }
}

/// Processors that a seat has for itself.
fn own(pins: Vec<u32>, kept: CpuSet, threads_per_core: u8) -> PlannedCpus {
    let count = u32::try_from(pins.len()).unwrap_or(u32::MAX);
    PlannedCpus { count, pins, shared: CpuSet::new(), kept, threads_per_core }
}

/// Cores by where they are; the key begins with how far that is.
type Places<'c, Key> = BTreeMap<Key, Vec<&'c Core>>;

/// Chooses cores with `count` threads: within one cache of the home node if it can be, else within the node, else
/// the nearest.
fn nearest<'c>(
    ground: &Ground<'_>,
    left: &[&'c Core],
    count: usize,
    home: Option<u32>,
) -> Option<Vec<&'c Core>> {
    let far = |core: &Core| core.node.map_or(0, |node| place::distance(ground, home, node));
    let mut by_cache: Places<'_, (u32, Option<u32>, Option<u32>)> = BTreeMap::new();
    let mut by_node: Places<'_, (u32, Option<u32>)> = BTreeMap::new();
    for core in left {
        by_cache.entry((far(core), core.node, core.cache)).or_default().push(core);
        by_node.entry((far(core), core.node)).or_default().push(core);
    }
    let nearest = by_node.keys().next().map(|(distance, _)| *distance)?;
    let size = |cores: &[&Core]| cores.iter().map(|core| core.threads.len()).sum::<usize>();
    let within = by_cache
        .into_iter()
        .filter(|((distance, ..), cores)| *distance == nearest && size(cores) >= count)
        .map(|(_, cores)| cores)
        // The fullest cache that still has room leaves the others whole for larger seats.
        .min_by_key(|cores| (size(cores), cores.first().map(|core| core.first())));
    let node = || {
        let mut nodes = by_node.iter().filter(|(_, cores)| size(cores) >= count);
        nodes.next().map(|(_, cores)| cores.clone())
    };
    let all = || (size(left) >= count).then(|| by_node.values().flatten().copied().collect::<Vec<_>>());
    let mut chosen = Vec::new();
    let mut threads = 0;
    let mut pool = within.or_else(node).or_else(all)?;
    pool.sort_by_key(|core| (far(core), !core.isolated, std::cmp::Reverse(core.max_khz), core.first()));
    for core in pool {
        if threads >= count {
            break;
        }
        threads += core.threads.len();
        chosen.push(core);
    }
    chosen.sort_by_key(|core| core.first());
    Some(chosen)
}

fn short(about: &Subject, count: usize, free: &Free<'_>, left: &[&Core], findings: &mut Findings) {
    let all: usize = free.cores.iter().map(|core| core.threads.len()).sum();
    let threads: usize = left.iter().map(|core| core.threads.len()).sum();
    let sentence = format!(
        "{count} processors are asked for, but in whole cores only {threads} of the host's {all} are left: {} stay \
         with the host and the other seats have the rest",
        free.reserve.len()
    );
    let remedy = match threads {
        0 => "ask for fewer in the other seats, leave one out, or set `cpus.shared = true`".to_owned(),
        _ => format!("set `cpus.count` to at most {threads}, or `cpus.shared = true`"),
    };
    findings.refuse(about, ReasonCode::CpusShort, sentence, remedy);
}
