//! Scenarios: what only a virtual host can show. `cargo test -p lab --test scenarios [-- WORD...]`.

mod ground;

use lab::scenario::run_all;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut scenarios = Vec::new();
    scenarios.extend(ground::SCENARIOS);
    run_all(&scenarios)
}
