//! Proves a device by doing: takes it, resets it in every way it has, reads its ROM, gives it back, for some rounds.
//!
//! Called by `allod trial`; the planner weighs the records. Not here: whether the device may be taken (the planner).

use std::path::Path;
use std::time::{Duration, Instant};

use linux::sysfs::Tree;
use spec::ledger::{Attribute, Change};
use spec::plan::{TrialRecord, TrialVerdict, TriedReset};
use spec::{Bytes, PciAddress};

use crate::claim::{self, StepReport, TakeRequest, Watcher, place};
use crate::ledger::{Ledger, LedgerError, read_document, write_document};
use crate::system::System;

/// The file with the records in the state directory.
const FILE: &str = "trials.json";

/// How long a function may take to answer after a reset (PCIe 6.0, section 6.6.1: 1 s after a conventional one).
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How long the host's side of a device may take to come back: disks, interfaces, screens.
const BACK_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The largest ROM that is read (PCI Firmware 3.3, section 5.1: most are far below 1 MiB).
const MOST_ROM_BYTES: usize = 16 << 20;

/// One round of a trial.
#[derive(Clone, Debug)]
pub struct Round {
    /// Its number, from 1.
    pub number: u32,
    /// Every reset of every function.
    pub resets: Vec<TriedReset>,
    /// The size of each ROM that could be read.
    pub roms: Vec<(PciAddress, Bytes)>,
    /// How long it took.
    pub took: Duration,
    /// What went wrong.
    pub failed: Option<String>,
}

/// Who watches a trial.
pub trait TrialWatcher: Watcher {
    /// Hears of a round that is over.
    fn round(&mut self, round: &Round);
}

/// Nobody watches.
impl TrialWatcher for () {
    fn round(&mut self, _: &Round) {}
}

/// Tries the functions of `request` for `rounds` rounds, and ends early with the first that fails.
pub fn run(
    system: &dyn System,
    ledger: &mut Ledger,
    request: &TakeRequest,
    rounds: u32,
    watcher: &mut dyn TrialWatcher,
) -> Vec<Round> {
    let addresses: Vec<PciAddress> = request.functions.iter().map(|function| function.address).collect();
    let before = host_side(system.tree(), &addresses);
    let mut all: Vec<Round> = Vec::new();
    let mut roms: Option<Vec<u64>> = None;
    for number in 1..=rounds {
        let begin = Instant::now();
        let mut round =
            Round { number, resets: Vec::new(), roms: Vec::new(), took: Duration::ZERO, failed: None };
        let mut trying = Trying { system, ledger, request, watcher, round: &mut round, roms: &mut roms };
        let result = trying.round().and_then(|()| is_back(system, &addresses, &before));
        round.failed = result.err();
        round.took = begin.elapsed();
        watcher.round(&round);
        let failed = round.failed.is_some();
        all.push(round);
        if failed {
            break;
        }
    }
    all
}

/// What the rounds come to, as records of the functions that were tried.
pub fn verdicts(
    request: &TakeRequest,
    rounds: &[Round],
    kernel: Option<&str>,
    firmware: Option<&str>,
) -> Vec<TrialRecord> {
    let verdict = match rounds.iter().find_map(|round| Some((round.number, round.failed.clone()?))) {
        None => TrialVerdict::Passed,
        Some((number, why)) => TrialVerdict::Failed { why: format!("in round {number}: {why}") },
    };
    let record = |function: &spec::plan::ClaimedFunction| {
        let own = |tried: &&TriedReset| tried.function == function.address;
        let last = rounds.last();
        TrialRecord {
            identity: function.identity.clone(),
            verdict: verdict.clone(),
            rounds: u32::try_from(rounds.len()).unwrap_or(u32::MAX),
            kernel: kernel.map(str::to_owned),
            firmware: firmware.map(str::to_owned),
            resets: last.map(|round| round.resets.iter().filter(own).cloned().collect()).unwrap_or_default(),
            rom: last.and_then(|round| {
                round.roms.iter().find(|(address, _)| *address == function.address).map(|(_, size)| *size)
            }),
        }
    };
    request.functions.iter().map(record).collect()
}

