//! Processors, memory, guest addresses, slots and steps of plans: one row for each host and file.

#![allow(clippy::unwrap_used, reason = "a row that cannot be read fails its test")]

mod board;

use board::made::{desktop_two_gpus, laptop_single_gpu, server_four_gpus};
use board::{Board, told};
use spec::Bytes;
use spec::inventory::{HugepagePool, ResetMethod};
use spec::plan::{NoticeCode, Plan, Refusal, StepAction};
use spec::seat_file::SeatFile;

fn answer(board: &Board, file: &str) -> Result<Plan, Refusal> {
    let file = SeatFile::parse("seats.toml", file).map_err(|errors| errors.to_string()).unwrap();
    plan::plan(&board.inventory, &file, &[], &[])
}

/// A seat with one line about its processors and one about its memory.
fn seat(name: &str, cpus: &str, memory: &str, rest: &str) -> String {
    format!("[[seat]]\nname = \"{name}\"\ncpus.{cpus}\nmemory = {{ {memory} }}\n{rest}\n")
}

/// The pins of each seat with the threads of a core, and what the host keeps.
fn cpus(answer: &Result<Plan, Refusal>) -> String {
    let Ok(plan) = answer else { return told(answer) };
    let seats = plan.seats.iter().map(|seat| {
        let pins: Vec<String> = seat.cpus.pins.iter().map(u32::to_string).collect();
        let shared = if seat.cpus.shared.is_empty() {
            String::new()
        } else {
            format!("{} shared on {}, ", seat.cpus.count, seat.cpus.shared)
        };
        format!("{shared}{}x{} ", pins.join(","), seat.cpus.threads_per_core)
    });
    format!("{}host {}", seats.collect::<String>(), plan.kept.cpus)
}

#[test]
fn seats_get_whole_cores_and_the_host_keeps_its_first() {
    let small = "size = \"1GiB\"";
    let desktop = desktop_two_gpus();
    for (file, expected) in [
        (seat("a", "count = 4", small, ""), "1,9,2,10x2 host 0,3-8,11-15"),
        (seat("a", "count = 3", small, ""), "1,9,2x1 host 0,3-8,11-15"),
        (seat("a", "count = 1", small, ""), "1x1 host 0,2-8,10-15"),
        (seat("a", "count = 14", small, ""), "1,9,2,10,3,11,4,12,5,13,6,14,7,15x2 host 0,8"),
        (seat("a", "count = 15", small, ""), "no: cpus-short"),
        (seat("a", "count = 8", small, "") + &seat("b", "count = 8", small, ""), "no: cpus-short"),
        (
            seat("a", "pin = [0, 8, 1, 9]", small, "") + &seat("b", "count = 2", small, ""),
            "0,8,1,9x2 3,11x2 host 2,4-7,10,12-15",
        ),
        (seat("a", "pin = [5, 2]", small, ""), "5,2x1 host 0-1,3-4,6-15"),
        (seat("a", "pin = [16]", small, ""), "no: cpu-unknown"),
        (seat("a", "pin = [0,1,2,3,4,5,6,7]", small, ""), "no: cpus-short"),
        (
            seat("a", "count = 20\ncpus.shared = true", small, "") + &seat("b", "count = 12", small, ""),
            "20 shared on 0,7-8,15, x1 1,9,2,10,3,11,4,12,5,13,6,14x2 host 0,7-8,15",
        ),
        ("[host]\ncores = 7\n".to_owned() + &seat("a", "count = 4", small, ""), "no: cpus-short"),
    ] {
        let answer = answer(&desktop, &file);
        assert_eq!(cpus(&answer), expected, "{file}\n{answer:#?}");
    }
}

#[test]
fn seats_run_near_their_devices() {
    let mut server = server_four_gpus();
    server.function("5e:00.0").numa_node = Some(0);
    let near = "size = \"4GiB\"";
    for (file, expected, node, far) in [
        (seat("a", "count = 2", near, "device = [{ address = \"19:00.0\" }]"), "1,65x2", Some(0), false),
        (seat("a", "count = 2", near, "device = [{ address = \"99:00.0\" }]"), "32,96x2", Some(1), false),
        (
            seat("a", "count = 2", "size = \"4GiB\", node = 1", "device = [{ address = \"19:00.0\" }]"),
            "32,96x2",
            Some(1),
            false,
        ),
        (seat("a", "pin = [33]", near, ""), "33x1", Some(1), false),
        // The display card counts more than what stands before it in the file.
        (
            seat("a", "count = 2", near, "device = [{ address = \"5e:00.0\" }, { address = \"99:00.0\" }]"),
            "32,96x2",
            Some(1),
            false,
        ),
        // More than node 1 has: the rest is far.
        (seat("a", "count = 80", near, "device = [{ address = \"99:00.0\" }]"), "32,96,33,97", Some(1), true),
    ] {
        let answer = answer(&server, &file).unwrap();
        let found = cpus(&Ok(answer.clone()));
        let is_far = answer.notices.iter().any(|notice| notice.code == NoticeCode::CpusFar);
        let starts = found.starts_with(expected) || far && found.contains(expected);
        assert!(starts, "{file}\n{found}");
        assert_eq!((answer.seats[0].memory.node, is_far), (node, far), "{file}");
    }
}

