//! What the figures depend on: the host, the moment, and what each seat has. Pure.

use crate::run::Options;
use spec::inventory::{HostInventory, IommuKind};
use spec::plan::{Plan, SeatPlan, Source};
use spec::seat_file::PageSize;
use std::time::Duration;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// What is known of a run's moment when it begins, beside plan and inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since 1970-01-01, UTC.
    pub since_epoch: Duration,
    /// Allod's version.
    pub allod: String,
    /// What QEMU says of its own, where it is measured.
    pub qemu: Option<String>,
    /// Tasks ready to run, over 1, 5 and 15 minutes (`/proc/loadavg`).
    pub load: String,
    /// When the kernel takes huge pages by itself (`transparent_hugepage/enabled`).
    pub huge_pages: String,
}

/// Returns the conditions, as name and value.
pub fn conditions(
    inventory: &HostInventory,
    plan: &Plan,
    options: &Options,
    moment: &Moment,
) -> Vec<(String, String)> {
    let mut all: Vec<(&str, String)> =
        vec![("date", format!("{} UTC", date(moment.since_epoch))), ("Allod", moment.allod.clone())];
    all.extend(moment.qemu.iter().map(|version| ("QEMU", version.clone())));
    let host = &inventory.host;
    let of_host = [
        ("computer", host.product.clone()),
        ("distribution", host.distribution.name.clone()),
        ("kernel", host.kernel.release.clone()),
        ("processor", inventory.cpus.model.clone()),
    ];
    all.extend(of_host.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let threads = if inventory.cpus.smt == Some(true) { ", two threads a core" } else { "" };
    all.push(("processors online", format!("{}{threads}", inventory.cpus.online.len())));
    all.push(("load before", moment.load.clone()));
    all.push(("IOMMU", iommu(inventory)));
    all.push(("huge pages", moment.huge_pages.clone()));
    let Options { rounds, round, laps, .. } = options;
    all.push(("rounds", format!("{rounds} of {} s each, in {laps} laps", round.as_secs_f64())));
    let mut all: Vec<(String, String)> =
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(plan.seats.iter().map(|seat| (format!("seat {}", seat.name), described(seat))));
    if let Some(hypervisor) = &host.hypervisor {
        let note = format!(
            "this host is a virtual machine itself ({hypervisor}): the guests' processors are nested, and no ratio here is \
             evidence of speed on hardware; `cpu` is the tax on all of them"
        );
        all.push(("beware".to_owned(), note));
    }
    all
}

fn iommu(inventory: &HostInventory) -> String {
    let kind = match inventory.iommu.kind {
        IommuKind::Intel => "Intel VT-d",
        IommuKind::Amd => "AMD-Vi",
        IommuKind::Virtio => "virtio-iommu",
        IommuKind::None => "none",
        IommuKind::Unknown => "not known",
    };
    let remapping = match inventory.iommu.interrupt_remapping {
        Some(true) => ", interrupts remapped",
        Some(false) => ", interrupts not remapped",
        None => "",
    };
    format!("{kind}{remapping}")
}

/// Says what a seat has: native has the processors and the devices of the first.
fn described(seat: &SeatPlan) -> String {
    let cpus = match seat.cpus.pins.as_slice() {
        [] => format!("{} on any of {}", seat.cpus.count, seat.cpus.shared),
        pins => {
            let pins: Vec<String> = pins.iter().map(u32::to_string).collect();
            format!("{} on {}", seat.cpus.count, pins.join(","))
        }
    };
    let pages = match seat.memory.pages {
        PageSize::Transparent => "transparent huge pages",
        PageSize::Small => "pages of 4 KiB",
        PageSize::Huge2M => "pages of 2 MiB",
        PageSize::Huge1G => "pages of 1 GiB",
    };
    let functions = seat.slots.iter().flat_map(|slot| &slot.functions);
    let devices = functions.filter_map(|function| match &function.source {
        Source::Taken { address, name, .. } => Some(format!("; {address} {name}")),
        Source::Virtual { .. } => None,
    });
    format!("processors {cpus}; {} in {pages}{}", seat.memory.size, devices.collect::<String>())
}

/// Returns day and minute, as 2026-11-29 16:05.
fn date(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut day = seconds / SECONDS_A_DAY;
    let mut year = 1970;
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let minute = seconds % SECONDS_A_DAY / 60;
    format!("{year}-{month:02}-{:02} {:02}:{:02}", day + 1, minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use spec::seat_file::SeatFile;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_767_225_599, "2025-12-31 23:59"),
            (1_796_054_700, "2026-11-30 16:05"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn the_moment_the_host_and_each_seat_s_share_of_it_are_told() {
        let text = include_str!("../../plan/tests/inventories/desktop-two-gpus.json");
        let mut inventory: HostInventory = serde_json::from_str(text).unwrap();
        inventory.host.hypervisor = Some("QEMU".into());
        let text = "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory = { size = \"2GiB\", pages = \"2MiB\" }\n\
                    kernel.image = \"/boot/vmlinuz\"\ndevice = [{ address = \"0000:04:00.0\" }]\n";
        let file = SeatFile::parse("seats.toml", text).unwrap();
        let plan = plan::plan(&inventory, &file, &[], &[]).unwrap();
        let options = Options {
            workloads: vec![],
            rounds: 10,
            round: Duration::from_millis(1500),
            laps: 2,
            engines: vec![Engine::Allod],
            peer: None,
            kernel: None,
            initrd: "/i".into(),
            disk: None,
            allod: "/allod".into(),
            state: "/state".into(),
            journal: None,
            interrupt: None,
        };
        let moment = Moment {
            allod: "0.1.0".into(),
            qemu: Some("QEMU emulator version 10".into()),
            load: "0.10 0.20 0.30".into(),
            huge_pages: "[always] madvise never".into(),
            ..Moment::default()
        };
        let said = conditions(&inventory, &plan, &options, &moment);
        let value = |wanted: &str| {
            let found = said.iter().find(|(name, _)| name == wanted);
            found.unwrap_or_else(|| panic!("no {wanted} in {said:#?}")).1.as_str()
        };
        for (name, words) in [
            ("date", "1970-01-01 00:00 UTC"),
            ("Allod", "0.1.0"),
            ("QEMU", "version 10"),
            ("load before", "0.10"),
            ("rounds", "10 of 1.5 s each, in 2 laps"),
            ("huge pages", "[always]"),
            ("IOMMU", "AMD-Vi, interrupts remapped"),
            ("seat anna", "processors 2 on "),
            ("seat anna", "2GiB in pages of 2 MiB; 0000:04:00.0 AMD/ATI Navi 23"),
            ("beware", "(QEMU)"),
        ] {
            assert!(value(name).contains(words), "{name}: {}", value(name));
        }
    }
}
