//! Many rounds of a seat in the lab, looked at for what they leave behind.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a scenario says what it expects")]

#[path = "../../../vmm/tests/lab_boot/micro_guest.rs"]
#[allow(dead_code, reason = "shared with the scenarios of machines")]
mod micro_guest;
#[path = "../lab_seats/rounds.rs"]
mod rounds;
#[path = "../lab_seats/seats.rs"]
#[allow(dead_code, reason = "shared with the scenarios of seats")]
mod seats;

use std::process::ExitCode;

use lab::scenario::{run_all, shared};
use lab::{Failure, Host};

fn main() -> ExitCode {
    run_all(&[shared("fifty_rounds_leave_nothing_behind", "seats", fifty_rounds_leave_nothing_behind)])
}

fn fifty_rounds_leave_nothing_behind(host: &Host) -> Result<(), Failure> {
    rounds::leave_nothing_behind(host, 50)
}
