//! Assigned functions in the lab, on a real kernel's VFIO: what a guest does with real cards, and what the host keeps.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod attention;
#[path = "../lab_storms/cards.rs"]
mod cards;
mod cdevs;
#[path = "../lab_storms/deeds.rs"]
mod deeds;
mod desk;
mod dma;
mod groups;
mod guests;
#[path = "../lab_boot/micro_guest.rs"]
#[allow(dead_code, reason = "the other guests are for scenarios without a card")]
mod micro_guest;
#[path = "../lab_storms/moves.rs"]
mod moves;
mod refusals;
mod transfers;
mod vectors;

use std::process::ExitCode;

use lab::scenario::{Scenario, run_all, shared};

fn main() -> ExitCode {
    run_all(SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    shared("what_cannot_be_assigned_is_refused_and_left_as_it_was", "cards", refusals::refused),
    shared("nvme_data_of_the_guest_is_what_lies_in_the_drive", "cards", transfers::nvme),
    shared("dma_ends_where_the_guests_memory_ends", "cards", dma::intel),
    shared("one_card_reaches_anothers_memory", "cards", dma::between_cards),
    shared(
        "after_a_reset_a_card_reaches_another_where_it_is_and_not_where_it_was",
        "cards",
        dma::between_cards_after_a_reset,
    ),
    shared("a_drive_and_e1000e_carry_data_while_their_vectors_change_processors", "cards", vectors::flipped),
    shared(
        "a_function_in_use_and_memory_that_cannot_be_had_are_refused",
        "cards",
        refusals::busy_or_too_large,
    ),
    shared("an_error_on_the_bus_ends_the_machine_and_says_so", "cards", attention::bus_error),
    // Last of these, for its card is gone.
    shared("a_card_that_the_host_wants_back_ends_its_machine_alone", "cards", attention::asked_back),
    shared("pictures_keys_and_sound_are_those_of_the_guest_that_has_the_cards", "screens", desk::desk),
    shared("functions_of_one_card_share_a_slot_and_work_beside_an_igb", "groups", groups::one_card_and_whole),
    shared("a_group_is_refused_unless_all_of_it_is_ours_and_works_by_pin", "groups", groups::behind_a_bridge),
    shared("by_device_files_nvme_data_of_the_guest_is_what_lies_in_the_drive", "cdev", cdevs::nvme),
    shared("by_device_files_dma_ends_where_the_guests_memory_ends", "cdev", cdevs::dma),
    shared(
        "soak_by_device_files_a_function_in_use_and_memory_that_cannot_be_had_are_refused",
        "cdev",
        cdevs::busy_or_too_large,
    ),
    shared("soak_by_device_files_functions_of_one_card_share_a_slot_and_both_work", "cdev", cdevs::one_card),
    shared("by_device_files_an_error_on_the_bus_ends_the_machine_and_says_so", "cdev", cdevs::bus_error),
    // Last of these, for its card is gone.
    shared(
        "soak_by_device_files_a_card_that_the_host_wants_back_ends_its_machine_alone",
        "cdev",
        cdevs::asked_back,
    ),
    shared("on_amd_dma_ends_where_the_guests_memory_ends", "amd", dma::amd),
    shared("on_amd_one_card_reaches_anothers_memory", "amd", dma::between_cards),
    shared("on_amd_a_disk_and_two_network_cards_move_data", "amd", transfers::amd),
    shared(
        "on_amd_pictures_and_keys_are_those_of_the_guest_that_has_the_cards",
        "amd",
        desk::screens_and_keys,
    ),
    // After those, for the host keeps the other keyboard there.
    shared("on_amd_pins_messages_and_a_card_of_two_functions_work", "amd", desk::amd),
    shared("on_amd_cards_work_while_all_their_bars_are_moved", "amd", moves::moved),
    shared("on_amd_scribbled_cards_leave_all_alive_and_work_after_a_reset", "amd", moves::scribbled),
    shared("on_amd_a_bar_below_a_page_costs_no_exit_where_it_begins_one", "amd", moves::below_a_page),
    shared("more_cards_than_slots_are_refused_and_as_many_work", "crowded", refusals::too_many),
    shared("a_rom_that_lies_is_refused_before_firmware_believes_it", "crowded", refusals::lying_roms),
    shared("a_bar_that_something_else_holds_is_refused", "crowded", refusals::taken_bar),
];

const NVME: &str = "1b36:0010";
const E1000: &str = "8086:100e";
const E1000E: &str = "8086:10d3";
const IGB: &str = "8086:10c9";
const XHCI: &str = "1b36:000d";
const EDU: &str = "1234:11e8";
const OHCI: &str = "106b:003f";
const TEST_DEVICE: &str = "1b36:0005";
const HDA: &str = "8086:293e";
const AC97: &str = "8086:2415";
const VIRTIO_GPU: &str = "1af4:1050";
