//! `allod claim`: take devices from the host by hand.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use host::claim::{self, TakeRequest};
use host::{inventory, ledger, trial};
use spec::inventory::SlotPath;
use spec::ledger::Keeper;
use spec::plan::{ClaimKind, ClaimRecord, ReasonCode, Refusal};
use spec::seat_file::{ConsoleHandover, DeviceRequest};
use spec::{CpuSet, PciAddress};

use crate::print;
use crate::state::{self, BUSY, Ended, NOT_FOUND, Progress, State};

/// Take devices from the host and bind them to vfio-pci, until `allod release` or the next start of the host.
///
/// The rules are those of `allod plan`: groups are taken whole, and what the host lives on is refused with every reason.
/// Each change is written down before it is made; when one fails, or this process dies, all is put back.
///
/// Exit status: 0 taken; 1 refused or failed, and all is as it was; 2 the command line makes no sense; 4 no such device;
/// 5 not for this user; 6 it belongs to another claim, or another allod is changing the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Devices by address (01:00.0) or slot path (0000:00/01.1/00.0)
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<Device>,
    /// The claim's name; without it, that of the first device
    #[arg(long)]
    name: Option<String>,
    /// Let the host go without a picture when its only display is among the devices
    #[arg(long)]
    give_console: bool,
    /// The claim as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: State,
}

/// A device as a person names it.
#[derive(Clone, Debug)]
pub(crate) struct Device(pub(crate) DeviceRequest);

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<PciAddress>() {
            return Ok(Self(DeviceRequest { address: Some(address), ..DeviceRequest::default() }));
        }
        match text.parse::<SlotPath>() {
            Ok(path) => Ok(Self(DeviceRequest { path: Some(path), ..DeviceRequest::default() })),
            Err(_) => Err(format!(
                "`{text}` is neither an address like 01:00.0 nor a slot path like 0000:00/01.1/00.0; `allod devices` shows both"
            )),
        }
    }
}

/// Takes the devices.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    state::end(take(arguments))
}

fn take(arguments: &Arguments) -> Result<(), Ended> {
    let begin = Instant::now();
    let mut open = arguments.state.open("claim")?;
    let requests: Vec<DeviceRequest> = arguments.devices.iter().map(|device| device.0.clone()).collect();
    let name = match (&arguments.name, requests.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(first)) => first_name(first),
        (None, None) => return Ok(()),
    };
    let console = if arguments.give_console { ConsoleHandover::Give } else { ConsoleHandover::Keep };
    let host = inventory::read(host::system::System::tree(&open.system));
    let claims: Vec<ClaimRecord> = open.ledger.book().claims().map(|entry| entry.record.clone()).collect();
    let trials = trial::records(&arguments.state.directory())?;
    let planned = plan::by_hand(&host, &name, &requests, console, (&claims, &trials));
    let planned = planned.map_err(|refusal| refused(&refusal))?;
    for notice in &planned.notices {
        eprintln!("allod: note: {}; {}", notice.sentence, notice.remedy);
    }
    let request = TakeRequest {
        name: name.clone(),
        kind: ClaimKind::Hand,
        keeper: Keeper::Hand,
        functions: planned.functions,
        cpus: CpuSet::default(),
        steps: planned.steps,
        rests_on: None,
    };
    let taken = claim::take(&open.system, &mut open.ledger, &request, &mut Progress)?;
    let text = match arguments.json {
        true => serde_json::to_string_pretty(taken.record())? + "\n",
        false => {
            let addresses: Vec<String> = taken.addresses().iter().map(PciAddress::to_string).collect();
            let (addresses, time) = (addresses.join(" and "), state::time(begin.elapsed()));
            format!("{addresses} taken in {}; back with: allod release {name}\n", time.trim())
        }
    };
    print::out(&text)?;
    Ok(())
}

fn first_name(request: &DeviceRequest) -> String {
    let address = request.address.map(|address| address.to_string());
    address.or_else(|| request.path.as_ref().map(SlotPath::to_string)).unwrap_or_default()
}

/// The refusal as an error; what the reasons have in common decides the status.
pub(crate) fn refused(refusal: &Refusal) -> Ended {
    let all = |codes: &[ReasonCode]| refusal.reasons.iter().all(|reason| codes.contains(&reason.code));
    let status = match () {
        () if all(&[ReasonCode::NoMatch]) => NOT_FOUND,
        () if all(&[ReasonCode::Claimed, ReasonCode::SeatRuns]) => BUSY,
        () => 1,
    };
    Ended::with(status, anyhow::anyhow!("refused\n{}", plan::refusal_text(refusal).trim_end()))
}

/// The claims that stand, for listings and plans; those of another start of the host are over.
pub(crate) fn standing(state: &State) -> anyhow::Result<Vec<ClaimRecord>> {
    let system = host::system::RunningSystem::open()?;
    let boot = host::system::System::boot(&system);
    let book = ledger::read(&state.directory())?;
    Ok(book.claims().filter(|entry| entry.boot == boot).map(|entry| entry.record.clone()).collect())
}
