//! Decides which seat gets what: a pure function from an inventory, a seat file and what stands from before to a plan,
//! or to a refusal with every reason.
//!
//! Not here: a clock, a file, a thread, or anything that changes the host. Called by `cli`, `daemon` and `seat`; the
//! documents it reads and writes are in `spec`. Each module asks one question of all seats together:
//! [`wish`] which functions are meant, [`hold`] who uses them, [`isolation`] whether the hardware keeps them apart,
//! [`reset`] how they change owners, [`last`] what must stay, [`cpu`] and [`memory`] where seats run, [`aperture`] what
//! fits into a guest's addresses, [`step`] in which order it is done.

#![forbid(unsafe_code)]

mod aperture;
mod by_hand;
mod cpu;
mod findings;
mod ground;
mod hold;
mod isolation;
mod last;
mod memory;
mod picture;
mod place;
mod primary;
mod render;
mod reset;
mod rom;
mod selector;
mod slot;
mod step;
mod virtual_function;
mod wish;

pub use by_hand::{ByHand, by_hand};
pub use picture::picture;
pub use render::{plan_text, refusal_text};

use spec::inventory::HostInventory;
use spec::plan::{
    ClaimKind, ClaimRecord, ClaimState, Kept, PLAN_SCHEMA_VERSION, Plan, PlannedNetwork, ReasonCode, Refusal,
    SeatPlan, SeatStart, TrialRecord, USUAL_POWER_OFF,
};
use spec::seat_file::{
    BootFirst, DiskKind, DiskRequest, FirmwareKind, FirmwareRequest, SeatFile, SeatRequest,
};

use crate::findings::{Findings, Subject};
use crate::ground::Ground;

/// Plans all seats of `file` on the host of `inventory`, beside the `claims` that stand; `trials` are weighed.
///
/// The same inputs always give the same plan. It holds for this inventory only.
///
/// # Errors
/// A refusal with every reason, when any seat of the file cannot be as it asks. There is no plan for a part of a file.
pub fn plan(
    inventory: &HostInventory,
    file: &SeatFile,
    claims: &[ClaimRecord],
    trials: &[TrialRecord],
) -> Result<Plan, Refusal> {
    let ground = Ground::new(inventory, file, claims, trials);
    let mut findings = Findings::default();
    standing(&ground, &mut findings);
    let wishes = wish::gather(&ground, &mut findings);
    hold::check(&ground, &wishes, &mut findings);
    isolation::check(&ground, &wishes, &mut findings);
    last::check(&ground, &wishes, &mut findings);
    primary::check(&ground, &wishes, &mut findings);
    rom::check(&ground, &wishes, &mut findings);
    let resets = reset::find(&ground, &wishes, &mut findings);
    let seats = || file.seats.iter().enumerate();
    let homes: Vec<Option<u32>> =
        seats().map(|(index, seat)| place::node(&ground, &wishes, index, seat, &mut findings)).collect();
    let cpus = cpu::choose(&ground, &homes, &mut findings);
    let memory = memory::choose(&ground, &homes, &mut findings);
    let mut planned = Vec::new();
    for (index, seat) in seats() {
        let slots = slot::lay(&ground, &wishes, &resets, index, &mut findings);
        let aperture = aperture::find(&ground, index, seat, &slots, &mut findings);
        let (Some(cpus), Some(memory)) = (cpus.seats.get(&index), memory.seats.get(&index)) else { continue };
        planned.push(SeatPlan {
            name: seat.name.clone(),
            display: slot::display(seat, &wishes, index),
            slots,
            cpus: cpus.clone(),
            memory: *memory,
            aperture,
            start: start(seat),
            hypervisor: seat.hypervisor.clone(),
            clock: seat.clock,
            tpm: seat.tpm,
            // Windows has no driver for it.
            entropy: seat.entropy.unwrap_or(seat.hypervisor.is_none()),
            disks: disks(seat),
            networks: networks(&ground, seat),
            power_off_seconds: seat.power_off_seconds.unwrap_or(USUAL_POWER_OFF),
        });
    }
    let steps = step::list(&ground, &wishes, memory.steps);
    let notices = findings.finish()?;
    let kept = Kept { cpus: cpus.kept, memory: memory.left };
    Ok(Plan { schema_version: PLAN_SCHEMA_VERSION, kept, seats: planned, steps, notices })
}

/// A seat that runs is not planned again.
fn standing(ground: &Ground<'_>, findings: &mut Findings) {
    for (index, seat) in ground.file.seats.iter().enumerate() {
        let Some(claim) = ground.claims.iter().find(|claim| claim.seat == seat.name) else { continue };
        let (sentence, remedy) = match claim.state {
            ClaimState::Debt => (
                format!("an earlier claim of seat `{}` could not be given back whole", seat.name),
                format!("pay the debt first: allod release {}", seat.name),
            ),
            ClaimState::Taking | ClaimState::Taken | ClaimState::Releasing => (
                match claim.kind {
                    ClaimKind::Seat => format!("seat `{}` runs already", seat.name),
                    _ => format!("a claim `{}` stands already", seat.name),
                },
                format!("end it first: {}", ground::end_of(claim)),
            ),
        };
        findings.refuse(&Subject::seat(index, &seat.name, "name"), ReasonCode::SeatRuns, sentence, remedy);
    }
}

fn start(seat: &SeatRequest) -> SeatStart {
    match (&seat.kernel, &seat.firmware) {
        (Some(kernel), _) => SeatStart::Kernel(kernel.clone()),
        (None, Some(firmware)) => SeatStart::Firmware(firmware.clone()),
        (None, None) => SeatStart::Firmware(FirmwareRequest {
            kind: FirmwareKind::Uefi,
            variables: None,
            boot: BootFirst::default(),
        }),
    }
}

/// The disks, with the kind that each is; Windows has no driver for virtio's.
fn disks(seat: &SeatRequest) -> Vec<DiskRequest> {
    let usual = if seat.hypervisor.is_some() { DiskKind::Nvme } else { DiskKind::default() };
    let of_kind = |disk: &DiskRequest| DiskRequest { kind: disk.kind.or(Some(usual)), ..disk.clone() };
    seat.disks.iter().map(of_kind).collect()
}

fn networks(ground: &Ground<'_>, seat: &SeatRequest) -> Vec<PlannedNetwork> {
    let card = |(number, network): (usize, &spec::seat_file::NetworkRequest)| PlannedNetwork {
        bridge: network.bridge.clone(),
        tap: network.tap.clone(),
        mac: network
            .mac
            .unwrap_or_else(|| virtual_function::mac(ground, &seat.name, &format!("network {number}"))),
    };
    seat.networks.iter().enumerate().map(card).collect()
}
