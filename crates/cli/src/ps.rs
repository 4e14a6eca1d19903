//! `allod ps`: the seats that run.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use linux::sysfs::DirectoryTree;
use seat::places::Places;
use seat::standing::{self, Standing};
use serde_json::json;

use crate::answer::{self, Failed};
use crate::print::{self, Table};

/// List the seats that run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// As JSON: a list of their states
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    answer::exit(list(arguments))
}

fn list(arguments: &Arguments) -> Result<(), Failed> {
    let tree = DirectoryTree::system().map_err(Failed::new)?;
    let seats = standing::list(&Places::of_environment(), &tree)
        .map_err(|error| Failed::io("reading the seats that run", &error))?;
    let text = if arguments.json {
        let all: Vec<_> = seats.iter().map(document).collect();
        serde_json::to_string_pretty(&all).map_err(Failed::new)? + "\n"
    } else {
        table(&seats, now())
    };
    print::out(&text).map_err(Failed::new)
}

/// One seat as JSON: its status, and whether it was lost.
pub(crate) fn document(seat: &Standing) -> serde_json::Value {
    let mut value = serde_json::to_value(&seat.status).unwrap_or_else(|_| json!({}));
    if let Some(fields) = value.as_object_mut() {
        fields.insert("lost".to_owned(), seat.lost.into());
    }
    value
}

fn table(seats: &[Standing], now: u64) -> String {
    let mut table = Table::new(&["SEAT", "STATE", "UP", "CPUS", "MEMORY", "PROCESS", "DEVICES"]);
    for seat in seats {
        let status = &seat.status;
        let devices: Vec<String> =
            status.functions.iter().map(|function| function.address.to_string()).collect();
        let cells = vec![
            status.name.clone(),
            word(seat).to_owned(),
            uptime(now.saturating_sub(status.since)),
            status.plan.cpus.count.to_string(),
            status.plan.memory.size.to_string(),
            status.machine.map_or_else(|| "-".to_owned(), |machine| machine.pid.to_string()),
            if devices.is_empty() { "-".to_owned() } else { devices.join(" ") },
        ];
        let below = if seat.lost {
            vec![format!("its supervisor was killed; `allod down {}` gives everything back", status.name)]
        } else {
            Vec::new()
        };
        table.row(cells, below);
    }
    table.text()
}

/// The state in one word.
pub(crate) fn word(seat: &Standing) -> &'static str {
    if seat.lost { "lost" } else { seat.status.state.word() }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// A time for people: its two largest units.
pub(crate) fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::uptime;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, text) in [(5, "5s"), (65, "1m05s"), (7_260, "2h01m"), (90_000, "1d01h")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
