//! What the planner answers on hosts made for what the recorded ones do not have: one row for each wish.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails its test")]

mod board;

use board::made::{
    amd_bad_groups, booted_over_the_nic, desktop_two_gpus, laptop_single_gpu, nvme_root, server_four_gpus,
};
use board::{Board, told};
use spec::Bytes;
use spec::inventory::{KeptRom, Rom, RomImages};
use spec::plan::{ClaimRecord, ClaimState, ClaimedFunction, NoticeCode, Plan, PlannedReset, Refusal};
use spec::seat_file::SeatFile;

/// The start of a seat that asks for little else than its devices.
const SEAT: &str = "[[seat]]\nname = \"anna\"\ncpus.count = 2\nmemory.size = \"2GiB\"\n";

fn answer(board: &Board, file: &str, claims: &[ClaimRecord]) -> Result<Plan, Refusal> {
    let file = SeatFile::parse("seats.toml", file).map_err(|errors| errors.to_string()).unwrap();
    plan::plan(&board.inventory, &file, claims, &[])
}

fn check(board: &Board, rows: &[(&str, &str)]) {
    for (wish, expected) in rows {
        let answer = answer(board, &format!("{SEAT}{wish}\n"), &[]);
        assert_eq!(told(&answer), *expected, "{wish}\n{answer:#?}");
    }
}

#[test]
fn a_desktop_with_two_cards_gives_the_second_and_keeps_what_it_lives_on() {
    check(
        &desktop_two_gpus(),
        &[
            ("device = [{ class = \"display\", vendor = \"amd\" }]", "anna: 04:00.0+04:00.1"),
            ("device = [{ monitor = \"ultrawide\" }]", "anna: 04:00.0+04:00.1"),
            (
                "device = [{ connector = \"HDMI-A-1\" }, { usb = \"04d9:0141\" }]",
                "anna: 04:00.0+04:00.1 05:00.0",
            ),
            ("device = [{ path = \"0000:00/06.0\" }]", "anna: 04:00.0+04:00.1"),
            ("device = [{ usb = \"cherry\" }]", "anna: 05:00.0"),
            // The sound function named by itself, before and after its card.
            ("device = [{ address = \"04:00.1\" }, { address = \"04:00.0\" }]", "anna: 04:00.0+04:00.1"),
            ("device = [{ address = \"04:00.0\" }, { address = \"04:00.1\" }]", "anna: 04:00.0+04:00.1"),
            // The console moves to the other card.
            ("device = [{ vendor = \"10de\" }]", "anna: 01:00.0+01:00.1"),
            ("device = [{ address = \"04:00.1\" }]", "no: group-not-whole@04:00.1"),
            ("device = [{ class = \"display\" }]", "no: several-match"),
            ("device = [{ class = \"usb\" }]", "no: several-match"),
            ("device = [{ class = \"nvme\" }]", "no: held-by-file-system@06:00.0"),
            ("device = [{ usb = \"k120\" }]", "no: group-not-whole@00:14.0"),
            ("device = [{ interface = \"eno1\" }]", "no: held-by-route@00:1f.6 group-not-whole@00:1f.6"),
            ("device = [{ class = \"audio\" }]", "no: group-not-whole@00:1f.3"),
            ("device = [{ address = \"00:1c.0\" }]", "no: not-a-device@00:1c.0"),
            ("device = [{ address = \"77:00.0\" }]", "no: no-match"),
            ("device = [{ class = \"display\", vendor = \"intel\" }]", "no: no-match"),
            ("device = [{ address = \"04:00.0\", vendor = \"10de\" }]", "no: no-match"),
            ("display = \"primary\"\ndevice = [{ usb = \"cherry\" }]", "no: no-display-card"),
            ("firmware.kind = \"bios\"\ndevice = [{ vendor = \"10de\" }]", "anna: 01:00.0+01:00.1"),
            ("virtual-function = [{ of.interface = \"eno1\" }]", "no: no-virtual-functions@00:1f.6"),
            ("device = [{ monitor = \"DELL\" }, { monitor = \"LG\" }]", "no: only-console@01:00.0"),
            (
                "console = \"give\"\ndevice = [{ monitor = \"DELL\" }, { monitor = \"LG\" }]",
                "anna: 01:00.0+01:00.1 04:00.0+04:00.1",
            ),
        ],
    );
}

