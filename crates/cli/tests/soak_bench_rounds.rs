//! `allod bench` from its first round to its last, by every workload that there is and by both engines: two seats at once,
//! and one that draws in three dimensions. Too long for every day: `cargo xtask soak bench_rounds`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod rounds;

use rounds::Asked;
use std::time::Duration;

const ENGINES: &[&str] = &["allod", "qemu"];
/// Five legs with six boots of guests, each with a card, a disk and a part of a network card.
const LIMIT: Duration = Duration::from_secs(1500);

#[test]
fn six_workloads_are_measured_on_the_host_in_one_seat_and_in_two() {
    rounds::are_measured(&Asked {
        profile: "pairs",
        file: "seats.toml",
        seats: &["left", "right"],
        workloads: &["cpu", "fill", "disk", "irq", "net", "wake"],
        engines: ENGINES,
        flags: "--peer 10.77.0.1/24",
        limit: LIMIT,
    });
}

#[test]
fn three_dimensions_are_measured_on_the_host_and_in_one_seat() {
    rounds::are_measured(&Asked {
        profile: "gl",
        file: "drawing.toml",
        seats: &["left"],
        workloads: &["cpu", "gl"],
        engines: ENGINES,
        flags: "",
        limit: LIMIT,
    });
}