/// Reads the records in `directory`, the oldest first.
///
/// # Errors
///
/// The file cannot be read, or makes no sense.
pub fn records(directory: &Path) -> Result<Vec<TrialRecord>, LedgerError> {
    Ok(read_document(&directory.join(FILE))?.unwrap_or_default())
}

/// Adds `new` to the records, in place of older ones of the same devices. The ledger's lock must be held.
///
/// # Errors
///
/// The file cannot be read or written.
pub fn store(directory: &Path, _held: &Ledger, new: &[TrialRecord]) -> Result<(), LedgerError> {
    let mut all = records(directory)?;
    all.retain(|old| !new.iter().any(|new| new.identity == old.identity));
    all.extend(new.iter().cloned());
    write_document(&directory.join(FILE), &all)
}

/// One round under way.
struct Trying<'a> {
    system: &'a dyn System,
    ledger: &'a mut Ledger,
    request: &'a TakeRequest,
    watcher: &'a mut dyn TrialWatcher,
    round: &'a mut Round,
    /// Marks of the ROMs of the first round.
    roms: &'a mut Option<Vec<u64>>,
}

impl Trying<'_> {
    fn round(&mut self) -> Result<(), String> {
        let watcher: &mut dyn Watcher = &mut Quiet(self.watcher);
        let taken = claim::take(self.system, self.ledger, self.request, watcher);
        let claim = taken.map_err(|error| format!("it could not be taken: {error}"))?;
        let tried = self.tries();
        let released = claim.release(self.system, self.ledger, &mut Quiet(self.watcher));
        released.map_err(|error| format!("it could not be given back: {error}"))?;
        tried
    }

    fn tries(&mut self) -> Result<(), String> {
        let addresses: Vec<PciAddress> =
            self.request.functions.iter().map(|function| function.address).collect();
        let mut marks = Vec::new();
        for address in addresses {
            self.resets(address)?;
            if let Some((size, mark)) = rom(self.system.tree(), address) {
                self.round.roms.push((address, size));
                marks.push(mark);
            }
        }
        match self.roms {
            Some(first) if *first != marks => {
                Err("its ROM reads differently than in the first round".to_owned())
            }
            Some(_) => Ok(()),
            None => {
                *self.roms = Some(marks);
                Ok(())
            }
        }
    }

    /// Resets a function in each of its ways. One that fails is noted; that all fail is a failure.
    fn resets(&mut self, function: PciAddress) -> Result<(), String> {
        let tree = self.system.tree();
        let path = format!("{}/reset_method", place::function(function));
        let all = tree.text(&path).unwrap_or_default();
        let methods: Vec<&str> = all.split_whitespace().collect();
        for method in &methods {
            let begin = Instant::now();
            let attribute = Attribute::ResetMethod { function };
            let change = Change::Set { attribute, from: all.clone(), to: (*method).to_owned() };
            let system = self.system;
            let reset = || match *method == all {
                true => reset(system, function),
                // The kernel tries its methods in order; named alone, none stands in for another.
                false => claim::with_change(system, self.ledger, &self.request.name, &change, || {
                    reset(system, function)
                })
                .and_then(|done| done),
            };
            let mut reset = reset;
            let failed = reset().err();
            let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.round.resets.push(TriedReset { function, method: (*method).to_owned(), took_ms, failed });
        }
        let own: Vec<&TriedReset> =
            self.round.resets.iter().filter(|tried| tried.function == function).collect();
        match own.iter().find_map(|tried| tried.failed.as_ref()) {
            Some(why) if own.iter().all(|tried| tried.failed.is_some()) => Err(format!("{function}: {why}")),
            _ => Ok(()),
        }
    }
}