#[test]
fn a_laptop_gives_its_only_display_when_the_file_says_so_and_its_disk_never() {
    check(
        &laptop_single_gpu(),
        &[
            ("device = [{ class = \"display\" }]", "no: only-console@00:02.0"),
            ("console = \"give\"\ndevice = [{ class = \"display\" }]", "anna: 00:02.0"),
            ("console = \"give\"\ndevice = [{ class = \"nvme\" }]", "no: held-by-file-system@01:00.0"),
            ("device = [{ class = \"network\" }]", "no: held-by-route@02:00.0"),
        ],
    );
}

#[test]
fn a_server_gives_each_of_its_cards_and_makes_virtual_functions() {
    check(
        &server_four_gpus(),
        &[
            ("device = [{ address = \"19:00.0\" }, { address = \"1a:00.0\" }]", "anna: 19:00.0 1a:00.0"),
            // What only computes has no legacy VGA ranges, which a BIOS needs and UEFI does not.
            ("firmware.kind = \"bios\"\ndevice = [{ address = \"19:00.0\" }]", "no: no-legacy-vga@19:00.0"),
            ("firmware.kind = \"uefi\"\ndevice = [{ address = \"19:00.0\" }]", "anna: 19:00.0"),
            (
                "display = \"emulated\"\nfirmware.kind = \"bios\"\ndevice = [{ address = \"19:00.0\" }]",
                "anna: 19:00.0",
            ),
            (
                "virtual-function = [{ of.interface = \"ens1f0\", vlan = 7 }, { of.address = \"5e:00.0\" }]",
                "anna: 5e:00.0/vf0 5e:00.0/vf1",
            ),
            (
                "device = [{ address = \"5e:00.0\" }]\nvirtual-function = [{ of.address = \"5e:00.0\" }]",
                "no: physical-function-taken@5e:00.0",
            ),
            (
                "device = [{ class = \"network\", interface = \"eno1\" }]",
                "no: held-by-route@04:00.0 held-by-login@04:00.0",
            ),
            // The only display with outputs: the others only compute.
            ("device = [{ vendor = \"aspeed\" }]", "no: only-console@03:00.0"),
            (
                "virtual-function = [{ of.interface = \"eno1\" }, { of.interface = \"eno1\" }]",
                "no: virtual-functions-short@04:00.0 virtual-functions-short@04:00.0",
            ),
            ("memory.node = 2", "no: node-unknown"),
        ]
        .map(|(wish, expected)| (wish, expected)),
    );
}

#[test]
fn bad_groups_are_refused_with_their_members() {
    let board = amd_bad_groups();
    check(
        &board,
        &[
            ("device = [{ address = \"04:00.0\" }]", "no: group-not-whole@04:00.0"),
            ("device = [{ vendor = \"nvidia\" }]", "anna: 08:00.0+08:00.1"),
            (
                "device = [{ address = \"02:00.0\" }, { address = \"04:00.0\" }]",
                "no: group-not-whole@02:00.0",
            ),
            (
                "device = [{ address = \"02:00.0\" }, { address = \"02:00.1\" }, { address = \"04:00.0\" }, { address = \"05:00.0\" }]",
                "no: held-by-route@05:00.0",
            ),
            ("device = [{ address = \"0a:00.3\" }]", "anna: 0a:00.3"),
        ],
    );
    let refusal = answer(&board, &format!("{SEAT}device = [{{ address = \"04:00.0\" }}]"), &[]).unwrap_err();
    let named: Vec<String> =
        refusal.reasons[0].candidates.iter().map(|member| member.address.to_string()).collect();
    assert_eq!(named, ["0000:02:00.0", "0000:02:00.1", "0000:05:00.0"]);
    assert!(refusal.reasons[0].candidates[1].name.ends_with("held by the host's ahci"), "{refusal:#?}");
}

