//! `allod bench` from its first round to its last: the host itself, one seat and two at once. With QEMU beside it and by all
//! workloads `soak_bench_rounds` does the same.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

mod rounds;

use rounds::Asked;
use std::time::Duration;

#[test]
fn the_host_one_seat_and_two_are_measured() {
    rounds::are_measured(&Asked {
        profile: "pairs",
        file: "seats.toml",
        seats: &["left", "right"],
        workloads: &["cpu", "fill"],
        engines: &["allod"],
        flags: "",
        limit: Duration::from_secs(600),
    });
}