#[test]
fn a_seat_stays_within_one_cache_when_one_is_large_enough() {
    let mut board = desktop_two_gpus();
    for cpu in &mut board.inventory.cpus.online {
        let half = cpu.number % 8 / 4;
        cpu.l3 = Some((half * 4..half * 4 + 4).flat_map(|core| [core, core + 8]).collect());
    }
    let small = "size = \"1GiB\"";
    // The first cache has three cores beside the host's: enough for the small seat, not for the large one.
    let file = seat("a", "count = 8", small, "") + &seat("b", "count = 6", small, "");
    assert_eq!(cpus(&answer(&board, &file)), "4,12,5,13,6,14,7,15x2 1,9,2,10,3,11x2 host 0,8");
}

/// The node and kind of each seat's memory, and the pages to be reserved.
fn memory(answer: &Result<Plan, Refusal>) -> String {
    let Ok(plan) = answer else { return told(answer) };
    let seats = plan.seats.iter().map(|seat| format!("{:?} ", seat.memory.node));
    let steps = plan.steps.iter().filter_map(|step| match step.action {
        StepAction::ReserveHugepages { node, page_size, from, to } => {
            Some(format!("{node:?} {page_size} {from}-{to} "))
        }
        _ => None,
    });
    seats.chain(steps).collect::<String>().trim_end().to_owned()
}

#[test]
fn memory_is_there_beside_the_hosts_own() {
    // 32 GiB of which 28 are free; 2 stay with the host.
    let mut desktop = desktop_two_gpus();
    for (file, expected) in [
        (seat("a", "count = 1", "size = \"25GiB\"", ""), "Some(0)"),
        (seat("a", "count = 1", "size = \"26GiB\"", ""), "no: memory-short"),
        (
            "[host]\nmemory = \"4GiB\"\n".to_owned() + &seat("a", "count = 1", "size = \"24GiB\"", ""),
            "no: memory-short",
        ),
        (
            seat("a", "count = 1", "size = \"13GiB\"", "") + &seat("b", "count = 1", "size = \"13GiB\"", ""),
            "no: memory-short",
        ),
        (seat("a", "count = 1", "size = \"8GiB\", pages = \"2MiB\"", ""), "Some(0) Some(0) 2MiB 0-4096"),
        (seat("a", "count = 1", "size = \"2GiB\", pages = \"1GiB\"", ""), "Some(0) Some(0) 1GiB 0-2"),
        (seat("a", "count = 1", "size = \"26GiB\", pages = \"2MiB\"", ""), "no: hugepages-short"),
        (
            seat("a", "count = 1", "size = \"4GiB\", pages = \"2MiB\"", "")
                + &seat("b", "count = 1", "size = \"4GiB\", pages = \"2MiB\"", ""),
            "Some(0) Some(0) Some(0) 2MiB 0-4096",
        ),
    ] {
        assert_eq!(memory(&answer(&desktop, &file)), expected, "{file}");
    }
    // A pool that is there already costs nothing more, and what it lacks is added.
    desktop.inventory.memory.nodes[0].hugepages =
        vec![HugepagePool { page_size: Bytes::mib(2), total: 3000, free: 2048 }];
    for (size, expected) in [("4GiB", "Some(0)"), ("5GiB", "Some(0) Some(0) 2MiB 3000-3512")] {
        let file = seat("a", "count = 1", &format!("size = \"{size}\", pages = \"2MiB\""), "");
        assert_eq!(memory(&answer(&desktop, &file)), expected, "{file}");
    }
}

#[test]
fn memory_comes_from_the_node_of_the_devices_if_it_can() {
    // Two nodes with 256 GiB, 224 of them free; 96 pages of 1 GiB on each.
    let server = server_four_gpus();
    let gpu = "device = [{ address = \"99:00.0\" }]";
    for (file, expected) in [
        (seat("a", "count = 1", "size = \"64GiB\"", gpu), "Some(1)"),
        (
            seat("a", "count = 1", "size = \"200GiB\"", gpu)
                + &seat("b", "count = 1", "size = \"100GiB\", node = 1", ""),
            "Some(0) Some(1)",
        ),
        (seat("a", "count = 1", "size = \"300GiB\"", gpu), "None"),
        (seat("a", "count = 1", "size = \"300GiB\", node = 1", gpu), "no: node-memory-short"),
        (seat("a", "count = 1", "size = \"64GiB\", pages = \"1GiB\"", gpu), "Some(1)"),
        (
            seat("a", "count = 1", "size = \"64GiB\", pages = \"1GiB\"", gpu)
                + &seat(
                    "b",
                    "count = 1",
                    "size = \"64GiB\", pages = \"1GiB\"",
                    "device = [{ address = \"9a:00.0\" }]",
                ),
            "Some(1) Some(0)",
        ),
    ] {
        assert_eq!(memory(&answer(&server, &file)), expected, "{file}");
    }
}

