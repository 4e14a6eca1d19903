//! Rough treatment of assigned functions in the lab: a device may stop, its machine and the host do not.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod cards;
mod deeds;
#[path = "../lab_assigned/guests.rs"]
#[allow(dead_code, reason = "some is for the scenarios beside these")]
mod guests;
#[path = "../lab_boot/micro_guest.rs"]
#[allow(dead_code, reason = "the other guests are for scenarios without a card")]
mod micro_guest;
mod moves;
mod storms;

use std::process::ExitCode;

use lab::scenario::{Scenario, run_all, shared};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("cards_work_while_all_their_bars_are_moved", "cards", moves::moved),
    shared("scribbled_cards_leave_machine_and_host_alive_and_work_after_a_reset", "cards", moves::scribbled),
    shared("a_bar_below_a_page_costs_no_exit_where_it_begins_one", "cards", moves::below_a_page),
    shared("a_storm_under_a_driver_ends_with_a_reset", "cards", storms::under_a_driver),
    shared("soak_a_hundred_starts_and_stops_leave_nothing_behind", "cards", storms::starts_and_stops),
    // Last, for its card is gone.
    shared("a_pulled_card_ends_its_machine_and_nothing_else", "cards", storms::pulled),
    shared("soak_on_amd_a_storm_under_a_driver_ends_with_a_reset", "amd", storms::under_a_driver),
    // The other kind of IOMMU has tables and a command queue of its own that a start could leave something in.
    shared("soak_on_amd_a_hundred_starts_and_stops_leave_nothing_behind", "amd", storms::starts_and_stops),
    // No card of that host can be pulled. Last, for its card has no driver then.
    shared("soak_on_amd_a_card_taken_from_its_driver_ends_its_machine_alone", "amd", storms::unbound),
    shared(
        "soak_by_device_files_a_pulled_card_ends_its_machine_and_nothing_else",
        "cdev",
        storms::pulled_by_device_file,
    ),
];

const NVME: &str = "1b36:0010";
const E1000E: &str = "8086:10d3";
const XHCI: &str = "1b36:000d";
const EDU: &str = "1234:11e8";
const OHCI: &str = "106b:003f";
const TEST_DEVICE: &str = "1b36:0005";
