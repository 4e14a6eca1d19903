//! From a seat's plan and its claim to the machine that is started for it. Pure.
//!
//! Not here: opening anything (`launch`). The supervisor is the caller.

use spec::inventory::DeviceIdentity;
use spec::plan::{ClaimedFunction, PlannedFunction, PlannedNetwork, SeatPlan, SeatStart, Source};
use spec::seat_file::{DiskMedia, DisplayKind, FirmwareKind, HypervisorFeatures, PageSize};
use spec::{HypervSpec, MemoryBacking, MemorySpec, PciAddress};

use crate::drives::Disk;
use crate::firmware::Firmware;
use crate::functions::Wanted;
use crate::launch::{Display, Request, Start};
use crate::network::{Network, Wire};
use crate::places::SeatPlaces;

/// Everything in a plan that this version's machine cannot do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine of seat `{seat}` cannot be as planned:\n{}", .reasons.iter().map(|reason| format!("  - {reason}")).collect::<Vec<_>>().join("\n"))]
pub struct CannotRun {
    /// The seat.
    pub seat: String,
    /// All of it.
    pub reasons: Vec<Reason>,
}

/// One thing that it cannot do, with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A virtual function that the claim does not have.
    #[error("virtual function {index} of {of} was not made")]
    NotMade {
        /// The physical function.
        of: PciAddress,
        /// The index.
        index: u16,
    },
}

/// The machine of `seat`, whose functions are those `claimed`; its sockets and files are at `places`.
///
/// # Errors
/// All that this version's machine cannot do.
pub fn request(
    seat: &SeatPlan,
    claimed: &[ClaimedFunction],
    places: &SeatPlaces,
) -> Result<Request, CannotRun> {
    let mut reasons = Vec::new();
    let functions = functions(seat, claimed, &mut reasons);
    if !reasons.is_empty() {
        return Err(CannotRun { seat: seat.name.clone(), reasons });
    }
    Ok(Request {
        name: seat.name.clone(),
        cpus: seat.cpus.count,
        pins: seat.cpus.pins.clone(),
        memory: memory(seat),
        start: start(seat, places),
        rng: seat.entropy,
        disks: seat
            .disks
            .iter()
            .filter(|disk| disk.media == DiskMedia::Disk)
            .map(|disk| Disk {
                path: disk.path.clone(),
                read_only: disk.read_only,
                format: disk.format,
                kind: disk.kind.unwrap_or_default(),
            })
            .collect(),
        cdroms: seat
            .disks
            .iter()
            .filter(|disk| disk.media == DiskMedia::Cdrom)
            .map(|disk| disk.path.clone())
            .collect(),
        hyperv: seat.hypervisor.as_ref().map(|shown| HypervSpec {
            vendor: shown.vendor.clone(),
            kvm_leaves: shown.shows == HypervisorFeatures::Both,
        }),
        clock: seat.clock,
        networks: seat.networks.iter().map(network).collect(),
        display: (seat.display == DisplayKind::Emulated).then_some(Display {
            // Windows has no driver for it.
            tablet: seat.hypervisor.is_none(),
            ..EMULATED
        }),
        tpm: seat.tpm.then(|| places.tpm()),
        functions,
        control: Some(places.control()),
        escape: false,
        end_on_reset: false,
    })
}

/// A card on a tap or a bridge, or behind the host's addresses.
fn network(planned: &PlannedNetwork) -> Network {
    let wire = match (&planned.tap, &planned.bridge) {
        (Some(tap), _) => Wire::Tap(tap.clone()),
        (None, Some(bridge)) => Wire::Bridge(bridge.clone()),
        (None, None) => Wire::User,
    };
    Network { wire, mac: Some(planned.mac) }
}

/// The picture of an emulated display.
const EMULATED: Display = Display { width: 1280, height: 800, tablet: true };

