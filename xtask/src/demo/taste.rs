//! A taste of what a seat costs, measured while the demo runs: the workloads that are done in a second, on the host
//! itself, in one seat and in two at once. `allod bench` does the measuring, on the lab's host with two equal cards.
//!
//! Not here: figures worth keeping, which take longer than a demo may ([`super::measured`]).

use super::desk;
use super::folder::Folder;
use super::measured;
use super::story::{Chapter, Drawing, Story, Table};
use anyhow::{Context, Result};
use lab::{Lab, Profile};
use std::path::Path;
use std::time::Duration;

/// How long measuring may take; a busy machine boots three guests slowly.
const LIMIT: Duration = Duration::from_secs(400);
/// What makes the host and the guests' RAM disk ready.
const READY: &str = "sh /share/host.sh && sh /share/guest.sh /run/initrd";
/// Two rounds of a second each, in one lap.
const BENCH: &str = "allod bench /share/seats.toml --guest /run/initrd --guest-disk /dev/vda --rounds 2 --seconds 1 \
                     --laps 1 --workload cpu --workload fill --workload disk --svg /run/bench.svg \
                     --journal /run/bench.journal";
/// The workloads asked for, which have to be in the table.
const WORKLOADS: [&str; 3] = ["cpu", "fill", "disk"];
/// How to read so few figures.
const NOTE: &str = "Measured just now in the lab, two rounds of one second each: a taste, not a result. The percentages are of \
native, summed over the seats. Every processor here is emulated, a guest's is nested in an emulated one, and both seats \
share one: `cpu` touches no device, so what it lacks of 100 % is the lab's tax on every row, and no ratio is evidence of \
speed on hardware. `allod bench` measures the whole, with as many rounds as one likes and QEMU beside it.";

/// Boots a host for it, measures there and puts the table into `story`.
///
/// # Errors
/// The lab cannot be had, or it could not be measured.
pub(super) fn measure(programs: &Path, example: &Path, out: &Folder, story: &mut Story) -> Result<()> {
    let chapter = story.begin(
        "What a seat costs: a taste",
        "The same loops on the host itself, in one seat and in two at once, by `allod bench` on a second host of the lab.",
    );
    let lab = Lab::new(Profile::named("pairs")?).share(example).programs(programs);
    let host = lab.boot(&|step| eprintln!("    lab: {step}")).context("cannot boot the lab")?;
    desk::run_within(&host, &mut Chapter::default(), READY, LIMIT)?;
    let said = desk::run_within(&host, chapter, BENCH, LIMIT)?;
    let svg = desk::fetch(&host, "cat /run/bench.svg", (out, "bench.svg"))?;
    chapter.drawing = Some(Drawing { title: "Seats in percent of native, each row of its own".into(), svg });
    // Every round is in the journal by now: this one only prints.
    desk::fetch(&host, &format!("{BENCH} --json"), (out, "bench.json"))?;
    out.write("bench.md", &said)?;
    host.shutdown();
    let table = Table { note: NOTE.to_owned(), rows: measured::rows(&said) };
    chapter.check("native, one seat and two seats at once were measured", complete(&table));
    (chapter.table, chapter.is_measured) = (Some(table), true);
    Ok(())
}

/// Whether each workload has a figure for the host and a percentage for one seat and for two.
fn complete(table: &Table) -> Result<(), String> {
    for workload in WORKLOADS {
        let row = table.rows.iter().find(|row| row.first().is_some_and(|name| name == workload));
        let row = row.ok_or_else(|| format!("there is no row of {workload}"))?;
        let seats = row.iter().filter(|cell| cell.ends_with('%') && cell.contains('=')).count();
        if seats != 2 {
            return Err(format!("{workload}: {seats} of 2 places measured: {}", row.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Table, complete, measured};

    #[test]
    fn a_table_with_a_place_missing_is_not_complete() {
        let head = "| workload | unit | native | one seat, Allod | 2 seats at once, Allod |\n|---|---|---|---|---|\n";
        let row = |name: &str, two: &str| format!("| {name} | x | 4 ±1 % | 2 ±0 % = **50.0 %** | {two} |\n");
        let full = "1 ±0 % + 1 ±0 % = **50.0 %**";
        let rows = [
            (["cpu", "fill", "disk"].map(|name| row(name, full)).concat(), true),
            (["cpu", "fill"].map(|name| row(name, full)).concat(), false),
            (row("cpu", full) + &row("fill", "-") + &row("disk", full), false),
        ];
        for (body, expected) in rows {
            let table =
                Table { rows: measured::rows(&format!("{head}{body}- kernel: 6\n")), ..Table::default() };
            assert_eq!(complete(&table).is_ok(), expected, "{body}");
        }
    }
}