#[test]
fn two_seats_do_not_meet_in_a_reset_they_share() {
    let board = amd_bad_groups();
    let seats = format!(
        "{SEAT}device = [{{ address = \"0a:00.3\" }}]\n[[seat]]\nname = \"ben\"\ncpus.count = 2\n\
         memory.size = \"2GiB\"\ndevice = [{{ address = \"0a:00.4\" }}]"
    );
    assert_eq!(told(&answer(&board, &seats, &[])), "no: reset-shared@0a:00.3 reset-shared@0a:00.4");
    let mut better = amd_bad_groups();
    for address in ["0a:00.3", "0a:00.4"] {
        better.function(address).reset_methods = Some(vec![spec::inventory::ResetMethod::Flr]);
    }
    assert_eq!(told(&answer(&better, &seats, &[])), "anna: 0a:00.3; ben: 0a:00.4");
}

#[test]
fn the_disks_the_host_lives_on_stay() {
    check(
        &nvme_root(),
        &[
            ("device = [{ address = \"01:00.0\" }]", "no: held-by-file-system@01:00.0"),
            ("device = [{ address = \"02:00.0\" }]", "anna: 02:00.0"),
            ("device = [{ address = \"03:00.0\" }]", "no: held-by-swap@03:00.0"),
            ("device = [{ class = \"nvme\", vendor = \"samsung\" }]", "no: several-match"),
        ],
    );
}

#[test]
fn a_host_that_came_over_the_network_keeps_its_card_and_lends_functions_of_the_other() {
    check(
        &booted_over_the_nic(),
        &[
            (
                "device = [{ interface = \"eth0\" }]",
                "no: held-by-route@01:00.0 held-by-network-storage@01:00.0",
            ),
            ("device = [{ interface = \"eth1\" }]", "anna: 02:00.0"),
            ("virtual-function = [{ of.interface = \"eth1\" }]", "anna: 02:00.0/vf0"),
            (
                "device = [{ address = \"02:10.0\" }]\nvirtual-function = [{ of.interface = \"eth1\" }]",
                "anna: 02:10.0 02:00.0/vf1",
            ),
            (
                "virtual-function = [{ of.interface = \"eth1\" }, { of.interface = \"eth1\" }, { of.interface = \"eth1\" }]",
                "no: virtual-functions-short@02:00.0 virtual-functions-short@02:00.0 virtual-functions-short@02:00.0",
            ),
        ],
    );
}

#[test]
fn one_seat_cannot_have_what_another_has() {
    let board = desktop_two_gpus();
    let two = |one: &str, other: &str| {
        format!("{SEAT}{one}\n[[seat]]\nname = \"ben\"\ncpus.count = 2\nmemory.size = \"2GiB\"\n{other}")
    };
    for (one, other, expected) in [
        (
            "device = [{ address = \"04:00.0\" }]",
            "device = [{ usb = \"cherry\" }]",
            "anna: 04:00.0+04:00.1; ben: 05:00.0",
        ),
        (
            "device = [{ address = \"04:00.0\" }]",
            "device = [{ monitor = \"LG\" }]",
            "no: asked-twice@04:00.0 asked-twice@04:00.1",
        ),
        (
            "device = [{ address = \"04:00.0\" }]",
            "device = [{ address = \"04:00.1\" }]",
            "no: asked-twice@04:00.1",
        ),
        (
            "device = [{ address = \"00:14.0\" }]",
            "device = [{ address = \"00:14.2\" }]",
            "no: group-shared@00:14.2",
        ),
    ] {
        let answer = answer(&board, &two(one, other), &[]);
        assert_eq!(told(&answer), expected, "{one} {other}\n{answer:#?}");
    }
}

#[test]
fn standing_claims_are_respected() {
    let board = desktop_two_gpus();
    let function = board.inventory.function(board::at("04:00.0")).unwrap();
    let claimed = ClaimedFunction {
        address: function.address,
        identity: function.identity.clone(),
        group: function.group,
        former_driver: Some("amdgpu".to_owned()),
    };
    let claim = |seat: &str| ClaimRecord {
        kind: spec::plan::ClaimKind::Seat,
        seat: seat.to_owned(),
        state: ClaimState::Taken,
        functions: vec![claimed.clone()],
        cpus: (1..8).chain(9..16).collect(),
    };
    for (seat, wish, expected) in [
        ("ben", "device = [{ monitor = \"LG\" }]", "no: cpus-short claimed@04:00.0"),
        (
            "ben",
            "device = [{ address = \"04:00.1\" }]",
            "no: cpus-short group-not-whole@04:00.1 reset-shared@04:00.1",
        ),
        ("anna", "device = [{ usb = \"cherry\" }]", "no: cpus-short seat-runs"),
        ("ben", "cpus.pin = [3]", "no: cpu-taken"),
    ] {
        let file = if wish.starts_with("cpus") {
            SEAT.replace("cpus.count = 2", wish)
        } else {
            format!("{SEAT}{wish}\n")
        };
        let answer = answer(&board, &file, &[claim(seat)]);
        assert_eq!(told(&answer), expected, "{wish}\n{answer:#?}");
    }
}