fn start(seat: &SeatPlan, places: &SeatPlaces) -> Start {
    match &seat.start {
        SeatStart::Kernel(kernel) => Start::Kernel {
            image: kernel.image.clone(),
            initrd: kernel.initrd.clone(),
            command_line: kernel.cmdline.clone(),
        },
        SeatStart::Firmware(firmware) => {
            let usual = (firmware.kind == FirmwareKind::Uefi).then(|| places.variables());
            let variables = firmware.variables.clone().or(usual);
            Start::Firmware(Firmware {
                kind: firmware.kind,
                image: None,
                variables,
                log: Some(places.firmware_log()),
                boot: firmware.boot,
            })
        }
    }
}

fn memory(seat: &SeatPlan) -> MemorySpec {
    let backing = match seat.memory.pages {
        PageSize::Transparent => MemoryBacking::Transparent,
        PageSize::Small => MemoryBacking::Small,
        PageSize::Huge2M => MemoryBacking::Huge2M,
        PageSize::Huge1G => MemoryBacking::Huge1G,
    };
    MemorySpec { size: seat.memory.size, backing, shared: seat.memory.shared, prefault: false }
}

/// The functions at the places that the plan gives them.
fn functions(seat: &SeatPlan, claimed: &[ClaimedFunction], reasons: &mut Vec<Reason>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for slot in &seat.slots {
        for function in &slot.functions {
            let Some(address) = address(function, claimed, reasons) else { continue };
            let place = Some((slot.port, function.number));
            let primary = function.legacy_vga;
            wanted.push(Wanted { address, place, rom: function.rom.clone(), primary });
        }
    }
    wanted
}

fn address(
    function: &PlannedFunction,
    claimed: &[ClaimedFunction],
    reasons: &mut Vec<Reason>,
) -> Option<PciAddress> {
    match &function.source {
        Source::Taken { address, .. } => Some(*address),
        Source::Virtual { of, identity, index, .. } => {
            let path = identity.path.virtual_function(*index);
            let is_it = |claimed: &&ClaimedFunction| {
                let DeviceIdentity { path: at, .. } = &claimed.identity;
                *at == path
            };
            let found = claimed.iter().find(is_it).map(|claimed| claimed.address);
            if found.is_none() {
                reasons.push(Reason::NotMade { of: *of, index: *index });
            }
            found
        }
    }
}

#[cfg(test)]
mod tests {
    use host::{fixtures, inventory};
    use spec::plan::{SeatPlan, Source};
    use spec::seat_file::{DiskKind, RomChoice, SeatFile};

    use super::{Reason, Start, request};
    use crate::places::{Places, SeatPlaces};

    fn planned(rest: &str) -> SeatPlan {
        let text = format!(
            "[[seat]]\nname = \"anna\"\ncpus.count = 4\nmemory.size = \"8GiB\"\n\
             device = [{{ class = \"display\", vendor = \"nvidia\" }}]\n{rest}"
        );
        let file = SeatFile::parse("seats.toml", &text).unwrap();
        let inventory = inventory::read(&fixtures::desktop_with_two_gpus());
        plan::plan(&inventory, &file, &[], &[]).unwrap().seats.remove(0)
    }

    fn places() -> SeatPlaces {
        Places { run: "/run/allod".into(), state: "/state".into() }.seat("anna")
    }

    #[test]
    fn functions_stand_where_the_plan_puts_them() {
        let seat = planned("kernel.image = \"/k\"\ndisk = [{ path = \"/d\", media = \"cdrom\" }]\n");
        let machine = request(&seat, &[], &places()).unwrap();
        let shown: Vec<_> =
            machine.functions.iter().map(|wanted| (wanted.address.to_string(), wanted.place)).collect();
        assert_eq!(
            shown,
            [("0000:01:00.0".to_owned(), Some((0, 0))), ("0000:01:00.1".to_owned(), Some((0, 1)))]
        );
        assert_eq!((machine.cpus, machine.memory.size), (4, spec::Bytes::gib(8)));
        assert_eq!(machine.pins, seat.cpus.pins);
        assert!(machine.disks.is_empty());
        assert_eq!(machine.cdroms, [std::path::PathBuf::from("/d")]);
        assert!(machine.display.is_none(), "it has a card of its own");
        assert_eq!(machine.control, Some("/run/allod/seats/anna/machine".into()));
    }