#[test]
fn apertures_hold_the_devices_and_end_within_the_processors_addresses() {
    let window = |board: &Board, rest: &str, size: &str| {
        let file = seat("a", "count = 1", &format!("size = \"{size}\""), rest);
        match answer(board, &file) {
            Ok(plan) => {
                let aperture = plan.seats[0].aperture;
                format!("{} {} {}", aperture.low, aperture.high_start, aperture.high)
            }
            refusal => told(&refusal),
        }
    };
    let one = "device = [{ address = \"19:00.0\" }]";
    let two = "device = [{ address = \"19:00.0\" }, { address = \"1a:00.0\" }]";
    let mut server = server_four_gpus();
    assert_eq!(window(&server, "", "4GiB"), "0B 0x180000000 0B");
    // 128 GiB and 32 MiB beside it: a window of the next power of two, aligned to itself.
    assert_eq!(window(&server, one, "4GiB"), "16MiB 0x4000000000 256GiB");
    assert_eq!(window(&server, two, "4GiB"), "32MiB 0x8000000000 512GiB");
    server.inventory.cpus.vendor = Some("AuthenticAMD".to_owned());
    assert_eq!(window(&server, two, "4GiB"), "32MiB 0x10000000000 512GiB");
    server.inventory.cpus.physical_bits = Some(39);
    assert_eq!(window(&server, two, "4GiB"), "no: high-aperture-short");
    assert_eq!(
        window(&server, "device = [{ vendor = \"aspeed\" }]\nconsole = \"give\"", "4GiB"),
        "0B 0x180000000 0B"
    );
    server.function("19:00.0").bars[0].size = Bytes::gib(1);
    assert_eq!(window(&server, one, "4GiB"), "no: low-aperture-short");
}

#[test]
fn a_register_that_is_too_large_is_told_how_to_shrink() {
    let mut laptop = laptop_single_gpu();
    let card = laptop.function("00:02.0");
    card.bars[1].size = Bytes::gib(512);
    card.bars[1].resizable = vec![Bytes::mib(256), Bytes::gib(512)];
    let file =
        seat("a", "count = 1", "size = \"4GiB\"", "console = \"give\"\ndevice = [{ class = \"display\" }]");
    let refusal = answer(&laptop, &file).unwrap_err();
    let remedy = "echo 8 > /sys/bus/pci/devices/0000:00:02.0/resource2_resize gives 256MiB";
    assert!(refusal.reasons[0].remedy.ends_with(remedy), "{refusal:#?}");
}

#[test]
fn functions_of_one_card_share_a_slot_that_has_a_function_0() {
    let desktop = desktop_two_gpus();
    let file =
        seat("a", "count = 1", "size = \"1GiB\"", "device = [{ usb = \"cherry\" }, { monitor = \"LG\" }]");
    let plan = answer(&desktop, &file).unwrap();
    let slots: Vec<(u8, bool, Vec<u8>)> = plan.seats[0]
        .slots
        .iter()
        .map(|slot| (slot.port, slot.primary_display, slot.functions.iter().map(|one| one.number).collect()))
        .collect();
    assert_eq!(slots, [(0, false, vec![0]), (1, true, vec![0, 1])]);
    // A function that is no function 0 on the host is one in the guest.
    let board = board::made::amd_bad_groups();
    let file = seat(
        "a",
        "count = 1",
        "size = \"1GiB\"",
        "device = [{ address = \"0a:00.3\" }, { address = \"0a:00.4\" }]",
    );
    let plan = answer(&board, &file).unwrap();
    let numbers: Vec<u8> = plan.seats[0].slots[0].functions.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn steps_are_in_the_order_whose_reverse_gives_everything_back() {
    let mut desktop = desktop_two_gpus();
    desktop.function("05:00.0").reset_methods = Some(vec![ResetMethod::Flr]);
    let rest = "device = [{ address = \"01:00.0\" }]";
    let file = seat("a", "count = 1", "size = \"1GiB\", pages = \"2MiB\"", rest)
        + &seat("b", "count = 1", "size = \"1GiB\"", "");
    let plan = answer(&desktop, &file).unwrap();
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|step| {
            let json = serde_json::to_value(step).unwrap();
            let word = |key: &str| json[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {}", word("seat"), word("step"), word("function"), word("driver"))
        })
        .collect();
    let expected = [
        "- reserve-hugepages - -",
        "a hand-over-console 0000:01:00.0 -",
        "a keep-powered 0000:01:00.0 -",
        "a unbind 0000:01:00.0 nouveau",
        "a override 0000:01:00.0 vfio-pci",
        "a bind 0000:01:00.0 vfio-pci",
        "a keep-powered 0000:01:00.1 -",
        "a unbind 0000:01:00.1 snd_hda_intel",
        "a override 0000:01:00.1 vfio-pci",
        "a bind 0000:01:00.1 vfio-pci",
        "a start-machine - -",
        "b start-machine - -",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_plan_reads_back_as_it_was_written() {
    let file = seat(
        "a",
        "count = 2",
        "size = \"4GiB\"",
        "virtual-function = [{ of.interface = \"ens1f0\", vlan = 9 }]",
    );
    let plan = answer(&server_four_gpus(), &file).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}