#[test]
fn a_card_without_a_reset_of_its_own_is_reset_with_its_slot() {
    let plan = answer(&desktop_two_gpus(), &format!("{SEAT}device = [{{ monitor = \"LG\" }}]"), &[]).unwrap();
    let bridge = board::at("03:00.0");
    for function in &plan.seats[0].slots[0].functions {
        assert_eq!(function.reset, PlannedReset::Together { bridge });
    }
    assert!(!plan.notices.iter().any(|notice| notice.code == spec::plan::NoticeCode::NoReset));
}

#[test]
fn a_kept_rom_takes_the_place_of_one_that_has_run_and_what_stays_dark_is_told() {
    let planned_with =
        |rom: Rom, read: Option<(bool, bool)>, kept: Option<(bool, bool)>, rest: &str, key: &str| {
            let mut board = desktop_two_gpus();
            let card = board.function("01:00.0");
            card.rom = rom;
            card.own_rom = read.map(|(x86, efi)| RomImages { x86, efi });
            card.kept_rom = kept.map(|(x86, efi)| KeptRom { file: "/kept.rom".into(), x86, efi });
            let plan =
                answer(&board, &format!("{SEAT}{rest}\ndevice = [{{ vendor = \"10de\"{key} }}]\n"), &[])
                    .unwrap();
            let rom = plan.seats[0].slots[0].functions[0].rom.clone().map(String::from);
            let codes: Vec<_> = plan.notices.iter().map(|notice| notice.code).collect();
            let codes =
                codes.into_iter().filter(|code| code.as_str().starts_with("rom-")).collect::<Vec<_>>();
            (rom.unwrap_or_default(), codes)
        };
    let planned = |rom, read, kept, rest: &str| planned_with(rom, read, kept, rest, "");
    // What the seat says of it goes before all.
    for (key, expected) in [(", rom = \"none\"", "none"), (", rom = \"/own.rom\"", "/own.rom")] {
        let found = planned_with(Rom::Shadowed, None, Some((true, true)), "", key);
        assert_eq!(found, (expected.to_owned(), vec![]));
    }
    let (bios, uefi) = ("firmware.kind = \"bios\"", "");
    let own = Rom::Present { size: Bytes(1 << 17) };
    let (shadowed, other) = (NoticeCode::RomShadowed, NoticeCode::RomOfOtherKind);
    for (rom, read, kept, rest, expected, notices) in [
        (own.clone(), None, None, bios, "", vec![]),
        (own.clone(), None, Some((true, true)), bios, "", vec![]),
        (own.clone(), None, Some((false, true)), bios, "", vec![other]),
        (own.clone(), None, Some((true, false)), uefi, "", vec![other]),
        // What the card itself has goes before what is kept for it.
        (own.clone(), Some((true, false)), None, bios, "", vec![]),
        (own.clone(), Some((true, false)), None, uefi, "", vec![other]),
        (own.clone(), Some((false, true)), Some((true, true)), bios, "", vec![other]),
        (own, Some((true, true)), Some((true, false)), uefi, "", vec![]),
        (Rom::Shadowed, None, None, bios, "", vec![shadowed]),
        (Rom::Shadowed, None, Some((true, true)), bios, "/kept.rom", vec![]),
        (Rom::Absent, None, Some((true, true)), uefi, "/kept.rom", vec![]),
        (Rom::Shadowed, None, None, "display = \"emulated\"", "", vec![]),
        (Rom::Shadowed, None, None, "kernel.image = \"/k\"", "", vec![]),
    ] {
        assert_eq!(
            planned(rom.clone(), read, kept, rest),
            (expected.to_owned(), notices),
            "{rom:?} {read:?} {kept:?} {rest}"
        );
    }
}