    #[test]
    fn firmware_keeps_its_variables_with_the_seat_unless_the_file_says_otherwise() {
        for (rest, variables) in [
            ("", Some("/state/seats/anna/uefi-variables.fd")),
            ("firmware = { kind = \"uefi\", variables = \"/v\" }\n", Some("/v")),
            ("firmware.kind = \"bios\"\n", None),
        ] {
            let machine = request(&planned(rest), &[], &places()).unwrap();
            let Start::Firmware(firmware) = machine.start else { panic!("{rest}") };
            assert_eq!(firmware.variables, variables.map(Into::into), "{rest}");
        }
    }

    #[test]
    fn a_seat_for_windows_has_no_device_that_windows_has_no_driver_for() {
        let rest = "display = \"emulated\"\ndisk = [{ path = \"/d\" }, { path = \"/e\", as = \"virtio\" }]\n";
        for (more, virtio, kinds) in [
            ("", true, [DiskKind::Virtio, DiskKind::Virtio]),
            // What the file asks for, it gets.
            ("hypervisor.shows = \"both\"\n", false, [DiskKind::Nvme, DiskKind::Virtio]),
            ("hypervisor.shows = \"hyper-v\"\nentropy = true\n", true, [DiskKind::Nvme, DiskKind::Virtio]),
        ] {
            let machine = request(&planned(&format!("{more}{rest}")), &[], &places()).unwrap();
            assert_eq!(machine.rng, virtio, "{more}");
            assert_eq!(machine.display.unwrap().tablet, more.is_empty(), "{more}");
            assert_eq!(machine.disks.iter().map(|disk| disk.kind).collect::<Vec<_>>(), kinds, "{more}");
        }
    }

    #[test]
    fn a_tpm_keeps_its_state_with_the_seat() {
        for (rest, tpm) in [("", None), ("tpm = true\n", Some("/state/seats/anna/tpm"))] {
            assert_eq!(request(&planned(rest), &[], &places()).unwrap().tpm, tpm.map(Into::into), "{rest}");
        }
    }

    #[test]
    fn network_cards_are_plugged_in_as_planned() {
        let seat = planned(
            "network = [{ bridge = \"br0\" }, { tap = \"tap3\", mac = \"52:54:00:00:00:01\" }, {}]\n",
        );
        let machine = request(&seat, &[], &places()).unwrap();
        let wires: Vec<_> = machine.networks.iter().map(|network| network.wire.to_string()).collect();
        assert_eq!(wires, ["bridge=br0", "tap=tap3", "user"]);
        assert_eq!(machine.networks[1].mac.unwrap().to_string(), "52:54:00:00:00:01");
    }

    #[test]
    fn everything_that_cannot_be_is_told_at_once() {
        let mut seat = planned("");
        let function = &mut seat.slots[0].functions[0];
        let Source::Taken { address, identity, .. } = function.source.clone() else { panic!("{function:?}") };
        function.source =
            Source::Virtual { of: address, identity, index: 2, mac: None, vlan: None, name: String::new() };
        let reasons = request(&seat, &[], &places()).unwrap_err().reasons;
        assert_eq!(reasons, [Reason::NotMade { of: address, index: 2 }]);
    }

    #[test]
    fn the_card_of_a_bios_has_the_legacy_ranges_and_that_of_uefi_has_none() {
        for (rest, primary) in [
            ("firmware.kind = \"bios\"\n", true),
            ("firmware.kind = \"uefi\"\n", false),
            ("kernel.image = \"/k\"\n", false),
            ("display = \"emulated\"\nfirmware.kind = \"bios\"\n", false),
        ] {
            let machine = request(&planned(rest), &[], &places()).unwrap();
            let found: Vec<_> = machine.functions.iter().map(|wanted| wanted.primary).collect();
            assert_eq!(found, [primary, false], "{rest}");
        }
    }

    #[test]
    fn a_rom_of_a_file_takes_the_place_of_the_card_s() {
        let mut seat = planned("");
        seat.slots[0].functions[0].rom = Some(RomChoice::File("/rom".into()));
        let roms: Vec<_> =
            request(&seat, &[], &places()).unwrap().functions.into_iter().map(|wanted| wanted.rom).collect();
        assert_eq!(roms, [Some(RomChoice::File("/rom".into())), None]);
    }
}