/// Steps are told only when they fail: a trial has too many.
struct Quiet<'a>(&'a mut dyn TrialWatcher);

impl Watcher for Quiet<'_> {
    fn step(&mut self, report: &StepReport) {
        if report.failed.is_some() {
            self.0.step(report);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

fn reset(system: &dyn System, function: PciAddress) -> Result<(), String> {
    let directory = place::function(function);
    system.tree().write(&format!("{directory}/reset"), b"1").map_err(|error| error.to_string())?;
    let mut waited = Duration::ZERO;
    while !answers(system.tree(), function) {
        if waited >= ANSWERS_WITHIN {
            return Err(format!("{function} does not answer after the reset"));
        }
        system.pause(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
    Ok(())
}

/// Whether the function's own ids can be read: `vendor` in sysfs is the kernel's memory of them.
fn answers(tree: &dyn Tree, function: PciAddress) -> bool {
    let config = tree.read(&format!("{}/config", place::function(function)), linux::sysfs::ATTRIBUTE_LIMIT);
    config.is_ok_and(|bytes| bytes.get(..2).is_some_and(|vendor| vendor != [0xff, 0xff]))
}

/// The size of a ROM that can be read, and a mark of its content.
fn rom(tree: &dyn Tree, function: PciAddress) -> Option<(Bytes, u64)> {
    let path = format!("{}/rom", place::function(function));
    tree.exists(&path).then_some(())?;
    // The kernel maps the ROM only while it is switched on; off again whatever came of it.
    tree.write(&path, b"1").ok()?;
    let bytes = tree.read(&path, MOST_ROM_BYTES);
    let _ = tree.write(&path, b"0");
    let bytes = bytes.ok().filter(|bytes| !bytes.is_empty())?;
    // FNV-1a, 64 bits: told apart is all they need to be.
    let mark = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some((Bytes(bytes.len() as u64), mark))
}

/// How many disks, interfaces, screens and USB devices the host has at each function.
fn host_side(tree: &dyn Tree, addresses: &[PciAddress]) -> Vec<[usize; 4]> {
    let nodes = |class: &str| -> Vec<String> {
        let names = tree.list(class).unwrap_or_default();
        names.iter().filter_map(|name| tree.canonical(&format!("{class}/{name}")).ok()).collect()
    };
    let classes = ["/sys/class/net", "/sys/class/drm", "/sys/bus/usb/devices"].map(nodes);
    let mut disks = nodes("/sys/class/block");
    // With several paths to it a disk of NVMe is below no function, but each of its paths is.
    disks.extend(nodes("/sys/class/nvme").iter().flat_map(|controller| {
        let below = tree.list(controller).unwrap_or_default();
        below
            .into_iter()
            .filter(|name| name.starts_with("nvme"))
            .map(move |name| format!("{controller}/{name}"))
    }));
    let [interfaces, screens, usb] = classes;
    let counts = |address: &PciAddress| {
        let part = format!("/{address}/");
        [&disks, &interfaces, &screens, &usb]
            .map(|paths| paths.iter().filter(|path| path.contains(&part)).count())
    };
    addresses.iter().map(counts).collect()
}

/// Waits until the host has again what it had at the functions; drivers find disks and USB devices in their own time.
fn is_back(system: &dyn System, addresses: &[PciAddress], before: &[[usize; 4]]) -> Result<(), String> {
    let mut waited = Duration::ZERO;
    loop {
        let now = host_side(system.tree(), addresses);
        let lacking = now
            .iter()
            .zip(before)
            .zip(addresses)
            .find(|((now, before), _)| now.iter().zip(before.iter()).any(|(now, before)| now < before));
        let Some((_, address)) = lacking else { return Ok(()) };
        if waited >= BACK_WITHIN {
            return Err(format!("the host's driver has {address}, but not all that was behind it is back"));
        }
        system.pause(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}
