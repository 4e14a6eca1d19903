//! The ACPI tables before independent judges: ACPICA's compiler and interpreter, and the firmware test suite.
//!
//! A judge that is not installed is skipped, and says so past the test harness's capture.
#![cfg(test)]

#[path = "../examples/acpi_dump/dump.rs"]
mod dump;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use machine::firmware::acpi::Board;

/// What fwts finds in every dump, because it asks the machine it runs on instead of the one the dump is from.
const ONLY_ON_THE_LIVE_MACHINE: [(&str, &str); 2] = [
    ("MCFGMMIONotReserved", "looks for the configuration space in the running kernel's memory map"),
    ("MMapUnmappable", "reads the host bridge through the running machine's configuration space"),
];

/// What fwts finds in a board without general-purpose events: it asks for at least one register pair, where ACPI 6.5
/// (table 5.9) lets the length be any multiple of 2 that is not negative.
const WITHOUT_EVENTS: &str = "FADTZeroGPE0BlkLen";

/// Boards as different as they come, by name.
fn boards() -> [(&'static str, Board); 4] {
    let mut bare = Board::new(vec![0]);
    bare.power.timer = false;
    bare.power.events = false;
    bare.serial_ports.clear();
    bare.rtc = false;
    bare.keyboard_controller = false;
    [
        ("plain", Board::new(vec![0])),
        ("bare", bare),
        ("full", dump::full_board(vec![0, 1, 2, 3])),
        ("wide", dump::full_board((0..300).collect())),
    ]
}

/// Writes a board's tables into a fresh directory of the test's own.
fn written(test: &str, name: &str, board: &Board) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("acpi").join(test).join(name);
    let _ = fs::remove_dir_all(&directory);
    dump::write(&directory, board).unwrap();
    directory
}

/// Runs a tool in a directory; none when it is not installed.
fn run(tool: &str, package: &str, directory: &Path, arguments: &[&str]) -> Option<Output> {
    match Command::new(tool).args(arguments).current_dir(directory).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The harness captures eprintln! of a test that passes.
            let skip =
                format!("SKIPPED: {tool} is not installed (package {package}); its part is not tested\n");
            io::stderr().write_all(skip.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("cannot run {tool}: {error}"),
    }
}

/// Gives everything a tool said.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn iasl_reads_each_table_and_compiles_it_to_the_same() {
    for (name, board) in boards() {
        let directory = written("iasl", name, &board);
        // Not the RSDP, which iasl takes for no table.
        for table in ["xsdt", "facp", "apic", "mcfg", "facs", "dsdt"] {
            let file = format!("{table}.dat");
            let Some(output) = run("iasl", "acpica-tools", &directory, &["-d", &file]) else { return };
            assert!(output.status.success(), "{name} {table}: {}", said(&output));
            let source = fs::read_to_string(directory.join(format!("{table}.dsl"))).unwrap();
            for complaint in ["Error", "Warning", "Invalid", "Unknown"] {
                assert!(!source.contains(complaint), "{name} {table}: {complaint} in\n{source}");
            }

            // No optimisation, so that AML comes out as it was.
            let compile = ["-oa", "-p", "again", &format!("{table}.dsl")];
            let Some(output) = run("iasl", "acpica-tools", &directory, &compile) else { return };
            let said = said(&output);
            let clean = "0 Errors, 0 Warnings, 0 Remarks";
            assert!(output.status.success() && said.contains(clean), "{name} {table}: {said}");
            let (before, after) = (fs::read(directory.join(file)), fs::read(directory.join("again.aml")));
            // The header is left out: the compiler signs it.
            assert!(before.unwrap()[36..] == after.unwrap()[36..], "{name} {table} is not the same again");
        }
    }
}

#[test]
fn osc_grants_what_pci_asks_for_and_rejects_what_is_not_pcis() {
    const PCI: &str = "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66";
    const OTHER: &str = "6E B0 11 08 27 4A 44 F9 8D 60 3C BB C2 2E 7B 48";
    let rows = [
        // What Debian's kernel asks for, first as a query.
        (PCI, 1, "01 00 00 00 1F 01 00 00 3F 00 00 00", "01 00 00 00 1F 01 00 00 3F 00 00 00"),
        (PCI, 1, "00 00 00 00 1F 01 00 00 3F 00 00 00", "00 00 00 00 1F 01 00 00 3F 00 00 00"),
        // More than is known.
        (PCI, 1, "00 00 00 00 1F 01 00 00 FF FF 00 00", "10 00 00 00 1F 01 00 00 BF 00 00 00"),
        (PCI, 2, "00 00 00 00 1F 01 00 00 1D 00 00 00", "08 00 00 00 1F 01 00 00 1D 00 00 00"),
        (OTHER, 1, "00 00 00 00 FF 00 00 00", "04 00 00 00 FF 00 00 00"),
    ];
    let directory = written("osc", "full", &dump::full_board(vec![0]));
    for (uuid, revision, asked, answered) in rows {
        let dwords = asked.split(' ').count() / 4;
        let call = format!("execute \\_SB.PCI0._OSC ({uuid}) {revision} {dwords} ({asked})");
        let Some(output) = run("acpiexec", "acpica-tools", &directory, &["-b", &call, "dsdt.dat"]) else {
            return;
        };
        let said = said(&output);
        assert!(said.contains(&format!("0000: {answered} ")), "{call}: {said}");
    }
}

#[test]
fn fwts_finds_no_failure_but_those_of_the_machine_it_runs_on() {
    for (name, board) in boards() {
        let directory = written("fwts", name, &board);
        let arguments = [
            "--dumpfile=acpi.dump",
            "--results-output=fwts.log",
            "--force-clean",
            "--acpitests",
            "syntaxcheck",
        ];
        let Some(output) = run("fwts", "fwts", &directory, &arguments) else { return };
        let log =
            fs::read_to_string(directory.join("fwts.log")).unwrap_or_else(|_| panic!("{}", said(&output)));
        assert!(log.contains("PASSED: Test 1, DSDT (0) reassembly"), "{name}: {log}");
        let failures: Vec<&str> = log
            .lines()
            .filter(|line| line.starts_with("FAILED "))
            .filter(|line| !ONLY_ON_THE_LIVE_MACHINE.iter().any(|(label, _)| line.contains(label)))
            .filter(|line| board.power.events || !line.contains(WITHOUT_EVENTS))
            .collect();
        assert_eq!(failures, [""; 0], "{name}: {}", directory.join("fwts.log").display());
    }
}
