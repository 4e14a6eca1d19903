//! Taking devices without a seat: the same rules for devices, none for processors and memory.
//!
//! Called for `allod claim` and `allod trial`. Not here: any rule.

use spec::inventory::HostInventory;
use spec::plan::{ClaimRecord, ClaimedFunction, Notice, Refusal, StepAction, TrialRecord};
use spec::seat_file::{
    ClockTime, ConsoleHandover, CpuRequest, DeviceRequest, MemoryRequest, PageSize, SeatFile, SeatRequest,
};
use spec::{Bytes, PciAddress};

use crate::findings::Findings;
use crate::ground::Ground;
use crate::wish::What;
use crate::{hold, isolation, last, reset, standing, step, wish};

/// What taking some devices comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// All functions that are taken: with a display card its sound.
    pub functions: Vec<ClaimedFunction>,
    /// What is done, in this order.
    pub steps: Vec<StepAction>,
    /// What a person should know before.
    pub notices: Vec<Notice>,
}

impl ByHand {
    /// The addresses of the functions.
    pub fn addresses(&self) -> Vec<PciAddress> {
        self.functions.iter().map(|function| function.address).collect()
    }
}

/// Plans the taking of `devices` under `name`, beside the claims and trials of before.
///
/// # Errors
/// A refusal with every reason.
pub fn by_hand(
    inventory: &HostInventory,
    name: &str,
    devices: &[DeviceRequest],
    console: ConsoleHandover,
    before: (&[ClaimRecord], &[TrialRecord]),
) -> Result<ByHand, Refusal> {
    let (claims, trials) = before;
    let file = file(name, devices, console);
    let ground = Ground::new(inventory, &file, claims, trials);
    let mut findings = Findings::default();
    standing(&ground, &mut findings);
    let wishes = wish::gather(&ground, &mut findings);
    hold::check(&ground, &wishes, &mut findings);
    isolation::check(&ground, &wishes, &mut findings);
    last::check(&ground, &wishes, &mut findings);
    reset::find(&ground, &wishes, &mut findings);
    let functions = wishes.pieces.iter().filter_map(|piece| match &piece.what {
        What::Function(function) => Some(ClaimedFunction {
            address: function.address,
            identity: function.identity.clone(),
            group: function.group,
            former_driver: function.driver.bound.clone(),
        }),
        What::Virtual(_) => None,
    });
    let functions = functions.collect();
    let steps = step::list(&ground, &wishes, Vec::new()).into_iter().map(|step| step.action);
    let steps = steps.filter(|action| *action != StepAction::StartMachine).collect();
    let notices = findings.finish()?;
    Ok(ByHand { functions, steps, notices })
}

/// A seat with devices and nothing else.
fn file(name: &str, devices: &[DeviceRequest], console: ConsoleHandover) -> SeatFile {
    let memory = MemoryRequest { size: Bytes(0), pages: PageSize::Small, shared: false, node: None };
    let seat = SeatRequest {
        name: name.to_owned(),
        power_off_seconds: None,
        display: None,
        console,
        cpus: CpuRequest::default(),
        memory,
        kernel: None,
        firmware: None,
        hypervisor: None,
        clock: ClockTime::Utc,
        tpm: false,
        entropy: None,
        devices: devices.to_vec(),
        virtual_functions: Vec::new(),
        disks: Vec::new(),
        networks: Vec::new(),
    };
    SeatFile { seats: vec![seat], ..SeatFile::default() }
}
